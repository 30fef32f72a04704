"""Trees of picture files: which there are, and what the folders say of them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from autoenc.data.readers.images import SUFFIXES
from autoenc.errors import ConfigError, DataError, require

PARTS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Tree:
    """The picture files below a folder, in the order of their relative paths.

    names: relative paths. stamps: size and time of writing (ns) of each. others: files of other kinds, left alone.
    """

    root: Path
    names: tuple[str, ...]
    stamps: tuple[tuple[int, int], ...]
    others: int

    @property
    def files(self) -> list[str]:
        """Full paths."""
        return [os.path.join(self.root, name) for name in self.names]

    def labels(self) -> list[str] | None:
        """The class of each file, its first folder; None where files lie outside of such folders."""
        folders = [name.split(os.sep, 1) for name in self.names]
        return None if any(len(parts) == 1 for parts in folders) else [parts[0] for parts in folders]

    @property
    def has_folders(self) -> bool:
        """Whether some files lie in folders."""
        return any(os.sep in name for name in self.names)

    def digest(self) -> str:
        """What changes when a file comes, goes, or is written to."""
        sha = hashlib.sha256(os.fsencode(self.root.resolve()))
        for name, (size, written) in zip(self.names, self.stamps, strict=True):
            sha.update(os.fsencode(name) + f"\0{size}\0{written}\n".encode())
        return sha.hexdigest()


def tree(root: Path) -> Tree:
    """All picture files below a folder. Hidden ones are left out, and no folder is entered twice, whatever the links.

    Raises:
        DataError: no such folder, no pictures in it, or it cannot be read.
    """
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: is a file, not a folder of pictures")
    found: list[tuple[str, int, int]] = []
    others = 0
    status = root.stat()
    entered = {(status.st_dev, status.st_ino)}
    waiting = [str(root)]
    try:
        while waiting:
            folder = waiting.pop()
            # Real folders before links to them, so that a class has the name of the folder.
            for entry in sorted(os.scandir(folder), key=lambda e: (e.is_symlink(), e.name)):
                if entry.name.startswith("."):
                    continue
                try:
                    status = entry.stat()
                except FileNotFoundError:  # a link to nothing
                    others += 1
                    continue
                if entry.is_dir():
                    if (status.st_dev, status.st_ino) not in entered:
                        entered.add((status.st_dev, status.st_ino))
                        waiting.append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    found.append((os.path.relpath(entry.path, root), status.st_size, status.st_mtime_ns))
                else:
                    others += 1
    except OSError as error:
        raise DataError(f"{error.filename or root}: cannot be read ({os.strerror(error.errno or 0)})") from None
    if not found:
        what = f"; the {others} files in it are of other kinds" if others else ""
        raise DataError(f"{root}: has no pictures ({', '.join(SUFFIXES)}){what}")
    found.sort()
    return Tree(root, tuple(f[0] for f in found), tuple(f[1:] for f in found), others)


def parts(path: str, test_path: str | None) -> tuple[dict[str, Path], list[str]]:
    """The folders of the splits, and what else lies beside them.

    {"train": ..., "val": ..., "test": ...} as far as there are such sub-folders; without train/, the folder itself is
    "train". A test_path is "test".
    """
    root = Path(path).expanduser()
    below = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()} if root.is_dir() else {}
    found = {
        part: next(below[name] for name in names if name in below)
        for part, names in PARTS.items()
        if any(name in below for name in names)
    }
    beside: list[str] = []
    if "train" in found:
        beside = sorted(p.name for p in below.values() if p not in found.values() and not p.name.startswith("."))
    else:
        found = {"train": root}
    if test_path is not None:
        require("test" not in found, "test_path", test_path, f"{path} has test pictures already ({found.get('test')})")
        found["test"] = Path(test_path).expanduser()
        if found["test"].resolve() == found["train"].resolve():
            raise ConfigError("test_path", test_path, "is the folder of the training pictures")
    return found, beside
