"""Noise of each dimension, for any kind of data; denoising autoencoders: Vincent et al. 2008, 2010."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoenc.data.split import masked
from autoenc.errors import require


class Identity(nn.Module):
    """No noise."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Gaussian(nn.Module):
    """x + std * e, e ~ N(0, 1) for each dimension.

    Args:
        clip: limit the result to the range of the data. vary: draw the standard deviation of each example, U(0, std).
    """

    def __init__(self, low: float, high: float, std: float = 0.3, clip: bool = False, vary: bool = False):
        super().__init__()
        require(std >= 0, "std", std, "must be 0 or more")
        self.low, self.high, self.std, self.clip, self.vary = low, high, std, clip, vary

    def forward(self, x: Tensor) -> Tensor:
        std: float | Tensor = self.std
        if self.vary:
            std = std * torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
        noisy = x + std * torch.randn_like(x)
        return noisy.clamp_(self.low, self.high) if self.clip else noisy


class Masking(nn.Module):
    """Set each dimension (for images, each pixel with all channels) to 0 with probability p."""

    def __init__(self, p: float = 0.3):
        super().__init__()
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return x * (_uniform_per_site(x) >= self.p)


class SaltPepper(nn.Module):
    """Set each dimension (for images, each pixel) to the lowest or the highest value with probability p / 2 each."""

    def __init__(self, low: float, high: float, p: float = 0.3):
        super().__init__()
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        self.low, self.high, self.p = low, high, p

    def forward(self, x: Tensor) -> Tensor:
        u = _uniform_per_site(x)
        return torch.where(u < self.p / 2, self.low, torch.where(u < self.p, self.high, x))


class TokenMask(nn.Module):
    """Replace each token of a text by MASK with probability p, except end and padding (Devlin et al. 2019).

    Autoregressive decoders are conditioned on the clean text.
    """

    def __init__(self, vocabulary: int, p: float = 0.3):
        super().__init__()
        require(vocabulary > 0, "", None, "token_mask is for token ids (data=text); try noise=masking")
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return masked(x, self.p)


def _uniform_per_site(x: Tensor) -> Tensor:
    """Return U(0, 1) that broadcasts to x: one draw per pixel for images (B, C, H, W), else one per dimension."""
    shape = (len(x), 1, *x.shape[2:]) if x.dim() == 4 else x.shape
    return torch.rand(shape, device=x.device, dtype=x.dtype)
