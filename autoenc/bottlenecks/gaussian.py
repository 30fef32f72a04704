"""Gaussian posteriors, the codes of variational autoencoders (Kingma & Welling 2014; Rezende et al. 2014)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal

from autoenc.bottlenecks.affine import affine, latent_shape_of
from autoenc.core import Bottleneck, Code
from autoenc.priors import StandardNormal

ADOPTED_LOGVAR = 2 * math.log(0.1)


class Gaussian(Bottleneck):
    """q(z|x) = N(mu, diag(exp(logvar))), z = mu + sigma * e; prior N(0, I) unless `model.prior` names another.

    z is a sample in evaluation mode too, since the bound is an expectation over samples; evaluation fixes the seed.
    Applications use the deterministic `mean`.
    """

    MAX_ABS_LOGVAR = 15.0  # prevents overflow of exp; far beyond trained posteriors

    has_posterior = True

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int):
        super().__init__()
        self.latent_shape = latent_shape_of(feature_shape, latent_dim)
        self.prior = StandardNormal(self.latent_shape)
        self.linear = affine(feature_shape, 2 * latent_dim)

    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Take the affine map of a deterministic code as that of mu; sigma starts at 0.1, whatever the example.

        The decoder was trained on codes without noise: that of new weights has a sigma about 1, more than the spread of
        many codes, and what the decoder had learned is lost in the first steps.
        """
        weight, half = self.linear.weight, len(self.linear.weight) // 2
        new = {
            "linear.weight": torch.zeros_like(weight[half:]),
            "linear.bias": weight.new_full((half,), ADOPTED_LOGVAR),
        }
        fits = {k for k, v in state.items() if k in new and v.shape == new[k].shape}
        return {k: torch.cat([v, new[k].cpu()]) if k in fits else v for k, v in state.items()}

    def forward(self, features: Tensor) -> Code:
        mu, logvar = self.linear(features).float().chunk(2, dim=1)
        std = torch.exp(0.5 * logvar.clamp(-self.MAX_ABS_LOGVAR, self.MAX_ABS_LOGVAR))
        posterior = Normal(mu, std)
        return Code(z=posterior.rsample(), mean=mu, posterior=posterior)
