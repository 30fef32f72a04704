"""The term that revives dead units of a top-k code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.errors import ConfigError, require


@dataclass(frozen=True)
class AuxK(Regularizer):
    """The nll that remains when the k_aux best dead units may help: nll(decode(z.detach() + z_dead), x).

    With a linear decoder and a Gaussian likelihood this is the squared error of modelling the residual
    x - x_hat by dead units alone, the auxiliary loss of Gao et al. 2024 (sec. 2.4); written with nll and decode
    it holds for any decoder and likelihood. 0 while no unit is dead.

    Args:
        k_aux: dead units used for each example; fewer where fewer are dead.
    """

    weight: float | Callable[[float], float] = 1 / 32
    k_aux: int = 32

    def __post_init__(self) -> None:
        require(self.k_aux >= 1, "k_aux", self.k_aux, "must be 1 or more")

    def check(self, model: Autoencoder) -> None:
        if not hasattr(model.bottleneck, "dead_after"):
            kind = type(model.bottleneck).__name__
            raise ConfigError("auxk", None, f"revives units of a top-k bottleneck (model=topk); this one is {kind}")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        pre, dead = out.code.info["pre"], out.code.info["dead"]
        num_dead = int(dead.sum())
        if num_dead == 0:
            return out.nll.new_zeros(len(batch))
        top = pre.masked_fill(~dead, -torch.inf).topk(min(self.k_aux, num_dead), dim=-1)
        z_dead = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        z = out.code.z.detach()
        # A unit that was dead until this batch may be among its k: once is enough.
        return model.nll(torch.where(z == 0, z_dead, z), batch)  # (B,)
