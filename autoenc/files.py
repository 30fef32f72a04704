"""Writing of files, atomically and never through links; bounded reading of files that others may have written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from autoenc.errors import ConfigError, DataError, one_line

LIMIT = 64 * 2**20  # bytes of a text file in a run directory
DEPTH = 50  # of nested brackets
TEMPORARY = re.compile(r"\..*\.[a-z0-9_]{8}", re.DOTALL)  # names of the temporary files of `atomic`
NAME_BYTES = 200  # of a name to which something is added; file systems accept 255
CACHE_FOLDER = "outputs/.cache"  # the default of data.cache_folder
CACHE_TAG = "CACHEDIR.TAG"  # marks a folder as a cache, see bford.info/cachedir


def shortened(name: str) -> str:
    """Return the first characters of the name of a file, as many as have at most `NAME_BYTES` bytes."""
    return os.fsencode(name)[:NAME_BYTES].decode(errors="ignore")


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` only once it is completely on disk.

    After a kill or an error, the previous file is intact; errors leave no temporary file. A link at `path` is replaced,
    not followed.
    """
    temporary = path.parent / f".{shortened(path.name)}.{secrets.token_hex(4)}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def append(path: Path, anew: bool = False) -> IO[str]:
    """Open a text file for appending; DataError if it is a link or no regular file: its target may be any file.

    Args:
        anew: empty it first.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = open(os.open(path, flags, 0o666), "a", encoding="utf-8")  # noqa: SIM115, closed by the caller
        status = os.fstat(file.fileno())
    except OSError as error:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise DataError(f"{path}: is a link or a special file, which is not written to; delete it") from None
        raise error
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        file.close()
        raise DataError(f"{path}: is a special file or has several names (hard links); replace it by a copy")
    if anew:
        file.truncate(0)
    return file


def check_inside(folder: Path, links: bool = False) -> None:
    """Raise DataError if a run directory contains links or special files: writing could reach outside.

    Called before anything is written into a directory that may come from another person.

    Args:
        links: accept links to regular files and folders, which is enough for reading.
    """
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(parent, name)
            try:
                mode = os.stat(path, follow_symlinks=links).st_mode
            except OSError:  # a link to nothing; a file that was deleted meanwhile
                if links or not os.path.lexists(path):
                    continue
                raise
            if stat.S_ISLNK(mode):
                raise DataError(f"{path}: is a link; a run is written to only if it has no links: replace it by a copy")
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise DataError(f"{path}: is neither a file nor a folder; delete it")


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold a run directory for this process alone; its threads and nested calls share the lock.

    The operating system releases it when the process ends, however it ends.

    Raises:
        ConfigError: another process holds it. DataError: it cannot be written to.
    """
    from filelock import FileLock, Timeout  # not needed by `--help`

    lock = FileLock(run_dir / ".lock", is_singleton=True, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError("run directory", run_dir, "is in use by another process") from None
    except OSError as error:
        raise DataError(f"{run_dir}: cannot be locked ({error.strerror or one_line(error)})") from None
    try:
        yield
    finally:
        lock.release()


def remove_temporary(*folders: Path) -> None:
    """Delete the temporary files of processes that were killed."""
    for folder in folders:
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.iterdir():
                if TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    path.unlink(missing_ok=True)


def read_text(path: Path, limit: int = LIMIT) -> str:
    """Return the contents of a text file; ValueError if it is no regular file or larger than `limit` bytes."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # opening a FIFO would wait for a writer
        status = os.fstat(file.fileno())
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{path}: is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is no regular file")
        if status.st_size > limit:
            raise ValueError(f"has {status.st_size:,} bytes, more than {limit:,}")
        return file.read(limit + 1).decode()


def read_json(path: Path, limit: int = LIMIT) -> Any:
    """Return the value in a JSON file; ValueError or OSError if it is damaged, too large or too deeply nested."""
    try:
        return json.loads(read_text(path, limit))
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None


def plain_yaml(text: str) -> Any:
    """Return the value of a YAML text; ValueError if it is damaged, too deeply nested or has aliases.

    Aliases can expand to more than fits into memory; no file of a run has any.
    """
    import yaml

    depth, loader = 0, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("has aliases (*name), which are not allowed")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise ValueError("brackets are nested too deeply")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(one_line(error)) from None


def check_zip(path: Path, limit: int, stored: bool = False) -> None:
    """Raise ValueError if the members of a zip archive are larger than `limit` bytes in all.

    Args:
        stored: members must not be compressed, and must have their checksums, which torch does not compare.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > limit:
            raise ValueError(f"its members have more than {limit:,} bytes")
        if stored and any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("has compressed members")
        if stored and (damaged := archive.testzip()) is not None:
            raise ValueError(f"{damaged} does not have its checksum")


def mark_cache(folder: Path) -> None:
    """Create a folder and mark it as a cache."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / CACHE_TAG).exists():
        write_text(folder / CACHE_TAG, "Signature: 8a477f597d28d172789f06886806bc55\n# autoenc: may be deleted\n")


def is_cache(folder: str | Path) -> bool:
    """Whether a folder was marked as a cache."""
    return (Path(folder).expanduser() / CACHE_TAG).is_file()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write an indented JSON file atomically; NaN and infinity become null."""
    write_text(path, json.dumps(finite(value), indent=2) + "\n")


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None; strict JSON readers reject them."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
