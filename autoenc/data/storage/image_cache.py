"""Where the pixels of picture files are kept: in the cache, in memory, or nowhere but in the files."""

from __future__ import annotations

import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from torch import Tensor

from autoenc.data.readers.folders import Tree
from autoenc.data.readers.images import Look
from autoenc.data.split import Rows
from autoenc.data.storage import cache as caches
from autoenc.data.storage.decoding import PictureRows, Pool
from autoenc.errors import DataError

VERSION = 1  # of what this file keeps; goes up when old entries must not be used any more
IN_MEMORY = 256 * 2**20  # bytes of pixels that are read into memory once
MANY = 2_000  # files that are worth a bar on the terminal


@dataclass(frozen=True)
class Stored:
    """The pictures that can be decoded.

    x: their rows. kept: the place of each among all files. notes: what a person should know, a line each.
    """

    x: Tensor | Rows
    kept: list[int]
    notes: list[str]


@dataclass(frozen=True)
class Store:
    """Picture files of one data set, and where what is computed from them goes.

    Args:
        cache: false writes nothing; true writes the pixels; "auto" writes them where half of what is free suffices.
        max_bad: files that may be unreadable.
    """

    trees: Sequence[Tree]
    pool: Pool
    cache: bool | Literal["auto"]
    folder: str
    max_bad: int

    @property
    def files(self) -> list[str]:
        """Paths of all files of all trees."""
        return [file for tree in self.trees for file in tree.files]

    def survey(self) -> tuple[bool, tuple[int, int], tuple[int, int]]:
        """Of all pictures: whether they are grey; the smallest and the largest (height, width), by area.

        Raises:
            DataError: not one of the files can be read.
        """

        def look() -> dict[str, Any]:
            grey, sizes, why = True, set(), ""
            for answers, _ in self._seen(self.pool.map(self.files, None)):
                for answer in answers:
                    if isinstance(answer, str):
                        why = why or answer
                    else:
                        grey = grey and answer[0]
                        sizes.add(answer[1:])
            if not sizes:
                raise DataError(f"{self.files[0]}: {why}; none of {len(self.files)} files can be read")
            ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
            return {"grey": grey, "smallest": ordered[0], "largest": ordered[-1]}

        found = self._remembered(self._key("heads"), look)
        return found["grey"], tuple(found["smallest"]), tuple(found["largest"])

    def pixels(self, look: Look) -> Stored:
        """The pictures as `look` says: decoded now and kept, found in the cache, or decoded whenever they are needed.

        Raises:
            DataError: more than `max_bad` files cannot be decoded; cache=true, and it cannot be written.
        """
        files, key = self.files, self._key("pixels", look=asdict(look), pillow=PIL.__version__)
        size = len(files) * look.nbytes
        why = "data.cache=false"
        if self.cache is not False:
            why = "" if self.cache is True else self._too_large(size)
            if not why or caches.find(key, self.folder):
                try:
                    return self._cached(files, look, key)
                except caches.CacheError as error:
                    if self.cache is True:
                        raise
                    why = str(error)
        # Each picture is decoded once before training, so that no bad one turns up in the middle of it.
        note = self._remembered(self._key("checked", key=key), lambda: self._decode(files, look))
        kept = _without(len(files), note["bad"])
        rows = PictureRows([files[i] for i in kept], look, self.pool, note["crc"])
        by = f"by {self.pool.workers} worker processes" if self.pool.workers else "in this process"
        said = f"pictures are decoded anew in every epoch, {by}: {why}"
        return Stored(rows, kept, [*self._bad(files, note["bad"]), said])

    def _cached(self, files: list[str], look: Look, key: Mapping[str, Any]) -> Stored:
        started, fresh = time.perf_counter(), []

        def write(writer: caches.Writer) -> None:
            fresh.append(True)
            writer.values = self._decode(files, look, writer.append)

        entry = caches.cached(key, self.folder, write)
        bad = entry.values["bad"]
        kept = _without(len(files), bad)
        rows = entry.rows()
        x: Tensor | Rows = rows[:] if len(kept) * look.nbytes <= IN_MEMORY else rows
        size = f"{len(kept) * look.nbytes / 2**20:,.0f} MB"
        where = "in memory" if isinstance(x, Tensor) else "mapped, with bounded memory"
        seconds = time.perf_counter() - started
        how = f"decoded once in {seconds:.1f} s, kept in" if fresh else "were decoded before, read from"
        return Stored(x, kept, [*self._bad(files, bad), f"{len(kept):,} pictures {how} {entry.path} ({size}, {where})"])

    def _decode(
        self, files: list[str], look: Look, append: Callable[[np.ndarray], None] | None = None
    ) -> dict[str, Any]:
        """Decode all and hand on the good ones: which are bad and why, and the CRC-32 of the good ones."""
        bad: list[tuple[int, str]] = []
        crc, place = 0, 0
        for said, pixels in self._seen(self.pool.map(files, look)):
            bad += [(place + i, why) for i, why in said.items()]
            self._bad(files, bad)
            good = np.delete(pixels, list(said), axis=0) if said else pixels
            crc = zlib.crc32(good.reshape(-1).data, crc)
            if append is not None and len(good):
                append(good)
            place += len(pixels)
        if len(bad) == len(files):
            raise DataError(f"{files[0]}: {bad[0][1]}; none of {len(files)} files can be read")
        return {"bad": bad, "crc": crc}

    def _bad(self, files: list[str], bad: Sequence[Sequence[Any]]) -> list[str]:
        """What to say of the bad ones; DataError where there are more than there may be."""
        if not bad:
            return []
        first = f"{files[bad[0][0]]}: {bad[0][1]}"
        if len(bad) > self.max_bad:
            limit = f"data.max_bad={self.max_bad} of {len(files)} files may be unreadable"
            raise DataError(f"{first}; {limit}, and there are more")
        return [f"Attention: {len(bad)} of {len(files):,} files cannot be read and are left out, the first: {first}"]

    def _key(self, what: str, **more: Any) -> dict[str, Any]:
        return {"pictures": what, "version": VERSION, "trees": [tree.digest() for tree in self.trees], **more}

    def _remembered(self, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `compute` gives, from the cache where it is there, and kept there where that may be."""
        if self.cache is False:
            return compute()

        def write(writer: caches.Writer) -> None:
            writer.values = compute()

        try:
            return caches.cached(key, self.folder, write).values
        except caches.CacheError:
            return compute()

    def _too_large(self, size: int) -> str:
        """Why so many bytes are not cached unasked, or nothing."""
        folder = Path(self.folder).expanduser().absolute()
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if size <= free / 2:
            return ""
        return f"a cache of {size / 2**30:,.1f} GB would take more than half of the {free / 2**30:,.1f} GB free there"

    def _seen(self, parts: Iterator[Any]) -> Iterator[Any]:
        """The same, with a bar on the terminal where there are many."""
        from rich.console import Console
        from rich.progress import track

        count, console = len(self.files), Console(stderr=True)
        quiet = count < MANY or not console.is_terminal
        total = math.ceil(count / self.pool.step(None))
        yield from track(parts, "looking at pictures", total, console=console, transient=True, disable=quiet)


def _without(count: int, bad: Sequence[Sequence[Any]]) -> list[int]:
    out = {place for place, _ in bad}
    return [i for i in range(count) if i not in out]
