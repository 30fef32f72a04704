"""Scores of rows as they come, one recording that is still being written."""

from __future__ import annotations

import csv
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from autoenc.apps.anomaly.conformal import Quantile
from autoenc.apps.anomaly.scores import threshold
from autoenc.apps.anomaly.steps.blocks import WINDOWS
from autoenc.apps.anomaly.steps.scores import OWN, StepDetector
from autoenc.apps.anomaly.steps.timeline import blamed, x_names
from autoenc.core import Batch
from autoenc.data.readers.cells.numbers import COMMAS
from autoenc.data.readers.recordings.steps import seconds_of, zone_of
from autoenc.errors import DataError, UserError, counted
from autoenc.reference import errors

WAIT = 0.2  # seconds between looks at a file
MORE = "a larger data.val_fraction or a smaller data.stride gives more"
LAST_STEPS = f"last steps of {WINDOWS}"
HEADER = ("time", "score", "anomaly", "channels")


def whole(detector: StepDetector) -> str:
    """Return by what the steps of whole files are decided, in words."""
    return (
        f"steps of whole files have another threshold: scripts/detect.py decides by {detector.best}, means over windows"
    )


@dataclass(frozen=True)
class Scored:
    """A row and its score, None until there are as many steps as a window has."""

    stamp: str
    score: float | None
    alarm: bool
    channels: str

    def cells(self) -> list[str]:
        """Return the cells of HEADER."""
        if self.score is None:
            return [self.stamp, "", "", ""]
        return [self.stamp, f"{self.score:.7g}", str(int(self.alarm)), self.channels]


class Follower:
    """Scores each row by the window that it ends.

    The score is that of the last step of the window alone, and its threshold the quantile of such scores in the
    validation windows; detection afterwards averages over all windows of a step, which knows more. Up to
    `data.max_gap` missing rows are interpolated, empty cells take the value before; after longer gaps, scores begin
    again with a whole window.

    Args:
        score: residual or error; None: residual.

    Attributes:
        caution: a sentence if the threshold rests on few scores, else empty.
        decided: the score, the threshold and what it means, in words.

    Raises:
        UserError: another score.
    """

    def __init__(self, detector: StepDetector, score: str | None = None, quantile: float = 0.99):
        kind: Any = detector.run.spec.kind
        self.detector, self.kind, self.score = detector, kind, score or OWN[0]
        if self.score not in OWN:
            raise UserError(f"--score {score}: rows that come one by one have the scores {', '.join(OWN)}")
        self.names = x_names(detector.run)
        rule = Quantile(quantile)
        normal = detector.validation_last[self.score]
        self.threshold = threshold(normal, quantile)
        self.caution = rule.caution(len(normal), WINDOWS, MORE)
        means = rule.words(normal, normal, LAST_STEPS)
        self.decided = f"{self.score} > {self.threshold:.4g}, {means}; {whole(detector)}"
        self.size = int(kind.window + kind.channels.lead)
        self.rows: list[np.ndarray] = []  # the last ones, on the grid of steps
        self.seconds: float | None = None
        self.missing, self.number = 0, 0

    def push(self, rows: Sequence[tuple[str, float | None, np.ndarray]]) -> list[Scored]:
        """Score some rows: time stamp, its seconds if there are time stamps, and values (C,), NaN where missing.

        Raises:
            DataError: a time stamp that is not later than the one before.
        """
        windows: list[np.ndarray] = []
        which: list[int | None] = []
        for stamp, seconds, values in rows:
            self.number += 1
            self._read(stamp, seconds, values)
            full = len(self.rows) == self.size
            which.append(len(windows) if full else None)
            if full:
                windows.append(np.stack(self.rows))
        found = self._scores(np.stack(windows)) if windows else []
        return [
            Scored(row[0], None, False, "") if i is None else Scored(row[0], *found[i])
            for row, i in zip(rows, which, strict=True)
        ]

    def _read(self, stamp: str, seconds: float | None, values: np.ndarray) -> None:
        step, longest, gap = self.kind.format.step or self.kind.step, self.kind.format.max_gap, 0
        if seconds is not None and self.seconds is not None:
            if seconds <= self.seconds:
                raise DataError(f"row {self.number}, {stamp}, is not later than the row before; sort the rows by time")
            gap = round((seconds - self.seconds) / step) - 1 if step else 0
            if gap < 0:
                after = f"row {self.number}, {stamp}, is {seconds - self.seconds:g} s after the row before"
                raise DataError(f"{after}, and the run has steps of {step:g} s; average the rows of a step first")
        self.seconds = seconds if seconds is not None else self.seconds
        gone = np.isnan(values)
        self.missing = self.missing + 1 if gone.any() else 0
        if self.missing > longest or gap > longest or (gone.any() and not self.rows):
            self.rows.clear()
        if gone.any():
            if not self.rows:
                return
            values = np.where(gone, self.rows[-1], values)
        if self.rows:
            self.rows += [self.rows[-1] + (values - self.rows[-1]) * (k + 1) / (gap + 1) for k in range(gap)]
        self.rows = [*self.rows, values][-self.size :]

    def _scores(self, windows: np.ndarray) -> list[tuple[float, bool, str]]:
        """Return score, alarm and channels of the last steps of windows (n, lead + W, C)."""
        run = self.detector.run
        x = self.kind.forward(torch.from_numpy(windows).float())
        with torch.no_grad():
            found = self.kind.step_errors(errors(run.model, Batch(x.to(run.device))))
            error = found[:, :, -1].cpu().double().numpy()
        square = np.square(error)
        values = self.detector.own(error, square)[self.score]
        alarms, parts = values > self.threshold, self.detector.shares(square)
        blame = [blamed(part, self.names) if alarm else "" for part, alarm in zip(parts, alarms, strict=True)]
        return list(zip(values.tolist(), alarms.tolist(), blame, strict=True))


def follow(follower: Follower, source: str) -> Iterator[list[Scored]]:
    """Yield the scores of the rows of a CSV file, or of standard input for -, as lines are written to it.

    A file is followed until the process is interrupted, standard input to its end.

    Raises:
        DataError: no such file, a column that is missing, or a cell that is not a number.
    """
    parse, most = None, follower.detector.run.batch_size
    for lines in _piped(sys.stdin) if source == "-" else _written(Path(source)):
        if parse is None:
            parse, lines = _Parser(follower.kind.format, lines[0], source), lines[1:]
        for start in range(0, len(lines), most):
            if rows := [parse(line) for line in lines[start : start + most] if line.strip()]:
                yield follower.push(rows)


def _piped(file: IO[str]) -> Iterator[list[str]]:
    for line in file:
        yield [line]


def _written(path: Path) -> Iterator[list[str]]:
    """Yield the lines that a file has, and then those that are appended to it; a line is whole when it has an end."""
    if not path.is_file():
        raise DataError(f"--follow {path}: no such file")
    begun = ""
    with path.open(encoding="utf-8-sig", newline="") as file:
        while True:
            text = file.read()
            if not text:
                time.sleep(WAIT)
                continue
            *lines, begun = (begun + text).splitlines(keepends=True) if not text.endswith("\n") else [
                *(begun + text).splitlines(keepends=True), ""]  # fmt: skip
            if lines:
                yield lines


class _Parser:
    """Reads lines of a CSV file in the format of a run's files."""

    def __init__(self, format: Any, header: str, source: str):
        self.format, self.source, self.number = format, source, 0
        self.separator = format.separator or max(",;\t", key=header.count)
        names = [cell.strip() for cell in next(csv.reader([header.strip()], delimiter=self.separator))]
        wanted = [*format.channels, *([format.time] if format.time else [])]
        if missing := [name for name in wanted if name not in names]:
            raise DataError(f"--follow {source}: has no column {missing[0]}; the first line has {', '.join(names)}")
        self.columns = [names.index(name) for name in format.channels]
        self.time = names.index(format.time) if format.time else None

    def __call__(self, line: str) -> tuple[str, float | None, np.ndarray]:
        """Return time stamp, seconds and values of a line."""
        import pandas as pd

        self.number += 1
        cells = [cell.strip() for cell in next(csv.reader([line.strip()], delimiter=self.separator))]
        where = f"--follow {self.source}: row {self.number}"
        if len(cells) <= max([*self.columns, self.time or 0]):
            raise DataError(f"{where} has {counted(len(cells), 'columns')}, fewer than the first line")
        values = np.array([self._number(cells[i], where) for i in self.columns])
        if self.time is None:
            return str(self.number - 1), None, values
        stamp = cells[self.time]
        zone_of(stamp, self.format.zoned, where, "the training data")
        return stamp, float(seconds_of(pd.Series([stamp], index=[self.number]), f"--follow {self.source}")[0]), values

    def _number(self, cell: str, where: str) -> float:
        from autoenc.data.readers.cells.class_names import MARKERS

        if cell in MARKERS:
            return float("nan")
        try:
            value = COMMAS.number(cell) if self.format.decimal == "," else float(cell)
        except ValueError:
            value = math.inf
        if not math.isfinite(value):
            raise DataError(f"{where}: '{cell[:30]}' is not a finite number")
        return value
