"""The code of variational autoencoders (Kingma & Welling 2014; Rezende et al. 2014)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc.core import Bottleneck, Code


class Gaussian(Bottleneck):
    """q(z|x) = N(mu, diag(exp(logvar))), prior p(z) = N(0, I); z = mu + sigma * e.

    z is a sample in evaluation too, since the bound is an expectation over samples: evaluation fixes the seed.
    What must not be random reads `mean`.
    """

    MAX_ABS_LOGVAR = 15.0  # exp stays far from overflow; a trained posterior is nowhere near

    def __init__(self, num_features: int, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.linear = nn.Linear(num_features, 2 * latent_dim)

    def forward(self, features: Tensor) -> Code:
        mu, logvar = self.linear(features).float().chunk(2, dim=-1)
        std = torch.exp(0.5 * logvar.clamp(-self.MAX_ABS_LOGVAR, self.MAX_ABS_LOGVAR))
        posterior = Normal(mu, std)
        return Code(z=posterior.rsample(), mean=mu, posterior=posterior)

    def prior(self, like: Tensor) -> Normal:
        """N(0, I) in the shape of `like`."""
        return Normal(torch.zeros_like(like), torch.ones_like(like))

    def prior_sample(self, n: int) -> Tensor:
        return torch.randn(n, self.latent_dim, device=self.linear.weight.device)
