"""k-sparse codes (Makhzani & Frey 2013)."""

from __future__ import annotations

import torch
from torch import Tensor

from autoenc.bottlenecks.sparse.activity import Sparse, require_k
from autoenc.core import Code


class TopK(Sparse):
    """z keeps the k largest of W features + b and sets the others to zero.

    Kept values may be negative, so that exactly k units are active.

    Args:
        k: number of active units for each example.
        dead_after: see `Sparse`.
    """

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int, k: int = 8, dead_after: int = 10_000):
        super().__init__(feature_shape, latent_dim, dead_after)
        require_k(k, latent_dim)
        self.k = k
        self.no_density = f"all but {k} of their {latent_dim} units are exactly zero"

    def forward(self, features: Tensor) -> Code:
        pre = self.linear(features)
        top = pre.topk(self.k, dim=-1)
        return self.recorded(torch.zeros_like(pre).scatter(-1, top.indices, top.values), pre)

    def project(self, z: Tensor) -> Tensor:
        """Keep the k values of largest magnitude: the nearest code with at most k active units."""
        top = z.abs().topk(self.k, dim=-1).indices
        return torch.zeros_like(z).scatter(-1, top, z.gather(-1, top))

    def margin(self, code: Code) -> Tensor | None:
        """Return the k-th largest pre-activation minus the next one."""
        if self.k == self.latent_shape[0]:
            return None
        last, following = code.info["pre"].topk(self.k + 1).values[:, -2:].unbind(1)
        return last - following
