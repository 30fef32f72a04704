"""Splits of recordings into training, validation and test windows that share no step."""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.series import Series, Spectra
from autoenc.data.kinds.series.channels import Scaling, fit, rounded
from autoenc.data.kinds.series.spectrogram import learnt as spectrogram
from autoenc.data.readers.cells.class_names import MISSING
from autoenc.data.readers.recordings import Format, check_normal
from autoenc.data.readers.recordings.format import check_pattern
from autoenc.data.split import check_fractions, divided
from autoenc.data.storage.windows import Axis, classes_of, labels_of, places_between
from autoenc.errors import DataError, counted, require

PARTS = ("train", "val", "test")
MANY = 10  # recordings, from which on `auto` divides by recording


@dataclass(frozen=True)
class Cutting:
    """How recordings are cut into windows and divided.

    Args:
        window: steps of a window. stride: steps between windows; None: an eighth of a window.
        by: recording: whole recordings are held out; time: the end of each; auto: recording from 10 recordings on.
        group: regular expression whose group, in the name of a recording, names the group that it is held out with;
            None: each recording by itself.
        test_files: regular expression in the names of the recordings that are test recordings; None: they are drawn.
        gap: steps left out between the parts of a recording; None: as many as a window has.
        train_steps: first steps of each recording to train and validate on, the rest are test steps; None: fractions.
        normal: class of the steps that windows of training and validation have; None: all.
        excluded: classes that nothing is learnt from.
        view: how windows are seen; None: as they are.
    """

    window: int
    stride: int | None = None
    by: str = "auto"
    gap: int | None = None
    train_steps: int | None = None
    val_fraction: float = 0.1
    test_fraction: float = 0.2
    seed: int = 0
    scaling: Scaling = "standard"
    log: bool = False
    differences: bool = False
    normal: str | None = None
    excluded: tuple[str, ...] = ()
    view: Spectra | None = None
    group: str | None = None
    test_files: str | None = None

    def check(self) -> None:
        """Raise ConfigError for a value out of range."""
        require(self.window >= 2, "window", self.window, "must be 2 or more")
        require(self.stride is None or self.stride >= 1, "stride", self.stride, "must be 1 or more")
        require(self.by in ("auto", "recording", "time"), "split", self.by, "must be one of auto, recording, time")
        require(self.gap is None or self.gap >= 0, "gap", self.gap, "must be 0 or more")
        require(
            self.scaling in ("standard", "robust", "none"),
            "scaling",
            self.scaling,
            "must be one of standard, robust, none",
        )
        least, steps = self.window + int(self.differences), self.train_steps
        require(steps is None or steps >= 2 * least, "train_steps", steps, f"must be {2 * least} or more: two windows")
        check_fractions(val_fraction=self.val_fraction, test_fraction=self.test_fraction)
        check_pattern("group", self.group, 1)
        check_pattern("test_files", self.test_files)
        alone = self.group is None or (self.by != "time" and steps is None)
        require(alone, "group", self.group, "holds out whole recordings: without data.split=time and data.train_steps")

    def parts(self, axis: Axis, tests: int | None) -> list[tuple[str, int, int]]:
        """Return stretches of the axis: the part (train, val, test), first step and end.

        Args:
            tests: number of the recording from which on all are test recordings; None: they are chosen here.
        """
        held = self._held(axis) if tests is None else set(range(tests, len(axis.recordings)))
        rest = [i for i in range(len(axis.recordings)) if i not in held]
        whole = len(rest) >= MANY or self.group is not None
        by = ("recording" if whole else "time") if self.by == "auto" else self.by
        test_fraction = 0.0 if held else self.test_fraction
        found: list[tuple[str, int, int]] = []
        if by == "recording" and self.train_steps is None:
            groups = {i: self._group(axis.recordings[i].name, i) for i in rest}
            distinct = list(dict.fromkeys(groups.values()))
            order = self.drawn(len(distinct), test_fraction)
            part = {group: order[i] for i, group in enumerate(distinct)}
            return [("test" if i in held else part[groups[i]], start, stop) for i, start, stop in self._whole(axis)]
        for i, start, stop in self._whole(axis):
            if i in held:
                found.append(("test", start, stop))
                continue
            gap = self.window if self.gap is None else self.gap
            first = round((stop - start) * (1 - test_fraction)) if self.train_steps is None else self.train_steps
            end = start + min(first, stop - start)
            middle = end - max(1, round((end - start) * self.val_fraction))
            if self.val_fraction > 0 and end - middle < self.window + int(self.differences):
                middle = end - self.window - int(self.differences)  # validation has a window at least
            found += [("train", start, middle - gap), ("val", middle, end), ("test", end + gap, stop)]
        return found

    def _held(self, axis: Axis) -> set[int]:
        """Return the numbers of the recordings that `test_files` names."""
        if self.test_files is None:
            return set()
        names = [recording.name for recording in axis.recordings]
        held = {i for i, name in enumerate(names) if re.search(self.test_files, name)}
        why = f"matches {len(held)} of the {len(names):,} recordings, the first is {names[0]}"
        require(0 < len(held) < len(names), "test_files", self.test_files, why)
        return held

    def _group(self, name: str, number: int) -> str:
        if self.group is None:
            return str(number)
        match = re.search(self.group, name)
        require(match is not None and match[1] is not None, "group", self.group, f"no group of it matches {name}")
        assert match is not None
        return str(match[1])

    def _whole(self, axis: Axis) -> list[tuple[int, int, int]]:
        return [(i, axis.starts[i], axis.starts[i + 1]) for i in range(len(axis.recordings))]

    def drawn(self, count: int, test_fraction: float | None = None) -> dict[int, str]:
        """Return the part of each recording, by number.

        Args:
            test_fraction: if not that of the options.
        """
        tests = math.ceil((self.test_fraction if test_fraction is None else test_fraction) * count)
        vals = math.ceil(self.val_fraction * (count - tests))
        if tests + vals >= count:
            what, remedy = ("recordings", "data.split=time") if self.group is None else ("groups", "data.group=null")
            raise DataError(f"data.split=recording: {count} {what} are too few to divide; {remedy}")
        rest, test = divided(count, tests, self.seed)
        train, val = divided(len(rest), vals, self.seed)
        parts = dict.fromkeys(test.tolist(), "test") | dict.fromkeys(rest[val].tolist(), "val")
        return parts | dict.fromkeys(rest[train].tolist(), "train")


def assembled(
    name: str, axis: Axis, format: Format, cutting: Cutting, kind: Series | None, tests: int | None = None,
    notes: Sequence[str] = (), what: str = "",
) -> Data:  # fmt: skip
    """Return the windows of the recordings of an axis as a data set.

    Args:
        what: the source, for messages.
        kind: kind of a finished run, used instead of learning one from the training windows.
        tests: see `Cutting.parts`.

    Raises:
        DataError: a split without windows, a constant channel.
    """
    lead, stride = int(cutting.differences), cutting.stride or max(1, cutting.window // 8)
    places: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    runs = list(axis.runs())
    firsts = [first for _, first, _ in runs]
    parts = cutting.parts(axis, tests)
    for part, start, stop in parts:
        for _, first, end in runs[max(0, bisect_right(firsts, start) - 1) : bisect_left(firsts, stop)]:
            if max(first, start) < min(end, stop):
                inside = max(first, start), min(end, stop)
                places[part].append(places_between(*inside, cutting.window, lead, stride, whole=part == "test"))
    found = {part: torch.cat(each) if each else torch.empty(0, dtype=torch.int64) for part, each in places.items()}
    classes = classes_of(axis)
    y: dict[str, Tensor | None] = dict.fromkeys(PARTS)
    unlabelled = 0
    check_normal(cutting.normal, classes)
    if classes:
        partly = cutting.normal not in (None, MISSING) and classes[-1] == MISSING
        for part in PARTS:
            labels = labels_of(axis, found[part], cutting.window, classes, cutting.normal)
            if cutting.normal is not None:
                kept = labels < len(classes) - partly if part == "test" else labels == classes.index(cutting.normal)
                found[part], labels = found[part][kept], labels[kept]
                unlabelled += int((~kept).sum()) if part == "test" else 0
            y[part] = labels
        if unlabelled:
            notes = [*notes, f"Attention: {counted(unlabelled, 'test windows')} with steps without a label, left out"]
        classes = classes[:-1] if partly else classes
    longest = max(stop - start for _, start, stop in runs)
    long = {i for i, start, stop in runs if stop - start >= cutting.window + lead}
    if short := len(axis.recordings) - len(long):
        notes = [*notes, f"{short:,} of {counted(len(axis.recordings), 'recordings')} shorter than a window: left out"]
    steps = Counter[str]()
    for part, start, stop in parts:
        steps[part] += max(0, stop - start)
    if (unused := len(axis.steps) - steps.total()) > steps["train"]:
        notes = [
            *notes,
            f"{steps['train']:,} steps to train on, {unused:,} unused between the parts; data.gap=0 uses them",
        ]
    for part, use in zip(PARTS, ("train", "validate", "test"), strict=True):
        if not len(found[part]):
            of = f" of the class {cutting.normal}" if cutting.normal is not None and part != "test" else ""
            why = f"a window has data.window={cutting.window} steps, the longest stretch without a gap {longest}"
            remedy = "" if longest < cutting.window + lead else "; a smaller data.window or data.gap leaves some"
            if len(long) > 2 and cutting.by == "auto" and cutting.train_steps is None:
                remedy += ", and data.split=recording holds out whole recordings"
            raise DataError(f"{what or name}: no window{of} is left to {use} on: {why}{remedy}")
    if kind is None:
        learnt = found["train"]
        if cutting.excluded and classes and y["train"] is not None:
            out = torch.tensor([classes.index(each) for each in cutting.excluded if each in classes])
            learnt = learnt[~torch.isin(y["train"], out)] if len(out) else learnt
            if not len(learnt):
                raise DataError(
                    f"anomaly_classes={','.join(cutting.excluded)}: leaves no windows of {name} to train on"
                )
        used = covered(learnt, cutting.window, len(axis.steps))
        scaling: Scaling = cutting.scaling if cutting.view is None else "none"
        channels = fit(format.channels, axis.steps, used, scaling, cutting.log, cutting.differences)
        notes = [*notes, *rounded(channels, axis.steps, used)]
        shape = (len(format.channels), cutting.window)
        kind = Series(shape, 0.0, 0.0, channels, stride, format, cutting.normal, axis.recordings[0].step)
        if cutting.view is not None:
            kind = spectrogram(kind, cutting.view, axis, learnt, cutting.scaling)
        low, high = kind.windows(axis, learnt).range()
        kind = replace(kind, low=low, high=high)
    train, val, test = (replace(kind.windows(axis, found[part]), y=y[part]) for part in PARTS)
    anomalies = () if cutting.normal is None else tuple(each for each in classes if each != cutting.normal)
    names = {part: [axis.name(place) for place in found[part].tolist()] for part in ("train", "test")}
    spec = DataSpec(name, kind, classes, anomalies)
    return Data(spec, train, val, test, notes=tuple(notes), names=names)


def covered(places: Tensor, length: int, total: int) -> Tensor:
    """Return which steps of an axis of `total` steps lie in a window, (total,) bool."""
    edges = torch.zeros(total + 1, dtype=torch.int64)
    edges.index_add_(0, places, torch.ones_like(places))
    edges.index_add_(0, places + length, -torch.ones_like(places))
    return edges.cumsum(0)[:-1] > 0
