"""A cache on disk of arrays that were computed from the user's files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from autoenc.data.storage.mapped import MappedRows
from autoenc.errors import DataError
from autoenc.files import CACHE_FOLDER, mark_cache, read_json, write_json

log = logging.getLogger("autoenc")

FOLDER = CACHE_FOLDER  # the default of data sets
FORMAT = 1  # of an entry; part of every key
NOTE = "entry.json"
CHECKED = 100 * 2**20  # bytes of a file of which the checksum is verified
_INTACT: set[tuple[str, int, int, int]] = set()


class CacheError(DataError):
    """The cache cannot be written."""


@dataclass(frozen=True)
class Entry:
    """Arrays by name, and plain values, under one key of the cache."""

    path: Path
    values: dict[str, Any]
    crcs: dict[str, int]

    def rows(self, name: str = "x") -> MappedRows:
        """Return an array on disk."""
        return MappedRows(self.path / f"{name}.npy", self.crcs[name])


@dataclass
class Writer:
    """An entry while it is written: rows are appended to its arrays."""

    path: Path
    values: dict[str, Any] = field(default_factory=dict)  # stored as JSON
    _files: dict[str, _Growing] = field(default_factory=dict)

    def append(self, rows: np.ndarray, name: str = "x") -> None:
        """Append rows (n, *shape) to an array; the first ones determine its shape and type."""
        with _write_errors(self.path.parent):
            if name not in self._files:
                self._files[name] = _Growing((self.path / f"{name}.npy").open("wb"), rows)
            self._files[name].append(rows)

    def close(self) -> dict[str, int]:
        """Close all files and return the CRC-32 of each array."""
        return {name: growing.close() for name, growing in self._files.items()}

    def discard(self) -> None:
        """Close unfinished files, which are then deleted."""
        for growing in self._files.values():
            with contextlib.suppress(OSError):
                growing.file.close()


class _Growing:
    """A .npy file whose number of rows is written at the end: NumPy's header leaves room for it."""

    def __init__(self, file: IO[bytes], rows: np.ndarray):
        self.file, self.shape, self.dtype, self.count, self.crc = file, rows.shape[1:], rows.dtype, 0, 0
        self._header()
        self.start = file.tell()

    def _header(self) -> None:
        header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.count, *self.shape)}
        np.lib.format.write_array_header_1_0(self.file, header)

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
    """Return path, size and time of modification of a file, for a key."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]


def find(key: Mapping[str, Any], folder: str | Path = FOLDER) -> Entry | None:
    """Return the entry under a key; None if it is missing or damaged."""
    path = _path(key, folder)
    try:
        note = read_json(path / NOTE)
        entry = Entry(path, note["values"], note["crcs"])
        if not all(_intact(path / f"{name}.npy", crc) for name, crc in entry.crcs.items()):
            return None
    except (OSError, ValueError, KeyError, TypeError, DataError):
        return None
    return entry


def _intact(path: Path, crc: int) -> bool:
    """Whether an array has the size in its header and, unless it is large, its checksum; once in a process."""
    status = path.stat()
    key = (str(path), status.st_size, status.st_mtime_ns, status.st_ino)
    if key not in _INTACT:
        rows = MappedRows(path)
        if rows.file_bytes != status.st_size or (status.st_size <= CHECKED and rows.fingerprint() != crc):
            return False
        _INTACT.add(key)
    return True


def cached(key: Mapping[str, Any], folder: str | Path, write: Callable[[Writer], None]) -> Entry:
    """Return the entry under a key; write it if it is missing.

    If several processes need the same entry, one writes it and the others wait. It is written to a temporary folder and
    renamed: an entry is complete or absent.

    Args:
        key: everything that the content depends on: `stamp` of each file, options, a version of the code.
        folder: created if missing.
        write: computes the entry with `Writer.append`; called only if the entry is missing.

    Raises:
        CacheError: the folder is not writable, or the disk is full; nothing is left behind.
    """
    if (entry := find(key, folder)) is not None:
        return entry
    path = _path(key, folder)
    with _write_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        if (entry := find(key, folder)) is not None:  # written while this process waited
            return entry
        with _write_errors(path.parent):
            for stale in [path, *path.parent.glob(f".{path.name}-*")]:  # damaged, or left by a killed process
                shutil.rmtree(stale, ignore_errors=True)
            temporary = path.parent / f".{path.name}-{secrets.token_hex(4)}"
            temporary.mkdir()
        writer = Writer(temporary)
        try:
            write(writer)
            with _write_errors(path.parent):
                note = {"key": dict(key), "values": writer.values, "crcs": writer.close()}
                write_json(temporary / NOTE, note)
                os.rename(temporary, path)
                mark_cache(path.parent)
        except BaseException:
            writer.discard()
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    entry = find(key, folder)
    assert entry is not None, f"{path}: differs from what was written"
    return entry


def _path(key: Mapping[str, Any], folder: str | Path) -> Path:
    text = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return Path(folder).expanduser() / hashlib.sha256(text.encode()).hexdigest()[:24]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock an entry between processes; the lock is released if the process ends."""
    lock = FileLock(path.with_suffix(".lock"))
    with _write_errors(path.parent):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for another process, which writes %s", path)
            lock.acquire()
    try:
        yield
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)  # before the release: a waiting process notices it
        lock.release()


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    """Convert errors of the operating system to one line."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise CacheError(f"{folder}: the cache cannot be written ({why}); choose another folder for it") from None
