"""A folder of arrays that were computed once from the user's files and are read from the disk ever after."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from autoenc.data.storage.mapped import MappedRows
from autoenc.errors import DataError
from autoenc.files import write_json

log = logging.getLogger("autoenc")

FOLDER = "outputs/.cache"  # the default of data sets
FORMAT = 1  # of an entry; part of every key
NOTE = "entry.json"


class CacheError(DataError):
    """The cache cannot be written."""


@dataclass(frozen=True)
class Entry:
    """What is in the cache under one key: arrays by name, and plain values."""

    path: Path
    values: dict[str, Any]
    crcs: dict[str, int]

    def rows(self, name: str = "x") -> MappedRows:
        """An array on the disk."""
        return MappedRows(self.path / f"{name}.npy", self.crcs[name])


@dataclass
class Writer:
    """An entry while it is written: arrays grow by rows, nobody knows how many there will be."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)  # what JSON can hold; kept with the arrays
    _files: dict[str, _Growing] = field(default_factory=dict)

    def append(self, rows: np.ndarray, name: str = "x") -> None:
        """Add (n, *shape) rows to an array; the first ones say what shape and type it has."""
        with _errors_of(self.path.parent):
            if name not in self._files:
                self._files[name] = _Growing((self.path / f"{name}.npy").open("wb"), rows)
            self._files[name].append(rows)

    def close(self) -> dict[str, int]:
        """Finish all files; the CRC-32 of each."""
        return {name: growing.close() for name, growing in self._files.items()}

    def discard(self) -> None:
        """Close all files as they are, to be deleted."""
        for growing in self._files.values():
            with contextlib.suppress(OSError):
                growing.file.close()


class _Growing:
    """A .npy file of which the number of rows is known at the end: NumPy's header leaves room for it."""

    def __init__(self, file: IO[bytes], rows: np.ndarray):
        self.file, self.shape, self.dtype, self.count, self.crc = file, rows.shape[1:], rows.dtype, 0, 0
        self._header()
        self.start = file.tell()

    def _header(self) -> None:
        described = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, described)

    def append(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self.shape or rows.dtype != self.dtype:
            raise ValueError(f"rows {rows.dtype} {rows.shape[1:]} in an array of {self.dtype} {self.shape}")
        content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        self.file.write(content)
        self.crc = zlib.crc32(content, self.crc)
        self.count += len(rows)

    def close(self) -> int:
        self.file.seek(0)
        self._header()
        assert self.file.tell() == self.start, "NumPy's header grew with the number of rows"
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        return self.crc


def stamp(path: Path) -> list[Any]:
    """What a key says of a file: where it is, its size and when it was written last."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def find(key: Mapping[str, Any], folder: str | Path = FOLDER) -> Entry | None:
    """What the cache has under a key; None where it has nothing, or something damaged."""
    path = _place(key, folder)
    try:
        note = json.loads((path / NOTE).read_text())
        entry = Entry(path, note["values"], note["crcs"])
        for name in entry.crcs:
            entry.rows(name)
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None
    return entry


def cached(key: Mapping[str, Any], folder: str | Path, write: Callable[[Writer], None]) -> Entry:
    """The entry under a key: read where there is one, written where there is none.

    Of processes that want the same entry at once, one writes it and the others wait. It is written aside and moved into
    place: an entry is whole or absent.

    Args:
        key: all that the content depends on, as JSON has it: `stamp` of each file, options, a version of the code.
        folder: made where it is missing.
        write: computes the entry, by `Writer.append`; called only where it must be.

    Raises:
        CacheError: the folder cannot be written to, or the disk is full; nothing is left behind.
    """
    if (entry := find(key, folder)) is not None:
        return entry
    place = _place(key, folder)
    with _errors_of(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
    with _alone(place):
        if (entry := find(key, folder)) is not None:  # written while this process waited
            return entry
        with _errors_of(place.parent):
            for left in [place, *place.parent.glob(f".{place.name}-*")]:  # damaged, or of a process that was killed
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
        writer = Writer(aside)
        try:
            write(writer)
            with _errors_of(place.parent):
                note = {"key": dict(key), "values": writer.values, "crcs": writer.close()}
                write_json(aside / NOTE, note)
                os.rename(aside, place)
        except BaseException:
            writer.discard()
            shutil.rmtree(aside, ignore_errors=True)
            raise
    entry = find(key, folder)
    assert entry is not None, f"{place}: is not what was written"
    return entry


def _place(key: Mapping[str, Any], folder: str | Path) -> Path:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return Path(folder).expanduser() / hashlib.sha256(text.encode()).hexdigest()[:24]


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """This process alone, of those that want this entry. The lock goes with the process, however it ends."""
    lock = FileLock(place.with_suffix(".lock"))
    with _errors_of(place.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process, which writes %s", place)
            lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is held: who waits sees that the file is gone
        lock.release()


@contextlib.contextmanager
def _errors_of(folder: Path) -> Iterator[None]:
    """What the operating system has against writing, in one line."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CacheError(f"{folder}: the cache cannot be written ({why}); choose another folder for it") from None
