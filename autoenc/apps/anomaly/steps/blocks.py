"""Thresholds with a false-alarm rate for recordings, whose time steps depend on each other.

Blocks of steps may be exchangeable where steps are not: whole recordings that are drawn alike, or blocks of a
stationary process that are far enough apart. Then the rank of the highest score of a normal block among those of n
others is uniform, and split-conformal p-values hold for blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from autoenc.apps.anomaly.calibration import chose_the_checkpoint, unseen
from autoenc.apps.anomaly.conformal import Calibration
from autoenc.apps.anomaly.steps.scores import StepDetector
from autoenc.data.split import Split
from autoenc.data.storage.windows import Windows
from autoenc.errors import UserError
from autoenc.loading import Run

RECORDING = "recording"
WINDOWS = "validation windows"
MEANS = (
    "steps are means over their windows; --follow and exported detectors see one window, decide by residual unless "
    "--score names error, and have another threshold"
)
MORE = "a larger data.val_fraction, or --calibrate with normal recordings, gives more"
Block = int | str | None  # steps; RECORDING: whole recordings; None: single steps


def blocks(places: np.ndarray, length: int, block: int | str, starts: Sequence[int] | None) -> list[tuple[int, int]]:
    """Return first and end of the blocks among the steps that windows cover, in order; `length` steps between them.

    No window has steps of two blocks, and no block is longer than the stretch of windows that it is in.

    Args:
        places: of the windows. starts: of the recordings; None: not known, so that a block lies in windows that share
            steps, as if the others were of different recordings, and blocks are `length` steps apart, as if of one.
    """
    places = np.sort(places)
    steps = np.unique(places[:, None] + np.arange(length))
    first = places[1:][np.diff(places) >= length] if starts is None else np.array(starts)
    begins = np.isin(steps, first) if starts is None else np.diff(np.searchsorted(first, steps, "right"), prepend=0) > 0
    begins[0] = True
    if isinstance(block, str):
        return list(pairwise([*np.flatnonzero(begins).tolist(), len(steps)]))
    begins[1:] |= np.diff(steps) > 1
    bounds = pairwise([*np.flatnonzero(begins).tolist(), len(steps)])
    found = [(at, at + block) for a, b in bounds for at in range(a, b - block + 1, block + length)]
    if starts is not None:
        return found
    apart: list[tuple[int, int]] = []
    for first_step, end in found:
        if not apart or steps[first_step] - steps[apart[-1][1] - 1] > length:
            apart.append((first_step, end))
    return apart


@dataclass(frozen=True)
class Normal:
    """Recordings without anomalies, that thresholds follow from.

    Args:
        split: their windows; None: the validation windows. blocks: of their steps; None: single steps.
        windows: their number, and what they are. source, remark: as in `Calibration`.
    """

    split: Split | None
    blocks: list[tuple[int, int]] | None
    windows: tuple[int, str]
    source: str
    remark: str = ""

    def scored(self, detector: StepDetector) -> Calibration:
        """Return the scores of the steps, or the highest one of each block."""
        values = detector.validation if self.split is None else detector.scores(self.split).scores
        if self.blocks is None:
            return Calibration(values, self.source, self.remark, MEANS, MORE, self.windows)
        size = len(values["error"])  # elbo is stored of some validation windows only
        known = {name: each for name, each in values.items() if len(each) == size}
        highest = {name: np.array([each[a:b].max() for a, b in self.blocks]) for name, each in known.items()}
        return Calibration(highest, self.source, self.remark)


def normal(run: Run, path: str | None, block: Block) -> Normal:
    """Return the recordings of a file or a folder, or the validation recordings.

    Raises:
        UserError: training windows are among those of the file, or whole recordings without a file. DataError: the file
            cannot be read.
    """
    kind: Any = run.spec.kind
    split, source, remark = None, "the validation recordings", chose_the_checkpoint("validation recordings")
    places, starts = run.reference.val_places, None
    if path is not None:
        found = unseen(run, path)
        split, source, remark = found.split, found.source.removeprefix("rows of "), found.remark
        assert isinstance(split.x, Windows)
        places, starts = split.x.places.numpy(), split.x.axis.starts[:-1]
    windows = len(places), WINDOWS if split is None else f"windows of {source}"
    if block is None:
        return Normal(split, None, windows, "validation steps" if split is None else f"steps of {source}", remark)
    if block == RECORDING and split is None:
        raise UserError(f"--block {RECORDING}: needs --calibrate, a folder of normal recordings")
    what = "recordings" if block == RECORDING else f"blocks of {block:,} steps"
    promise = f"the rate is that of {what} with an alarm, if new normal ones are drawn like these"
    words = f"{promise}; {remark}" if remark else promise
    return Normal(split, blocks(places, kind.window, block, starts), windows, f"{what} of {source}", words)
