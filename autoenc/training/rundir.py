"""Run directories: the lock, the log, run.json, and reading them."""

from __future__ import annotations

import contextlib
import datetime
import difflib
import errno
import importlib.metadata
import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
import yaml

from autoenc.data import kinds
from autoenc.data.dataset import Data, DataSpec
from autoenc.errors import ConfigError, DataError, UserError, one_line
from autoenc.files import append, check_inside, locked, read_json, remove_temporary, write_json
from autoenc.text import flat, printable
from autoenc.training.settings import LENGTH
from autoenc.training.tracking import EVENTS, PROJECTOR, RESULTS

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOENT)
_writing: ContextVar[Path] = ContextVar("writing")  # the run that logs, where several train at once
FORMAT = 1  # version of the run directory, increased if older runs cannot be read


@contextlib.contextmanager
def claimed(run_dir: Path) -> Iterator[None]:
    """Lock the run directory for this process, see `files.locked`; reject links and delete left-over files."""
    run_dir.mkdir(parents=True, exist_ok=True)
    check_inside(run_dir)
    with locked(run_dir):
        remove_temporary(run_dir, *(run_dir / name for name in ("checkpoints", "figures", "kind")))
        yield


@contextlib.contextmanager
def logged(run_dir: Path) -> Iterator[None]:
    """Write the lines of the console to train.log, with times; runs that train at once do not share lines."""
    handler = logging.StreamHandler(append(run_dir / "train.log"))
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(lambda record: _writing.get(run_dir) == run_dir)
    log = logging.getLogger("autoenc")
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # Hydra's handler would print each line again
    token = _writing.set(run_dir)
    try:
        yield
    finally:
        _writing.reset(token)
        log.removeHandler(handler)
        log.propagate = not log.handlers
        with contextlib.suppress(OSError):
            handler.stream.close()


class OneLine(logging.Formatter):
    """Formats a record as one line, whatever names of files and columns it contains."""

    def format(self, record: logging.LogRecord) -> str:
        """Escape control characters."""
        return printable(super().format(record))


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Print no trace of errors of the disk in the thread of TensorBoard, whose next flush raises them."""
    hook = threading.excepthook

    def quiet(args: threading.ExceptHookArgs) -> None:
        if not issubclass(args.exc_type, OSError):
            hook(args)

    threading.excepthook = quiet
    try:
        yield
    finally:
        threading.excepthook = hook


@contextlib.contextmanager
def disk_errors(run_dir: Path) -> Iterator[None]:
    """Convert errors of the disk to one line: full, read-only, or a folder that was deleted underneath."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save raises a RuntimeError, with the cause as its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError) or cause.errno not in DISK_ERRORS:
            raise
        if cause.errno == errno.ENOENT and run_dir.is_dir():
            raise
        raise UserError(f"{run_dir}: {os.strerror(cause.errno)}; the files written before are whole") from None


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
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                started = str(read_json(self.path)["started"])
        self.values = {
            "format": FORMAT,
            "state": "running",
            "started": started,
            "command": sys.argv,
            "directory": str(Path.cwd()),
            "choices": dict(choices),
            "seed": config["seed"],
            "device": str(device),
            "data": described(data),
            "versions": {"python": platform.python_version()}
            | {p: importlib.metadata.version(p) for p in ("autoenc", "torch", "torchvision", "hydra-core")},
            "git": _git_revision(),
        }

    def write(self, state: str, error: str | None = None) -> None:
        """Write run.json with the state of the run."""
        self.values |= {"state": state, "updated": _now()} | ({"error": error} if error else {})
        write_json(self.path, self.values)


def described(data: Data) -> dict[str, Any]:
    """Return what run.json says about a data set."""
    spec = data.spec
    facts = {"name": spec.name, "kind": spec.kind.name, "shape": list(spec.shape), "classes": list(spec.classes)}
    sizes = {"train": len(data.train), "val": len(data.val), "test": len(data.test)}
    return {**facts, "anomalies": list(spec.anomalies), **sizes}


def clear(run_dir: Path) -> None:
    """Remove what a run without a checkpoint has left; Hydra's files stay.

    Raises:
        UserError: the folder has files, but none of a run, or cannot be written to.
    """
    left = [path for path in run_dir.iterdir() if path.name not in (".hydra", ".lock")]
    if left and not any((run_dir / name).is_file() for name in ("run.json", "config.yaml", "train.log")):
        raise DataError(f"{run_dir}: has files that are not of a run, such as {left[0].name}; move them elsewhere")
    with disk_errors(run_dir), locked(run_dir):
        for path in left:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def applications(run_dir: Path) -> list[Path]:
    """Return the folders of applications in a run, which hold a summary of the same name or, `generate`, of a task."""
    folders = [path for path in sorted(run_dir.iterdir()) if path.is_dir() and path.name != kinds.FOLDER]
    return [path for path in folders if any(path.rglob("*.json" if path.name == "generate" else f"{path.name}.json"))]


def set_aside(run_dir: Path, step: int) -> str:
    """Move what scripts have made of the weights of a run that trains for longer, and return a line about it.

    Such results would stand beside numbers of other weights. Empty if there are none.
    """
    files = [run_dir / name for name in ("evaluation.json", "report.html", "projector_config.pbtxt", PROJECTOR)]
    events = list(run_dir.glob(EVENTS + RESULTS))
    found = [*applications(run_dir), *(path for path in files if path.exists()), *events]
    if not found:
        return ""
    target = run_dir / f"until_step_{step}"
    target.mkdir(exist_ok=True)
    for path in found:
        path.rename(target / path.name)
    names = ", ".join(dict.fromkeys("figures in TensorBoard" if path in events else path.name for path in found))
    return f"results of the weights until step {step:,}: {names}: moved to {target}"


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
        record = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(record, dict) or not isinstance(record.get("state"), str):
        raise DataError(f"{path}: has no state")
    if wrong := [key for key in ("data", "choices", "versions") if not isinstance(record.get(key, {}), dict)]:
        raise DataError(f"{path}: is damaged: {wrong[0]} is no object")
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


def find_run(path: str | Path, finished: bool = True) -> Path:
    """Return the run directory that a path stands for; `latest`: the newest finished run below outputs/.

    `latest:digits/vae` is the newest below outputs/digits/vae. A folder of that name takes precedence.

    Args:
        finished: false: `latest` is the newest run in any state.

    Raises:
        DataError: there is no such run.
    """
    name, _, below = str(path).partition(":")
    if name != "latest" or Path(path).exists():
        return Path(path)
    folder = Path("outputs", below)
    for record in sorted(folder.glob("**/run.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        with contextlib.suppress(DataError):
            if read_record(record.parent)["state"] == "finished" or not finished:
                return record.parent
    raise DataError(f"{path}: no {'finished ' if finished else ''}run below {folder}")


def check_run(path: Path) -> None:
    """Raise DataError if a path is no run directory, with the newest run near it."""
    if not path.exists():
        near = newest_below(path.parent) if path.parent != Path() else ""
        raise DataError(f"{path}: no such directory{near}")
    if not (path / "run.json").exists():
        raise DataError(f"{path}: is not a run directory (it has no run.json){newest_below(path)}")


def located(options: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """Return the options of a data set, with relative paths resolved against where the run was trained."""
    base = None
    with contextlib.suppress(DataError):
        base = read_record(run_dir).get("directory")
    found = dict(options)
    for key, value in options.items():
        if isinstance(base, str) and isinstance(value, str) and (key == "root" or key.endswith("path")):
            there = Path(base, value)
            if there.exists() and there.resolve() != Path(value).resolve():
                found[key] = str(there)
    return found


def newest_below(folder: Path) -> str:
    """Return `; the newest runs there: ...` for error messages, or an empty text."""
    try:
        below = [path for depth in range(1, 5) for path in folder.glob("/".join(["*"] * depth) + "/run.json")]
        found = sorted(below, key=lambda path: path.stat().st_mtime, reverse=True)[:3]
    except OSError:
        found = []
    names = ", ".join(str(path.parent) for path in found)
    return f"; the newest runs there: {names}" if names else ""


def check_same(
    run_dir: Path, state: Mapping[str, Any], text: str, fingerprint: int, checksums: Mapping[str, int]
) -> None:
    """Raise ConfigError unless config and data are those of the checkpoint, apart from the length of training."""
    old, new = (flat(yaml.safe_load(t)) for t in (state["config"], text))
    keys = [k for k in {**old, **new} if old.get(k, difflib) != new.get(k, difflib)]
    if keys := [k for k in keys if k not in LENGTH]:
        changes = ", ".join(f"{k}: {old.get(k)} -> {new.get(k)}" for k in keys)
        raise ConfigError("resume", run_dir, f"config.yaml was changed since it was trained ({changes})")
    if state["data"] != fingerprint:
        raise ConfigError("resume", run_dir, "the data have changed since it was trained")
    if changed := changed_parts(state, checksums):
        raise ConfigError("resume", run_dir, f"the {changed[0]} have changed since it was trained")


def changed_parts(state: Mapping[str, Any], checksums: Mapping[str, int]) -> list[str]:
    """Return what differs from the data of a checkpoint, by `Data.checksums`; nothing for those of earlier versions."""
    stored = state.get("checksums")
    return [name for name, value in checksums.items() if isinstance(stored, dict) and stored.get(name, value) != value]
