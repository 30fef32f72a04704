"""The interface: what denoised examples are measured by, compared with and drawn as."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

Filter = Callable[[np.ndarray], np.ndarray]  # a channel of an example -> the same


class Denoising(Protocol):
    """Denoising of examples (N, C, ...)."""

    @property
    def ratio(self) -> str:
        """Name of the signal-to-noise ratio, in dB."""
        ...

    @property
    def shown(self) -> int:
        """Number of examples in a figure."""
        ...

    def ratios(self, clean: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the signal-to-noise ratios of examples in dB (N,)."""
        ...

    def quality(self, clean: np.ndarray, x: np.ndarray) -> dict[str, float]:
        """Return the mean of `ratios`, and other numbers; higher is better."""
        ...

    def clip(self, x: np.ndarray) -> np.ndarray:
        """Return values clipped to the range of clean data."""
        ...

    def filters(self, sigma: float) -> Iterator[tuple[str, Filter]]:
        """Yield classical denoisers of several strengths, by name.

        Args:
            sigma: standard deviation of the noise.
        """
        ...

    def draw(self, versions: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Draw the same examples in several versions, with a text for each example of some versions."""
        ...
