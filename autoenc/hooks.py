"""What Hydra calls: hooks before and after runs and sweeps, and the job.

Hydra goes on after most errors of its hooks: these end the process themselves, after one line.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import shutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from autoenc.errors import UserError
from autoenc.files import locked
from autoenc.forked import Sweep
from autoenc.sweeps.job import train
from autoenc.sweeps.running import Refused, sweep
from autoenc.text import printable

DONE, WRONG, FAILED = 0, 2, 1  # exit codes
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)


def say(text: str, code: int) -> int:
    """Print a line to stderr and return the exit code."""
    print(printable(text), file=sys.stderr)
    return code


class Callbacks(Callback):
    """Hooks that Hydra calls before and after runs, and the state of this process."""

    created: ClassVar[list[Path]] = []  # folders that this process made, the deepest first
    held: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()  # the lock of a single run
    error: ClassVar[Exception | None] = None  # of a single run; Hydra would print more lines

    def __init__(self, together: bool = False) -> None:
        sweep.together = together

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the run directory before Hydra writes into it; reject one that is not empty."""
        HydraConfig.instance().set_config(config)  # the name of the directory interpolates from it
        run_dir = Path(config.hydra.run.dir)
        _create("hydra.run.dir", run_dir)
        with _refusals():
            Callbacks.held.enter_context(locked(run_dir))
        _refuse_used("hydra.run.dir", run_dir)  # another process may have finished between the check and the lock

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the sweep directory; reject one that is not empty, or that holds other jobs if it resumes."""
        HydraConfig.instance().set_config(config)
        with contextlib.suppress(HydraException):  # the sweeper will report it
            overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            sweep.jobs = BasicSweeper.split_arguments(overrides, None)[0]
            if not sweep.jobs:
                raise SystemExit(say(f"{' '.join(config.hydra.overrides.task)}: a sweep without jobs", WRONG))
        sweep.folder = Path(config.hydra.sweep.dir)
        if not sweep.resumed:
            _create("hydra.sweep.dir", sweep.folder)
        with _refusals():
            Callbacks.held.enter_context(locked(sweep.folder))
            try:
                sweep.start(config.hydra.launcher)
            except UserError:
                if not sweep.resumed:
                    remove(sweep.folder)
                raise
        gc.freeze()  # what is there stays, so that collections take milliseconds
        atexit.register(gc.unfreeze)  # otherwise libraries report leaks

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Drop the configs of a job, which a sweep would keep to its end: 0.1 MB each."""
        job_return.cfg = job_return.hydra_cfg = None
        if config.hydra.mode == RunMode.MULTIRUN:
            gc.collect()  # configs have cycles: 6 MB gather until Python collects them

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table, CSV and plot of a sweep."""
        if Sweep.stopped is not None:
            return  # main does it
        try:
            sweep.report()
        except Exception:  # Hydra would turn it into a warning
            traceback.print_exc()
            raise SystemExit(FAILED) from None


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """End this process with one line for errors of users, where Hydra would print more, or go on."""
    try:
        yield
    except UserError as error:
        raise SystemExit(say(str(error), WRONG)) from None
    except OSError as error:
        if not (line := denied(error)):
            raise
        raise SystemExit(say(line, WRONG)) from None


def denied(error: Exception) -> str:
    """Return a line on a file or folder that may not be read or written to; empty for other errors."""
    if isinstance(error, OSError) and error.errno in DENIED and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return ""


def _refuse_used(key: str, folder: Path) -> None:
    if folder.exists() and (
        not folder.is_dir() or any(path.name not in (".lock", ".hydra") for path in folder.iterdir())
    ):
        raise SystemExit(say(f"{key}={folder}: is already in use; name another, or use resume={folder}", WRONG))


def _create(key: str, folder: Path) -> None:
    """Create an empty folder and note which of its parents were missing."""
    try:
        _refuse_used(key, folder)
        Callbacks.created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(say(f"{error.filename}: {error.strerror}", WRONG)) from None


def remove(folder: Path) -> None:
    """Remove what Hydra wrote into a folder without results, and the folders that this process made."""
    for name in (".hydra", ".lock", "multirun.yaml"):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    for path in Callbacks.created:
        with contextlib.suppress(OSError):  # not empty
            path.rmdir()


def job(cfg: DictConfig) -> float:
    """Train one run and return what a minimizing sweeper needs: see `sweeps.job.value`. NaN if the run failed."""
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if run_dir.is_relative_to(Path.cwd()):
        run_dir = run_dir.relative_to(Path.cwd())
    if HydraConfig.get().mode == RunMode.RUN:
        try:
            return train(cfg, run_dir)
        except Exception as error:
            Callbacks.error = error
            return float("nan")
        finally:
            if not (run_dir / "config.yaml").exists():
                remove(run_dir)  # it has only Hydra's files
    try:
        with _refusals():
            return sweep.train(cfg, run_dir)
    except Refused:
        remove(run_dir.parent)
        raise SystemExit(WRONG) from None
