"""Recordings in users' files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.series import Spectra
from autoenc.data.kinds.series.series import Series, plain
from autoenc.data.readers import path_of
from autoenc.data.readers.recordings import Format, Reader, Recording
from autoenc.data.readers.recordings.format import files_of, format_from
from autoenc.data.readers.recordings.steps import parts_of
from autoenc.data.sets.series.splits import Cutting, assembled
from autoenc.data.storage.cache import FOLDER, Writer, cached, stamp
from autoenc.data.storage.windows import Axis, laid
from autoenc.errors import ConfigError, require

VIEWS = ("spectrogram",)
LARGE = 200 * 2**20  # bytes of files above which steps are memory-mapped


def series(
    path: str | None = None,
    test_path: str | None = None,
    window: int = 128,
    stride: int | None = None,
    time: str | None = None,
    id: str | None = None,
    label: str | None = None,
    file_label: str | None = None,
    normal: str | int | float | bool | None = None,
    drop: Sequence[str | int | float] = (),
    separator: str | None = None,
    decimal: Literal[".", ","] = ".",
    header: bool | None = None,
    encoding: str = "utf-8",
    layout: Literal["auto", "recordings", "channels"] = "auto",
    step: float | str | None = None,
    max_gap: int = 5,
    scaling: Literal["standard", "robust", "none"] = "standard",
    log: bool = False,
    differences: bool = False,
    short: Literal["drop", "zeros", "last", "refuse"] = "drop",
    view: Literal["spectrogram"] | None = None,
    fft: int | None = None,
    hop: int | None = None,
    mels: int | None = None,
    range: float | None = None,
    relative: bool | None = None,
    split: Literal["auto", "recording", "time"] = "auto",
    group: str | None = None,
    test_files: str | None = None,
    gap: int | None = None,
    train_steps: int | None = None,
    cache: str = FOLDER,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    kind: Kind | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Load recordings as windows (C, W): C channels, W time steps; or as spectrograms (C, F, T) of the windows.

    Args:
        path: file or folder of .csv, .tsv, .txt, .parquet, .feather, .npy, .npz or .wav.
        test_path: more recordings, all of them for testing.
        window, stride, split, group, test_files, gap, train_steps, normal: see splits.Cutting.
        time, id, label, file_label, drop, separator, decimal, header, encoding, layout, max_gap, short: see
            readers.recordings.Format.
        step: seconds between steps, or text such as 1min, 100ms, 8000Hz; recordings are resampled to it. None: the
            median of each, which must agree.
        scaling, log, differences: of the channels; see kinds.series.Channels.
        view: spectrogram, or None. fft, hop, mels, range, relative: of spectrograms; see kinds.series.Spectra. They are
            scaled by `scaling`, each frequency by itself.
        cache: folder of the steps of files of more than 200 MB.
        kind: kind of a finished run, used instead of learning one. excluded: classes that nothing is learnt from.

    Raises:
        ConfigError, DataError: an invalid option or file.
    """
    path = path_of("series", path)
    assert kind is None or isinstance(kind, Series)
    format = format_from(
        {"window": window, "time": time, "id": id, "label": label, "file_label": file_label, "normal": normal,
         "drop": drop, "separator": separator, "decimal": decimal, "header": header, "encoding": encoding,
         "layout": layout, "step": step, "max_gap": max_gap, "differences": differences, "short": short}
    )  # fmt: skip
    require(test_files is None or test_path is None, "test_files", test_files, "data.test_path has the test recordings")
    cutting = Cutting(
        window, stride, split, gap, train_steps, val_fraction, test_fraction, split_seed, scaling, log, differences,
        format.normal, tuple(excluded),
        spectra_of(window, view, fft=fft, hop=hop, mels=mels, range=range, relative=relative), group, test_files,
    )  # fmt: skip
    cutting.check()
    paths = [Path(each).expanduser() for each in (path, test_path) if each is not None]
    reader = Reader(format if kind is None else kind.format)
    axis, counts = _axis(reader, paths, Path(cache))
    steps = {f"{recording.step:.6g}": recording.name for recording in axis.recordings if recording.step is not None}
    if len(steps) > 1:
        (one, first), (other, second) = list(steps.items())[:2]
        why = (
            f"{first} has steps of {one} s and {second} of {other} s; data.step={max(one, other, key=float)} resamples"
        )
        raise ConfigError("step", None, why)
    tests = None if test_path is None else counts[0]
    return assembled(paths[0].stem, axis, reader.format, cutting, kind, tests, reader.notes, str(path))


def spectra_of(window: int, view: str | None, **options: Any) -> Spectra | None:
    """Return the spectra of windows, None without a view; ConfigError for options that have no effect."""
    given = {name: value for name, value in options.items() if value is not None}
    if view is None:
        for name, value in given.items():
            raise ConfigError(name, value, "has no effect without data.view=spectrogram")
        return None
    require(view in VIEWS, "view", view, "must be spectrogram, or null for the windows themselves")
    return Spectra.of(window, given.pop("fft", None), given.pop("hop", None), **given)


def _labelled(recording: Recording, normal: str | None) -> Recording:
    """Return a recording whose steps are normal if it has no labels and there is a normal class."""
    if recording.labels is not None or normal is None:
        return recording
    return replace(recording, labels=np.full(len(recording), normal, object))


def _axis(reader: Reader, paths: Sequence[Path], folder: Path) -> tuple[Axis, list[int]]:
    """Return the recordings of all paths, and how many each path has; large files by way of the cache."""
    files = [files_of(path) for path in paths]
    if sum(file.stat().st_size for file in chain.from_iterable(files)) > LARGE:
        return _mapped(reader, paths, files, folder)
    found = [[_labelled(recording, reader.format.normal) for recording in reader.recordings(path)] for path in paths]
    return laid(list(chain.from_iterable(found))), [len(each) for each in found]


def _mapped(
    reader: Reader, paths: Sequence[Path], files: Sequence[Sequence[Path]], folder: Path
) -> tuple[Axis, list[int]]:
    """Return the recordings with memory-mapped steps, written to the cache one recording at a time."""
    parts = [[str(path.resolve()), *map(stamp, own)] for path, own in zip(paths, files, strict=True)]
    key = {"what": "recordings 2", "parts": parts, "format": asdict(reader.format)}

    def write(writer: Writer) -> None:
        listed, counts, numbers = [], [], dict[str, int]()
        for path in paths:
            count = 0
            for recording in reader.recordings(path):
                for part in parts_of(recording.values):
                    writer.append(np.ascontiguousarray(part, dtype=np.float32))
                if recording.labels is not None:
                    codes = [numbers.setdefault(str(name), len(numbers)) for name in recording.labels]
                    writer.append(np.array(codes, dtype=np.int64), "y")
                listed.append(
                    [recording.name, len(recording), recording.runs, recording.step, recording.labels is not None]
                )
                count += 1
            counts.append(count)
        writer.values |= {"recordings": listed, "counts": counts, "classes": list(numbers), "notes": reader.notes,
                          "format": asdict(reader.format)}  # fmt: skip

    entry = cached(key, folder, write)
    values = entry.values
    reader.notes = list(values["notes"])
    reader.format = Format(**plain(values["format"]))
    steps = torch.from_numpy(np.load(entry.path / "x.npy", mmap_mode="c", allow_pickle=False).view(np.ndarray))
    names, labels = np.array(values["classes"], object), np.empty(0, np.int64)
    if "y" in entry.crcs:
        labels = np.load(entry.path / "y.npy", allow_pickle=False)
    recordings, starts, used = [], [0], 0
    for name, count, runs, step, known in values["recordings"]:
        own = names[labels[used : used + count]] if known else None
        used += count if known else 0
        runs = tuple((start, stop) for start, stop in runs)
        placeholder = np.empty((count, 0), np.float32)
        recordings.append(_labelled(Recording(name, placeholder, runs, step, own), reader.format.normal))
        starts.append(starts[-1] + count)
    return Axis(steps, tuple(recordings), tuple(starts)), values["counts"]
