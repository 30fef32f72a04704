"""Reading of recordings from files and folders."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoenc.data.readers.arrays import UNREADABLE, array_of_file
from autoenc.data.readers.cells.class_names import MISSING, class_name, class_names
from autoenc.data.readers.cells.dates import order_of
from autoenc.data.readers.cells.numbers import COMMAS
from autoenc.data.readers.paths import check_file, decoding, opened
from autoenc.data.readers.recordings.format import ARRAYS, TABLES, Format, files_of, format_from
from autoenc.data.readers.recordings.sound import read_wav
from autoenc.data.readers.recordings.steps import Recording, Rows, regular, seconds_of, zone_of
from autoenc.data.readers.tables import SMALL, Source, format_of
from autoenc.errors import DataError, counted, one_line

if TYPE_CHECKING:
    import pandas as pd

TIMES = ("time", "timestamp", "datetime", "date", "date_time", "t", "ts", "utc")


class Reader:
    """Reads recordings; what the first file shows about the format holds for the others.

    Attributes:
        format: with what has been recognized: channels, time, separator.
        notes: remarks on the files.
    """

    def __init__(self, format: Format):
        self.format, self.notes = format, list[str]()
        self._learning, self._first, self._dated = not format.channels, "the training data", "the training data"
        self._seen: dict[str, None] = {}  # columns of the files, in order

    def recordings(self, path: Path) -> Iterator[Recording]:
        """Yield the recordings of a file or a folder, one at a time; recordings of a folder have relative paths.

        Raises:
            DataError: files that cannot be read, or whose channels differ.
        """
        root = path if path.is_dir() else path.parent
        totals: dict[str, int] = {}
        count = 0
        for file in files_of(path):
            for rows in self._rows(file, str(file.relative_to(root))):
                try:
                    recording = self._regular(rows)
                except DataError as error:
                    raise DataError(str(error).replace(rows.name, f"{root / rows.name}", 1)) from None
                count += 1
                for key, n in {**recording.notes, "unlabelled": int(recording.labels is None)}.items():
                    totals[key] = totals.get(key, 0) + n
                yield recording
        wanted = {f"data.drop=[{name}]": name for name in self.format.drop} | {
            f"data.label={name}": name for name in [self.format.label] if name
        }
        if self._learning and (missing := [key for key, name in wanted.items() if name not in self._seen]):
            there = ", ".join(self._seen) or "no columns"
            raise DataError(f"{missing[0]}: no file in {path} has such a column; there are {there}")
        self._remark(path, totals, count)

    def _regular(self, rows: Rows) -> Recording:
        recording, least = regular(rows, self.format.step, self.format.max_gap, self.format.normal), self.format.least
        if self.format.short == "drop" or len(recording) >= least:
            return recording
        if self.format.short == "refuse":
            remedy = "data.short=drop leaves it out, zeros and last pad it"
            raise DataError(f"{rows.name}: has {counted(len(recording), 'steps')}, a window {least}; {remedy}")
        return recording.padded(least, "edge" if self.format.short == "last" else "constant")

    def _remark(self, path: Path, totals: dict[str, int], count: int) -> None:
        if n := totals.get("irregular"):
            self.notes.append(f"{path}: irregular time stamps in {n:,} of {counted(count, 'recordings')}: resampled")
        if n := totals.get("interpolated"):
            self.notes.append(f"{path}: {counted(n, 'missing steps')} interpolated")
        if n := totals.get("padded"):
            what = "their last steps are repeated" if self.format.short == "last" else "zeros follow them"
            self.notes.append(f"{path}: {n:,} of {counted(count, 'recordings')} shorter than a window: {what}")
        if self.format.label is not None and 0 < (n := totals["unlabelled"]) < count:
            other = "labels are used if all have them" if self.format.normal is None else "their steps count as normal"
            without = f"{n:,} of {counted(count, 'recordings')} without a column {self.format.label}"
            self.notes.append(f"{path}: {without}: {other}")
        if n := totals.get("gaps"):
            longer = f"of more than data.max_gap={self.format.max_gap} steps"
            self.notes.append(f"{path}: {counted(n, 'gaps')} {longer}; no window spans one")

    def _rows(self, file: Path, name: str) -> Iterator[Rows]:
        suffix = format_of(file)
        if suffix == ".wav":
            values, rate = read_wav(file)
            yield from [replace(rows, rate=rate) for rows in self._of_array(file, name, values[None])]
        elif suffix in ARRAYS:
            yield from self._of_array(file, name, self._arrays(file))
        else:
            yield from self._of_table(self.frame(file), file, name)

    def _arrays(self, file: Path) -> np.ndarray:
        """Return the recordings of an array file: (N, T, C)."""
        array = mapped(file) if format_of(file) == ".npy" else array_of_file(file)
        if array.dtype.kind not in "biuf" or array.ndim not in (1, 2, 3) or array.size == 0:
            raise DataError(
                f"{file}: expected numbers (T,), (N, T), (T, C) or (N, T, C), found {array.dtype} {array.shape}"
            )
        if array.ndim == 1:
            return array[None, :, None]
        if array.ndim == 3:
            return array
        layout = self.format.layout
        if layout == "auto":
            layout = (
                "channels" if array.shape[1] < self.format.window or len(self.format.channels) > 1 else "recordings"
            )
            what = (
                f"one recording of {counted(array.shape[1], 'channels')}"
                if layout == "channels"
                else counted(len(array), "recordings")
            )
            other = "recordings" if layout == "channels" else "channels"
            self.notes.append(f"{file}: {array.shape} is read as {what}; otherwise data.layout={other}")
        return array[None] if layout == "channels" else array[..., None]

    def _of_array(self, file: Path, name: str, array: np.ndarray) -> list[Rows]:
        channels = [f"channel_{i}" for i in range(array.shape[2])] if array.shape[2] > 1 else ["value"]
        self._learn(file, channels)
        label = self._file_label(file)
        found = []
        for i, values in enumerate(array):
            labels = None if label is None else np.full(len(values), label, object)
            found.append(Rows(name if len(array) == 1 else f"{name}:{i}", values, labels=labels))
        return found

    def _file_label(self, file: Path | str) -> str | None:
        if self.format.file_label is None:
            return None
        match = re.search(self.format.file_label, str(file))
        if not self._learning and match is None:
            return None
        if match is None or not match.groups():
            raise DataError(f"data.file_label={self.format.file_label}: no group of it matches {file}")
        return class_name(match[1])

    def of_frame(self, frame: pd.DataFrame, what: str = "the data frame") -> Iterator[Recording]:
        """Yield the recordings of a data frame."""
        for rows in self._of_table(Source().plain(frame.set_axis(range(1, len(frame) + 1))), what, what):
            yield self._regular(rows)

    def _of_table(self, frame: pd.DataFrame, file: Path | str, name: str) -> Iterator[Rows]:
        wanted = self.format
        for key, column in (("id", wanted.id), ("time", wanted.time)):
            if column and column not in frame:
                raise DataError(f"data.{key}={column}: {file} has no such column; it has {', '.join(frame)}")
        if wanted.time is None:
            self.format = wanted = replace(wanted, time=self._time(frame))
            self.notes.append(
                f"{file}: {f'the time is in column {wanted.time}' if wanted.time else 'has no column of time stamps'}"
            )
        self._seen |= dict.fromkeys(map(str, frame))
        others = {wanted.time, wanted.id, wanted.label, *wanted.drop}
        self._learn(file, [column for column in frame if column not in others])
        channels = list(self.format.channels)
        values = np.column_stack([self._numbers(frame[column], f"{file}: column {column}") for column in channels])
        labels = None
        if wanted.label is not None and wanted.label in frame:
            labels = class_names(frame[wanted.label], wanted.normal).fillna(MISSING).to_numpy(object)
        elif (label := self._file_label(file)) is not None:
            labels = np.full(len(frame), label, object)
        seconds, stamps = None, None
        if wanted.time:
            stamps = [str(cell) for cell in frame[wanted.time]]
            where = f"{file}: column {wanted.time}"
            seconds = seconds_of(frame[wanted.time], where)
            zoned = zone_of(stamps[0], wanted.zoned, where, self._dated)
            if zoned != wanted.zoned:
                self.format, self._dated = replace(self.format, zoned=zoned), str(file)
        numbers = np.asarray(frame.index)
        groups = {name: np.arange(len(frame))}
        if wanted.id is not None:
            keys = frame[wanted.id].map(class_name, na_action="ignore").fillna(MISSING).reset_index(drop=True)
            groups = {f"{name}:{key}": rows for key, rows in keys.groupby(keys, sort=False).indices.items()}
        for key, rows in groups.items():
            yield Rows(
                key, values[rows], None if seconds is None else seconds[rows],
                None if stamps is None else [stamps[i] for i in rows], None if labels is None else labels[rows],
                None, numbers[rows],
            )  # fmt: skip

    def frame(self, file: Path) -> pd.DataFrame:
        """Read a table; its index numbers the rows from 1."""
        format = self.format
        separator = format.separator
        if not separator and format_of(file) in (".csv", ".txt"):
            check_file(file)
            with decoding(file, format.encoding), opened(file, format.encoding) as lines:
                first = next((line for line in lines if line.strip()), "")
            separator = max(",;\t", key=first.count) if any(s in first for s in ",;\t") else ","
            self.format = replace(format, separator=separator)
        return Source(format.header, separator=separator or ",", encoding=format.encoding, decimal=format.decimal).read(
            file
        )

    def _time(self, frame: pd.DataFrame) -> str:
        """Return the column of time stamps by its name or content, empty if there is none."""
        named = [column for column in frame if column.strip().lower() in TIMES]
        if named:
            return named[0]
        first = frame.columns[0]
        cells = frame[first].head(100).dropna()
        dates = frame[first].dtype.kind not in "biuf" and len(cells) and order_of(cells) is not None
        return str(first) if dates and first not in (self.format.id, self.format.label) else ""

    def _numbers(self, column: pd.Series, where: str) -> np.ndarray:
        import pandas as pd

        if column.dtype.kind in "biuf":
            return column.to_numpy(np.float64)
        texts = column.astype("str").str.strip()
        if self.format.decimal == ",":
            values = COMMAS.parse(texts.where(column.notna())).to_numpy(np.float64)
        else:
            values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64)
        bad = ~np.isfinite(values) & column.notna().to_numpy()
        if bad.any():
            cell = str(column[bad].iloc[0])[:30]
            comma = "data.decimal=',' reads decimal commas" if "," in cell and self.format.decimal == "." else ""
            drop = f"data.drop=[{column.name}] leaves the column out" if self._learning else ""
            absent = self.format.label not in (None, *self._seen)
            label = f"data.label={self.format.label} is not among its columns" if self._learning and absent else ""
            remedy = "".join(f"; {each}" for each in [comma or label or drop] if each)
            raise DataError(f"{where}, row {column.index[bad][0]}: '{cell}' is not a number{remedy}")
        return values

    def _learn(self, file: Path | str, channels: list[str]) -> None:
        """Take the channels of the first file; DataError if those of another differ."""
        if not self.format.channels:
            if not channels:
                raise DataError(f"{file}: has no columns of numbers")
            self.format, self._first = replace(self.format, channels=tuple(channels)), str(file)
            return
        wanted = self.format.channels
        if len(channels) != len(wanted) and format_of(Path(file)) not in TABLES:
            raise DataError(f"{file}: has {len(channels)} channels, {self._first} has {len(wanted)}")
        if missing := [name for name in wanted if name not in channels]:
            raise DataError(f"{file}: has no channel {missing[0]}, unlike {self._first}")
        if self._learning and (extra := [name for name in channels if name not in wanted]):
            raise DataError(
                f"{file}: has a column {extra[0]}, unlike {self._first}; data.drop=[{extra[0]}] leaves it out"
            )


def mapped(file: Path) -> np.ndarray:
    """Return the array of a .npy file, memory-mapped; DataError if it is damaged."""
    check_file(file)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(f"{file}: cannot be read: truncated or damaged ({one_line(error)})") from None
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file}: is an archive of arrays, whose name ends in .npz")
    return array


def check(path: Path, options: Mapping[str, Any] | None = None) -> None:
    """Raise DataError unless there are files of recordings at a path, and the first can be opened.

    Args:
        options: of `data=series`: if the training files are small, they must have this format, and the columns and the
            normal class that they name.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    files = files_of(path)
    check_file(files[0])
    if options is None or path != Path(str(options.get("path"))).expanduser():
        return
    wanted = format_from(options)
    if sum(file.stat().st_size for file in files) < SMALL:
        classes: set[str] = set()
        for recording in Reader(wanted).recordings(path):
            classes |= {str(wanted.normal)} if recording.labels is None else set(recording.labels)
        check_normal(wanted.normal, sorted(classes))


def check_normal(normal: str | None, classes: Sequence[str]) -> None:
    """Raise DataError unless the normal class is among those of the steps."""
    if normal is not None and normal not in classes:
        raise DataError(f"data.normal={normal}: no step is of this class; there are {', '.join(classes) or 'none'}")
