"""Real-valued non-volume preserving flow (Dinh et al. 2017), a density that is learnt with the model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autoenc.core import Prior
from autoenc.errors import require
from autoenc.priors.normal import StandardNormal


class Coupling(nn.Module):
    """y = b x + (1 - b) (x exp(s(b x)) + t(b x)) with a mask b of zeros and ones (eq. 9); the identity at the start."""

    mask: Tensor  # (K,)

    def __init__(self, mask: Tensor, hidden: Sequence[int]):
        super().__init__()
        self.register_buffer("mask", mask, persistent=False)
        widths = [len(mask), *hidden]
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 2 * len(mask)))
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y and log |det dy/dx|: (N, K) -> (N, K), (N,)."""
        s, t = self._scale_and_shift(x)
        return x * s.exp() + t, s.sum(1)

    def inverse(self, y: Tensor) -> Tensor:
        s, t = self._scale_and_shift(y)
        return (y - t) * (-s).exp()

    def _scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self.layers(self.mask * x).chunk(2, dim=1)
        return (1 - self.mask) * 2 * torch.tanh(s / 2), (1 - self.mask) * t


class RealNVP(Prior):
    """log p(z) = log N(f(z); 0, I) + log |det df/dz| with f a chain of affine couplings (eq. 2 and 3).

    Args:
        layers: couplings; the masks alternate between even and odd values of the code.
        hidden: widths of the hidden layers of each.
    """

    def __init__(self, latent_shape: tuple[int, ...], layers: int = 8, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        size = math.prod(latent_shape)
        why = "couples the values of a code, and this one has a single value; model.latent_dim=2 or more"
        require(size >= 2, "", None, why)
        require(layers >= 2, "layers", layers, "must be 2 or more: one changes half of the values only")
        require(len(hidden) > 0 and min(hidden) >= 1, "hidden", hidden, "must be a list of widths, each 1 or more")
        self.latent_shape, self.base = latent_shape, StandardNormal((size,))
        even = (torch.arange(size) % 2).float()
        self.couplings = nn.ModuleList([Coupling((even + i) % 2, hidden) for i in range(layers)])

    def flow(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(z) and log |det df/dz|: (N, K) -> (N, K), (N,)."""
        total = z.new_zeros(z.shape[0])
        for coupling in self.couplings:
            z, log_det = coupling(z)
            total = total + log_det
        return z, total

    def inverse(self, u: Tensor) -> Tensor:
        """Return z with f(z) = u: (N, K) -> (N, K)."""
        for coupling in reversed(self.couplings):
            assert isinstance(coupling, Coupling)
            u = coupling.inverse(u)
        return u

    def log_prob(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):  # determinants need float32
            u, log_det = self.flow(z.reshape(-1, math.prod(self.latent_shape)).float())
            return (self.base.log_prob(u) + log_det).reshape(z.shape[: z.dim() - len(self.latent_shape)])

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        u = self.base.sample(n, temperature)
        with torch.autocast(u.device.type, enabled=False):
            return self.inverse(u.float()).unflatten(1, self.latent_shape)
