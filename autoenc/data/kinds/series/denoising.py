"""Denoising of windows of recordings (N, C, W), with the filters of scipy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from autoenc.data.kinds.denoising.denoising import Filter
from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.series.figures import compared

LENGTHS = (3, 5, 7, 9, 13, 17, 25, 33)  # steps of a filter
ORDERS = (1, 2, 3, 4)  # of the polynomials


@dataclass(frozen=True)
class Signals:
    """Implements `Denoising` for scaled channels: their signal is the deviation from the mean of the training data."""

    channels: Channels
    steps: int
    ratio: str = "snr"
    shown: int = 4

    def ratios(self, clean: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return 10 log10(sum s^2 / sum (x - s)^2) for each window s."""
        signal, noise = (np.square(each, dtype=np.float64).sum((1, 2)) for each in (clean, x - clean))
        return 10 * np.log10(signal.clip(min=1e-12) / noise.clip(min=1e-12))

    def quality(self, clean: np.ndarray, x: np.ndarray) -> dict[str, float]:
        """Return the mean SNR [dB]."""
        return {"snr": float(self.ratios(clean, x).mean())}

    def clip(self, x: np.ndarray) -> np.ndarray:
        return x

    def filters(self, sigma: float) -> Iterator[tuple[str, Filter]]:
        from scipy.signal import savgol_filter, wiener

        for length in LENGTHS:
            if length > self.steps:
                break
            yield f"Wiener, {length} steps", partial(wiener, mysize=length, noise=sigma**2)
            for order in ORDERS:
                if order < length - 1:
                    smooth = partial(savgol_filter, window_length=length, polyorder=order)
                    yield f"Savitzky-Golay, {length} steps, order {order}", smooth

    def draw(self, versions: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Draw a column for each window, a row for each channel."""
        drawn = {name: self.channels.inverse(x.float()).numpy() for name, x in versions.items()}
        rows = zip(*texts.values(), strict=True)
        titles = [", ".join(f"{name} {text}" for name, text in zip(texts, row, strict=True)) for row in rows]
        count = len(next(iter(versions.values())))
        return compared(drawn, self.channels.names, titles or [""] * count)
