"""Spectrograms: the levels of frequencies in frames of a window."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from autoenc.errors import require

SILENCE = 1e-20  # power of -200 dB
FRAMES, OVERLAP = 16, 2  # by default a window has 2 * 16 - 1 frames
SHORTEST, FEWEST = 16, 8  # a frame of short windows, and their frames: what network=conv needs


@dataclass(frozen=True)
class Spectra:
    """Levels L = 10 log10 P in dB, P the power of a short-time Fourier transform with a Hann window, or of mel bands.

    0 dB is a sine of amplitude 1. Frames lie inside the window. Rows are frequencies, the highest first as in an image.

    Args:
        fft: steps of a frame. hop: steps between the beginnings of frames.
        mels: number of mel bands; 0: the fft // 2 + 1 frequencies of the transform.
        range: dB between the largest level and the floor, below which levels are not distinguished.
        relative: subtract the largest level of each window.
        rate: steps per second; None: not known.
    """

    fft: int = 256
    hop: int = 128
    mels: int = 0
    range: float = 80.0
    relative: bool = False
    rate: float | None = None

    @classmethod
    def of(cls, window: int, fft: int | None, hop: int | None, **options: float | bool | None) -> Spectra:
        """Return spectra of windows.

        By default a frame is a power of two, a sixteenth of the window or less, but not below 16 steps, and frames
        begin half a frame apart, or nearer where a window would have fewer than 8.

        Raises:
            ConfigError: a value out of range.
        """
        fft = 2 ** int(math.log2(max(window // FRAMES, min(SHORTEST, window), 4))) if fft is None else fft
        hop = max(1, min(fft // OVERLAP, (window - fft) // (FEWEST - 1))) if hop is None else hop
        found = cls(fft, hop, **options)  # type: ignore[arg-type]
        require(4 <= fft <= window, "fft", fft, f"must be 4 to data.window={window}: a frame lies inside a window")
        require(1 <= hop <= fft, "hop", hop, f"must be 1 to data.fft={fft}: no step between frames is left out")
        bins = fft // 2 + 1
        require(0 <= found.mels <= bins, "mels", found.mels, f"must be 0 to {bins}, the frequencies of data.fft={fft}")
        require(0 < found.range < math.inf, "range", found.range, "must be more than 0 dB")
        return found

    def at(self, step: float | None) -> Spectra:
        """Return the spectra of recordings with a step of so many seconds.

        Raises:
            ConfigError: mel bands without a rate, or without a frequency.
        """
        found = replace(self, rate=None if step is None else 1 / step)
        if self.mels:
            require(step is not None, "mels", self.mels, "needs the rate of the recordings: data.step=16000Hz")
            empty = int((found.bands.sum(1) == 0).sum())
            why = f"{empty} of the bands have no frequency of data.fft={self.fft}; fewer bands or a larger data.fft"
            require(not empty, "mels", self.mels, why)
        return found

    @property
    def bands(self) -> Tensor:
        """Weights of the frequencies in each mel band (mels, fft // 2 + 1)."""
        assert self.rate is not None
        return mel_bands(self.fft, self.mels, self.rate)

    @property
    def frequencies(self) -> np.ndarray:
        """Frequencies of the rows, or centers of mel bands (F,): Hz if the rate is known, else cycles a step."""
        if self.mels:
            assert self.rate is not None
            return mel_edges(self.mels, self.rate)[-2:0:-1]
        return np.arange(self.fft // 2, -1, -1) * (self.rate or 1.0) / self.fft

    @property
    def size(self) -> int:
        """Number of rows F."""
        return self.mels or self.fft // 2 + 1

    def columns(self, window: int) -> int:
        """Return the number of frames T of a window."""
        return 1 + (window - self.fft) // self.hop

    def levels(self, x: Tensor) -> Tensor:
        """Return the levels of windows in dB: (N, C, W) -> (N, C, F, T)."""
        hann = torch.hann_window(self.fft)
        frames = torch.stft(x.flatten(0, 1), self.fft, self.hop, window=hann, center=False, return_complex=True)
        power = (frames.abs() * (2 / hann.sum())).square()
        power = self.bands @ power if self.mels else power
        found = 10 * power.clamp(min=SILENCE).log10().flip(1).unflatten(0, x.shape[:2])
        return found - found.amax((1, 2, 3), keepdim=True) if self.relative else found


def mel_edges(count: int, rate: float) -> np.ndarray:
    """Return the edges of bands of equal width in mel up to rate / 2, (count + 2,) Hz; m = 2595 log10(1 + f / 700).

    The formula of HTK (Young et al. 2006, The HTK Book, section 5.6), after O'Shaughnessy 1987.
    """
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges: np.ndarray = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    return edges


@lru_cache(maxsize=8)
def mel_bands(fft: int, count: int, rate: float) -> Tensor:
    """Return triangular windows, 1 at the center of each band and 0 at the centers of its neighbours: (count, bins)."""
    frequencies, edges = np.arange(fft // 2 + 1) * rate / fft, mel_edges(count, rate)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.minimum(rising, falling).clip(0)).float()
