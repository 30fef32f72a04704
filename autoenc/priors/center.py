"""A fixed center of all codes (Deep SVDD, Ruff et al. 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Prior
from autoenc.errors import ConfigError

LEAST = 0.1  # of the values of the center


class Center(Prior):
    """N(c, I / 2), so that -log p(z) = |z - c|^2 + K/2 log pi.

    c is the mean code of the training examples before the first step, and stays there: codes collapse if it is learnt.
    Values nearer to 0 than 0.1 are moved to +-0.1, since a unit without weights reaches 0 at once (Ruff et al. 2018,
    sec. 3.3).
    """

    generates = False  # codes of normal examples are far nearer

    center: Tensor  # (*latent_shape)

    def __init__(self, latent_shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("center", torch.zeros(latent_shape))

    def bind(self, model: Autoencoder) -> None:
        bottleneck = model.bottleneck
        if bottleneck.has_posterior:
            kind = type(bottleneck).__name__
            why = f"Center is for the deterministic codes of model=deep_svdd, and the bottleneck {kind} has a posterior"
            raise ConfigError("", None, f"{why}; prior=default or prior=standard")

    @torch.no_grad()
    def start(self, rows: Callable[[int], Tensor], codes: Callable[[int], Tensor], say: Callable[[str], None]) -> None:
        mean = codes(20_000)[:, 0].mean(0)
        self.center.copy_(torch.where(mean.abs() < LEAST, torch.where(mean < 0, -LEAST, LEAST), mean))

    def distance(self, z: Tensor) -> Tensor:
        """Return |z - c|^2: (*S, *latent_shape) -> (*S)."""
        return (z - self.center).square().flatten(z.dim() - self.center.dim()).sum(-1)

    def energy(self, z: Tensor) -> Tensor:
        return self.distance(z)

    def log_prob(self, z: Tensor) -> Tensor:
        return -self.distance(z) - 0.5 * self.center.numel() * math.log(math.pi)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        return self.center + temperature * math.sqrt(0.5) * torch.randn(
            n, *self.center.shape, device=self.center.device
        )
