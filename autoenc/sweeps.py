"""Sweeps that were stopped: what is finished is kept, what was interrupted resumes, and what is missing is trained."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from autoenc.errors import ConfigError, DataError
from autoenc.files import check_inside, plain_yaml, read_json, read_text

STORED = "multirun.yaml"  # Hydra writes it before the first job
KEPT = ("hydra.sweep.subdir=", "hydra/launcher=", "hydra.launcher.n_jobs=")  # settings of Hydra that a sweep keeps
PARALLEL = ("hydra/launcher=", "hydra.launcher.n_jobs=")  # those that may change when it resumes


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (folder / STORED).is_file()


def arguments(folder: Path, others: list[str]) -> list[str]:
    """Return the command line that continues a sweep.

    Args:
        others: settings of the launcher, which may differ from before.

    Raises:
        ConfigError: another setting would change. DataError: the stored command line is damaged.
    """
    if wrong := [other for other in others if not other.startswith(PARALLEL)]:
        why = f"a sweep resumes with its own settings, of which only hydra/launcher may change; leave out {wrong[0]}"
        raise ConfigError("resume", folder, why)
    check_inside(folder)
    try:
        overrides = plain_yaml(read_text(folder / STORED))["hydra"]["overrides"]
        task, own = ([str(text) for text in overrides[part]] for part in ("task", "hydra"))
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{folder / STORED}: is damaged: it has no hydra.overrides.task") from None
    kept = [text for text in own if text.startswith(KEPT) and ".." not in text and "=/" not in text]
    if any(text.startswith(("hydra", "+hydra", "++hydra", "-", "resume=")) for text in task):
        raise DataError(f"{folder / STORED}: hydra.overrides.task has settings that are not of a run")
    if others:
        kept = [text for text in kept if not text.startswith(PARALLEL)]
    return ["-m", *task, *kept, *others, f"hydra.sweep.dir={folder}"]


def check_jobs(folder: Path, jobs: list[list[str]]) -> None:
    """Refuse a sweep whose folders hold other jobs than its command line has.

    Raises:
        ConfigError: the first job that differs.
    """
    for path in sorted(folder.glob("*/.hydra/overrides.yaml")):
        number = path.parts[-3].partition("_")[0]
        if number.isdigit():
            stored = [str(text) for text in plain_yaml(read_text(path)) or []]
            if int(number) >= len(jobs) or stored != jobs[int(number)]:
                why = f"{path.parts[-3]} was trained with {' '.join(stored)}, which is not job {number} of {STORED}"
                raise ConfigError("resume", folder, why)


def earlier(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a job that is finished; None if it must be trained."""
    try:
        if read_json(run_dir / "run.json")["state"] == "finished":
            return read_json(run_dir / "summary.json")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def interrupted(run_dir: Path) -> bool:
    """Return whether a job has a checkpoint to resume from; remove what a job without one has left."""
    if (run_dir / "checkpoints" / "last.pt").exists() and (run_dir / "config.yaml").exists():
        return True
    for path in run_dir.iterdir():
        if path.name in (".hydra", ".lock"):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return False


def remaining(trained: list[float], left: int, run_dir: Path) -> str:
    """Return how long the other jobs take and what they write, from the seconds of trained ones and the last run."""
    seconds = left * sum(trained) / len(trained)
    time = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{math.ceil(seconds)} s"
    size = sum(path.stat().st_size for path in run_dir.rglob("*") if path.is_file())
    return f"{left} more, about {time} and {math.ceil(left * size / 1e6)} MB if they are like the {len(trained)} before"
