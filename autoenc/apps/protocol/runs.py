"""Lists and removes run directories."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autoenc.apps.protocol.compare import read_run, runs_in
from autoenc.errors import DataError, UserError
from autoenc.files import locked
from autoenc.metric_table import headline, label
from autoenc.training.rundir import read_record


def size(folder: Path) -> int:
    """Return the bytes of the files of a folder; links are not followed, and files may vanish, as in training."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size if path.is_symlink() or not path.is_dir() else 0
    return total


def age(seconds: float) -> str:
    """Return a time span in its largest unit: 5 min, 3 h, 12 d."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def listing(folder: str | Path) -> list[dict[str, Any]]:
    """Return the runs below a folder, the newest first: path, state, age in seconds, bytes, main test metric, error."""
    rows = []
    for run_dir in sorted(runs_in([folder]), key=lambda path: -(path / "run.json").stat().st_mtime):
        row, changed = read_run(run_dir), (run_dir / "run.json").stat().st_mtime
        shown = headline(row.numbers) if row.state == "finished" and row.numbers else ""
        test = {shown: row.numbers[shown]} if shown in row.numbers else {}
        facts = {"run": str(run_dir), "state": row.state, "age_seconds": time.time() - changed, "bytes": size(run_dir)}
        rows.append({**facts, "test": test, "error": row.error})
    return rows


def described(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return a listing for people: path -> state, age, size and main test metric or error."""
    return {
        row["run"]: {
            "state": row["state"],
            "age": age(row["age_seconds"]),
            "size": f"{row['bytes'] / 1e6:,.1f} MB",
            "test": "".join(f"{label(name)} {value:.4g}" for name, value in row["test"].items()) or row["error"][:60],
        }
        for row in rows
    }


def check_removable(paths: Sequence[str | Path]) -> list[Path]:
    """Return the paths, each once; UserError if one is no run directory, is a link, or is in use."""
    found = []
    for path in dict.fromkeys(map(Path, paths)):
        if path.is_symlink():
            raise UserError(f"--remove {path}: is a link; name the run directory")
        if not path.is_dir() or not (path / "run.json").is_file():
            raise UserError(f"--remove {path}: is not a run directory (it has no run.json)")
        if Path.cwd().is_relative_to(path.resolve()):
            raise UserError(f"--remove {path}: is the working directory")
        read_record(path)
        try:
            with locked(path):
                found.append(path)
        except UserError:
            raise UserError(f"--remove {path}: is in use by another process") from None
    return found


def remove(paths: Sequence[Path]) -> None:
    """Remove run directories. Links in them are removed, what they point to is not."""
    for path in paths:
        try:
            shutil.rmtree(path)
        except OSError as error:
            raise DataError(f"{error.filename or path}: cannot be removed ({error.strerror})") from None
