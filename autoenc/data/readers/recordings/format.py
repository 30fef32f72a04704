"""The format of files of recordings."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoenc.data.readers.cells.class_names import class_name, normal_class
from autoenc.data.readers.delimited import separator_of
from autoenc.data.readers.paths import check_file, is_hidden
from autoenc.data.readers.tables import format_of
from autoenc.errors import DataError, require

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
        normal: class of the steps that are no anomalies; None: none is known.
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
    normal: str | None = None


def files_of(path: Path) -> list[Path]:
    """Return a file, or the files of recordings below a folder, in the order of their paths.

    Raises:
        DataError: no such file, another format, or a folder without recordings.
    """
    if path.is_dir():
        found = []
        for folder, folders, names in os.walk(path, followlinks=False):
            folders[:] = [name for name in folders if not is_hidden(name)]
            there = (name for name in names if not is_hidden(name) and format_of(Path(name)) in SUFFIXES)
            found += [Path(folder) / name for name in there]
        if not found:
            raise DataError(f"{path}: has no files in {FORMATS}")
        return sorted(found)
    check_file(path)
    if format_of(path) not in SUFFIXES:
        raise DataError(f"{path}: expected {FORMATS}, found '{format_of(path)}'")
    return [path]


def check_pattern(key: str, pattern: str | None, groups: int = 0) -> None:
    """Raise ConfigError unless a regular expression is valid and has as many groups."""
    try:
        valid = pattern is None or re.compile(pattern).groups >= groups
    except re.error:
        valid = False
    require(valid, key, pattern, "must be a regular expression" + (" with a group (...)" if groups else ""))


def seconds_of_step(step: float | str | None) -> float | None:
    """Return the seconds of a step: a number, a rate such as 8000Hz, or a duration such as 1min."""
    if step is None:
        return None
    try:
        if isinstance(step, str) and (rate := re.fullmatch(r"\s*([\d.]+)\s*(k?)Hz\s*", step, re.IGNORECASE)):
            seconds = 1 / (float(rate[1]) * (1000 if rate[2] else 1))
        elif isinstance(step, str):
            import pandas as pd

            seconds = pd.Timedelta(step).total_seconds()
        else:
            seconds = float(step)
    except (ValueError, ZeroDivisionError):
        seconds = 0.0
    require(
        seconds > 0 and math.isfinite(seconds), "step", step, "must be seconds, or text such as 1min, 100ms, 8000Hz"
    )
    return seconds


def format_from(options: Mapping[str, Any]) -> Format:
    """Return the format that options of `data=series` describe; ConfigError if one is out of range."""
    separator, decimal, layout = options.get("separator"), options.get("decimal", "."), options.get("layout", "auto")
    label, file_label, normal = (options.get(key) for key in ("label", "file_label", "normal"))
    window, max_gap, short = options.get("window", 1), options.get("max_gap", 5), options.get("short", "drop")
    separator = separator_of(separator) if separator else ""
    require(len(separator) <= 1, "separator", repr(separator), "must be one character, or \\t for a tab")
    require(decimal in (".", ","), "decimal", repr(decimal), "must be . or ,")
    require(layout in ("auto", "recordings", "channels"), "layout", layout, "must be one of auto, recordings, channels")
    require(max_gap >= 0, "max_gap", max_gap, "must be 0 or more")
    require(label is None or file_label is None, "file_label", file_label, "is another label beside data.label")
    labelled = label is not None or file_label is not None
    require(normal is None or labelled, "normal", normal, "needs data.label or data.file_label")
    check_pattern("file_label", file_label, 1)
    require(short in ("drop", "zeros", "last", "refuse"), "short", short, "must be one of drop, zeros, last, refuse")
    return Format(
        (), options.get("time"), options.get("id"), label, file_label, tuple(map(class_name, options.get("drop", ()))),
        separator, decimal, options.get("header"), options.get("encoding", "utf-8"), layout, window,
        seconds_of_step(options.get("step")), max_gap, short, window + int(options.get("differences", False)),
        normal=normal_class(normal),
    )  # fmt: skip
