"""Synthetic defects of surfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.errors import ConfigError, require
from autoenc.noise.geometry import affine, resampled

Content = Callable[[Tensor, float], Tensor]  # images (B, C, H, W) and the range of the data -> what defects show


class Blemishes(nn.Module):
    """Draw a synthetic defect into some of the images: what a `Content` makes of the image, inside a random shape.

    A model that learns to remove these also removes real defects, which then have a large error. Shapes are level sets
    of a smooth random field: high values (blobs), or values near 0 inside a region (strokes), similar to DRAEM
    (Zavrtanik et al. 2021); large ones are half of the image. Contents change the brightness, the texture or the
    geometry (similar to CutPaste, Li et al. 2021): see `KINDS`.

    Args:
        p: fraction of the images with a defect. kinds: names in `KINDS`, which are equally frequent; None: all.
    """

    def __init__(
        self, input_shape: tuple[int, ...], low: float, high: float, p: float = 0.5, kinds: Sequence[str] | None = None
    ):
        super().__init__()
        require(0 < p <= 1, "p", p, "must lie above 0, up to 1")
        self.kinds = list(KINDS) if kinds is None else list(kinds)
        known = bool(self.kinds) and set(self.kinds) <= KINDS.keys()
        require(known, "kinds", self.kinds, f"must be among {', '.join(KINDS)}, or null")
        if len(input_shape) != 3:
            raise ConfigError("", None, "blemishes are for images")
        self.low, self.high, self.p = low, high, p

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.randint(len(self.kinds), (len(x),), device=x.device)
        chosen[torch.rand(len(x), device=x.device) >= self.p] = -1
        noisy = x.clone()
        for number, name in enumerate(self.kinds):
            rows = (chosen == number).nonzero().squeeze(1)
            if len(rows):
                shape, content = KINDS[name]
                some = x[rows]
                mask = F.avg_pool2d(shape(some).to(x.dtype), 3, stride=1, padding=1, count_include_pad=False)
                noisy[rows] = some + mask * (content(some, self.high - self.low) - some)
        return noisy.clamp(self.low, self.high)


def _uniform(x: Tensor, low: float, high: float) -> Tensor:
    """Return a number for each image: (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device)


def _sign(x: Tensor) -> Tensor:
    return _uniform(x, -1, 1).sign()


def _field(x: Tensor, cells: int, channels: int = 1) -> Tensor:
    """Return a smooth random field (B, channels, H, W)."""
    coarse = torch.randn(len(x), channels, cells, cells, device=x.device)
    return F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True)


def _small(x: Tensor) -> Tensor:
    """Return blobs and strokes: (B, 1, H, W) bool."""
    fine = _field(x, int(torch.randint(3, 7, ())))
    blob, stroke = fine > 1.2 + _uniform(x, 0, 1), (fine.abs() < _uniform(x, 0.05, 0.3)) & (_field(x, 3) > 0.7)
    return torch.where(_uniform(x, 0, 1) < 0.5, stroke, blob)


def _large(x: Tensor) -> Tensor:
    return _field(x, int(torch.randint(2, 5, ()))) > _uniform(x, -0.5, 0.8)


def _band(x: Tensor) -> Tensor:
    """Return a strip of 3 pixels to half of the image across it, at any angle: (B, 1, H, W) bool."""
    height, width = x.shape[2:]
    rows = torch.arange(height, device=x.device).view(1, 1, -1, 1) - _uniform(x, 0, height)
    columns = torch.arange(width, device=x.device) - _uniform(x, 0, width)
    angle = _uniform(x, 0, math.pi)
    return (rows * angle.cos() + columns * angle.sin()).abs() < _uniform(x, 1.5, min(height, width) / 4)


def _brighter(x: Tensor, span: float) -> Tensor:
    return x + span * _uniform(x, 0.1, 0.55)


def _darker(x: Tensor, span: float) -> Tensor:
    return x - span * _uniform(x, 0.1, 0.55)


def _shaded(x: Tensor, span: float) -> Tensor:
    return x + span * _sign(x) * _uniform(x, 0.05, 0.35)


def _faint(x: Tensor, span: float) -> Tensor:
    return x + span * _sign(x) * _uniform(x, 0.03, 0.12)


def _blurred(x: Tensor, span: float) -> Tensor:
    for _ in range(int(torch.randint(1, 4, ()))):
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return x


def _grainy(x: Tensor, span: float) -> Tensor:
    grain = torch.randn_like(x)
    if torch.rand(()) < 0.5:  # coarser than a pixel
        grain = 2 * F.avg_pool2d(grain, 3, stride=1, padding=1)
    return x + span * _uniform(x, 0.05, 0.25) * grain


def _moved(x: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return images that are turned, stretched and shifted; the last by half sides: (B, 2)."""
    return resampled(x, affine(x, angle.view(-1), scale.view(-1, 1).expand(-1, 2), shift))


def _turned(x: Tensor, span: float) -> Tensor:
    """Turn by 20 to 160 degrees."""
    return _moved(x, math.pi * _uniform(x, 1 / 9, 8 / 9), torch.ones_like(x[:, 0, 0, 0]), x.new_zeros(len(x), 2))


def _stretched(x: Tensor, span: float) -> Tensor:
    """Stretch or shrink by a factor of 1.4 to 2.5, in one direction or in both."""
    factor = _uniform(x, math.log(1.4), math.log(2.5)).exp().view(-1) ** _sign(x).view(-1)
    other = torch.where(_uniform(x, 0, 1).view(-1) < 0.3, factor, torch.ones_like(factor))
    scale = torch.stack([factor, other], 1)
    scale = torch.where(_sign(x).view(-1, 1) > 0, scale, scale.flip(1))
    return resampled(x, affine(x, x.new_zeros(len(x)), scale, x.new_zeros(len(x), 2)))


def _shifted(x: Tensor, span: float) -> Tensor:
    """Shift by up to half of the image, in any direction."""
    angle, far = 2 * math.pi * _uniform(x, 0, 1).view(-1), _uniform(x, 0.2, 1).view(-1, 1)
    shift = far * torch.stack([angle.cos(), angle.sin()], 1)
    return _moved(x, x.new_zeros(len(x)), torch.ones_like(x[:, 0, 0, 0]), shift)


def _pasted(x: Tensor, span: float) -> Tensor:
    """Take the content of another image, or of the mirrored one if it is alone."""
    return x.roll(1, 0) if len(x) > 1 else x.flip(-1)


def _warped(x: Tensor, span: float) -> Tensor:
    flow = 0.25 * _field(x, 4, 2).permute(0, 2, 3, 1) * _uniform(x, 0.3, 1)
    identity = torch.eye(2, 3, device=x.device).expand(len(x), 2, 3)
    return resampled(x, identity, flow)


KINDS: dict[str, tuple[Callable[[Tensor], Tensor], Content]] = {
    "bright": (_small, _brighter),
    "dark": (_small, _darker),
    "large": (_large, _shaded),
    "faint": (_small, _faint),
    "blur": (_large, _blurred),
    "grain": (_large, _grainy),
    "turn": (_large, _turned),
    "stretch": (_large, _stretched),
    "strip": (_band, _shifted),
    "patch": (_large, _pasted),
    "warp": (_large, _warped),
}
