"""User-provided vectors that stay on disk: memory does not grow with the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoenc.data.dataset import Data, DataSpec, learnable_rows
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.vector import Vector
from autoenc.data.readers.arrays import UNREADABLE
from autoenc.data.split import CHUNK, Split, hold_out, three_way
from autoenc.data.storage.mapped import MappedRows
from autoenc.data.storage.number_rows import NumberRows
from autoenc.errors import DataError

LARGE = 256 * 2**20  # bytes of a .npy file above which vectors stay on disk


def stays_on_disk(path: Path, layout: str) -> bool:
    """Whether a file has vectors that are not read into memory."""
    if path.suffix.lower() != ".npy" or not path.is_file():
        return path.suffix.lower() == ".parquet" and path.is_file()
    if path.stat().st_size <= LARGE or layout in ("chw", "hwc"):
        return False
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).ndim == 2
    except UNREADABLE:
        return False  # named by `_load`


def on_disk(
    files: Sequence[Path],
    stored: Sequence[NumberRows],
    normalize: bool,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    kind: Kind | None,
    excluded: Sequence[str],
) -> Data:
    """Return the data set of rows on disk: one file, or one of training and one of test rows.

    Args:
        excluded: classes that nothing is learned from.
    """
    if len({each.x.shape[1:] for each in stored}) > 1 or len({each.x.dtype for each in stored}) > 1:
        raise DataError(f"{files[1]}: test rows are {stored[1].x.dtype} {stored[1].x.shape[1:]}, unlike {files[0]}")
    classes = tuple(sorted({name for each in stored for name in each.classes}))
    highest = [_highest(each.x, path) for path, each in zip(files, stored, strict=True)]
    integers = stored[0].x.dtype == torch.uint8
    white = kind.white_value if kind is not None else 1.0 if integers and highest[0] <= 1 else None
    if white == 1 and highest[-1] > 1:
        raise DataError(f"{files[-1]}: has values up to {highest[-1]:g}, and the training rows only 0 and 1")
    scale = 1 / 255 if integers and white is None else 1.0
    splits = [Split(each.x, each.labels(classes), scale) for each in stored]
    numbers = Split(torch.arange(len(splits[0])))  # of the rows
    if len(splits) == 1:
        parts = three_way(numbers, val_fraction, test_fraction, split_seed, files[0])
        train, val, test = (splits[0].subset(part.tensor) for part in parts)
    else:
        held_out = hold_out(numbers, val_fraction, split_seed, "val_fraction", files[0])
        parts = (*held_out, Split(torch.arange(len(splits[1]))))
        train, val, test = splits[0].subset(parts[0].tensor), splits[0].subset(parts[1].tensor), splits[1]
    if kind is None:
        kind = Vector(stored[0].x.shape[1:], *((0.0, 1.0) if integers else train.range()), white)
        kind = normalized(kind, learnable_rows(train, classes, excluded, files[0].stem)) if normalize else kind
    assert isinstance(kind, Vector)
    train, val, test = (replace(split, scale=split.scale * kind.factor) for split in (train, val, test))
    names: dict[str, Any] = {name: np.asarray(parts[i].tensor) + 1 for name, i in (("train", 0), ("test", 2))}
    notes = (f"{len(stored[0].x):,} rows stay on disk: {stored[0].x.path}",)
    return Data(DataSpec(files[0].stem, kind, classes), train, val, test, notes=notes, names=names)


def _highest(rows: MappedRows, path: Path) -> float:
    """Return the largest value; DataError for values that are not finite."""
    highest = -np.inf
    for i, batch in enumerate(Split(rows).in_order(CHUNK)):
        bad = ~batch.x.isfinite().all(1)
        if bool(bad.any()):
            row = i * CHUNK + int(bad.nonzero()[0])
            raise DataError(f"{path}: row {row} has values that are NaN or infinite (in float32)")
        highest = max(highest, float(batch.x.max()))
    return highest


def normalized(kind: Vector, train: Split) -> Vector:
    """Return the kind with the factor that makes the mean squared norm of the training rows D."""
    squares = [float(batch.x.double().square().sum()) for batch in train.in_order(CHUNK)]
    mean = sum(squares) / (len(train) * kind.shape[0])
    factor = 1 / mean**0.5 if mean > 0 else 1.0
    return replace(kind, low=kind.low * factor, high=kind.high * factor, factor=factor)
