"""The anomaly scores of a run as torch modules, for export: what scikit-learn fitted, as tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.apps.anomaly.rows.feedback import NAME, FeedbackDetector
from autoenc.apps.anomaly.scores import COMBINED, Detector

EQUAL = 1e-9  # relative difference of equal values: runtimes sum in another order
TINY32, TINY = torch.finfo(torch.float32).tiny, torch.finfo(torch.float64).tiny


def constant(value: float) -> Tensor:
    """Return a number as a tensor: the exporter rounds others to float32."""
    return torch.tensor(value, dtype=torch.float64)


class PValue(nn.Module):
    """(1 + the number of n reference values that are as large) / (1 + n): (N,) -> (N,); NaN is the largest.

    See `conformal.p_values`.
    """

    def __init__(self, reference: np.ndarray):
        super().__init__()
        self.size = len(reference)
        self.reference: Tensor
        self.register_buffer("reference", torch.from_numpy(np.asarray(reference, np.float64)))

    def forward(self, values: Tensor) -> Tensor:
        as_large = (self.reference >= (values - EQUAL * values.abs())[:, None]).sum(1)
        return (as_large + 1).double() / (self.size + 1)


class Rarity(nn.Module):
    """-log of the p-value among the reference, and more for values above all of it; see `scores.rarity`."""

    def __init__(self, reference: np.ndarray):
        super().__init__()
        self.p_value = PValue(reference)
        self.largest: Tensor
        self.spread: Tensor
        smallest, largest = float(np.min(reference)), float(np.max(reference))
        self.signed = smallest < 0
        self.register_buffer("largest", constant(largest if self.signed else max(largest, TINY)))
        self.register_buffer("spread", constant(max(largest - smallest, TINY)))

    def forward(self, values: Tensor) -> Tensor:
        if self.signed:
            beyond = ((values - self.largest).clamp(min=0) / self.spread).log1p()
        else:
            beyond = (values / self.largest).clamp(min=1).log()
        return beyond - self.p_value(values).log()


class Neighbours(nn.Module):
    """Mean distance to the nearest training codes, and its ratio to theirs: (N, K) float64 -> knn, local (N,)."""

    def __init__(self, codes: np.ndarray, spacing: np.ndarray, count: int):
        super().__init__()
        self.count = count
        self.codes: Tensor
        self.squares: Tensor
        self.spacing: Tensor
        self.register_buffer("codes", torch.from_numpy(codes.astype(np.float32)))  # exact: they are float32
        self.register_buffer("squares", torch.from_numpy(np.square(codes).sum(1)))
        self.register_buffer("spacing", torch.from_numpy(spacing))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        squares = self.squares - 2 * z @ self.codes.double().T  # less |z|^2, which is the same for all
        index = squares.topk(self.count, dim=1, largest=False).indices
        knn = (self.codes[index].double() - z[:, None]).square().sum(2).sqrt().mean(1)  # exact for equal codes
        return knn, knn / self.spacing[index].mean(1)


class Cloud(nn.Module):
    """Mahalanobis distance: (..., K) float64 -> (...)."""

    def __init__(self, center: np.ndarray, precision: np.ndarray):
        super().__init__()
        self.center: Tensor
        self.precision: Tensor
        self.register_buffer("center", torch.from_numpy(np.asarray(center, np.float64)))
        self.register_buffer("precision", torch.from_numpy(np.asarray(precision, np.float64)))

    def forward(self, z: Tensor) -> Tensor:
        offset = z - self.center
        return ((offset @ self.precision) * offset).sum(-1).clamp(min=0).sqrt()


class Forest(nn.Module):
    """An isolation forest: features (N, F) float64 -> (N,), the scores of scikit-learn with the other sign.

    All trees are descended at once, as many times as the deepest has levels; leaves lead to themselves.
    """

    def __init__(self, forest: Any):
        super().__init__()
        trees = [estimator.tree_ for estimator in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        levels = np.concatenate([tree.compute_node_depths() - 1 for tree in trees])
        sizes = np.concatenate([tree.n_node_samples for tree in trees])
        leaf = np.concatenate([tree.children_left < 0 for tree in trees])
        here = np.arange(starts[-1])

        def child(name: str) -> np.ndarray:
            return np.where(
                leaf, here, np.concatenate([getattr(t, name) + s for t, s in zip(trees, starts, strict=False)])
            )

        self.roots: Tensor
        self.left: Tensor
        self.right: Tensor
        self.feature: Tensor
        self.threshold: Tensor
        self.length: Tensor
        nodes = {
            "roots": starts[:-1],
            "left": child("children_left"),
            "right": child("children_right"),
            "feature": np.concatenate([tree.feature for tree in trees]).clip(min=0),
            "threshold": np.concatenate([tree.threshold for tree in trees]),
            "length": levels + _average_path(sizes),
        }
        for name, values in nodes.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))
        self.depth = int(levels.max())
        self.scale: Tensor
        total = len(trees) * float(_average_path(np.array([forest._max_samples]))[0])
        self.register_buffer("scale", constant(-math.log(2) / total))

    def forward(self, features: Tensor) -> Tensor:
        x = features.float().double()  # as scikit-learn
        node = self.roots.expand(x.shape[0], -1)  # (N, trees)
        for _ in range(self.depth):
            goes_left = x.gather(1, self.feature[node]) <= self.threshold[node]
            node = torch.where(goes_left, self.left[node], self.right[node])
        return (self.scale * self.length[node].sum(1)).exp()


def _average_path(sizes: np.ndarray) -> np.ndarray:
    """Return the mean depth of a random tree of as many rows (Liu et al. 2008, eq. 1)."""
    n = np.maximum(sizes, 2).astype(np.float64)
    harmonic = np.log(n - 1) + np.euler_gamma
    return np.where(sizes <= 1, 0, np.where(sizes == 2, 1, 2 * harmonic - 2 * (n - 1) / n))


class Scores(nn.Module):
    """The scores of `Detector` but `elbo` from error, nll and code: (N, 2 + K) float32 -> name -> (N,) float64."""

    def __init__(self, detector: Detector):
        super().__init__()
        self.shape = detector.run.model.bottleneck.latent_shape
        self.neighbours = Neighbours(detector.table[:, 2:], detector.spacing, detector.neighbours.n_neighbors)
        self.cloud = Cloud(detector.cloud.location_, detector.cloud.precision_)
        self.forest = Forest(detector.forest)
        self.prior = detector.prior
        self.combined = nn.ModuleDict({name: Rarity(detector.components[name]) for name in COMBINED})
        self.weights: Mapping[str, Tensor] = {}
        if isinstance(detector, FeedbackDetector):
            self.weights = {name: constant(weight) for name, weight in detector.weights.weights.items()}
            self.intercept = constant(detector.weights.intercept)
            self.feedback = nn.ModuleDict({n: Rarity(detector.training_scores[n]) for n in self.weights})

    def forward(self, table: Tensor) -> dict[str, Tensor]:
        table = table.double()
        error, nll, z = table[:, 0], table[:, 1], table[:, 2:]
        knn, local = self.neighbours(z)
        forest = self.forest(torch.cat([z, error[:, None].clamp(min=TINY32).log()], 1))
        scores = {
            "error": error,
            "nll": nll,
            "mahalanobis": self.cloud(z),
            "knn": knn,
            "local": local,
            "forest": forest,
        }
        if self.prior is not None:
            scores["prior"] = self.prior.energy(z.float().unflatten(1, self.shape)).double()
        scores["combined"] = sum(rarity(scores[name]) for name, rarity in self.combined.items())
        if self.weights:
            rare = (self.feedback[name](scores[name]) * weight for name, weight in self.weights.items())
            scores[NAME] = sum(rare) + self.intercept
        return scores


class Spread(nn.Module):
    """Errors of windows (N, C, W) float64 -> residual, error (N, W); see `StepDetector`."""

    def __init__(self, precision: np.ndarray, scale: np.ndarray):
        super().__init__()
        self.cloud = Cloud(np.zeros(len(precision)), precision)
        self.scale: Tensor
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float64)))

    def forward(self, error: Tensor) -> tuple[Tensor, Tensor]:
        error = error.transpose(1, 2)  # (N, W, C)
        return self.cloud(error), (error.square() / self.scale).mean(2)
