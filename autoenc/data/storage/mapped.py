"""Rows of a .npy file, read with bounded memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoenc.errors import DataError, one_line

SMALL = 16 * 2**20  # bytes of a file that is memory-mapped
CHUNK = 2**24  # bytes per chunk of a full pass
DTYPES = ("uint8", "float32", "int64")


class MappedRows:
    """Rows of a .npy file (N, *shape) of uint8, float32 or int64. Implements `split.Rows`.

    A batch is a copy. Small files are memory-mapped. Rows of large files are read: the kernel maps up to two megabytes
    around a row that is accessed through a mapping, so that resident memory would grow with the file.

    Args:
        path: the file; it must not change while it is in use.
        crc: the CRC-32 of its rows; by default it is computed on demand.

    Raises:
        DataError: the file is missing, damaged, or of another type.
    """

    def __init__(self, path: str | Path, crc: int | None = None):
        try:
            # "c": torch requires a writable array; nothing is written, and nothing would reach the file.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115, closed with its last selection
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
        if not isinstance(array, np.memmap) or array.dtype.name not in DTYPES or not array.flags.c_contiguous:
            raise DataError(f"{path}: expected rows of {', '.join(DTYPES)}")
        self.path, self._crc, self._start = Path(path), crc, array.offset
        self._all = torch.from_numpy(array.view(np.ndarray))
        self._mapped = array.nbytes <= SMALL
        self._index: Tensor | None = None  # of a selection: row numbers in the file
        self.file_bytes = array.offset + array.nbytes  # according to the header
        self.row_bytes = array.nbytes // max(1, len(array))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all rows: (N, *shape)."""
        return (len(self), *self._all.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Type of the values as stored."""
        return self._all.dtype

    def __len__(self) -> int:
        return len(self._all) if self._index is None else len(self._index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return a copy (n, *shape) of the rows at `index`, in its order."""
        numbers = index if self._index is None else self._index[index]
        if isinstance(numbers, slice):
            start, stop, step = numbers.indices(len(self._all))
            if step == 1:
                return self._between(start, max(start, stop))
            numbers = torch.arange(start, stop, step)
        if self._mapped:
            return self._all.index_select(0, numbers)
        rows = torch.empty(len(numbers), *self._all.shape[1:], dtype=self.dtype)
        content, size = rows.numpy().reshape(-1).view(np.uint8).data, self.row_bytes
        for i, number in enumerate(numbers.tolist()):
            self._read(content[i * size : (i + 1) * size], number)
        return rows

    def select(self, index: Tensor | slice) -> MappedRows:
        """Return a view of the rows at `index` (row numbers, a mask or a slice), without copying."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        if self._index is not None:
            view._index = self._index[index]
        elif isinstance(index, slice):  # without the numbers of all rows, which may be many
            view._index = torch.arange(*index.indices(len(self._all)))
        else:
            view._index = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
        return view

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """Yield self[index] for each index, in order; the kernel prefetches the rows of the next one."""
        for number, index in enumerate(indexes):
            if not self._mapped and number + 1 < len(indexes):
                self._prefetch(indexes[number + 1])
            yield self[index]

    def fingerprint(self) -> int:
        """Return the CRC-32 of the rows of the file and of the selection."""
        if self._crc is None:
            crc, step = 0, max(1, CHUNK // max(1, self.row_bytes))
            for start in range(0, len(self._all), step):
                crc = _crc(self._between(start, min(start + step, len(self._all))), crc)  # freed before the next one
            self._crc = crc
        return self._crc if self._index is None else zlib.crc32(self._index.numpy().data, self._crc)

    def _between(self, start: int, stop: int) -> Tensor:
        if self._mapped:
            return self._all[start:stop].clone()
        rows = torch.empty(stop - start, *self._all.shape[1:], dtype=self.dtype)
        self._read(rows.numpy().reshape(-1).view(np.uint8).data, start)
        return rows

    def _read(self, content: memoryview, number: int) -> None:
        """Fill `content` with rows from row `number` on."""
        offset = self._start + number * self.row_bytes
        while len(content):
            read = os.preadv(self._file.fileno(), [content], offset)
            if read == 0:
                raise DataError(f"{self.path}: has become shorter")
            content, offset = content[read:], offset + read

    def _prefetch(self, index: Tensor | slice) -> None:
        """Ask the kernel to read rows from the disk, without waiting."""
        numbers = index if self._index is None else self._index[index]
        if isinstance(numbers, slice) or not hasattr(os, "posix_fadvise"):
            return  # the kernel prefetches sequential reads by itself
        for number in numbers.tolist():
            offset = self._start + number * self.row_bytes
            os.posix_fadvise(self._file.fileno(), offset, self.row_bytes, os.POSIX_FADV_WILLNEED)


def _crc(rows: Tensor, start: int) -> int:
    return zlib.crc32(rows.numpy().reshape(-1).view(np.uint8).data, start)
