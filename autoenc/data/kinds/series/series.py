"""Windows of recordings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from autoenc.data.kinds.denoising import Denoising
from autoenc.data.kinds.kind import REAL, Kind, common, squared_errors
from autoenc.data.kinds.observed import Completed, Gaps
from autoenc.data.kinds.raw import Raw, RawInput, RawWindows
from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.series.denoising import Signals
from autoenc.data.kinds.series.figures import SHOWN, compared, overview, ranked
from autoenc.data.kinds.series.gaps import completed, gap_lengths
from autoenc.data.readers.cells.class_names import MISSING
from autoenc.data.readers.recordings import TABLES, Format, Reader, Recording
from autoenc.data.readers.recordings.format import files_of
from autoenc.data.readers.tables import format_of
from autoenc.data.scaling import is_numeric
from autoenc.data.split import Examples, Split
from autoenc.data.storage.windows import Axis, StepMeans, Windows, classes_of, labels_of, laid, places_between
from autoenc.errors import DataError, one_line

NEAR = 0.05  # relative difference of steps that are the same
STRETCH = 200  # consecutive windows
DIFFERENCES = "differences do not tell the values of a recording; train with data.differences=false"
VALUES = 2_000_000  # of steps whose errors are stored, about


@dataclass(frozen=True)
class Series(Kind):
    """Windows (C, W) of recordings: C channels, W time steps.

    Args:
        channels: their names and scaling.
        stride: steps between the beginnings of the windows of new recordings.
        format: how files have recordings.
        normal: the class of the steps that are no anomalies; None: there is none.
        step: seconds between the steps of training recordings; None: not known.
    """

    channels: Channels = field(default_factory=lambda: Channels((), (), ()))
    stride: int = 1
    format: Format = field(default_factory=Format)
    normal: str | None = None
    step: float | None = None

    name: ClassVar[str] = "series"
    noun: ClassVar[str] = "windows of recordings"
    encodes_objects: ClassVar[bool] = True
    queries: ClassVar[int] = SHOWN
    keep: ClassVar[int] = 0  # bytes of windows that are kept as the model is fed them; scaling is fast

    @property
    def window(self) -> int:
        """Number of time steps W."""
        return self.shape[1]

    # New data

    def recordings(self, path: Path) -> list[Recording]:
        """Read the recordings of a file or a folder; DataError if they differ from those of training."""
        found = list(Reader(self.format).recordings(path))
        other = next((r for r in found if r.step and self.step and abs(r.step / self.step - 1) > NEAR), None)
        if other is not None:
            why = f"has steps of {other.step:g} s, the training recordings {self.step:g} s"
            raise DataError(f"{path}: {other.name} {why}; resample it, or train with data.step={self.step:g}")
        return found

    def cut(self, recordings: Sequence[Recording], what: str, stride: int | None = None) -> Split:
        """Return windows that cover all steps of recordings, but those of stretches that are shorter than a window.

        Raises:
            DataError: no recording has a window.
        """
        axis = laid(recordings)
        lead, stride = self.channels.lead, stride or self.stride
        runs = [(start, stop) for _, start, stop in axis.runs()]
        places = torch.cat([places_between(*run, self.window, lead, stride, whole=True) for run in runs])
        if not len(places):
            longest = max(stop - start for start, stop in runs)
            raise DataError(f"{what}: the longest stretch has {longest} steps, a window {self.window + lead}")
        return self.windows(axis, places)

    def windows(self, axis: Axis, places: Tensor) -> Split:
        """Return the windows at places of an axis."""
        return Split(Windows(axis, places, self.window, self.channels.lead, self.forward, self.keep))

    def forward(self, x: Tensor) -> Tensor:
        """Return windows of recordings as the model is fed them: (N, lead + W, C) -> (N, *shape)."""
        return self.channels.forward(x)

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read the windows of recordings of a file or a folder; they are named by recording and first time stamp."""
        return self._examples(self.recordings(path), str(path), noisy, support)

    def _examples(
        self, recordings: Sequence[Recording], what: str, noisy: bool, support: tuple[float, float]
    ) -> Examples:
        split = self.cut(recordings, what)
        assert isinstance(split.x, Windows)
        names = [split.x.axis.name(place) for place in split.x.places.tolist()]
        self._check(split, what, noisy, support)
        return Examples(split, names)

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        """Return windows as the model is fed them.

        Args:
            raw: an array or tensor (N, C, W), scaled as in training; or a recording in the units of the files: its
                path, or a data frame or mapping with a column for each channel.
        """
        if isinstance(raw, str | Path):
            return self.read(Path(raw), False, noisy, support).split
        if is_numeric(raw) or (isinstance(raw, list) and not any(isinstance(each, str | Mapping) for each in raw)):
            return super().encode(raw, what, noisy, support)
        import pandas as pd

        try:
            frame = pd.DataFrame(raw)
        except (ValueError, TypeError) as error:
            raise DataError(f"{what}: expected a data frame or a mapping of columns ({one_line(error)})") from None
        return self._examples(list(Reader(self.format).of_frame(frame, what)), what, noisy, support).split

    def _shaped(self, x: Tensor, what: str) -> Tensor:
        if x.shape[1:] == (math.prod(self.shape),):
            return x.unflatten(1, self.shape)
        return super()._shaped(x, what)

    def class_names(self, path: Path, label: str, normal: str | None) -> Sequence[str | None] | None:
        split = self.cut(self.recordings(path), str(path))
        assert isinstance(split.x, Windows)
        axis = split.x.axis
        if not (classes := classes_of(axis)):
            return None
        names = [classes[i] for i in labels_of(axis, split.x.places, self.window, classes, normal).tolist()]
        return names if normal is None else [None if name == MISSING else name for name in names]

    # Scores of time steps

    drawn_steps: ClassVar[str] = ""  # what `step_values` are, if not the channels

    @property
    def timed(self) -> bool:
        return True

    @property
    def dependent(self) -> bool:
        return True

    def representative(self, size: int, most: int) -> np.ndarray | None:
        """Return stretches of consecutive windows, which overlap as those of new recordings do."""
        most = min(most, max(STRETCH, VALUES // (self.shape[0] * self.stride)))
        if size <= most:
            return np.arange(size)
        count = most // STRETCH
        starts = np.linspace(0, size - STRETCH, count).astype(np.int64)
        return np.unique(starts[:, None] + np.arange(STRETCH))

    def per_step(self, split: Split, values: Tensor) -> Tensor:
        if not isinstance(split.x, Windows):
            return values.transpose(1, 2).flatten(0, 1)
        return StepMeans.of(split.x.places, values)[1]

    # Back

    def decode(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Return windows (N, C, W) in the units of the files; differences are summed up from 0."""
        return self.channels.inverse(torch.as_tensor(np.asarray(x)).float()).numpy()

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]] | None:
        header = [f"{name} {t}" for name in self.channels.names for t in range(self.window)]
        return header, self.channels.inverse(x).flatten(1).tolist()

    def show(self, versions: Mapping[str, Tensor]) -> np.ndarray:
        """Draw the first windows of all versions: a column for each window, a row for each channel."""
        count, errors = min(SHOWN, len(next(iter(versions.values())))), squared_errors(versions)
        titles = [f"example {i}" + (f", mse {errors[i]:.2g}" if errors else "") for i in range(count)]
        drawn = {name: self.channels.inverse(x[:count].float()).numpy() for name, x in versions.items()}
        return compared(drawn, self.channels.names, titles)

    def ranked(
        self, x: Tensor, captions: Sequence[str], texts: Sequence[str], colors: Sequence[str | None]
    ) -> np.ndarray:
        """Draw each query and its hits over each other: a column for each query, a row for each channel."""
        return ranked(
            self.channels.inverse(x.float()).numpy(), self.channels.names, [each[:40] for each in captions], colors
        )

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> np.ndarray:
        return overview(self.channels.inverse(x.float()).numpy(), self.channels.names, columns, labels)

    @property
    def denoising(self) -> Denoising:
        return Signals(self.channels, self.window)

    def gaps(self, path: Path) -> dict[Path, Gaps]:
        """Return the windows of recordings, whose gaps of up to half a window are interpolated.

        Raises:
            DataError: a file of several recordings, or no table; differences.
        """
        found = {}
        why = f"no step is missing between others in gaps of up to {self.window // 2} steps, half a window"
        for file in files_of(path):
            recording, windows = self._gapped(file)
            observed = np.ones(recording.values.shape, bool) if recording.observed is None else recording.observed
            steps = windows.places[:, None] + torch.arange(self.window)
            missing = torch.from_numpy(~observed)[steps].transpose(1, 2)
            found[file] = Gaps(Split(windows), missing, gap_lengths(observed), why)
        return found

    def completed(self, path: Path, versions: Sequence[Tensor]) -> Completed:
        """Return the rows of a recording with a row for each missing step, and missing cells filled with means.

        The means are those over the windows that a step is in. Cells in longer gaps stay empty.
        """
        recording, windows = self._gapped(path)
        values = np.full((len(versions), len(recording), self.shape[0]), np.nan, np.float32)
        for i, x in enumerate(versions):
            steps, means = StepMeans.of(windows.places, x)
            values[i, steps] = self.channels.inverse(means.T).T
        return completed(Reader(self.format).frame(path), recording, values, self.format)

    def _gapped(self, path: Path) -> tuple[Recording, Windows]:
        """Return a recording and its windows, with gaps of up to half a window interpolated."""
        if self.channels.differences:
            raise DataError(DIFFERENCES)
        if format_of(path) not in TABLES:
            raise DataError(f"{path}: gaps are filled in tables: {', '.join(TABLES)}")
        format = replace(self.format, max_gap=self.window // 2, step=self.format.step or self.step)
        recordings = replace(self, format=format).recordings(path)
        if len(recordings) > 1:
            raise DataError(f"{path}: has {len(recordings)} recordings; name a file of one")
        windows = self.cut(recordings, str(path)).x
        assert isinstance(windows, Windows)
        return recordings[0], windows

    def restored(self, split: Split, x: Tensor) -> tuple[list[str], list[list[str]]]:
        """Return the rows of recordings with the means over the windows that their steps are in; other cells are empty.

        Raises:
            DataError: x are differences.
        """
        if self.channels.differences:
            raise DataError(DIFFERENCES)
        assert isinstance(split.x, Windows)
        axis = split.x.axis
        steps, means = StepMeans.of(split.x.places, x)
        values = np.full(axis.steps.shape, np.nan, np.float32)
        values[steps] = self.channels.inverse(means.T).T
        several = len(axis.recordings) > 1
        rows = []
        for i, recording in enumerate(axis.recordings):
            found = recording.label_rows(values[axis.starts[i] : axis.starts[i + 1]])
            stamps = recording.stamps or [str(row) for row in range(len(found))]
            for stamp, row in zip(stamps, found, strict=True):
                cells = ["" if np.isnan(value) else f"{value:.7g}" for value in row]
                rows.append([*([recording.name] if several else []), stamp, *cells])
        return [*(["recording"] if several else []), self.format.time or "step", *self.channels.names], rows

    # Export

    def raw(self) -> Raw:
        lead = self.channels.lead
        before = f", and the {lead} before" if lead else ""
        text = f"windows of {self.window} steps{before}, in the units of the files"
        shape = (lead + self.window, self.shape[0])
        step = self.format.step or self.step
        time = (self.format.time, step) if self.format.time and step else None
        return RawWindows(RawInput("x", "float32", shape, text, self.channels.names, time=time), self.channels)

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        rows = self.channels.inverse(torch.nn.functional.pad(x, (self.channels.lead, 0))).transpose(1, 2)
        return Split(self.channels.forward(rows)), [rows.numpy()]

    # Files

    def state(self) -> dict[str, Any]:
        return {"channels": asdict(self.channels), "stride": self.stride, "format": asdict(self.format),
                "normal": self.normal, "step": self.step}  # fmt: skip

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Series:
        return cls(**cls.arguments(values))

    @classmethod
    def arguments(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the kind that kind.json describes."""
        return common(values) | {
            "channels": Channels(**plain(values["channels"])),
            "stride": int(values["stride"]),
            "format": Format(**{"normal": values["normal"]} | plain(values["format"])),
            "normal": values["normal"],
            "step": values.get("step"),
        }

    def description(self) -> dict[str, Any]:
        channels = self.channels
        steps = [
            *(["sign(x) log(1 + |x|)"] if channels.log else []),
            *(["differences"] if channels.differences else []),
        ]
        text = f"float32, (N, C, W), {', then '.join([*steps, '(x - center) / scale'])} of each channel, as in channels"
        return {"text": text, "channels": asdict(channels)}


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of JSON as the arguments of a frozen dataclass: lists are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
