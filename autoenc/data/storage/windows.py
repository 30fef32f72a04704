"""Windows of recordings, cut when they are needed."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from autoenc.data.readers.cells.class_names import MISSING
from autoenc.data.readers.recordings import Recording
from autoenc.data.readers.recordings.steps import give_way

CHUNK = 2**20  # steps of a full pass
PART = 1_024  # windows that are transformed at once


@dataclass(frozen=True)
class Axis:
    """Recordings laid end to end, S steps in all.

    Args:
        steps: (S, C) float32 as in the files, in memory or memory-mapped.
        recordings: without their values.
        starts: (R + 1,) the first step of each recording, and S.
    """

    steps: Tensor
    recordings: tuple[Recording, ...]
    starts: tuple[int, ...]

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Yield number of the recording, first step and end of each stretch without a gap."""
        for i, recording in enumerate(self.recordings):
            for start, stop in recording.runs:
                yield i, self.starts[i] + start, self.starts[i] + stop

    def rows(self) -> list[np.ndarray]:
        """Return the step in its recording of each row of the files, -1 for rows in a gap: (R,) of each recording."""
        spans = itertools.pairwise(self.starts)
        return [
            np.arange(b - a) if r.rows is None else r.rows for r, (a, b) in zip(self.recordings, spans, strict=True)
        ]

    def name(self, step: int) -> str:
        """Return recording and time stamp of a step, or its number in the recording."""
        i = int(np.searchsorted(self.starts, step, side="right")) - 1
        return f"{self.recordings[i].name} {self.stamp(i, step - self.starts[i])}"

    def stamp(self, i: int, step: int) -> str:
        """Return the time stamp of a step of recording i, or its number."""
        recording = self.recordings[i]
        if recording.stamps is None:
            return str(step)
        return recording.stamps[int(self._row_of[i][step])] if recording.rows is not None else recording.stamps[step]

    @cached_property
    def _row_of(self) -> dict[int, np.ndarray]:
        """Recording -> (T,) the first row of each step, or the row before."""
        found = {}
        for i, recording in enumerate(self.recordings):
            if recording.rows is not None:
                first = np.full(self.starts[i + 1] - self.starts[i], -1)
                known = np.flatnonzero(recording.rows >= 0)[::-1]
                first[recording.rows[known]] = known
                found[i] = np.maximum.accumulate(first).clip(min=0)
        return found

    @cached_property
    def classes(self) -> tuple[np.ndarray, np.ndarray]:
        """First step and class of each stretch of steps of one class, if all recordings have labels."""
        firsts, names = [], []
        for start, recording in zip(self.starts, self.recordings, strict=False):
            labels = np.asarray(recording.labels, dtype=object)
            changes = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
            firsts.append(start + changes)
            names.append(labels[changes])
        return np.concatenate(firsts), np.concatenate(names)

    def fingerprint(self) -> int:
        """Return the CRC-32 of all steps."""
        crc = 0
        for start in range(0, len(self.steps), CHUNK):
            crc = zlib.crc32(self.steps[start : start + CHUNK].numpy().tobytes(), crc)
        return crc


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows (N, C, W) of the recordings of an axis. Implements `split.Rows`.

    Args:
        places: (N,) int64, the step of the axis at which each window begins.
        length: W. lead: steps before a window that `transform` needs.
        transform: (n, lead + W, C) as in the files -> (n, C, W) as the model is fed them, or another shape.
        keep: bytes of transformed windows, up to which they are computed once.
    """

    axis: Axis
    places: Tensor
    length: int
    lead: int
    transform: Callable[[Tensor], Tensor]
    keep: int = 0
    crc: dict[str, int] = field(default_factory=dict)  # of the axis, shared by selections

    @cached_property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of all windows: (N, C, W), or another by `transform`."""
        return len(self), *self._cut(slice(1)).shape[1:]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return windows (n, C, W)."""
        return self._cut(index) if self._kept is None else self._kept[index]

    @cached_property
    def _kept(self) -> Tensor | None:
        if self.keep == 0 or 4 * math.prod(self.shape) > self.keep:
            return None
        return torch.cat([self._cut(part) for part in torch.arange(len(self)).split(PART)])

    def _cut(self, index: Tensor | slice) -> Tensor:
        places = self.places[index]
        steps = places[:, None] + torch.arange(-self.lead, self.length)
        return self.transform(self.axis.steps[steps])

    def select(self, index: Tensor | slice) -> Windows:
        """Return a view of the windows at `index`."""
        return Windows(self.axis, self.places[index], self.length, self.lead, self.transform, self.keep, self.crc)

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """Yield self[index] for each index, in order."""
        return (self[index] for index in indexes)

    def fingerprint(self) -> int:
        """Return a checksum of the recordings and of the places of the windows."""
        if "axis" not in self.crc:
            self.crc["axis"] = self.axis.fingerprint()
        return zlib.crc32(self.places.numpy().tobytes(), self.crc["axis"])


def laid(recordings: Sequence[Recording]) -> Axis:
    """Return recordings laid end to end, in memory."""
    values = [recording.values for recording in recordings]
    steps = torch.from_numpy(np.concatenate([np.asarray(each, dtype=np.float32) for each in values]))
    starts = tuple(np.cumsum([0, *map(len, values)]).tolist())
    return Axis(steps, tuple(replace(each, values=each.values[:0]) for each in recordings), starts)


def places_between(start: int, stop: int, length: int, lead: int, stride: int, whole: bool = False) -> Tensor:
    """Return the places of the windows that lie in [start, stop) with the steps they depend on.

    Args:
        whole: add a window at the end where the others leave steps out.
    """
    last = stop - length
    places = torch.arange(start + lead, max(start + lead, last + 1), stride)
    if whole and len(places) and int(places[-1]) < last:
        places = torch.cat([places, torch.tensor([last])])
    return places


def classes_of(axis: Axis) -> tuple[str, ...]:
    """Return the names of the classes of the steps, that of steps without one last; empty without labels.

    All recordings must have labels.
    """
    if any(recording.labels is None for recording in axis.recordings):
        return ()
    return tuple(sorted({str(name) for name in axis.classes[1]}, key=lambda name: (name == MISSING, name)))


def labels_of(axis: Axis, places: Tensor, length: int, classes: Sequence[str], normal: str | None) -> Tensor:
    """Return the class of each window, as a number: the most frequent one of its steps (N,).

    Args:
        normal: a class that only windows have of which all steps are of it; None: no such class. Otherwise, windows
            without a class are those in which no other step has one.
    """
    firsts, names = axis.classes
    lengths = np.diff(np.append(firsts, len(axis.steps)))
    edges = np.stack([places.numpy(), places.numpy() + length])
    stretch = np.searchsorted(firsts, edges, side="right") - 1
    counts = np.empty((len(places), len(classes)), dtype=np.int64)
    for i, name in enumerate(classes):
        own = (names == name).astype(np.int64)
        before = np.concatenate([[0], np.cumsum(own * lengths)])[stretch] + own[stretch] * (edges - firsts[stretch])
        counts[:, i] = before[1] - before[0]
    if normal in classes:
        give_way(counts, np.array(classes), (normal, MISSING))
    return torch.from_numpy(counts.argmax(1))


class StepMeans:
    """Means over the windows that each step of an axis is in.

    Args:
        first, stop: the steps that may be in a window.
    """

    def __init__(self, first: int, stop: int, values: int):
        self.first = first
        self.sums = torch.zeros(stop - first, values, dtype=torch.float64)
        self.counts = torch.zeros(stop - first, dtype=torch.float64)

    def add(self, places: Tensor, values: Tensor) -> None:
        """Add the values (N, K, W) of windows at places (N,)."""
        steps = (places[:, None] - self.first + torch.arange(values.shape[2])).flatten()
        self.sums.index_add_(0, steps, values.transpose(1, 2).flatten(0, 1).double())
        self.counts.index_add_(0, steps, torch.ones(len(steps), dtype=torch.float64))

    def means(self) -> tuple[Tensor, Tensor]:
        """Return the steps that are in a window (S,), and their means (S, K) float32."""
        covered = self.counts.nonzero().squeeze(1)
        return covered + self.first, (self.sums[covered] / self.counts[covered, None]).float()

    @classmethod
    def of(cls, places: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return `means` of the values (N, K, W) of windows at places (N,)."""
        found = cls(int(places.min()), int(places.max()) + values.shape[2], values.shape[1])
        found.add(places, values)
        return found.means()
