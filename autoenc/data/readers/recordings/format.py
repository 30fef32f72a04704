"""The format of files of recordings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoenc.data.readers.paths import check_file
from autoenc.data.readers.tables import format_of
from autoenc.errors import DataError

TABLES = (".csv", ".tsv", ".txt", ".parquet", ".feather")
ARRAYS = (".npy", ".npz")
SUFFIXES = (*TABLES, *ARRAYS, ".wav")
FORMATS = ".csv, .tsv, .txt (also .gz), .parquet, .feather, .npy, .npz or .wav"

Layout = Literal["auto", "recordings", "channels"]
Short = Literal["drop", "zeros", "last", "refuse"]


@dataclass(frozen=True)
class Format:
    """How files have recordings; saved with the run, so that new files are read in the same way.

    Args:
        channels: names of the channels, in order; empty: all columns that are left.
        time: column of the time stamps; "": none; None: a column with such a name, or the first if it has dates.
        id: column that names the recording of each row; None: a file is a recording.
        label: column of the classes of the rows; None: no labels. file_label: regular expression whose first group, in
            the path of a file, is the class of all of its rows.
        drop: columns to leave out.
        separator: of a CSV file; empty: , ; or a tab, by its first line. decimal: . or ,
        header, encoding: see `readers.tables.Source`.
        layout: of an array (A, B): recordings (N, T) or channels (T, C); auto: (T, C) if B < window, else (N, T).
        window: steps of a window, by which `auto` decides.
        step: seconds between steps; None: the median of each recording.
        max_gap: number of missing steps up to which values are interpolated.
        short: what happens to recordings of fewer than `least` steps: drop: they have no window; zeros or last: zeros,
            or the last step repeated, follow them; refuse.
        zoned: whether time stamps have a time zone; None: not known, or they are numbers.
    """

    channels: tuple[str, ...] = ()
    time: str | None = None
    id: str | None = None
    label: str | None = None
    file_label: str | None = None
    drop: tuple[str, ...] = ()
    separator: str = ""
    decimal: str = "."
    header: bool | None = None
    encoding: str = "utf-8"
    layout: Layout = "auto"
    window: int = 1
    step: float | None = None
    max_gap: int = 5
    short: Short = "drop"
    least: int = 1
    zoned: bool | None = None


def files_of(path: Path) -> list[Path]:
    """Return a file, or the files of recordings below a folder, in the order of their paths.

    Raises:
        DataError: no such file, another format, or a folder without recordings.
    """
    if path.is_dir():
        found = [
            Path(folder) / name
            for folder, _, names in os.walk(path, followlinks=False)
            for name in names
            if not name.startswith(".") and format_of(Path(name)) in SUFFIXES
        ]
        if not found:
            raise DataError(f"{path}: has no files in {FORMATS}")
        return sorted(found)
    check_file(path)
    if format_of(path) not in SUFFIXES:
        raise DataError(f"{path}: expected {FORMATS}, found '{format_of(path)}'")
    return [path]


def check(path: Path) -> None:
    """Raise DataError unless there are files of recordings at a path, and the first can be opened."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    check_file(files_of(path)[0])
