"""Corruptions of the input: modules (B, *shape) -> (B, *shape) that do not modify their argument.

They draw from torch's global generator, which is saved in checkpoints, so that a resumed run draws the same noise.
Denoising autoencoders: Vincent et al. 2008, 2010.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.data.split import masked
from autoenc.errors import ConfigError, require


class Identity(nn.Module):
    """No noise."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Gaussian(nn.Module):
    """x + std * e, e ~ N(0, 1) for each dimension; `clip` limits the result to the range of the data."""

    def __init__(self, low: float, high: float, std: float = 0.3, clip: bool = False):
        super().__init__()
        require(std >= 0, "std", std, "must be 0 or more")
        self.low, self.high, self.std, self.clip = low, high, std, clip

    def forward(self, x: Tensor) -> Tensor:
        noisy = x + self.std * torch.randn_like(x)
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


class Blemishes(nn.Module):
    """Draw a synthetic defect, a darker or brighter blob or stroke, into some of the images.

    A model that learns to remove these also removes real defects, which then have a large error. Shapes are level sets
    of a smooth random field: high values (blobs), or values near 0 inside a region (strokes), similar to DRAEM
    (Zavrtanik et al. 2021). The change of brightness is 0.1 to 0.55 of the range of the data.

    Args:
        p: fraction of the images with a defect. dark: fraction of the defects that are darker.
    """

    def __init__(self, input_shape: tuple[int, ...], low: float, high: float, p: float = 0.5, dark: float = 0.5):
        super().__init__()
        require(0 < p <= 1, "p", p, "must lie above 0, up to 1")
        require(0 <= dark <= 1, "dark", dark, "must lie in 0 to 1")
        if len(input_shape) != 3:
            raise ConfigError("", None, "blemishes are for images")
        self.low, self.high, self.p, self.dark = low, high, p, dark

    def forward(self, x: Tensor) -> Tensor:
        def uniform() -> Tensor:
            return torch.rand(len(x), 1, 1, 1, device=x.device)

        def field(cells: int) -> Tensor:
            coarse = torch.randn(len(x), 1, cells, cells, device=x.device)
            return F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True)

        fine = field(int(torch.randint(3, 7, ())))
        blob, stroke = fine > 1.2 + uniform(), (fine.abs() < 0.05 + 0.25 * uniform()) & (field(3) > 0.7)
        shape = torch.where(uniform() < 0.5, stroke, blob) & (uniform() < self.p)
        soft = F.avg_pool2d(shape.to(x.dtype), 3, stride=1, padding=1, count_include_pad=False)
        change = (0.1 + 0.45 * uniform()) * torch.where(uniform() < self.dark, -1.0, 1.0) * (self.high - self.low)
        return (x + soft * change).clamp(self.low, self.high)


def _uniform_per_site(x: Tensor) -> Tensor:
    """Return U(0, 1) that broadcasts to x: one draw per pixel for images (B, C, H, W), else one per dimension."""
    shape = (len(x), 1, *x.shape[2:]) if x.dim() == 4 else x.shape
    return torch.rand(shape, device=x.device, dtype=x.dtype)
