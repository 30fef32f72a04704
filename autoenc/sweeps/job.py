"""One job: a config that Hydra has composed becomes a run."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from autoenc.config import checks, schema
from autoenc.errors import failure
from autoenc.metric_table import metric
from autoenc.sweeps import folders
from autoenc.text import printable


def train(cfg: DictConfig, run_dir: Path, resume: bool = False) -> float:
    """Train or resume a run and return its `value`."""
    config = checked(cfg)
    from autoenc import run

    summary = run.resume(run_dir) if resume else run.train(config, run_dir, choices())
    return value(summary, config["trainer"]["monitor"])


def attempt(cfg: DictConfig, run_dir: Path) -> float:
    """Train a job of a sweep, or resume it, and return its `value`; NaN if it fails, which is noted in its folder."""
    try:
        return train(cfg, run_dir, resume=folders.interrupted(run_dir))
    except Exception as error:  # the sweep continues; its table lists failed jobs
        note_error(run_dir, error)
        return float("nan")


def checked(cfg: DictConfig) -> dict[str, Any]:
    """Return the checked config of a run that this process was called for."""
    config = checks.check(cfg)
    checks.check_terms(config["regularizer"], HydraConfig.get().overrides.task)
    checks.check_files(config["data"])
    return config


def choices() -> dict[str, str]:
    """Return the options of the config groups."""
    groups = HydraConfig.get().runtime.choices
    return {k: str(v) for k, v in groups.items() if k in schema.GROUPS and v is not None}


def value(summary: dict[str, Any], monitor: str) -> float:
    """Return what a sweeper that minimizes needs: the validation value of a metric, negated if higher is better."""
    found = summary["val"].get(monitor)  # null if it was not finite
    return metric(monitor).sign * float("nan" if found is None else found)


def note_failure(run_dir: Path, message: str) -> None:
    """Print why a job has failed, and write it into its folder."""
    folders.note_failure(run_dir, message)
    print(printable(f"{run_dir.name}: {message}"), file=sys.stderr)


def note_error(run_dir: Path, error: BaseException) -> None:
    """Note the error that a job has failed with; print the traceback of one that nobody expected."""
    text, known = failure(error)
    note_failure(run_dir, text)
    if not known:
        traceback.print_exception(error)
