"""The command line of train.py: Hydra composes the config; errors are one line with an exit code.

Imports no torch before training, so that `--help` is fast.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import shutil
import signal
import sys
import traceback
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

from autoenc import launched, sweeps
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.config.arguments import argument_message, launcher_message
from autoenc.config.messages import hydra_message
from autoenc.errors import (
    STOPS,
    ConfigError,
    Interrupted,
    NotFinite,
    ProcessLost,
    UserError,
    failure,
    one_line,
    out_of_memory,
    reason_of,
    require,
)
from autoenc.files import locked, printable, tolerant_streams
from autoenc.forecast import forecast
from autoenc.forked import CLEAR, Sweep, interrupt, isolated, stop_with_parent
from autoenc.metric_table import metric

DONE, WRONG, FAILED = 0, 2, 1
REFUSED = -math.inf  # value of jobs that cannot train at once
LENGTH = ("trainer.epochs", "trainer.steps", "trainer.patience")  # may change when a run resumes
KILLED = ("TerminatedWorkerError", "UncompletedJobError")  # errors of joblib and submitit
PATIENCE = 10.0  # seconds that the jobs of a sweep that was killed get for their checkpoints

HELP = """\
autoenc: train an autoencoder

  python train.py model=vae                                   on data included in scikit-learn
  python train.py model=dae data=mnist noise=gaussian noise.std=0.5 network=conv
  python train.py -m model=ae,vae model.latent_dim=2,4,8,16   a sweep, with a table, a CSV and a plot

  python train.py model=vae trainer.replicas=8     eight seeds at once; with -m also values of weights and optimizer.lr

  python train.py resume=RUN       resume an interrupted run, or a sweep: what is finished is kept
  python train.py resume=RUN trainer.epochs=60     train a finished run for longer
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

    failed: ClassVar[list[str]] = []  # folders of failed jobs of the sweep
    sweep_dir: ClassVar[Path | None] = None
    resumed: ClassVar[bool] = False  # the sweep was started before
    watch: ClassVar[sweeps.Watch | None] = None
    live: ClassVar[sweeps.Live | None] = None  # of jobs in other processes
    jobs: ClassVar[list[list[str]]] = []  # overrides of each job of the sweep
    together: ClassVar[bool] = False  # its jobs train at once where they can
    attempted: ClassVar[set[int]] = set()  # jobs that have trained with others
    created: ClassVar[list[Path]] = []  # folders that this process made, the deepest first
    held: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()  # the lock of a single run
    error: ClassVar[Exception | None] = None  # of a single run; Hydra would print more lines

    def __init__(self, together: bool = False) -> None:
        Callbacks.together = together

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the run directory before Hydra writes into it; reject one that is not empty."""
        HydraConfig.instance().set_config(config)  # the name of the directory interpolates from it
        run_dir = Path(config.hydra.run.dir)
        _create("hydra.run.dir", run_dir)
        try:
            Callbacks.held.enter_context(locked(run_dir))
        except UserError as error:
            raise SystemExit(_say(str(error), WRONG)) from None
        _refuse_used("hydra.run.dir", run_dir)  # another process may have finished between the check and the lock

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Claim the sweep directory; reject one that is not empty, or that holds other jobs if it resumes."""
        HydraConfig.instance().set_config(config)
        Callbacks.sweep_dir = Path(config.hydra.sweep.dir)
        if not Callbacks.resumed:
            _create("hydra.sweep.dir", Callbacks.sweep_dir)
        with contextlib.suppress(HydraException):  # the sweeper will report it
            overrides = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
            Callbacks.jobs = BasicSweeper.split_arguments(overrides, None)[0]
        try:
            Callbacks.held.enter_context(locked(Callbacks.sweep_dir))
            sweeps.check_jobs(Callbacks.sweep_dir, Callbacks.jobs)
        except UserError as error:
            raise SystemExit(_say(str(error), WRONG)) from None
        _estimate(Callbacks.sweep_dir, Callbacks.jobs, config.hydra.launcher)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Drop the configs of a job, which a sweep would keep to its end: 0.1 MB each."""
        job_return.cfg = job_return.hydra_cfg = None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table, CSV and plot of a sweep."""
        if Sweep.stopped is not None:
            return  # main does it
        try:
            _report_sweep()
        except Exception:  # Hydra would turn it into a warning
            traceback.print_exc()
            raise SystemExit(FAILED) from None


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


def _estimate(folder: Path, jobs: list[list[str]], launcher: DictConfig) -> None:
    """Print how many jobs there are and what they will take, and watch them from here on."""
    missing = sweeps.missing(folder, len(jobs))
    before = f", of which {len(jobs) - len(missing)} are finished" if len(missing) < len(jobs) else ""
    print(f"{len(jobs)} jobs in {folder}{before}", flush=True)
    if not missing or Callbacks.together:  # estimates are of jobs one after the other
        return
    if launcher._target_.endswith("SlurmLauncher"):  # on other machines
        return
    expected = forecast([jobs[number] for number in missing], launcher)
    print(expected.text, flush=True)
    costs = [0.0] * len(jobs)
    for number, cost in zip(missing, expected.costs, strict=True):
        costs[number] = 0.0 if cost.error else cost.seconds
        if cost.error:
            print(printable(f"Attention: job {number} will fail: {cost.error}"), flush=True)
    Callbacks.watch = sweeps.Watch(folder, costs, expected.at_once)
    if not launcher._target_.endswith("BasicLauncher"):
        Callbacks.live = sweeps.Live(Callbacks.watch)
        Callbacks.live.start()


def _report_sweep() -> None:
    if Callbacks.live is not None:
        Callbacks.live.stop()
    from autoenc.apps.protocol.compare_table import report_sweep

    sweep_dir = Callbacks.sweep_dir
    assert sweep_dir is not None
    sweeps.settle(sweep_dir, Callbacks.jobs, PATIENCE, _note_failure)
    Callbacks.failed = report_sweep(sweep_dir)


def job(cfg: DictConfig) -> float:
    """Train one run and return what a minimizing sweeper needs: the validation value of `trainer.monitor`.

    Metrics that are better if higher, such as psnr, are negated, so that lower is always better. NaN if the run failed.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    if run_dir.is_relative_to(Path.cwd()):
        run_dir = run_dir.relative_to(Path.cwd())
    if HydraConfig.get().mode == RunMode.RUN:
        try:
            return _train(cfg, run_dir)
        except Exception as error:
            Callbacks.error = error
            return float("nan")
        finally:
            if not (run_dir / "config.yaml").exists():
                _remove(run_dir)  # it has only Hydra's files
    if Sweep.stopped is not None:
        if [path.name for path in run_dir.iterdir()] == [".hydra"]:
            shutil.rmtree(run_dir)  # "not started" in the table
        return float("nan")
    try:
        sweeps.check_place(run_dir, Path(HydraConfig.get().sweep.dir))
    except ConfigError as error:  # of every job
        raise SystemExit(_say(str(error), WRONG)) from None
    number, overrides = HydraConfig.get().job.num, " ".join(HydraConfig.get().overrides.task)
    if (summary := sweeps.earlier(run_dir)) is not None:
        print(f"job {number}: {overrides}: finished before", flush=True)
        return _value(summary, cfg.trainer.monitor)
    if Callbacks.together:
        return _at_once(cfg, number, run_dir.parent)
    from autoenc.training.tracking import Progression

    title = f"job {number}: {overrides}"
    if multiprocessing.parent_process() is not None:  # of hydra/launcher=joblib: the lines of jobs are mixed
        Progression.prefix = f"[{HydraConfig.get().job.num}] "
        stop_with_parent()
        print(f"{CLEAR * sys.stdout.isatty()}{title}", flush=True)
    else:
        print(f"\n{title}", flush=True)
    if Callbacks.watch is not None:
        Progression.sweep = Callbacks.watch.line
    value = isolated(lambda: _attempt(cfg, run_dir), lambda why: _note_failure(run_dir, why))
    if Callbacks.watch is not None:
        print(Callbacks.watch.line(), flush=True)
    return float("nan") if value is None else value


def _at_once(cfg: DictConfig, number: int, sweep_dir: Path) -> float:
    """Train a job with all others that can train at once with it, unless it has been trained so; see `job`."""
    if number in Callbacks.attempted:
        return float("nan")  # it has failed
    overrides = {n: Callbacks.jobs[n] for n in sweeps.at_once(Callbacks.jobs, number)}
    folders = {n: sweeps.prepare(sweep_dir, n, each) for n, each in overrides.items()}
    left = {n: folder for n, folder in folders.items() if sweeps.earlier(folder) is None}
    configs = {n: sweeps.config_of(cfg, overrides[n]) for n in left}
    Callbacks.attempted |= left.keys()
    common = [text for text in overrides[number] if all(text in each for each in overrides.values())]
    print(f"\njobs {', '.join(map(str, left))} at once: {' '.join(common)}", flush=True)

    def killed(why: str) -> None:
        for folder in left.values():
            _note_failure(folder, why)

    value = isolated(lambda: _attempt_at_once(configs, left), killed)
    if value == REFUSED and left.keys() == set(range(len(Callbacks.jobs))):
        for folder in left.values():
            shutil.rmtree(folder)
        _remove(sweep_dir)
        raise SystemExit(WRONG)
    return float("nan") if value is None else value


def _attempt_at_once(configs: dict[int, DictConfig], folders: dict[int, Path]) -> float:
    """Train jobs at once, and return the value of the first; REFUSED if they cannot be trained so."""
    from autoenc import run

    try:
        checked = {n: _checked(cfg) for n, cfg in configs.items()}
        jobs = [run.Job(checked[n], folder, _choices(), sweeps.interrupted(folder)) for n, folder in folders.items()]
        results = run.train_together(jobs)
    except Exception as error:
        for folder in folders.values():
            sweeps.note_failure(folder, reason_of(error))
        if not isinstance(error, UserError) and not out_of_memory(error):
            raise
        _say(reason_of(error), FAILED)
        return REFUSED if isinstance(error, UserError) else float("nan")
    for folder, result in zip(folders.values(), results, strict=True):
        if isinstance(result, BaseException):
            _note_error(folder, result)
    first = results[0]
    monitor = next(iter(configs.values())).trainer.monitor
    return float("nan") if isinstance(first, BaseException) else _value(first, monitor)


def _attempt(cfg: DictConfig, run_dir: Path) -> float:
    try:
        return _train(cfg, run_dir, resume=sweeps.interrupted(run_dir))
    except Exception as error:  # the sweep continues; its table lists failed jobs
        _note_error(run_dir, error)
        return float("nan")


def _note_error(run_dir: Path, error: BaseException) -> None:
    text, known = failure(error)
    _note_failure(run_dir, text)
    if not known:
        traceback.print_exception(error)


def _value(summary: dict[str, Any], monitor: str) -> float:
    value = summary["val"].get(monitor)  # null if it was not finite
    return metric(monitor).sign * float("nan" if value is None else value)


def _train(cfg: DictConfig, run_dir: Path, resume: bool = False) -> float:
    checked = _checked(cfg)
    from autoenc import run

    summary = run.resume(run_dir) if resume else run.train(checked, run_dir, _choices())
    return _value(summary, checked["trainer"]["monitor"])


def _checked(cfg: DictConfig) -> dict[str, Any]:
    checked = config.check(cfg)
    config.check_terms(checked["regularizer"], HydraConfig.get().overrides.task)
    config.check_files(checked["data"])
    return checked


def _choices() -> dict[str, str]:
    """Return the options of the config groups."""
    groups = HydraConfig.get().runtime.choices
    return {k: str(v) for k, v in groups.items() if k in schema.GROUPS and v is not None}


def _note_failure(run_dir: Path, message: str) -> None:
    sweeps.note_failure(run_dir, message)
    _say(f"{run_dir.name}: {message}", FAILED)


def main() -> int:
    """Run and return the exit code: 0 success, 2 invalid config or data, 130 or 143 interrupted, 1 other failures."""
    args = sys.argv[1:]
    if {"--help", "-h"} & set(args):
        print(help_text() if launched.rank() == 0 else "", end="")
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
    resumed = [a for a in args if a.startswith("resume=") and a != "resume=null"]
    try:
        if wrong := argument_message(args):
            return _say(wrong, WRONG)
        several = [a for a in args if a in ("-m", "--multirun") or a.startswith(f"{sweeps.REPLICAS}=")]
        if launched.processes() > 1 and several:
            why = "torchrun trains one run at a time; leave it out: hydra/launcher=joblib trains several at once"
            return _say(f"{several[0]}: {why}", WRONG)
        if resumed:
            require(resumed[-1] != "resume=", "resume", None, "names no run; resume=RUN, or resume=latest")
            folder, others = Path(resumed[0].partition("=")[2].rstrip("/")), [a for a in args if a not in resumed]
            if not sweeps.is_sweep(folder):
                return _resume(folder, others)
            require(launched.processes() == 1, "resume", folder, "is a sweep, and torchrun trains one run at a time")
            Callbacks.resumed = True
            args = sys.argv[1:] = sweeps.arguments(folder, others)
        elif (at_once := sweeps.replicated(args)) != args:
            args = sys.argv[1:] = at_once
        if wrong := launcher_message(args):
            return _say(wrong, WRONG)
        schema.register()
        hydra.main(version_base="1.3", config_path=str(schema.CONFIGS), config_name="config")(job)()
        if Callbacks.error is not None:
            raise Callbacks.error
        if Sweep.stopped is not None:
            raise Interrupted(Sweep.stopped)
        return FAILED if Callbacks.failed else DONE
    except UserError as error:
        return _say(str(error), WRONG)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        if (
            Callbacks.sweep_dir is not None
            and not Callbacks.resumed
            and not any(p.is_dir() for p in Callbacks.sweep_dir.iterdir())
        ):
            _remove(Callbacks.sweep_dir)
        return _say(hydra_message(error, args), WRONG)
    except (NotFinite, ProcessLost) as error:
        return _say(str(error), FAILED)
    except SystemExit as left:  # of the callbacks, after one line
        return left.code if isinstance(left.code, int) else FAILED if left.code else DONE
    except (KeyboardInterrupt, Interrupted) as error:
        if Callbacks.sweep_dir is not None:
            _report_sweep()
        stopped = error if isinstance(error, Interrupted) else Interrupted(signal.SIGINT)
        resumable = Callbacks.sweep_dir or stopped.resumable
        how = f"; resume with: python train.py resume={resumable}" if resumable else ""
        return _say(f"interrupted{how}", 128 + stopped.signum)
    except Exception as error:
        if out_of_memory(error):
            return _say(f"{reason_of(error)}; try a smaller trainer.batch_size or a smaller model", FAILED)
        if Callbacks.sweep_dir is not None and type(error).__name__ in KILLED:
            _report_sweep()
            return _say(
                f"a process of the sweep was killed; resume with: python train.py resume={Callbacks.sweep_dir}", FAILED
            )
        if error is not Callbacks.error and isinstance(error, KeyError | ValueError) and not resumed:
            odd = next((a for a in args if a[:1] in "=~" or a.endswith("=null")), " ".join(args))
            return _say(f"{odd}: cannot be applied to the config ({one_line(error)})", WRONG)  # by Hydra
        raise


def _say(text: str, code: int) -> int:
    print(printable(text), file=sys.stderr)
    return code


def _resume(folder: Path, others: list[str]) -> int:
    changes = {}
    for other in others:
        key, _, value = other.partition("=")
        if key not in LENGTH:
            why = f"uses the config of the run, of which only {', '.join(LENGTH)} may change; leave out {other}"
            raise ConfigError("resume", folder, why)
        changes[key.removeprefix("trainer.")] = yaml.safe_load(value)
    from autoenc import run

    run.resume(folder, changes)
    return DONE
