"""Rows of numbers of files larger than memory: .npy as it is, other types and Parquet by way of the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.core import UNLABELLED
from autoenc.data.readers.arrays import UNREADABLE
from autoenc.data.readers.cells.class_names import MOST, class_name
from autoenc.data.storage.cache import Writer, cached, stamp
from autoenc.data.storage.mapped import MappedRows
from autoenc.errors import DataError, one_line, require

BYTES = 2**24  # of a chunk
ROWS = 4_096  # of a chunk of Parquet
LABEL = "y"  # the default name of labels
Chunk = tuple[np.ndarray, "list[Any] | None"]  # (n, D) and labels


@dataclass(frozen=True)
class NumberRows:
    """Rows (N, D) of uint8 or float32 on disk, and their labels (N,) as indices into `classes`."""

    x: MappedRows
    y: Tensor | None
    classes: tuple[str, ...]

    def labels(self, classes: tuple[str, ...]) -> Tensor | None:
        """Return the labels as indices into a longer tuple of classes."""
        return None if self.y is None else _renumbered(self.y, [classes.index(name) for name in self.classes])


def _renumbered(y: Tensor, numbers: list[int]) -> Tensor:
    """Return the number of each label (N,); rows without a label stay so."""
    return torch.where(y == UNLABELLED, UNLABELLED, torch.tensor(numbers)[y.clamp(min=0)])


def number_rows(path: Path, column: str | None, label: str | None, folder: str) -> NumberRows:
    """Return the rows of a .npy or .parquet file without reading it into memory.

    A .npy file of float32 or uint8 is used as it is; it must not change. Others are converted to float32 in the cache.

    Args:
        column: of Parquet, with numbers or lists of equal length; None: the only one of lists, else all.
        label: column of Parquet with labels; the default, y, may be missing. Rows without one are UNLABELLED.

    Raises:
        ConfigError: the file does not have the column or the label. DataError: a damaged file, other shapes, values
            that are not numbers, or labels of more than 1,000 values.
    """
    npy = path.suffix.lower() == ".npy"
    if npy:
        for option, name in (("array", column), ("label", None if label == LABEL else label)):
            require(name is None, option, name, f"{path} has rows of numbers only")
        array = _opened(path)
        if array.dtype in (np.uint8, np.float32):
            return NumberRows(MappedRows(path), None, ())
    key = {"what": "numbers 2", "file": stamp(path), "column": column, "label": label}

    def write(writer: Writer) -> None:
        numbers: dict[str, int] = {}  # label -> order of its appearance
        for rows, labels in _npy(path) if npy else parquet(path, column, label):
            with np.errstate(over="ignore"):  # overflow becomes infinite, which is rejected later
                writer.append(np.ascontiguousarray(rows, dtype=np.float32))
            if labels is not None:
                there = [value is not None and value == value for value in labels]
                found = [
                    numbers.setdefault(class_name(value), len(numbers)) if known else UNLABELLED
                    for value, known in zip(labels, there, strict=True)
                ]
                if len(numbers) > MOST:
                    why = "more than 1,000 different values; a label is a class; data.label=null makes it a column"
                    raise DataError(f"{path}: data.label={label}: {why}")
                writer.append(np.array(found, dtype=np.int64), "y")
        writer.values["classes"] = list(numbers)

    entry = cached(key, folder, write)
    if "x" not in entry.crcs:
        raise DataError(f"{path}: has no rows")
    classes = entry.values["classes"]
    order = sorted(range(len(classes)), key=lambda i: classes[i])
    y = _renumbered(entry.rows("y")[:], torch.tensor(order).argsort().tolist()) if classes else None
    return NumberRows(entry.rows(), y, tuple(classes[i] for i in order))


def _opened(path: Path) -> np.memmap[Any, Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: truncated or damaged ({one_line(error)})") from None
    if array.ndim != 2 or array.dtype.kind not in "biuf" or 0 in array.shape:
        raise DataError(f"{path}: has {array.dtype} of shape {array.shape}; must be numbers (N, D)")
    if not array.flags.c_contiguous:
        raise DataError(f"{path}: is in Fortran order; save it with numpy.ascontiguousarray")
    return array


def _npy(path: Path) -> Iterator[Chunk]:
    """Yield chunks. Each is mapped on its own: the pages of a whole file would count as memory in use."""
    array = _opened(path)
    offset, dtype, shape, size = array.offset, array.dtype, array.shape, array[0].nbytes
    del array
    step = max(1, BYTES // size)
    for start in range(0, shape[0], step):
        n = min(step, shape[0] - start)
        yield np.memmap(path, dtype, "r", offset + start * size, (n, shape[1])), None


def parquet(path: Path, column: str | None = None, label: str | None = None) -> Iterator[Chunk]:
    """Yield chunks of a Parquet file; see `number_rows`."""
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        schema = file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None

    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind))

    require(label in (None, LABEL, *schema.names), "label", label, f"{path} has no such column")
    names = [name for name in schema.names if name != label]
    lists = [name for name in names if is_list(schema.field(name).type)]
    if column is not None and column not in schema.names:
        raise DataError(f"data.array={column}: {path} has no such column; it has {', '.join(schema.names)}")
    if column is None and len(lists) > 1:
        raise DataError(f"{path}: has several columns of lists, {', '.join(lists)}; data.array=NAME chooses one")
    chosen = [column] if column is not None else lists or names
    for name in chosen:
        kind = schema.field(name).type
        inner = kind.value_type if is_list(kind) else kind
        if not (pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)):
            hint = (
                "data.label=NAME is for labels, data.array=NAME chooses a column; data=table reads columns of any type"
            )
            raise DataError(f"{path}: column {name} has {kind}, not numbers; {hint}")
    read = [*chosen, *([label] if label in schema.names else [])]
    width = 0

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            for group in range(file.num_row_groups):  # one at a time: pyarrow reads ahead within a call
                yield from file.iter_batches(ROWS, row_groups=[group], columns=read)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None

    for batch in batches():
        columns = [batch.column(name) for name in chosen]
        if nulls := [name for name, values in zip(chosen, columns, strict=True) if values.null_count]:
            raise DataError(f"{path}: column {nulls[0]} has missing values")
        if is_list(columns[0].type):
            flat, n = columns[0].flatten().to_numpy(zero_copy_only=False), len(batch)
            lengths = set(compute.list_value_length(columns[0]).to_pylist())
            width = width or max(lengths)
            if lengths != {width}:
                raise DataError(f"{path}: the lists of {chosen[0]} have different lengths")
            rows = flat.reshape(n, width)
        else:
            rows = np.stack([values.to_numpy(zero_copy_only=False).astype(np.float32) for values in columns], 1)
        yield rows, batch.column(label).to_pylist() if label in schema.names else None
