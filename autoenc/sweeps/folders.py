"""The directories of the jobs of a sweep: which are finished, which can resume, which have failed."""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from autoenc.config.schema import short_name
from autoenc.errors import ConfigError, UserError
from autoenc.files import locked, read_json, write_json


def prepare(folder: Path, number: int, overrides: list[str]) -> Path:
    """Make the folder of a job, with its overrides, and return it."""
    run_dir = folder / f"{number}_{short_name(overrides)}"
    write_overrides(run_dir, overrides)
    return run_dir


def write_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Write the overrides of a run as Hydra does."""
    (run_dir / ".hydra").mkdir(parents=True, exist_ok=True)
    (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


def number_of(name: str) -> int | None:
    """Return the number of the job whose folder has this name."""
    number = name.partition("_")[0]
    return int(number) if re.fullmatch(r"\d{1,9}", number, re.ASCII) else None


def check_place(run_dir: Path, sweep_dir: Path) -> None:
    """Refuse a job that is not in a folder of its own below the sweep.

    Raises:
        ConfigError: it would write, and when it resumes delete, elsewhere.
    """
    inside, outside = run_dir.resolve(), sweep_dir.resolve()
    if inside == outside or not inside.is_relative_to(outside):
        raise ConfigError("hydra.sweep.subdir", run_dir, f"must be a folder below {sweep_dir}")


def earlier(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a job that is finished; None if it must be trained."""
    if state_of(run_dir / "run.json") != "finished":
        return None
    try:
        return read_json(run_dir / "summary.json")
    except (OSError, ValueError):
        return None


def state_of(record: Path) -> str:
    """Return the state that the run.json of a job names, or an empty text."""
    try:
        return str(read_json(record)["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def note_failure(run_dir: Path, message: str) -> None:
    """Write into run.json that a job has failed, unless it has ended otherwise."""
    path = run_dir / "run.json"
    run_dir.mkdir(parents=True, exist_ok=True)
    if state_of(path) in ("", "running", "interrupted"):
        record = read_json(path) if state_of(path) else {}
        write_json(path, record | {"state": "failed", "error": message})


def settle(folder: Path, jobs: list[list[str]], patience: float, failed: Callable[[Path, str], None]) -> None:
    """Leave no job of a sweep that has ended running, and a folder for each that was never started.

    Args:
        patience: seconds that jobs get which another process still writes a checkpoint for.
        failed: called with the folder and the reason of a job whose process was killed.
    """
    wait_until = time.monotonic() + patience
    for record in folder.glob("*/run.json"):
        while state_of(record) == "running" and time.monotonic() < wait_until:
            with contextlib.suppress(UserError), locked(record.parent):  # free: nobody trains there any more
                if state_of(record) == "running":
                    failed(record.parent, "killed by signal 9")
            time.sleep(0.05)
    started = {number_of(path.name) for path in folder.iterdir() if path.is_dir()}
    for number, overrides in enumerate(jobs):
        if number not in started:
            prepare(folder, number, overrides)


def interrupted(run_dir: Path) -> bool:
    """Return whether a job has a checkpoint to resume from; remove what a job without one has left.

    Raises:
        DataError: the folder has files, but none of a run.
    """
    if (run_dir / "checkpoints" / "last.pt").exists() and (run_dir / "config.yaml").exists():
        return True
    from autoenc.training.rundir import clear

    clear(run_dir)
    return False


def missing(folder: Path, total: int) -> list[int]:
    """Return the numbers of the jobs of a sweep that are not finished."""
    done = {number_of(path.parent.name) for path in folder.glob("*/run.json") if earlier(path.parent) is not None}
    return [number for number in range(total) if number not in done]


def seconds_of(run_dir: Path) -> float:
    """Return how long a job has trained; NaN: not known."""
    try:
        return float(read_json(run_dir / "summary.json")["perf"]["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan
