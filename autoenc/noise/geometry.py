"""Geometric changes of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.errors import ConfigError, require
from autoenc.noise.simple import Gaussian


class Affine(Gaussian):
    """Turn, stretch and shift each image at random, and add Gaussian noise.

    The image as it was is reconstructed. Its pose cannot be inferred from the corrupted one, so that the code keeps
    what does not depend on the pose: features for classification, as by augmentation (Bishop 1995 for noise).

    Args:
        std, clip, vary: of the Gaussian noise. rotate: maximum angle in degrees. scale: maximum relative change of
            width and of height. shift: maximum shift, relative to the side.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        low: float,
        high: float,
        std: float = 0.3,
        clip: bool = False,
        vary: bool = False,
        rotate: float = 10.0,
        scale: float = 0.1,
        shift: float = 0.1,
    ):
        super().__init__(low, high, std, clip, vary)
        require(0 <= rotate <= 180, "rotate", rotate, "must lie in 0 to 180")
        require(0 <= scale < 1, "scale", scale, "must lie in 0 to 1")
        require(0 <= shift < 1, "shift", shift, "must lie in 0 to 1")
        if len(input_shape) != 3:
            raise ConfigError("", None, "affine noise is for images")
        self.rotate, self.scale, self.shift = rotate, scale, shift

    def forward(self, x: Tensor) -> Tensor:
        def uniform(*size: int) -> Tensor:
            return 2 * torch.rand(len(x), *size, device=x.device) - 1

        angle = uniform() * (self.rotate * math.pi / 180)
        theta = affine(x, angle, 1 + self.scale * uniform(2), 2 * self.shift * uniform(2))
        return super().forward(resampled(x, theta))


def affine(x: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return matrices (B, 2, 3) for `resampled`: angle (B,) in radians, scale (B, 2), shift (B, 2) in half sides."""
    aspect = x.shape[3] / x.shape[2]
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cos, -sin / aspect], 1), torch.stack([sin * aspect, cos], 1)], 1)  # (B, 2, 2)
    return torch.cat([turn * scale[:, None], shift[:, :, None]], 2)


def resampled(x: Tensor, theta: Tensor, flow: Tensor | None = None) -> Tensor:
    """Return images (B, C, H, W) that are read where affine matrices (B, 2, 3) and a flow (B, H, W, 2) point."""
    with torch.autocast(x.device.type, enabled=False):  # bfloat16 would be off by half a pixel
        grid = F.affine_grid(theta.float(), list(x.shape), align_corners=False)
        if flow is not None:
            grid = grid + flow
        return F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
