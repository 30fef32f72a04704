"""Denoising of images, compared with the best classical filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from autoenc import noise
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.figures import picture_grid, titled
from autoenc.loading import Run
from autoenc.metrics import mse_per_example, psnr, ssim
from autoenc.training.tracking import track

TUNED_ON = 50  # validation images that the classical filter and its strength are selected on
SEED = 0

Filter = Callable[[np.ndarray], np.ndarray]  # (H, W) or (H, W, C) in the range of the data -> the same


@dataclass(frozen=True)
class Denoised:
    """Images (N, *shape) in data space: noisy, denoised by the model, and by the best classical filter.

    Args:
        filter: name and strength of the filter, selected on validation images.
        numbers: noisy, model or filter -> {psnr [dB], ssim}, means over images, higher is better; empty without clean
            images.
    """

    noisy: np.ndarray
    denoised: np.ndarray
    clean: np.ndarray | None
    filtered: np.ndarray | None
    filter: str
    numbers: dict[str, dict[str, float]]


def corruption(run: Run, kind: str | None = None, level: float | None = None) -> nn.Module:
    """Return noise of a kind (gaussian, masking, salt_pepper) and level (std or p); default: the noise of training.

    Raises:
        UserError: no kind is given, and the run was trained without noise.
    """
    _need_images(run)
    if kind is None:
        if level is not None:
            raise UserError("--level needs --noise")
        if isinstance(run.model.noise, noise.Identity):
            raise UserError(f"{run.path}: was trained without noise; choose one: --noise gaussian --level 0.5")
        return run.model.noise
    level = 0.3 if level is None else level
    low, high = run.spec.low, run.spec.high
    if kind == "gaussian":
        require(level > 0, "--level", level, "must be above 0")
        return noise.Gaussian(low, high, level)
    require(0 < level < 1, "--level", level, f"must lie between 0 and 1 for {kind}")
    return noise.Masking(level) if kind == "masking" else noise.SaltPepper(low, high, level)


def denoise(run: Run, noisy: Split, clean: Split | None = None, tune: tuple[Split, Split] | None = None) -> Denoised:
    """Denoise images.

    Args:
        noisy: values may lie outside the range of clean data.
        clean: the same images without noise, for PSNR and SSIM.
        tune: (noisy, clean) images that the classical filter is selected on; None: no filter.
    """
    _need_images(run)
    low, high = run.spec.low, run.spec.high
    x = _array(noisy)
    denoised = run.over(noisy, run.model.reconstruct).numpy()
    name, filtered = "", None
    if tune is not None:
        name, best = _best_filter(_array(tune[0]), _array(tune[1]), high - low)
        filtered = np.stack([_filtered(best, image, low, high) for image in track(list(x), f"filter: {name}")])
    numbers: dict[str, dict[str, float]] = {}
    if clean is not None:
        truth = _array(clean)
        methods = {"noisy": x.clip(low, high), "model": denoised} | ({} if filtered is None else {"filter": filtered})
        numbers = {method: quality(truth, images, high - low) for method, images in methods.items()}
    return Denoised(x, denoised, None if clean is None else _array(clean), filtered, name, numbers)


def denoise_test(run: Run, count: int, kind: str | None = None, level: float | None = None) -> Denoised:
    """Denoise `count` test images, with noise from a fixed seed."""
    _need_images(run)
    corrupt = corruption(run, kind, level)

    def pair(split: Split, n: int, seed: int) -> tuple[Split, Split]:
        clean = split.sample(n).take(slice(None))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Split(corrupt(clean.x), clean.y), Split(clean.x)

    noisy, clean = pair(run.data.test, count, SEED)
    return denoise(run, noisy, clean, tune=pair(run.data.val, TUNED_ON, SEED + 1))


def quality(clean: np.ndarray, images: np.ndarray, data_range: float) -> dict[str, float]:
    """Return the mean PSNR [dB] and SSIM of images (N, C, H, W)."""
    error = mse_per_example(torch.from_numpy(clean), torch.from_numpy(np.ascontiguousarray(images)))
    return {
        "psnr": float(psnr(error, data_range).mean()),
        "ssim": float(np.mean([ssim(a, b, data_range) for a, b in zip(clean, images, strict=True)])),
    }


def figure(run: Run, result: Denoised, count: int = 12) -> np.ndarray:
    """Draw rows of images: noisy, filtered, denoised, clean; with clean images, the PSNR is below the others."""
    rows = {"noisy": result.noisy, "filter": result.filtered, "denoised": result.denoised, "clean": result.clean}
    shown = {name: torch.from_numpy(images[:count]) for name, images in rows.items() if images is not None}
    n = min(count, len(result.noisy))
    low, high = run.spec.low, run.spec.high
    texts: list[str] = []
    for name, images in shown.items():
        if name == "clean" or "clean" not in shown:
            texts += [""] * n
        else:
            texts += [f"{value:.1f}" for value in psnr(mse_per_example(shown["clean"], images), high - low).tolist()]
    scored = {name: f"{name}, dB" if name != "clean" and "clean" in shown else name for name in shown}
    title = f"{n} of {len(result.noisy):,} images" + ("; PSNR [dB], higher is better" if "clean" in shown else "")
    title += f"\nfilter: {result.filter}" if "filter" in shown else ""
    return titled(picture_grid(torch.cat(list(shown.values())), n, low, high, list(scored.values()), texts), title)


def _need_images(run: Run) -> None:
    if not run.spec.kind.images:
        raise UserError(f"{run.path}: denoising is for images; {run.spec.name} has {run.spec.kind.noun}")


def _array(split: Split) -> np.ndarray:
    return split.take(slice(None)).x.cpu().numpy()


def _filters(sigma: float) -> Iterator[tuple[str, Filter]]:
    """Yield denoisers of scikit-image with several strengths. sigma: standard deviation of the noise."""
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


def _best_filter(noisy: np.ndarray, clean: np.ndarray, data_range: float) -> tuple[str, Filter]:
    """Return the filter with the highest mean PSNR."""
    low, high = float(clean.min()), float(clean.min()) + data_range
    sigma = math.sqrt(float(np.square(noisy - clean).mean()))
    scored = []
    for name, candidate in _filters(sigma):
        images = np.stack([_filtered(candidate, image, low, high) for image in noisy])
        error = mse_per_example(torch.from_numpy(clean), torch.from_numpy(images))
        scored.append((float(psnr(error, data_range).mean()), name, candidate))
    _, name, best = max(scored, key=lambda entry: entry[0])
    return name, best


def _filtered(function: Filter, image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Apply a filter to each channel and clip to the range of the data: (C, H, W) -> (C, H, W) float32."""
    return np.stack([np.asarray(function(channel), np.float32) for channel in image]).clip(low, high)
