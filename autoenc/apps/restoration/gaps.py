"""Imputation of missing steps of recordings."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.kinds.observed import Gaps
from autoenc.data.split import Split
from autoenc.errors import UserError, one_line
from autoenc.loading import Run

PASSES = 10  # of the model over its own values
MEASURED = 500  # windows with hidden steps
SEED = 0
LINEAR = "linear interpolation"


@dataclass(frozen=True)
class Hidden:
    """Root mean squared errors of hidden steps, by method, in the units of the model; lower is better.

    Args:
        length: number of hidden steps of a window. method: the best on validation windows. numbers: on test windows.
    """

    length: int
    method: str
    numbers: dict[str, float]


def interpolated(x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Return windows (N, C, W) with hidden values interpolated linearly between the others, 0 where there are none."""
    found, steps = x.copy(), np.arange(x.shape[-1])
    for i, c in np.argwhere(hidden.any(-1)):
        gone = hidden[i, c]
        found[i, c, gone] = 0 if gone.all() else np.interp(steps[gone], steps[~gone], x[i, c, ~gone])
    return found


def versions(run: Run, x: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    """Return windows with hidden values filled by each method (N, C, W).

    model: the values are linearly interpolated, then replaced by those of the reconstruction, ten times (as in Rezende
    et al. 2014, appendix F, with the deterministic code). model, fitted to the ends: the error of the reconstruction is
    interpolated linearly across a gap, and subtracted.
    """
    start = torch.from_numpy(interpolated(x.numpy(), hidden.numpy()))

    def passes(batch: Batch) -> Tensor:
        own, gone = batch.x.chunk(2, dim=1)
        for _ in range(PASSES):
            reconstruction = run.model.reconstruct(Batch(own)).float()
            own = torch.where(gone > 0, reconstruction, own)
        return torch.cat([own, reconstruction], 1)

    own, reconstruction = run.over(Split(torch.cat([start, hidden.float()], 1)), passes).chunk(2, dim=1)
    error = interpolated((start - reconstruction).numpy(), hidden.numpy())
    fitted = torch.where(hidden, reconstruction + torch.from_numpy(error), start)
    return {LINEAR: start, "model": own, "model, fitted to the ends": fitted}


def fill(run: Run, gaps: Mapping[Path, Gaps]) -> tuple[dict[Path, Tensor], Hidden | None]:
    """Return windows (N, C, W) of each file without missing values, by the best method on hidden validation steps.

    The model, and no numbers, if the training files cannot be read.

    Raises:
        UserError: nothing is missing in any file.
    """
    lengths = np.concatenate([each.lengths for each in gaps.values()])
    if not lengths.size:
        file, first = next(iter(gaps.items()))
        what = file if len(gaps) == 1 else file.parent
        raise UserError(f"{what}: {first.why}; longer gaps, and those at the ends, are not filled")
    hidden, method = None, "model"
    try:
        hidden = measured(run, min(int(np.median(lengths)), run.spec.shape[-1] // 2))
        method = hidden.method
    except UserError as error:
        warnings.warn(f"{one_line(error)}; the error of filled steps is not measured", stacklevel=2)
    windows = {file: each.split.take(slice(None)).x.cpu() for file, each in gaps.items()}
    return {file: versions(run, x, gaps[file].missing)[method] for file, x in windows.items()}, hidden


def measured(run: Run, length: int) -> Hidden:
    """Hide `length` consecutive steps of windows: choose the method on validation windows, measure on test windows."""

    def errors(split: Split) -> dict[str, float]:
        x = split.sample(MEASURED).take(slice(None)).x.float().cpu()
        hidden = hidden_steps(tuple(x.shape), length)
        return {name: rmse(found, x, hidden) for name, found in versions(run, x, hidden).items()}

    validation = errors(run.data.val)
    return Hidden(length, best(validation), errors(run.normal_test()))


def hidden_steps(shape: tuple[int, ...], length: int) -> Tensor:
    """Return windows with a stretch of steps inside hidden, at random places from a fixed seed: (N, C, W) bool."""
    count, channels, steps = shape
    first = np.random.default_rng(SEED).integers(1, steps - length, count)[:, None]
    inside = (np.arange(steps) >= first) & (np.arange(steps) < first + length)
    return torch.from_numpy(np.repeat(inside[:, None], channels, 1))


def rmse(x_hat: Tensor, x: Tensor, hidden: Tensor) -> float:
    """Return the root mean squared error of hidden values."""
    return math.sqrt(float((x_hat - x)[hidden].square().mean()))


def best(numbers: Mapping[str, float]) -> str:
    """Return the method with the smallest error."""
    return min(numbers, key=lambda name: numbers[name])
