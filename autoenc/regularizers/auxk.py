"""Auxiliary term that revives dead units of a sparse code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Code, Entries, Output, Regularizer
from autoenc.errors import ConfigError, require


@dataclass(frozen=True)
class AuxK(Regularizer):
    """Change of the nll if the k_aux largest dead units of each example are added to its code; 0 if no unit is dead.

    With decoded d(z) and dead part z_dead, the term is nll(sg(d(z)) + d(z + z_dead) - d(z)) - nll(sg(d(z))), where sg
    stops the gradient and z is constant. With a linear decoder and a Gaussian likelihood, its gradient is that of the
    squared error of modelling the residual x - x_hat by the dead units, the auxiliary loss of Gao et al. 2024
    (sec. 2.4), and reaches the weights of the dead units alone. Written with nll and decode, it holds for any decoder
    and likelihood. Subtracting the nll makes the term continuous when the first unit dies.

    Args:
        k_aux: maximal number of dead units for each example.
    """

    weight: float | Callable[[float], float] = 1 / 32
    k_aux: int = 32

    auxiliary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require(self.k_aux >= 1, "k_aux", self.k_aux, "must be 1 or more")

    def check(self, model: Autoencoder) -> None:
        if "dead" not in model.bottleneck.offers:
            kind = type(model.bottleneck).__name__
            why = f"revives units of a sparse bottleneck (model=topk, batch_topk, jumprelu, gated); this one is {kind}"
            raise ConfigError("auxk", None, why)

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        pre, dead = out.code.info["pre"], out.code.info["dead"]
        num_dead = int(dead.sum())
        if num_dead == 0:
            return out.nll.new_zeros(len(batch))
        top = pre.masked_fill(~dead, -torch.inf).topk(min(self.k_aux, num_dead), dim=-1)
        z_dead = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        z, entries = out.code.z.detach(), out.code.entries
        code = Code(z, z, entries=None if entries is None else Entries(entries.values.detach(), entries.units))
        without = model.decode_code(code, batch)
        # A unit that was dead before this batch may be among the k largest; it is not added twice.
        new = top.values.where(z.gather(-1, top.indices) == 0, 0)
        joined = code.entries and code.entries.joined(new, top.indices)
        with_dead = model.decode_code(Code(torch.where(z == 0, z_dead, z), z, entries=joined), batch)
        nll = model.likelihood.nll((without.detach() + (with_dead - without)).float(), batch.x)
        return nll - model.likelihood.nll(without.detach().float(), batch.x).detach()  # (B,)
