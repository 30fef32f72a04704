"""Denoising of images (N, C, H, W), with the filters of scikit-image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from autoenc.canvas import picture_grid
from autoenc.data.kinds.denoising.denoising import Filter
from autoenc.metrics import has_ssim, mse_per_example, psnr, ssim


@dataclass(frozen=True)
class Images:
    """Implements `Denoising` for values in [low, high]."""

    low: float
    high: float
    ratio: str = "psnr"
    shown: int = 12

    def ratios(self, clean: np.ndarray, x: np.ndarray) -> np.ndarray:
        error = mse_per_example(torch.from_numpy(clean), torch.from_numpy(np.ascontiguousarray(x)))
        return psnr(error, self.high - self.low).numpy()

    def quality(self, clean: np.ndarray, x: np.ndarray) -> dict[str, float]:
        """Return the mean PSNR [dB] and, of images that have one, SSIM."""
        numbers = {"psnr": float(self.ratios(clean, x).mean())}
        if has_ssim(clean.shape[1:]):
            numbers["ssim"] = float(np.mean([ssim(a, b, self.high - self.low) for a, b in zip(clean, x, strict=True)]))
        return numbers

    def clip(self, x: np.ndarray) -> np.ndarray:
        return x.clip(self.low, self.high)

    def filters(self, sigma: float) -> Iterator[tuple[str, Filter]]:
        from skimage import filters, morphology, restoration

        for weight in (0.1, 0.2, 0.4, 0.8, 1.2):
            yield f"total variation, weight {weight}", partial(restoration.denoise_tv_chambolle, weight=weight)
        for factor in (0.6, 0.8, 1.2):
            means = partial(restoration.denoise_nl_means, patch_size=5, patch_distance=6, h=factor * sigma, sigma=sigma)
            yield f"non-local means, h {factor} sigma", means
        for width in (0.5, 1.0, 1.5):
            yield f"Gaussian, width {width}", partial(filters.gaussian, sigma=width, preserve_range=True)
        for radius in (1, 2):
            yield f"median, radius {radius}", partial(filters.median, footprint=morphology.disk(radius))

    def draw(self, versions: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]]) -> np.ndarray:
        """Draw a row of images for each version."""
        count = len(next(iter(versions.values())))
        below = [text for name in versions for text in texts.get(name, [""] * count)]
        labels = [f"{name}, dB" if name in texts else name for name in versions]
        return picture_grid(torch.cat(list(versions.values())), count, self.low, self.high, labels, below)
