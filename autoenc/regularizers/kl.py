"""Kullback-Leibler divergence of the posterior from the prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from autoenc.core import Autoencoder, Batch, Code, Output, Regularizer, sum_over_dims
from autoenc.errors import ConfigError, require


def kl_per_dim(model: Autoencoder, code: Code) -> Tensor | None:
    """Return KL(q(z_j|x) || p(z_j)) in nats, (B, *latent_shape); None if there is no closed form."""
    assert code.posterior is not None
    assert model.bottleneck.prior is not None
    return model.bottleneck.prior.kl(code.posterior)


def kl_estimate(model: Autoencoder, code: Code, z: Tensor) -> Tensor:
    """Return log q(z|x) - log p(z) in nats, (*S, B), an unbiased estimate of the KL for z (*S, B, *latent_shape) drawn
    from q(z|x)."""
    assert code.posterior is not None
    assert model.bottleneck.prior is not None
    return sum_over_dims(code.posterior.log_prob(z), code.mean) - model.bottleneck.prior.log_prob(z)


def kl_per_example(model: Autoencoder, code: Code) -> Tensor:
    """Return KL(q(z|x) || p(z)) in nats, (B,), in closed form if there is one, else estimated at `code.z`."""
    closed = kl_per_dim(model, code)
    return kl_estimate(model, code, code.z) if closed is None else closed.flatten(1).sum(-1)


def class_kl(model: Autoencoder) -> float:
    """Return KL(q(y|x) || p(y)) in nats of a model that infers a single class of C, log C for p(y) = 1 / C; else 0."""
    condition = model.condition
    return math.log(condition.classes) if condition is not None and condition.inferred else 0.0


def require_posterior(model: Autoencoder, part: str, with_prior: bool = False) -> None:
    """Raise ConfigError, for the term or objective of that name, unless the codes have a posterior, and a prior."""
    bottleneck = model.bottleneck
    if not bottleneck.has_posterior or (with_prior and bottleneck.prior is None):
        kind = type(bottleneck).__name__
        raise ConfigError(part, None, f"needs a posterior; the bottleneck {kind} has none, Gaussian has one")


@dataclass(frozen=True)
class KL(Regularizer):
    """KL(q(z|x) || p(z)), summed over dimensions (Kingma & Welling 2014).

    In closed form if there is one, else estimated by log q(z|x) - log p(z) at the sample z.

    Args:
        weight: beta (Higgins et al. 2017); 1 gives the evidence lower bound. A number or a schedule.
        free_bits: nats that each dimension may use without cost, against collapse: sum_j max(free_bits, KL_j), with
            the mean KL_j over the batch (Kingma et al. 2016, eq. 16).
    """

    reads_prior: ClassVar[str] = "density"

    weight: float | Callable[[float], float] = 1.0
    free_bits: float = 0.0

    def __post_init__(self) -> None:
        require(self.free_bits >= 0, "free_bits", self.free_bits, "must be 0 or more")

    def check(self, model: Autoencoder) -> None:
        bottleneck = model.bottleneck
        require_posterior(model, "kl", with_prior=True)
        assert bottleneck.prior is not None, "see require_posterior"
        z = torch.zeros(1, *bottleneck.latent_shape, device=next(model.parameters()).device)
        posteriors = (Normal(z, torch.ones_like(z)), Bernoulli(logits=z))
        if self.free_bits > 0 and all(bottleneck.prior.kl(q) is None for q in posteriors):
            kind = type(bottleneck.prior).__name__
            why = f"free_bits needs the KL of each dimension, which the prior {kind} does not have"
            raise ConfigError("kl", None, f"{why}; regularizer.kl.free_bits=0, or prior=standard")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        if self.free_bits == 0:
            return kl_per_example(model, out.code)
        kl = kl_per_dim(model, out.code)
        assert kl is not None, "see check"
        return kl.mean(0).clamp(min=self.free_bits).sum()
