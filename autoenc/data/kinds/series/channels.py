"""Channels of recordings as a model is fed them: logarithm, differences, scaling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.errors import DataError, require

Scaling = Literal["standard", "robust", "none"]
CHUNK = 2**18  # steps
SAMPLE = 500_000  # steps for quantiles
COARSE = 0.05  # of a standard deviation: rounding beyond it is noted
QUARTILES = 1.349  # distance of the quartiles of a normal distribution, in standard deviations


@dataclass(frozen=True)
class Channels:
    """y = (f(x_t) [- f(x_t-1)] - center) / scale for each channel, f(x) = x or sign(x) log(1 + |x|).

    Args:
        names, center, scale: one for each of the C channels.
        log: apply the logarithm. differences: subtract the step before.
    """

    names: tuple[str, ...]
    center: tuple[float, ...]
    scale: tuple[float, ...]
    log: bool = False
    differences: bool = False

    @property
    def lead(self) -> int:
        """Number of steps before a window that it depends on."""
        return int(self.differences)

    def raw(self, x: Tensor) -> Tensor:
        """Return steps before they are scaled: (..., lead + T, C) -> (..., T, C)."""
        x = x.sign() * x.abs().log1p() if self.log else x
        return x.diff(dim=-2) if self.differences else x

    def forward(self, x: Tensor) -> Tensor:
        """Return steps as a model is fed them: (..., lead + T, C) -> (..., C, T)."""
        scaled = (self.raw(x.float()) - torch.tensor(self.center)) / torch.tensor(self.scale)
        return scaled.transpose(-1, -2).contiguous()

    def inverse(self, x: Tensor) -> Tensor:
        """Return values in the units of the files: (..., C, T) -> (..., C, T); differences start from 0."""
        x = x.cpu() * torch.tensor(self.scale)[:, None] + torch.tensor(self.center)[:, None]
        x = x.cumsum(-1) if self.differences else x
        return x.sign() * x.abs().expm1() if self.log else x


def rounded(channels: Channels, steps: Tensor, used: Tensor) -> list[str]:
    """Return notes of channels whose values are too large for what changes in them: steps (S, C) are float32."""
    where = used.nonzero().squeeze(1)
    where = where[torch.linspace(0, len(where) - 1, min(len(where), SAMPLE)).long()]
    fed = channels.raw(steps[where[:, None] + torch.arange(-channels.lead, 1)].double())[:, 0]
    spacing = np.spacing(steps[where].abs().amax(0).numpy())
    coarse = np.flatnonzero((spacing > COARSE * fed.std(0).numpy()) & (not channels.log))
    what = "its changes" if channels.differences else "its spread"
    return [
        f"Attention: channel {channels.names[i]}: values are rounded to {spacing[i]:g}, which is much of {what}; "
        "subtract a constant from the column"
        for i in coarse
    ]


def fit(
    names: Sequence[str], steps: Tensor, used: Tensor, scaling: Scaling, log: bool = False, differences: bool = False
) -> Channels:
    """Return the channels with the location and scale of the steps (S, C) that are `used`, (S,) bool.

    Raises:
        ConfigError: another scaling. DataError: a constant channel.
    """
    require(scaling in ("standard", "robust", "none"), "scaling", scaling, "must be one of standard, robust, none")
    count = len(names)
    plain = Channels(tuple(names), (0.0,) * count, (1.0,) * count, log, differences)
    where = used.nonzero().squeeze(1)
    if scaling == "robust" and len(where) > SAMPLE:
        where = where[torch.linspace(0, len(where) - 1, SAMPLE).long()]

    def chunks() -> list[Tensor]:
        return [plain.raw(steps[i[:, None] + torch.arange(-plain.lead, 1)].double())[:, 0] for i in where.split(CHUNK)]

    first = chunks() if len(where) <= CHUNK else None  # read once if it is little
    mean = torch.stack([part.sum(0) for part in first or chunks()]).sum(0) / len(where)
    square = torch.stack([(part - mean).square().sum(0) for part in first or chunks()]).sum(0) / len(where)
    for name, middle, variance in zip(names, mean.tolist(), square.tolist(), strict=True):
        if variance <= 1e-12 * middle**2 or variance == 0:
            what = "changes by a constant amount" if differences else "is constant"
            raise DataError(f"channel {name} {what} in the training recordings; data.drop=[{name}] leaves it out")
    if scaling == "none":
        return plain
    center, scale = mean, square.sqrt()
    if scaling == "robust":
        quartiles = np.quantile(torch.cat(first or chunks()).numpy(), (0.25, 0.5, 0.75), axis=0)
        low, center, high = torch.from_numpy(quartiles)
        width = (high - low) / QUARTILES
        scale = torch.where(width > 1e-3 * scale, width, scale)  # a channel that is mostly constant
    return Channels(plain.names, tuple(center.tolist()), tuple(scale.tolist()), log, differences)
