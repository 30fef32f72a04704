"""Examples that lie on the disk: rows of a .npy file, read with bounded memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoenc.errors import DataError, one_line

SMALL = 16 * 2**20  # bytes of a file that may stay in memory
CHUNK = 2**24  # bytes at a time, where all are looked at
DTYPES = ("uint8", "float32", "int64")


class MappedRows:
    """Rows of a .npy file (N, *shape) of uint8, float32 or int64. Implements `spec.Rows`.

    A batch is one copy, of the rows in it. Small files are mapped. Of large ones, rows are read: where a row is touched
    through a mapping, the kernel maps up to two megabytes around it, and resident memory grows with the file.

    Args:
        path: the file; it must not change while it is in use.
        crc: the CRC-32 of its rows, where the writer knows it; else it is computed when it is asked for.

    Raises:
        DataError: no such file, damaged, or of another type.
    """

    def __init__(self, path: str | Path, crc: int | None = None):
        try:
            # "c": torch wants an array that it may write to. Nothing does, and nothing would reach the file.
            array = np.load(path, mmap_mode="c", allow_pickle=False)
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115, closed with the last of its selections
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
        if not isinstance(array, np.memmap) or array.dtype.name not in DTYPES or not array.flags.c_contiguous:
            raise DataError(f"{path}: expected rows of {', '.join(DTYPES)}")
        self.path, self._crc, self._start = Path(path), crc, array.offset
        self._all = torch.from_numpy(array.view(np.ndarray))
        self._mapped = array.nbytes <= SMALL
        self._index: Tensor | None = None  # of a selection: places in the file
        self.row_bytes = array.nbytes // max(1, len(array))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the rows together: (N, *shape)."""
        return (len(self), *self._all.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Of the values as stored."""
        return self._all.dtype

    def __len__(self) -> int:
        return len(self._all) if self._index is None else len(self._index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(n, *shape) a copy of the rows at `index`, in its order."""
        places = index if self._index is None else self._index[index]
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self._all))
            if step == 1:
                return self._between(start, max(start, stop))
            places = torch.arange(start, stop, step)
        if self._mapped:
            return self._all.index_select(0, places)
        found = torch.empty(len(places), *self._all.shape[1:], dtype=self.dtype)
        content, size = found.numpy().reshape(-1).view(np.uint8).data, self.row_bytes
        for i, place in enumerate(places.tolist()):
            self._read(content[i * size : (i + 1) * size], place)
        return found

    def select(self, index: Tensor | slice) -> MappedRows:
        """The rows at `index`, which may be places, a mask or a slice; copies none."""
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        if self._index is not None:
            chosen._index = self._index[index]
        elif isinstance(index, slice):  # no more places than are chosen: all of them may be many
            chosen._index = torch.arange(*index.indices(len(self._all)))
        else:
            chosen._index = index.nonzero().squeeze(1) if index.dtype == torch.bool else index
        return chosen

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """self[index] for each, in order; the kernel is asked to read the rows of the next one meanwhile."""
        for number, index in enumerate(indexes):
            if not self._mapped and number + 1 < len(indexes):
                self._announce(indexes[number + 1])
            yield self[index]

    def fingerprint(self) -> int:
        """CRC-32 of the rows of the file, and of which of them are selected."""
        if self._crc is None:
            crc, step = 0, max(1, CHUNK // max(1, self.row_bytes))
            for start in range(0, len(self._all), step):
                part = self._between(start, min(start + step, len(self._all)))
                crc = zlib.crc32(part.numpy().reshape(-1).view(np.uint8).data, crc)
            self._crc = crc
        return self._crc if self._index is None else zlib.crc32(self._index.numpy().data, self._crc)

    def _between(self, start: int, stop: int) -> Tensor:
        if self._mapped:
            return self._all[start:stop].clone()
        found = torch.empty(stop - start, *self._all.shape[1:], dtype=self.dtype)
        self._read(found.numpy().reshape(-1).view(np.uint8).data, start)
        return found

    def _read(self, content: memoryview, place: int) -> None:
        """Fill `content` with rows from the `place`-th on."""
        offset = self._start + place * self.row_bytes
        while len(content):
            read = os.preadv(self._file.fileno(), [content], offset)
            if read == 0:
                raise DataError(f"{self.path}: is shorter than it was")
            content, offset = content[read:], offset + read

    def _announce(self, index: Tensor | slice) -> None:
        """Have the kernel read these rows from the disk; does not wait for it."""
        places = index if self._index is None else self._index[index]
        if isinstance(places, slice) or not hasattr(os, "posix_fadvise"):
            return  # read in order: the kernel reads ahead unasked
        for place in places.tolist():
            offset = self._start + place * self.row_bytes
            os.posix_fadvise(self._file.fileno(), offset, self.row_bytes, os.POSIX_FADV_WILLNEED)
