"""Codes with k active units on average (Bussmann et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoenc.bottlenecks.sparse.activity import Sparse, require_k
from autoenc.core import Code

DECAY = 0.99  # of the running mean of the threshold


class BatchTopK(Sparse):
    """Batch top-k (Bussmann et al. 2024, "BatchTopK sparse autoencoders", section 3).

    In training, z keeps the k B largest positive of W features + b over a batch of B examples, so that an example may
    use more units than another. In evaluation, it keeps those of at least `threshold`, the running mean over the
    training batches of the smallest value kept: the code of an example does not depend on the others.

    Args:
        k: mean number of active units. dead_after: see `Sparse`.
    """

    threshold: Tensor  # ()
    batches: Tensor  # () training batches so far: the running mean is the mean of all at first
    code_range = (0.0, math.inf)

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int, k: int = 8, dead_after: int = 10_000):
        super().__init__(feature_shape, latent_dim, dead_after)
        require_k(k, latent_dim)
        self.k = k
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, features: Tensor) -> Code:
        pre = self.linear(features)
        if not self.training:
            return self.recorded(torch.where(pre >= self.threshold, pre, 0).relu(), pre)
        top = pre.flatten().topk(self.k * len(pre))
        z = torch.zeros_like(pre).flatten().scatter(0, top.indices, top.values).view_as(pre).relu()
        self._observe(z.detach())
        return self.recorded(z, pre)

    def _observe(self, z: Tensor) -> None:
        smallest = z.float().masked_fill(z == 0, torch.inf).amin()
        found = smallest.isfinite()  # not if all pre-activations are negative
        self.batches += found
        rate = (1 / self.batches).clamp(1 - DECAY, 1)
        self.threshold.lerp_(smallest.where(found, self.threshold), rate)

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest code whose values are 0 or at least the threshold."""
        return z.clamp(min=self.threshold).where(z > self.threshold / 2, 0)

    def margin(self, code: Code) -> Tensor:
        """Return the distance of the pre-activation that is nearest to the threshold."""
        return (code.info["pre"] - self.threshold).abs().amin(1)
