"""Run directories: the lock, the log, run.json, and reading them."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import errno
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout

from autoenc.data import kinds
from autoenc.data.dataset import Data, DataSpec
from autoenc.errors import ConfigError, DataError, UserError, one_line
from autoenc.files import flat, write_json

FORMAT = 1  # version of the run directory, increased if older runs cannot be read


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Lock the run directory for this process. The lock ends with the process."""
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError("run directory", run_dir, "is in use by another process") from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def logged(run_dir: Path) -> Iterator[None]:
    """Write the lines of the console to train.log, with times."""
    handler = logging.FileHandler(run_dir / "train.log", encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("autoenc")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # Hydra's handler would print each line again
    try:
        yield
    finally:
        log.propagate = True
        log.removeHandler(handler)
        handler.close()


@contextlib.contextmanager
def disk_errors(run_dir: Path) -> Iterator[None]:
    """Convert the errors of a full disk to UserError."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    try:
        yield
    except OSError as error:
        if error.errno in full:
            raise UserError(
                f"{run_dir}: {os.strerror(error.errno or 0)}; the files written before are complete"
            ) from None
        raise
    except RuntimeError as error:  # of torch.save
        if isinstance(error.__context__, OSError) and error.__context__.errno in full:
            raise UserError(f"{run_dir}: {os.strerror(error.__context__.errno or 0)}") from None
        raise


class Record:
    """Writer of run.json."""

    def __init__(
        self,
        run_dir: Path,
        config: Mapping[str, Any],
        choices: Mapping[str, str],
        data: Data,
        device: torch.device,
        resumed: bool,
    ):
        self.path = run_dir / "run.json"
        started = _now()
        if resumed:
            with contextlib.suppress(OSError, ValueError, KeyError):
                started = json.loads(self.path.read_text())["started"]
        self.values = {
            "format": FORMAT,
            "state": "running",
            "started": started,
            "command": sys.argv,
            "choices": dict(choices),
            "seed": config["seed"],
            "device": str(device),
            "data": {
                "name": data.spec.name,
                "kind": data.spec.kind.name,
                "shape": list(data.spec.shape),
                "classes": list(data.spec.classes),
                "anomalies": list(data.spec.anomalies),
            }
            | {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
            "versions": {"python": platform.python_version()}
            | {p: importlib.metadata.version(p) for p in ("autoenc", "torch", "torchvision", "hydra-core")},
            "git": _git_revision(),
        }

    def write(self, state: str, error: str | None = None) -> None:
        """Write run.json with the state of the run."""
        self.values |= {"state": state, "updated": _now()} | ({"error": error} if error else {})
        write_json(self.path, self.values)


def _now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def _git_revision() -> str | None:
    """Return the revision of the code, with `-dirty` if files were changed; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        root = Path(__file__).resolve().parent
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def read_record(run_dir: Path) -> dict[str, Any]:
    """Return run.json: state (running, finished, failed or interrupted), data, choices, versions ..."""
    path = run_dir / "run.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(record, dict) or not isinstance(record.get("state"), str):
        raise DataError(f"{path}: has no state")
    return record


def read_spec(run_dir: Path, options: Mapping[str, Any]) -> DataSpec:
    """Return the description of the data that a run was trained on.

    Args:
        options: of the data set, from config.yaml.
    """
    values = read_record(run_dir).get("data", {})
    try:
        lists = {name: tuple(values.get(name, ())) for name in ("classes", "anomalies")}
        return DataSpec(str(values["name"]), kinds.load(run_dir, values, dict(options)), **lists)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{run_dir / 'run.json'}: does not describe the data ({error})") from None


def newest_below(folder: Path) -> str:
    """Return `; the newest runs there: ...` for error messages, or an empty text."""
    try:
        below = [path for depth in range(1, 5) for path in folder.glob("/".join(["*"] * depth) + "/run.json")]
        found = sorted(below, key=lambda path: path.stat().st_mtime, reverse=True)[:3]
    except OSError:
        found = []
    names = ", ".join(str(path.parent) for path in found)
    return f"; the newest runs there: {names}" if names else ""


def check_same(run_dir: Path, state: Mapping[str, Any], text: str, fingerprint: int) -> None:
    """Raise ConfigError unless config and data are those of the checkpoint."""
    if state["config"] != text:
        old, new = (flat(yaml.safe_load(t)) for t in (state["config"], text))
        keys = [k for k in {**old, **new} if old.get(k, difflib) != new.get(k, difflib)]
        changes = ", ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in keys)
        raise ConfigError("resume", run_dir, f"config.yaml was changed since it was trained ({changes})")
    if state["data"] != fingerprint:
        raise ConfigError("resume", run_dir, "the data have changed since it was trained")
