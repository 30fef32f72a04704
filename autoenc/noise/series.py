"""Noise on series: spans of time and whole channels set to 0, which is the mean of scaled channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoenc.errors import ConfigError, require


def require_series(input_shape: tuple[int, ...], part: str) -> None:
    """Raise ConfigError unless examples are series (C, T)."""
    if len(input_shape) != 2:
        raise ConfigError("", None, f"{part} is for series, the data have shape {tuple(input_shape)}; noise=masking")


class Spans(nn.Module):
    """Set spans of time to 0 in all channels, or in each channel on its own.

    Each step begins a span with the probability at which the expected fraction of steps in spans is p:
    1 - (1 - q)^length = p.

    Args:
        p: expected fraction of the steps. length: of a span. together: the same spans in all channels.
    """

    def __init__(self, input_shape: tuple[int, ...], p: float = 0.3, length: int = 8, together: bool = True):
        super().__init__()
        require_series(input_shape, "spans")
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        require(1 <= length <= input_shape[1], "length", length, f"must lie in 1 to {input_shape[1]}, the steps")
        self.length, self.together = length, together
        self.start = 1 - (1 - p) ** (1 / length)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, steps = x.shape
        size = (batch, 1 if self.together else channels, steps + self.length - 1)  # spans may begin before the window
        begins = (torch.rand(size, device=x.device) < self.start).float()
        hidden = nn.functional.max_pool1d(begins, self.length, stride=1) > 0
        return x.masked_fill(hidden, 0)


class Channels(nn.Module):
    """Set each channel of a window to 0 with probability p, but never all of them."""

    def __init__(self, input_shape: tuple[int, ...], p: float = 0.3):
        super().__init__()
        require_series(input_shape, "channels")
        require(0 < p < 1, "p", p, "must lie between 0 and 1")
        if input_shape[0] < 2:
            raise ConfigError("", None, "channels needs series of two channels or more, this has one; noise=spans")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        u = torch.rand(x.shape[:2], device=x.device)
        hidden = (u < self.p) & (u < u.amax(1, keepdim=True))
        return x.masked_fill(hidden[..., None], 0)
