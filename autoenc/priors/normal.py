"""The standard normal prior of codes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, kl_divergence

from autoenc.core import Prior


class StandardNormal(Prior):
    """N(0, I)."""

    zeros: Tensor  # (*latent_shape); holds shape and device

    def __init__(self, latent_shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_shape), persistent=False)

    def log_prob(self, z: Tensor) -> Tensor:
        dims = tuple(range(-self.zeros.dim(), 0))
        return Normal(torch.zeros_like(z), torch.ones_like(z)).log_prob(z).sum(dims)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        return temperature * torch.randn(n, *self.zeros.shape, device=self.zeros.device)

    def kl(self, posterior: Distribution) -> Tensor | None:
        if not isinstance(posterior, Normal):
            return None
        return kl_divergence(posterior, Normal(torch.zeros_like(posterior.mean), torch.ones_like(posterior.mean)))

    def quantiles(self, levels: Tensor) -> Tensor:
        values = Normal(torch.zeros_like(levels), torch.ones_like(levels)).icdf(levels)
        return values.view(-1, *[1] * self.zeros.dim()).expand(-1, *self.zeros.shape)
