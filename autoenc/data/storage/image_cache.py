"""Decoded images of a data set: kept in the cache and in memory, or decoded from the files in each epoch."""

from __future__ import annotations

import math
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from torch import Tensor

from autoenc.data.readers.folders import Tree
from autoenc.data.readers.images import ImageFormat, decode_files, read_headers
from autoenc.data.split import Rows
from autoenc.data.storage import cache as caches
from autoenc.data.storage.image_files import TASK, ImageFileRows, task_size
from autoenc.data.storage.workers import Pool
from autoenc.errors import DataError, counted

VERSION = 2  # part of every key; increased if old entries must not be used any more
IN_MEMORY = 256 * 2**20  # bytes of pixels that are read into memory
MANY = 2_000  # files from which on a progress bar is shown


@dataclass(frozen=True)
class Survey:
    """What the headers of the images of a data set say.

    Args:
        grey: whether all are grey. smallest, largest: (height, width), by area, of all images. count: number of
            readable files. pages: number of files with several images. deep: number of images of more than 8 bits.
            highest: largest integer in these.
    """

    grey: bool
    smallest: tuple[int, int]
    largest: tuple[int, int]
    count: int
    pages: int
    deep: int
    highest: float


@dataclass(frozen=True)
class StoredImages:
    """Rows x of the images that can be decoded, the index of each among all files, and notes for the user.

    highest: largest value of all pixels, of 255. dark: number of images whose largest value is 1.
    """

    x: Tensor | Rows
    kept: list[int]
    notes: list[str]
    highest: int
    dark: int


@dataclass(frozen=True)
class ImageStore:
    """The image files of a data set, and the cache for what is computed from them.

    Args:
        cache: false: write nothing; true: write the pixels; "auto": write them if they fit half of the free space.
        folder: folder of the cache.
        max_bad: maximum number of unreadable files.
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

    def survey(self, excluded: Sequence[str] = ()) -> Survey:
        """Read the headers of all images.

        Args:
            excluded: classes, of whose images nothing but the size is learned.

        Raises:
            DataError: none of the files can be read, or no other class is left.
        """
        out = {"excluded": sorted(excluded)} if excluded else {}
        values = self._computed_once(self._key("heads", **out), lambda: self._survey(excluded))
        return Survey(**values | {name: tuple(values[name]) for name in ("smallest", "largest")})

    def _survey(self, excluded: Sequence[str]) -> dict[str, Any]:
        files = self.files
        classes = [name for tree in self.trees for name in tree.labels() or [""] * len(tree.files)]
        headers = [header for part in self._map(read_headers, files, TASK) for header in part]
        readable = [header for header in headers if not isinstance(header, str)]
        if not readable:
            raise DataError(f"{files[0]}: {headers[0]}; none of {counted(len(files), 'files')} can be read")
        sizes = sorted({header[1:3] for header in readable}, key=lambda size: (size[0] * size[1], size))
        left = (header for header, name in zip(headers, classes, strict=True) if name not in excluded)
        if not (readable := [header for header in left if not isinstance(header, str)]):
            raise DataError(f"anomaly_classes={','.join(excluded)}: leaves no images to train on")
        deep = [header.highest for header in readable if header.highest is not None]
        return {
            "grey": all(header.grey for header in readable),
            "smallest": sizes[0],
            "largest": sizes[-1],
            "count": len(readable),
            "pages": sum(header.pages for header in readable),
            "deep": len(deep),
            "highest": max(deep, default=0.0),
        }

    def pixels(self, image_format: ImageFormat) -> StoredImages:
        """Return the images in a format: read from the cache, decoded into it, or as files that are decoded on demand.

        Raises:
            DataError: more than `max_bad` files cannot be decoded; cache=true, and the cache cannot be written.
        """
        files, key = self.files, self._key("pixels", look=asdict(image_format), pillow=PIL.__version__)
        why = "data.cache=false"
        if self.cache is not False:
            why = "" if self.cache is True else self._too_large(len(files) * image_format.nbytes)
            if not why or caches.find(key, self.folder):
                try:
                    return self._cached(files, image_format, key)
                except caches.CacheError as error:
                    if self.cache is True:
                        raise
                    why = str(error)
        # Each image is decoded once before training, so that damaged files are found before and not during it.
        checked = self._computed_once(self._key("checked", key=key), lambda: self._decode(files, image_format))
        kept = _without(len(files), checked["bad"])
        rows = ImageFileRows([files[i] for i in kept], image_format, self.pool, checked["crc"])
        by = f"by {self.pool.workers} worker processes" if self.pool.workers else "in this process"
        notes = [*self._unreadable(files, checked["bad"]), f"images are decoded in each epoch, {by}: {why}"]
        return StoredImages(rows, kept, notes, checked["highest"], checked["dark"])

    def _cached(self, files: list[str], image_format: ImageFormat, key: Mapping[str, Any]) -> StoredImages:
        started, written = time.perf_counter(), []

        def write(writer: caches.Writer) -> None:
            writer.values = self._decode(files, image_format, writer.append)
            written.append(True)

        entry = caches.cached(key, self.folder, write)
        bad = entry.values["bad"]
        kept = _without(len(files), bad)
        rows, size = entry.rows(), len(kept) * image_format.nbytes
        x: Tensor | Rows = rows[:] if size <= IN_MEMORY else rows
        seconds = time.perf_counter() - started
        how = f"decoded in {seconds:.1f} s and stored in" if written else "read from the cache"
        where = "in memory" if isinstance(x, Tensor) else "memory-mapped"
        note = f"{len(kept):,} images {how} {entry.path} ({size / 2**20:,.0f} MB, {where})"
        notes = [*self._unreadable(files, bad), note]
        return StoredImages(x, kept, notes, entry.values["highest"], entry.values["dark"])

    def _decode(
        self, files: list[str], image_format: ImageFormat, append: Callable[[np.ndarray], None] | None = None
    ) -> dict[str, Any]:
        """Decode all files and append the readable ones. Return the unreadable ones, and of the others the CRC-32,
        the largest value and the number of images whose largest value is 1.
        """
        bad: list[tuple[int, str]] = []
        crc, start, highest, dark = 0, 0, 0, 0
        decode = partial(decode_files, image_format=image_format)
        for pixels, errors in self._map(decode, files, task_size(image_format)):
            bad += [(start + i, why) for i, why in errors.items()]
            self._unreadable(files, bad)
            good = np.delete(pixels, list(errors), axis=0) if errors else pixels
            crc = zlib.crc32(good.reshape(-1).data, crc)
            if len(good):
                largest = good.max((1, 2, 3))
                highest, dark = max(highest, int(largest.max())), dark + int((largest == 1).sum())
                if append is not None:
                    append(good)
            start += len(pixels)
        if len(bad) == len(files):
            raise DataError(f"{files[0]}: {bad[0][1]}; none of {counted(len(files), 'files')} can be read")
        return {"bad": bad, "crc": crc, "highest": highest, "dark": dark}

    def _unreadable(self, files: list[str], bad: Sequence[Sequence[Any]]) -> list[str]:
        """Return a note on unreadable files; DataError if there are too many."""
        if not bad:
            return []
        first = f"{files[bad[0][0]]}: {bad[0][1]}"
        if len(bad) > self.max_bad:
            limit = f"data.max_bad={self.max_bad} of {len(files)} files may be unreadable"
            raise DataError(f"{first}; {limit}, and there are more")
        return [f"Attention: {len(bad)} of {len(files):,} files cannot be read, left out; the first: {first}"]

    def _key(self, what: str, **more: Any) -> dict[str, Any]:
        return {"images": what, "version": VERSION, "trees": [tree.digest() for tree in self.trees], **more}

    def _computed_once(self, key: Mapping[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the values under a key of the cache, computed and stored if missing."""
        if self.cache is False:
            return compute()

        def write(writer: caches.Writer) -> None:
            writer.values = compute()

        try:
            return caches.cached(key, self.folder, write).values
        except caches.CacheError:
            return compute()

    def _too_large(self, size: int) -> str:
        """Return why so many bytes are not cached by default; empty if they are."""
        folder = Path(self.folder).expanduser().absolute()
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if size <= free / 2:
            return ""
        return f"a cache of {size / 2**30:,.1f} GB would take more than half of the {free / 2**30:,.1f} GB free there"

    def _map(self, function: Callable[[Sequence[str]], Any], files: Sequence[str], step: int) -> Iterator[Any]:
        """Apply a function to `step` files at a time, with a progress bar if there are many."""
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        quiet = len(files) < MANY or not console.is_terminal
        results = self.pool.map(function, (files[i : i + step] for i in range(0, len(files), step)))
        total = math.ceil(len(files) / step)
        yield from track(results, "reading images", total, console=console, transient=True, disable=quiet)


def _without(count: int, bad: Sequence[Sequence[Any]]) -> list[int]:
    unreadable = {i for i, _ in bad}
    return [i for i in range(count) if i not in unreadable]
