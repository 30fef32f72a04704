"""Reconstruction from nested prefixes of a dictionary."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.errors import ConfigError, require


@dataclass(frozen=True)
class Matryoshka(Regularizer):
    """Sum over the prefixes m < K of the code of the nll given z_1 ... z_m alone (Bussmann et al. 2025, section 3).

    With the nll of the whole code, the objective is the sum of the reconstruction losses of all prefixes. The first
    units have to do without the others and stay general, instead of giving up to a special unit the examples that it
    covers (feature absorption).

    Args:
        groups: fractions of the units between one prefix and the next, with sum 1; the first is the smallest prefix.
    """

    latent_dim: int
    weight: float | Callable[[float], float] = 1.0
    groups: Sequence[float] = (0.0625, 0.0625, 0.125, 0.25, 0.5)
    sizes: tuple[int, ...] = field(init=False)  # of the prefixes, without that of all units

    def __post_init__(self) -> None:
        groups = f"[{','.join(f'{group:g}' for group in self.groups)}]"
        require(len(self.groups) > 0 and min(self.groups) > 0, "groups", groups, "must be fractions above 0")
        total = sum(self.groups)
        require(math.isclose(total, 1, abs_tol=1e-6), "groups", groups, f"must have the sum 1, not {total:g}")
        sizes = [round(part * self.latent_dim) for part in itertools.accumulate(self.groups)]
        why = f"a group has less than one of model.latent_dim={self.latent_dim} units; fewer or larger groups"
        require(all(a < b for a, b in itertools.pairwise([0, *sizes])), "groups", groups, why)
        object.__setattr__(self, "sizes", tuple(sizes[:-1]))

    def check(self, model: Autoencoder) -> None:
        if len(model.bottleneck.latent_shape) > 1:
            raise ConfigError("matryoshka", None, "needs a code that is a vector: network.spatial=false")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        if not self.sizes:
            return torch.zeros_like(out.nll)
        sizes = torch.tensor(self.sizes, device=out.code.z.device)
        within = torch.arange(out.code.z.shape[-1], device=sizes.device) < sizes[:, None]  # (M, K)
        return model.nll(out.code.z * within[:, None], batch).sum(0)  # (M, B, K) -> (B,)
