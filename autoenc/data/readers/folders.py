"""Trees of image files: their paths, and the splits and classes that folders stand for."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from autoenc.data.readers.images import SUFFIXES
from autoenc.data.readers.paths import check_folder, is_hidden, overlap
from autoenc.errors import ConfigError, DataError, require

PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Tree:
    """The image files below a folder, in the order of their relative paths.

    names: relative paths. stamps: size and time of modification (ns) of each.
    """

    root: Path
    names: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]

    @property
    def files(self) -> list[str]:
        """Full paths."""
        return [os.path.join(self.root, name) for name in self.names]

    def labels(self) -> list[str] | None:
        """Return the class of each file, its first folder; None if any file is outside such folders."""
        folders = [name.split(os.sep, 1) for name in self.names]
        return None if any(len(parts) == 1 for parts in folders) else [parts[0] for parts in folders]

    def digest(self) -> str:
        """Return a checksum of the paths, sizes and times of all files."""
        sha = hashlib.sha256(os.fsencode(self.root.resolve()))
        for name, (size, written) in zip(self.names, self.stamps, strict=True):
            sha.update(os.fsencode(name) + f"\0{size}\0{written}\n".encode())
        return sha.hexdigest()


def tree(root: Path, recursive: bool = True) -> Tree:
    """List the image files below a folder, or in it; links are followed, no folder twice.

    Hidden files and what macOS adds (`._*`, `__MACOSX`) are left out.

    Raises:
        DataError: no such folder, no images in it, or it cannot be read.
    """
    check_folder(root)
    images: list[tuple[str, int, int]] = []
    others = 0
    with _readable(root):
        for folder, names in _walk(root, recursive):
            for name in names:
                path = os.path.join(folder, name)
                if name.lower().endswith(SUFFIXES) and not is_hidden(name) and os.path.exists(path):
                    status = os.stat(path)
                    images.append((os.path.relpath(path, root), status.st_size, status.st_mtime_ns))
                else:
                    others += not is_hidden(name)
    if not images:
        why = f"; the {others} files in it have other suffixes" if others else ""
        raise DataError(f"{root}: has no images ({', '.join(SUFFIXES)}){why}")
    images.sort()
    return Tree(root, tuple(image[0] for image in images), tuple(image[1:] for image in images))


def check(root: Path) -> None:
    """Raise DataError unless there is an image below a folder; stops at the first."""
    check_folder(root)
    with _readable(root):
        found = any(name.lower().endswith(SUFFIXES) for _, names in _walk(root) for name in names)
    if not found:
        tree(root)  # names what there is instead


def _walk(root: Path, recursive: bool = True) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder that is not hidden, and the names of its files; links are followed, no folder twice."""
    entered = {_identity(root)}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_raise):
        yield folder, names
        below = {name: os.path.join(folder, name) for name in sorted(folders) if not is_hidden(name)}
        folders.clear()
        for name in sorted(below, key=lambda name: os.path.islink(below[name])) if recursive else ():
            # Links are last, so that a class has the name of the folder.
            if (identity := _identity(below[name])) not in entered:
                entered.add(identity)
                folders.append(name)


@contextlib.contextmanager
def _readable(root: Path) -> Iterator[None]:
    """Raise DataError for a folder or a file that cannot be read."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({os.strerror(error.errno or 0)})") from None


def _identity(path: str | Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> None:
    raise error


def parts(path: str, test_path: str | None) -> tuple[dict[str, Path], list[str]]:
    """Return the folder of each split (train, val, test) that exists, and the names of other folders beside train/.

    Without train/, the folder itself is "train". A test_path is "test".
    """
    root = Path(path).expanduser()
    below = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()} if root.is_dir() else {}
    splits = {
        part: next(below[name] for name in names if name in below)
        for part, names in PARTS.items()
        if any(name in below for name in names)
    }
    beside: list[str] = []
    if "train" in splits:
        beside = sorted(p.name for p in below.values() if p not in splits.values() and not is_hidden(p.name))
    elif splits:
        other = next(iter(splits.values()))
        raise DataError(f"{path}: has {other.name}/, but no train/; move the folders of the training images into it")
    else:
        splits = {"train": root}
    if test_path is not None:
        require("test" not in splits, "test_path", test_path, f"{path} already has test images ({splits.get('test')})")
        splits["test"] = Path(test_path).expanduser()
        if overlap(splits["train"], splits["test"]):
            raise ConfigError("test_path", test_path, f"has images that are trained on: {splits['train']}")
    return splits, beside
