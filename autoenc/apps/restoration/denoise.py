"""Denoising of images and signals, compared with the best classical filter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from autoenc import noise
from autoenc.data.kinds.denoising import Denoising, Filter
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.figures import titled
from autoenc.loading import Run
from autoenc.screen import track
from autoenc.seeds import seeded

TUNED_ON = 50  # validation examples that the classical filter and its strength are selected on
SEED = 0
LEVEL = 0.3  # standard deviation, or fraction of the values


@dataclass(frozen=True)
class Denoised:
    """Examples (N, *shape) in data space: noisy, denoised by the model, and by the best classical filter.

    Args:
        filter: name and strength of the filter, selected on validation examples.
        numbers: noisy, model or filter -> `Denoising.quality`, higher is better; empty without clean examples.
    """

    noisy: np.ndarray
    denoised: np.ndarray
    clean: np.ndarray | None
    filtered: np.ndarray | None
    filter: str
    numbers: dict[str, dict[str, float]]


def check(run: Run) -> Denoising:
    """Return how the examples are denoised.

    Raises:
        UserError: they are not.
    """
    if (found := run.spec.kind.denoising) is None:
        raise UserError(f"{run.path}: denoising is for images and series; {run.spec.name} has {run.spec.kind.noun}")
    return found


def corruption(run: Run, kind: str | None = None, level: float | None = None) -> nn.Module:
    """Return noise of a kind (gaussian, masking, salt_pepper) and level (std or p); default: the noise of training.

    Raises:
        UserError: no kind is given, and the run was trained without noise.
    """
    check(run)
    if kind is None:
        if level is not None:
            raise UserError("--level needs --noise")
        if isinstance(run.model.noise, noise.Identity):
            raise UserError(
                f"{run.path}: was trained without noise, so that --noise has no default; --noise gaussian adds some of "
                f"--level {LEVEL}, as scripts/evaluate.py does"
            )
        return run.model.noise
    level = LEVEL if level is None else level
    low, high = run.spec.low, run.spec.high
    if kind == "gaussian":
        require(level > 0, "--level", level, "must be above 0")
        return noise.Gaussian(low, high, level)
    require(0 < level < 1, "--level", level, f"must lie between 0 and 1 for {kind}")
    return noise.Masking(level) if kind == "masking" else noise.SaltPepper(low, high, level)


def denoise(run: Run, noisy: Split, clean: Split | None = None, tune: tuple[Split, Split] | None = None) -> Denoised:
    """Denoise examples.

    Args:
        noisy: values may lie outside the range of clean data.
        clean: the same examples without noise, for the numbers, which are means of the examples that the noise has
            changed: those that it left as they are have a signal-to-noise ratio of 120 dB.
        tune: (noisy, clean) examples that the classical filter is selected on; None: no filter.
    """
    kind = check(run)
    x = _array(noisy)
    denoised = run.over(noisy, run.model.reconstruct).numpy()
    name, filtered = "", None
    if tune is not None:
        name, best = _best_filter(kind, _array(tune[0]), _array(tune[1]))
        filtered = np.stack([_filtered(kind, best, each) for each in track(list(x), f"filter: {name}")])
    numbers: dict[str, dict[str, float]] = {}
    truth = None if clean is None else _array(clean)
    if truth is not None:
        methods = {"noisy": kind.clip(x), "model": denoised} | ({} if filtered is None else {"filter": filtered})
        rows = _changed(kind, x, truth)
        numbers = {method: kind.quality(truth[rows], each[rows]) for method, each in methods.items()}
    return Denoised(x, denoised, truth, filtered, name, numbers)


def denoise_test(run: Run, count: int, kind: str | None = None, level: float | None = None) -> Denoised:
    """Denoise `count` test examples, but those of anomalous classes, with noise from a fixed seed."""
    corrupt = corruption(run, kind, level)

    def pair(split: Split, n: int, seed: int) -> tuple[Split, Split]:
        clean = split.sample(n).take(slice(None))
        with seeded(seed, run.device):
            return Split(corrupt(clean.x), clean.y), Split(clean.x)

    noisy, clean = pair(run.normal_test(), count, SEED)
    return denoise(run, noisy, clean, tune=pair(run.data.val, TUNED_ON, SEED + 1))


def figure(run: Run, result: Denoised) -> np.ndarray:
    """Draw some examples: noisy, filtered, denoised, clean; with clean ones, with their signal-to-noise ratios."""
    kind = check(run)
    count = min(kind.shown, len(result.noisy))
    rows = {"noisy": result.noisy, "filter": result.filtered, "denoised": result.denoised, "clean": result.clean}
    drawn = {name: x[:count] for name, x in rows.items() if x is not None}
    texts = {}
    if (clean := drawn.get("clean")) is not None:
        others = {name: x for name, x in drawn.items() if name != "clean"}
        texts = {name: [f"{value:.1f}" for value in kind.ratios(clean, x)] for name, x in others.items()}
    title = f"{count} of {len(result.noisy):,} {run.spec.kind.noun}"
    title += f"; {kind.ratio.upper()} [dB], higher is better" if texts else ""
    title += f"\nfilter: {result.filter}" if "filter" in drawn else ""
    return titled(kind.draw({name: torch.from_numpy(x) for name, x in drawn.items()}, texts), title)


def _array(split: Split) -> np.ndarray:
    return split.take(slice(None)).x.cpu().numpy()


def _changed(kind: Denoising, noisy: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Return which examples the noise has changed, (N,) bool; all if it has changed none."""
    changed: np.ndarray = (kind.clip(noisy) != clean).reshape(len(clean), -1).any(1)
    return changed if changed.any() else ~changed


def _best_filter(kind: Denoising, noisy: np.ndarray, clean: np.ndarray) -> tuple[str, Filter]:
    """Return the filter with the highest mean signal-to-noise ratio of the examples that the noise has changed."""
    rows = _changed(kind, noisy, clean)
    noisy, clean = noisy[rows], clean[rows]
    sigma = math.sqrt(float(np.square(noisy - clean).mean()))
    scored = []
    for name, candidate in kind.filters(sigma):
        filtered = np.stack([_filtered(kind, candidate, x) for x in noisy])
        scored.append((float(kind.ratios(clean, filtered).mean()), name, candidate))
    _, name, best = max(scored, key=lambda entry: entry[0])
    return name, best


def _filtered(kind: Denoising, function: Filter, x: np.ndarray) -> np.ndarray:
    """Apply a filter to each channel and clip to the range of the data: (C, ...) -> (C, ...) float32."""
    return kind.clip(np.stack([np.asarray(function(channel), np.float32) for channel in x]))
