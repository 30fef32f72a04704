"""Checks of files and folders before they are read, and opening of text files, gzipped or not."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from autoenc import memory
from autoenc.errors import DataError, one_line

UTF_8 = re.compile("utf[-_]?8([-_ ]?(sig|bom))?", re.IGNORECASE)
MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),  # begins like that of UTF-16
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}
RATIO, SMALL = 500, 2**28  # data are packed to a hundredth at most; files made to fill a memory to a thousandth


def check_file(path: Path) -> bytes:
    """Return the first bytes of a file; DataError unless it exists, can be opened and is not empty."""
    if not path.is_file():
        other = "is a folder, not a file" if path.is_dir() else "is a pipe or a device, not a file"
        raise DataError(f"{path}: {other if path.exists() else 'no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    if not start:
        raise DataError(f"{path}: is empty")
    return start


def check_folder(path: Path) -> None:
    """Raise DataError unless a folder exists."""
    if not path.is_dir():
        raise DataError(f"{path}: {'is a file, not a folder' if path.exists() else 'no such folder'}")


def check_unpacked(path: Path, size: int) -> None:
    """Raise DataError if the contents of a packed file, so many bytes or cells, are far more than data are."""
    if size > max(SMALL, RATIO * path.stat().st_size):
        raise DataError(
            f"{path}: unpacks to more than {RATIO} times its size, {size:,} bytes or more; store it unpacked"
        )


def check_contents(path: Path, size: int) -> None:
    """Raise DataError if the contents of a packed file, so many bytes that are read at once, are far more than data
    are, or than the memory."""
    check_unpacked(path, size)
    memory.check_file(path, size)


def check_members(path: Path, names: Collection[str] | None = None) -> None:
    """Raise DataError if the members of a zip archive are far larger than the file, or than the memory.

    Args:
        names: of the members to read, without .npy; all by default.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        check_contents(
            path, sum(m.file_size for m in members if names is None or m.filename.removesuffix(".npy") in names)
        )


@contextmanager
def decoding(path: Path, encoding: str | None = None) -> Iterator[None]:
    """Convert the errors of a text file that is damaged, or in another encoding, to DataError.

    Args:
        encoding: data.encoding; None: UTF-8, where this is no option.
    """
    try:
        yield
    except UnicodeError as error:
        remedy = "data.encoding=latin-1 can decode every file" if encoding else "convert it to UTF-8"
        raise DataError(f"{path}: is not {encoding or 'utf-8'} ({one_line(error)}); {remedy}") from None
    except LookupError:
        raise DataError(f"data.encoding={encoding}: no such encoding") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None


class _Unpacked(gzip.GzipFile):
    """A gzipped file, which is read no further than data are packed."""

    def read1(self, size: int = -1) -> bytes:
        found = super().read1(size)
        check_unpacked(Path(self.name), self.tell())
        return found


def packed(path: Path) -> bool:
    """Whether the name of a file says that it is gzipped."""
    return path.suffix.lower() == ".gz"


def unpacked(path: Path) -> bytes:
    """Return the bytes of a file, gzipped or not."""
    if not packed(path):
        return path.read_bytes()
    parts: list[bytes] = []
    with _Unpacked(path) as file:
        while part := file.read1(2**20):
            memory.check_file(path, 2 * file.tell())  # the parts and the whole
            parts.append(part)
    return b"".join(parts)


def opened(path: Path, encoding: str = "utf-8") -> IO[str]:
    """Open a text file, gzipped or not, in the encoding that `encoding_of` returns; see `decoding`."""
    with _Unpacked(path) if packed(path) else open(path, "rb") as file:
        start = file.read(4096)
    name = encoding_of(start, encoding)
    if name == "utf-8-sig" and b"\0" in start:
        wide = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        raise DataError(f"{path}: has NUL bytes: not a text file, or in UTF-16: data.encoding={wide}")
    return io.TextIOWrapper(_Unpacked(path) if packed(path) else open(path, "rb"), name, newline="")


def encoding_of(start: bytes, encoding: str) -> str:
    """Return the encoding of a text file; a byte order mark decides between UTF-8, UTF-16 and UTF-32.

    Args:
        start: first bytes of the file. encoding: as the user names it.

    Raises:
        LookupError: there is no such encoding.
    """
    if not UTF_8.fullmatch(encoding):
        return codecs.lookup(encoding).name
    return next((name for name, marks in MARKS.items() if start.startswith(marks)), "utf-8-sig")


def overlap(one: Path, other: Path) -> bool:
    """Whether two paths are the same, or one lies in the other."""
    one, other = (path.expanduser().resolve() for path in (one, other))
    return one == other or one in other.parents or other in one.parents


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or was added by macOS."""
    return name.startswith((".", "__MACOSX"))
