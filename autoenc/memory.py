"""The memory of this machine, and refusal of what does not fit into it before it is read or drawn."""

from __future__ import annotations

import functools
import math
import os
from contextlib import suppress
from pathlib import Path

from autoenc.errors import ConfigError, DataError

LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of containers


@functools.cache
def total() -> float:
    """Return the bytes of memory of this machine or container; infinity where the system does not say."""
    found = [math.inf]
    with suppress(AttributeError, OSError, ValueError):  # not on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in LIMITS:
        with suppress(OSError, ValueError):  # there is none, or it is max
            found.append(int(Path(path).read_text()))
    return min(found)


def check_options(size: float, /, **options: float) -> None:
    """Raise ConfigError, which names the largest of the options, unless data of so many bytes fit into memory."""
    if why := excess(size):
        key = max(options, key=options.__getitem__)
        raise ConfigError(key, options[key], f"must be smaller: {why}")


def check_file(path: Path, size: float) -> None:
    """Raise DataError unless the contents of a file, so many bytes, fit into memory."""
    if why := excess(size):
        raise DataError(f"{path}: {why}; store fewer rows or columns")


def excess(size: float) -> str:
    """Return why so many bytes do not fit into memory; empty if they do."""
    if size <= total():
        return ""
    return f"needs {size / 2**30:,.0f} GB of memory, of which this machine has {total() / 2**30:,.0f}"
