"""The prior of bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution

from autoenc.core import Prior


class Bernoulli(Prior):
    """Independent bits, each 0 or 1 with probability 1/2."""

    tempered = False  # (1/2)^(1/t) is uniform, too

    zeros: Tensor  # (*latent_shape); holds shape and device

    def __init__(self, latent_shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_shape), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        return z.new_full(z.shape[: z.dim() - self.zeros.dim()], -self.zeros.numel() * math.log(2))

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw bits (n, *latent_shape); the temperature changes nothing."""
        return torch.full((n, *self.zeros.shape), 0.5, device=self.zeros.device).bernoulli()

    def kl(self, posterior: Distribution) -> Tensor | None:
        """Return log 2 minus the entropy of each bit."""
        return math.log(2) - posterior.entropy() if isinstance(posterior, BernoulliDistribution) else None
