"""k-sparse codes (Makhzani & Frey 2013)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.bottlenecks.sparse.activity import Sparse, require_k
from autoenc.core import Code, Entries

DENSE = 64  # units for each active one, up to which products of whole codes are as fast


class _Selected(torch.autograd.Function):
    """Pre-activations W features + b of selected units, with a gradient that takes no product of whole codes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, units: Tensor, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(units, features, weight)
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor]:
        (grad,), (units, features, weight) = grads, ctx.saved_tensors
        with torch.enable_grad():
            weight = weight.detach().requires_grad_()
            # sum_j g_j W_j is the gradient of the features; its own in W along the features is g_j features.
            back = F.embedding_bag(units, weight, per_sample_weights=grad, mode="sum")
            (of_weight,) = torch.autograd.grad(back, weight, features.to(back.dtype))
        of_bias = grad.new_zeros(len(weight)).index_add_(0, units.flatten(), grad.flatten())
        return None, None, back.detach().to(features.dtype), of_weight, of_bias


class TopK(Sparse):
    """z keeps the k largest of W features + b and sets the others to zero.

    Kept values may be negative, so that exactly k units are active. On the CPU, large codes are also given to the
    decoder as their k entries, whose gradients are those of the weights of these units: the same numbers, without the
    zeros. On a GPU, dense products of such sizes take less time than the selection of columns.

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
        code = self.recorded(torch.zeros_like(pre).scatter(-1, top.indices, top.values), pre)
        if self.latent_shape[0] <= DENSE * self.k or pre.device.type != "cpu" or not self.training:
            return code
        values = top.values.detach().to(self.linear.weight.dtype)
        values = _Selected.apply(values, top.indices, features, self.linear.weight, self.linear.bias)
        return replace(code, entries=Entries(values, top.indices))

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
