"""Codes with a learnt threshold of each unit (Rajamanoharan et al. 2024b)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from autoenc.bottlenecks.sparse.activity import Sparse
from autoenc.core import Code
from autoenc.errors import require


class _Jump(torch.autograd.Function):
    """pre H(pre - theta), with the pseudo-derivative -theta / eps K((pre - theta) / eps) for theta (eq. 11)."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.bandwidth = bandwidth
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, theta = ctx.saved_tensors
        slope = -theta / ctx.bandwidth * _kernel(pre, theta, ctx.bandwidth)
        return grads[0] * (pre > theta), (grads[0] * slope).sum(0), None


class _Step(torch.autograd.Function):
    """H(pre - theta), with the pseudo-derivative -1 / eps K((pre - theta) / eps) for theta, 0 for pre (eq. 12)."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.bandwidth = bandwidth
        return (pre > theta).to(pre.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        pre, theta = ctx.saved_tensors
        return None, (-grads[0] / ctx.bandwidth * _kernel(pre, theta, ctx.bandwidth)).sum(0), None


def _kernel(pre: Tensor, theta: Tensor, bandwidth: float) -> Tensor:
    """K((pre - theta) / eps), the rectangle function: 1 within eps / 2 of the threshold, else 0."""
    return ((pre - theta).abs() < bandwidth / 2).to(pre.dtype)


class JumpReLU(Sparse):
    """z = pre H(pre - theta), pre = W features + b, with a learnt threshold theta > 0 of each unit.

    Rajamanoharan et al. 2024b, "Jumping ahead", sections 3 and 4. The step H has no useful derivative; theta learns by
    straight-through estimators with a rectangle kernel, which see pre-activations within bandwidth / 2 of theta.
    regularizers.L0 penalizes the number of active units, `Code.info["l0"]`.

    The defaults are those of the paper, 0.001 for a mean squared norm of 1, at a mean squared norm of D = 2,304: the
    scale of data whose features have variance 1.

    Args:
        threshold: initial theta. bandwidth: eps of the kernel. dead_after: see `Sparse`.
    """

    offers = (*Sparse.offers, "l0")
    code_range = (0.0, math.inf)

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        threshold: float = 0.05,
        bandwidth: float = 0.05,
        dead_after: int = 10_000,
    ):
        super().__init__(feature_shape, latent_dim, dead_after)
        require(0 < threshold < math.inf, "threshold", threshold, "must be above 0")
        require(0 < bandwidth < math.inf, "bandwidth", bandwidth, "must be above 0")
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((latent_dim,), math.log(threshold)))

    def forward(self, features: Tensor) -> Code:
        pre = self.linear(features).float()
        theta = self.log_threshold.exp()
        z = _Jump.apply(pre, theta, self.bandwidth)
        return self.recorded(z, pre, l0=_Step.apply(pre, theta, self.bandwidth).sum(-1))

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest code whose values are 0 or at least the threshold of their unit."""
        theta = self.log_threshold.detach().exp()
        return z.maximum(theta).where(z > theta / 2, 0)

    def margin(self, code: Code) -> Tensor:
        """Return the distance of the pre-activation that is nearest to the threshold of its unit."""
        return (code.info["pre"] - self.log_threshold.exp()).abs().amin(1)
