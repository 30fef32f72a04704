"""Sparsity penalties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.errors import ConfigError, require


@dataclass(frozen=True)
class L1(Regularizer):
    """sum_j |z_j| (Olshausen & Field 1996; Ng 2011).

    The decoder must not be able to rescale the code: network=dictionary has atoms of norm 1. If the bottleneck has a
    gate of its own, the term is the sum of the positive part of the gate (Rajamanoharan et al. 2024a, eq. 8).
    """

    weight: float | Callable[[float], float] = 1.0

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        return out.code.info.get("gate", out.code.z).float().flatten(1).abs().sum(-1)  # (B,)


@dataclass(frozen=True)
class L0(Regularizer):
    """Number of active units of a jump-ReLU code, with a straight-through gradient for its thresholds
    (Rajamanoharan et al. 2024b, eq. 9)."""

    weight: float | Callable[[float], float] = 0.1

    def check(self, model: Autoencoder) -> None:
        if "l0" not in model.bottleneck.offers:
            kind = type(model.bottleneck).__name__
            raise ConfigError("l0", None, f"needs thresholds that learn (model=jumprelu); the bottleneck is {kind}")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        return out.code.info["l0"]  # (B,)


@dataclass(frozen=True)
class KLSparsity(Regularizer):
    """sum_j KL(Bernoulli(target) || Bernoulli(mean activation of unit j over the batch)) (Ng 2011, sec. 3).

    Depends on the batch size; requires activations in (0, 1).
    """

    weight: float | Callable[[float], float] = 1.0
    target: float = 0.05

    def __post_init__(self) -> None:
        require(0 < self.target < 1, "target", self.target, "must lie between 0 and 1")

    def check(self, model: Autoencoder) -> None:
        if model.bottleneck.code_range != (0, 1):
            raise ConfigError("kl_sparsity", None, "needs codes in (0, 1): set model.bottleneck.activation=sigmoid")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        rho = out.code.z.flatten(1).float().mean(0).clamp(1e-6, 1 - 1e-6)  # (latent_dim,)
        target = torch.as_tensor(self.target, device=rho.device)
        return (target * (target / rho).log() + (1 - target) * ((1 - target) / (1 - rho)).log()).sum()
