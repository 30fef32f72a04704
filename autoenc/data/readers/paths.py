"""Checks of files and folders before they are read."""

from __future__ import annotations

from pathlib import Path

from autoenc.errors import DataError, one_line


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
