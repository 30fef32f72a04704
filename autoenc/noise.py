"""Corruptions of the input: modules (B, *shape) -> (B, *shape) that never change their argument.

They draw from torch's global generator, which checkpoints carry, so that a resumed run sees the same noise.
Denoising autoencoders: Vincent et al. 2008, 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoenc.errors import require


class Identity(nn.Module):
    """No noise."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Gaussian(nn.Module):
    """x + std * e, e ~ N(0, 1) for each dimension; `clip` cuts the result to the range of the data."""

    def __init__(self, low: float, high: float, std: float = 0.3, clip: bool = False):
        super().__init__()
        require(std >= 0, "std", std, "must be 0 or more")
        self.low, self.high, self.std, self.clip = low, high, std, clip

    def forward(self, x: Tensor) -> Tensor:
        noisy = x + self.std * torch.randn_like(x)
        return noisy.clamp_(self.low, self.high) if self.clip else noisy


class Masking(nn.Module):
    """Each dimension (of an image: each pixel, all its channels) becomes 0 with probability p."""

    def __init__(self, p: float = 0.3):
        super().__init__()
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (_uniform_per_site(x) >= self.p)


class SaltPepper(nn.Module):
    """Each dimension (of an image: each pixel) becomes the lowest or the highest value with probability p / 2 each."""

    def __init__(self, low: float, high: float, p: float = 0.3):
        super().__init__()
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        self.low, self.high, self.p = low, high, p

    def forward(self, x: Tensor) -> Tensor:
        u = _uniform_per_site(x)
        return torch.where(u < self.p / 2, self.low, torch.where(u < self.p, self.high, x))


def _uniform_per_site(x: Tensor) -> Tensor:
    """U(0, 1) that broadcasts to x: one draw a pixel for images (B, C, H, W), one a dimension otherwise."""
    shape = (len(x), 1, *x.shape[2:]) if x.dim() == 4 else x.shape
    return torch.rand(shape, device=x.device, dtype=x.dtype)
