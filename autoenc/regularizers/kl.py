"""The KL divergence from the posterior to the prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from autoenc.core import Autoencoder, Batch, Code, Output
from autoenc.errors import ConfigError, require


def kl_per_dim(model: Autoencoder, code: Code) -> Tensor:
    """KL(q(z_j|x) || p(z_j)) in nats: (B, latent_dim), in closed form."""
    prior = model.bottleneck.prior(code.mean)
    assert code.posterior is not None
    assert prior is not None
    return kl_divergence(code.posterior, prior)


@dataclass(frozen=True)
class KL:
    """KL(q(z|x) || p(z)), summed over dimensions (Kingma & Welling 2014).

    Args:
        weight: beta (Higgins et al. 2017); 1 gives the evidence lower bound. A number or a schedule.
        free_bits: nats that each dimension may use at no cost: sum_j max(free_bits, mean over the batch of KL_j)
            (Kingma et al. 2016, eq. 16). Keeps dimensions from collapsing.
    """

    weight: float | Callable[[float], float] = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        require(self.free_bits >= 0, "free_bits", self.free_bits, "must be 0 or more")

    def check(self, model: Autoencoder) -> None:
        if model.bottleneck.prior(torch.zeros(1)) is None:
            kind = type(model.bottleneck).__name__
            raise ConfigError("kl", None, f"needs a posterior; the bottleneck {kind} has none, Gaussian has one")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        kl = kl_per_dim(model, out.code)
        if self.free_bits == 0:
            return kl.sum(-1)  # (B,)
        return kl.mean(0).clamp(min=self.free_bits).sum()
