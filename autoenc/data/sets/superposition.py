"""Synthetic activations whose true features are correlated, hierarchical and more than the dimensions."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc import memory
from autoenc.data.dataset import Data
from autoenc.data.sets.synthetic import divided_rows, vectors
from autoenc.errors import require

CHUNK = 4_096  # rows drawn at a time
INHERITED = 0.8  # probability that one of its children is active with a parent
FIRST, LAST, SPREAD = 5.0, 4.0, 0.5  # mean amplitude of the most frequent and the rarest atom; of their deviations


def superposition(
    features: int = 256,
    atoms: int = 4_096,
    most: float = 0.15,
    least: float = 0.0005,
    exponent: float = 0.5,
    trees: int = 32,
    children: int = 4,
    depth: int = 3,
    rank: int = 25,
    correlation: float = 0.1,
    count: int = 200_000,
    val_fraction: float = 0.02,
    test_fraction: float = 0.05,
    data_seed: int = 0,
    split_seed: int = 0,
) -> Data:
    """Draw x = D s, (features,), after SynthSAEBench (Chanin & Garriga-Alonso 2026) at a smaller size.

    The columns of D (features, atoms) are uniform on the sphere. Atom i of those without a parent is active with
    probability p_i = max(least, most i^-exponent) (Zipf's law); their activity is correlated by a Gaussian copula of
    low rank. The first `trees` of them are roots: if an atom of a tree is active, with probability 0.8 exactly one of
    its children is, and its amplitude is scaled by that of the parent. Amplitudes are normal, at least 0, with a mean
    from 5 (frequent) to 4 (rare) and a standard deviation |N(0.5, 0.5)| of each atom. The mean of |x|^2 is `features`.

    Unlike the benchmark, D is not made more orthogonal, x has no bias, and children's frequencies follow from those of
    their parents.

    truth: dictionary (features, atoms); signed (), bool; noise (); active_test (N_test, atoms), bool; frequency
    (atoms,), the fraction of rows in which each is active.

    Args:
        most, least: highest and lowest probability of an atom without a parent. exponent: of Zipf's law.
        trees: number of roots; 0 for no hierarchy. children: of each atom of a tree. depth: of the trees, below roots.
        rank, correlation: of the copula: its factors have entries from N(0, correlation^2); 0 for independence.
        count, val_fraction, test_fraction, data_seed, split_seed: see `synthetic.shapes`.

    Raises:
        ConfigError: a value out of range.
    """
    require(features >= 2, "features", features, "must be 2 or more")
    require(atoms >= 1, "atoms", atoms, "must be 1 or more")
    require(0 < most <= 1, "most", most, "must lie in (0, 1]")
    require(0 < least <= most, "least", least, f"must lie in (0, most={most}]")
    require(exponent >= 0, "exponent", exponent, "must be 0 or more")
    require(children >= 1, "children", children, "must be 1 or more")
    require(0 <= depth <= 10, "depth", depth, "must lie in 0 to 10")
    in_trees = trees * sum(children**level for level in range(depth + 1))
    require(0 <= in_trees <= atoms, "trees", trees, f"{in_trees} atoms in trees do not fit into atoms={atoms}")
    require(rank >= 1, "rank", rank, "must be 1 or more")
    require(0 <= correlation**2 * rank < 0.5, "correlation", correlation, f"its square times rank={rank} must be < 0.5")
    require(count >= 10, "count", count, "must be 10 or more")
    numbers = 2 * features * (count + atoms) + atoms * (rank + 4 * CHUNK + test_fraction * count / 4)
    memory.check_options(4 * numbers, count=count, features=features, atoms=atoms, rank=rank)
    random = torch.Generator().manual_seed(data_seed)
    dictionary = F.normalize(torch.randn(features, atoms, generator=random, dtype=torch.float64), dim=0).float()
    world = _World(atoms, trees, children, depth, most, least, exponent, rank, correlation, random)

    x = torch.empty(count, features)
    rows: list[Tensor] = []  # (n, 2) of the active entries
    for start in range(0, count, CHUNK):
        codes = world.draw(min(CHUNK, count - start), random).to_sparse()
        x[start : start + len(codes)] = codes @ dictionary.T
        rows.append(codes.indices().T + torch.tensor([start, 0]))
    x *= math.sqrt(features) / x.square().sum(1).mean().sqrt()

    splits = divided_rows(x, val_fraction, test_fraction, split_seed)
    active, test = torch.cat(rows), splits["test"].y
    assert test is not None
    place = torch.full((count,), -1).index_copy(0, test, torch.arange(len(test)))[active[:, 0]]
    active_test = torch.zeros(len(test), atoms, dtype=torch.bool)
    active_test[place[place >= 0], active[place >= 0, 1]] = True
    truth = {"dictionary": dictionary, "signed": torch.tensor(False), "noise": torch.tensor(0.0)}
    truth |= {"active_test": active_test, "frequency": torch.bincount(active[:, 1], minlength=atoms) / count}
    return vectors("superposition", splits, truth)


class _World:
    """The law of the codes s: atoms without a parent first, then the trees, level by level."""

    def __init__(
        self,
        atoms: int,
        trees: int,
        children: int,
        depth: int,
        most: float,
        least: float,
        exponent: float,
        rank: int,
        correlation: float,
        random: torch.Generator,
    ):
        self.trees, self.children, self.depth = trees, children, depth
        self.sizes = [trees * children**level for level in range(1, depth + 1)]
        self.top = atoms - sum(self.sizes)
        p = (most * torch.arange(1, self.top + 1).pow(-exponent)).clamp(min=least).double()
        self.factors = correlation * torch.randn(self.top, rank, generator=random)
        self.rest = (1 - self.factors.square().sum(1)).clamp(min=0).sqrt()
        self.thresholds = -torch.special.ndtri(p).float()
        share = torch.arange(1, children + 1).pow(-exponent)  # of a parent's children, by Zipf's law, too
        self.edges = F.pad(INHERITED * share.cumsum(0) / share.sum(), (1, 0))
        frequency = [p]
        parents = p[:trees]
        for _ in self.sizes:
            parents = (parents[:, None] * self.edges.diff()).flatten()
            frequency.append(parents)
        order = torch.cat(frequency).argsort(descending=True).argsort()
        self.mean = FIRST + (LAST - FIRST) * order / max(1, atoms - 1)
        self.std = (SPREAD + SPREAD * torch.randn(atoms, generator=random)).abs()

    def draw(self, n: int, random: torch.Generator) -> Tensor:
        """Return codes (n, atoms)."""
        common = torch.randn(n, self.factors.shape[1], generator=random) @ self.factors.T
        free = common + self.rest * torch.randn(n, self.top, generator=random) > self.thresholds
        values = [self._amplitude(free.float(), slice(0, self.top), random)]
        scale, parent_mean, start = values[0][:, : self.trees], self.mean[: self.trees], self.top
        for size in self.sizes:
            u = torch.rand(n, size // self.children, 1, generator=random)
            chosen = (u >= self.edges[:-1]) & (u < self.edges[1:])  # (n, parents, children): at most one
            active = (chosen * (scale > 0)[..., None]).flatten(1).float()
            here = slice(start, start + size)
            relative = (scale / parent_mean).repeat_interleave(self.children, 1)
            scale = relative * self._amplitude(active, here, random)
            values.append(scale)
            parent_mean, start = self.mean[here], start + size
        return torch.cat(values, 1)

    def _amplitude(self, active: Tensor, here: slice, random: torch.Generator) -> Tensor:
        noise = self.std[here] * torch.randn(active.shape, generator=random)
        return active * (self.mean[here] + noise).clamp(min=0)
