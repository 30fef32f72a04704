"""The command line of train.py: Hydra composes the config; errors are one line with an exit code.

Imports no torch before training, so that `--help` is fast.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import hydra
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from autoenc import __version__, launched
from autoenc.config import schema
from autoenc.config.arguments import argument_message, launcher_message, new_length, split_resume
from autoenc.config.messages import hydra_message
from autoenc.errors import (
    STOPS,
    Interrupted,
    NotFinite,
    ProcessLost,
    UserError,
    one_line,
    out_of_memory,
    reason_of,
    require,
)
from autoenc.files import locked
from autoenc.forked import Sweep, interrupt
from autoenc.streams import tolerant_streams
from autoenc.sweeps import command_line
from autoenc.sweeps.job import train
from autoenc.sweeps.running import Refused, sweep
from autoenc.text import printable

DONE, WRONG, FAILED = 0, 2, 1
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
KILLED = ("TerminatedWorkerError", "UncompletedJobError")  # errors of joblib and submitit

HELP = """\
autoenc: train an autoencoder

  python train.py model=vae                                   on data included in scikit-learn
  python train.py model=dae data=mnist noise=gaussian noise.std=0.5 network=conv
  python train.py -m model=ae,vae model.latent_dim=2,4,8,16   a sweep, with a table, a CSV and a plot

  python train.py model=vae trainer.replicas=8     eight seeds at once; with -m also values of weights and optimizer.lr

  python train.py resume=RUN       resume an interrupted run, or a sweep: what is finished is kept
  python train.py resume=RUN trainer.epochs=120    train a finished run for longer
  python train.py model=vae --cfg job     show the config without training
  tensorboard --logdir outputs     view losses, reconstructions, codes

Choices (group=option; regularizer takes a list, regularizer=[kl,l1]):
"""

KEYS = """
Every key of the config can be set: seed, model.latent_dim, network.hidden, noise.std, noise.p, data.path,
regularizer.NAME.weight, optimizer.lr, trainer.epochs, trainer.steps, trainer.batch_size, trainer.device ...
`--cfg job` lists them; configs/ has a comment on each.
"""


def help_text() -> str:
    """Return the examples, the config groups and their choices."""
    lines = [HELP]
    for group in schema.GROUPS:
        lines.append(f"  {group}")
        lines += [f"    {name:<22}{about}" for name, about in schema.choices(group)]
    return "\n".join(lines) + "\n" + KEYS


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
                raise SystemExit(_say(f"{' '.join(config.hydra.overrides.task)}: a sweep without jobs", WRONG))
        sweep.folder = Path(config.hydra.sweep.dir)
        if not sweep.resumed:
            _create("hydra.sweep.dir", sweep.folder)
        with _refusals():
            Callbacks.held.enter_context(locked(sweep.folder))
            try:
                sweep.start(config.hydra.launcher)
            except UserError:
                if not sweep.resumed:
                    _remove(sweep.folder)
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
        raise SystemExit(_say(str(error), WRONG)) from None
    except OSError as error:
        if not (line := _denied(error)):
            raise
        raise SystemExit(_say(line, WRONG)) from None


def _denied(error: Exception) -> str:
    """Return a line on a file or folder that may not be read or written to; empty for other errors."""
    if isinstance(error, OSError) and error.errno in DENIED and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return ""


def _refuse_used(key: str, folder: Path) -> None:
    if folder.exists() and (
        not folder.is_dir() or any(path.name not in (".lock", ".hydra") for path in folder.iterdir())
    ):
        raise SystemExit(_say(f"{key}={folder}: is already in use; name another, or use resume={folder}", WRONG))


def _create(key: str, folder: Path) -> None:
    """Create an empty folder and note which of its parents were missing."""
    try:
        _refuse_used(key, folder)
        Callbacks.created = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(_say(f"{error.filename}: {error.strerror}", WRONG)) from None


def _remove(folder: Path) -> None:
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
                _remove(run_dir)  # it has only Hydra's files
    try:
        with _refusals():
            return sweep.train(cfg, run_dir)
    except Refused:
        _remove(run_dir.parent)
        raise SystemExit(WRONG) from None


def main() -> int:
    """Run and return the exit code: 0 success, 2 invalid config or data, 130 or 143 interrupted, 1 other failures."""
    args = sys.argv[1:]
    if {"--help", "-h"} & set(args):
        print(help_text() if launched.rank() == 0 else "", end="")
        return DONE
    if "--version" in args:
        print(f"autoenc {__version__}")
        return DONE
    launched.single_blas_thread()
    if launched.rank() > 0:
        with tolerant_streams():
            return _left(_assist())
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises instead of printing and exiting
    for s in STOPS:
        if signal.getsignal(s) != signal.SIG_IGN:  # nohup
            signal.signal(s, interrupt)
    with tolerant_streams(), Callbacks.held:
        code = _run(args)
        if launched.processes() > 1 and not launched.Meeting.held and code in (DONE, WRONG, FAILED):
            from autoenc import run

            run.dismiss()
        return _left(code)


def _left(code: int) -> int:
    """Return the exit code, or end here if this process has joined others, whose exchange leaves threads behind.

    With them, the interpreter sometimes aborts at its end, and torchrun takes a finished run for a failed one.
    """
    if launched.Meeting.held:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _assist() -> int:
    """Train with the first process of a run, and leave it to that process to print what concerns all."""
    from autoenc import run

    try:
        run.assist()
        return DONE
    except UserError as error:
        return _say(f"process {launched.rank()}: {error}", WRONG)
    except NotFinite:
        return FAILED
    except ProcessLost as error:  # the first process may be the one
        return _say(str(error), FAILED) if launched.rank() == 1 else FAILED
    except Interrupted as error:
        return 128 + error.signum
    except Exception as error:
        if not out_of_memory(error):
            raise
        return _say(f"process {launched.rank()}: {reason_of(error)}; try a smaller trainer.batch_size", FAILED)


def _run(args: list[str]) -> int:
    folder = None  # of a run or sweep that resumes
    try:
        if wrong := argument_message(args):
            return _say(wrong, WRONG)
        several = [a for a in args if a in ("-m", "--multirun") or a.startswith(f"{command_line.REPLICAS}=")]
        if launched.processes() > 1 and several:
            why = "torchrun trains one run at a time; leave it out: hydra/launcher=joblib trains several at once"
            return _say(f"{several[0]}: {why}", WRONG)
        folder, others = split_resume(args)
        if folder is not None:
            if not command_line.is_sweep(folder):
                return _resume(folder, others)
            require(launched.processes() == 1, "resume", folder, "is a sweep, and torchrun trains one run at a time")
            sweep.resumed = True
            args = sys.argv[1:] = command_line.arguments(folder, others)
        elif (at_once := command_line.replicated(args)) != args:
            args = sys.argv[1:] = at_once
        if wrong := launcher_message(args):
            return _say(wrong, WRONG)
        schema.register()
        hydra.main(version_base="1.3", config_path=str(schema.CONFIGS), config_name="config")(job)()
        if Callbacks.error is not None:
            raise Callbacks.error
        if Sweep.stopped is not None:
            raise Interrupted(Sweep.stopped)
        return FAILED if sweep.failed else DONE
    except UserError as error:
        return _say(str(error), WRONG)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if sweep.folder is not None and not sweep.resumed and not any(p.is_dir() for p in sweep.folder.iterdir()):
            _remove(sweep.folder)
        return _say(hydra_message(error, args), WRONG)
    except (NotFinite, ProcessLost) as error:
        return _say(str(error), FAILED)
    except SystemExit as left:  # of the callbacks, after one line
        return left.code if isinstance(left.code, int) else FAILED if left.code else DONE
    except (KeyboardInterrupt, Interrupted) as error:
        return _interrupted(error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT))
    except Exception as error:
        if out_of_memory(error):
            return _say(f"{reason_of(error)}; try a smaller trainer.batch_size or a smaller model", FAILED)
        if line := _denied(error):
            return _say(line, WRONG)
        if sweep.folder is not None and type(error).__name__ in KILLED:
            if Sweep.stopped is not None:  # it reached workers that had no job yet
                return _interrupted(Interrupted(Sweep.stopped))
            sweep.report()
            return _say(
                f"a process of the sweep was killed; resume with: python train.py resume={sweep.folder}", FAILED
            )
        if error is not Callbacks.error and isinstance(error, KeyError | ValueError) and folder is None:
            odd = next((a for a in args if a[:1] in "=~" or a.endswith("=null")), " ".join(args))
            return _say(f"{odd}: cannot be applied to the config ({one_line(error)})", WRONG)  # by Hydra
        raise


def _interrupted(error: Interrupted) -> int:
    if sweep.folder is not None:
        sweep.report()
    resumable = sweep.folder or error.resumable
    how = f"; resume with: python train.py resume={resumable}" if resumable else ""
    return _say(f"interrupted{how}", 128 + error.signum)


def _say(text: str, code: int) -> int:
    print(printable(text), file=sys.stderr)
    return code


def _resume(folder: Path, others: list[str]) -> int:
    changes = new_length(folder, others)
    from autoenc import run

    run.resume(folder, changes)
    return DONE
