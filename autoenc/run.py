"""Training of a run, from a checked config to a complete run directory."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from autoenc import build, launched, parallel, report
from autoenc.build import Parts
from autoenc.config.stored import parse_config, read_config
from autoenc.data import Data, kinds
from autoenc.errors import ConfigError, DataError, Interrupted, NotFinite, ProcessLost, Pruned, one_line
from autoenc.files import check_inside, write_text
from autoenc.metric_table import metric
from autoenc.seeds import seeded
from autoenc.start import initialize_from, start_prior
from autoenc.trackers import Services, check_installed
from autoenc.training import checkpoint, replicas
from autoenc.training.evaluation import evaluate
from autoenc.training.process import torch_settings
from autoenc.training.rundir import (
    Record,
    check_same,
    claimed,
    clear,
    described,
    disk_errors,
    find_run,
    located,
    logged,
    newest_below,
    quiet_threads,
    read_record,
    set_aside,
)
from autoenc.training.settings import TrainerSettings
from autoenc.training.tracking import Progression, Silence, Tracker
from autoenc.training.trainer import NOBODY, Steps, Trainer, Watch, alone


@dataclass(frozen=True)
class Job:
    """A run to train: its checked config, its directory, options of the config groups, whether it resumes."""

    config: dict[str, Any]
    run_dir: Path
    choices: Mapping[str, str]
    resume: bool = False


def train(
    config: dict[str, Any],
    run_dir: Path,
    choices: Mapping[str, str] | None = None,
    resume: bool = False,
    data: Data | None = None,
    longer: bool = False,
    watch: Watch = NOBODY,
) -> dict[str, Any]:
    """Train a checked config in `run_dir` and return its summary; see `training`."""
    with torch_settings(TrainerSettings(**config["trainer"])), quiet_threads():
        return alone(training(config, run_dir, choices, resume, data, longer, watch))


def training(
    config: dict[str, Any],
    run_dir: Path,
    choices: Mapping[str, str] | None = None,
    resume: bool = False,
    data: Data | None = None,
    longer: bool = False,
    watch: Watch = NOBODY,
    shown: bool = True,
) -> Steps[dict[str, Any]]:
    """Train a checked config in `run_dir` and return its summary; the caller makes the steps, see `Trainer.steps`.

    Nothing is written before config and data are checked. run.json has the state of the run.

    Args:
        choices: options chosen in the config groups (model: vae ...).
        resume: resume from checkpoints/last.pt.
        data: by default, the data set of the config.
        longer: the run was finished or its length has changed; ConfigError if no step is left to do.
        watch: called after evaluations, see `Watch`; ConfigError if its metrics are not computed.
        shown: report on the console.

    Raises:
        UserError: config or data are invalid. NotFinite: the loss became infinite or NaN. Interrupted: by a signal.
        Pruned: by `watch`.
    """
    started = time.perf_counter()
    check_installed(config["tracking"])
    settings = TrainerSettings(**config["trainer"])
    check_processes(settings)
    device = build.pick_device(settings.device)
    with seeded(config["seed"], device), resumable(run_dir):
        built = config | {"data": located(config["data"], run_dir)} if resume else config
        parts = build.build(built, device, data)
        check_monitor(parts, resume, watch.metrics)
        text = yaml.safe_dump(config, sort_keys=False)
        fingerprint, checksums = parts.data.train.fingerprint(), parts.data.checksums()
        with disk_errors(run_dir), claimed(run_dir), logged(run_dir):
            state, fresh, moved = None, not resume, ""
            if resume:
                state = checkpoint.load(run_dir / "checkpoints" / "last.pt", device)
                checkpoint.check_state(state, run_dir / "checkpoints" / "last.pt")
                trained = yaml.safe_dump(parse_config(state["config"], run_dir), sort_keys=False)
                check_same(run_dir, state | {"config": trained}, text, fingerprint, checksums)
                if longer:
                    check_longer(config, state["progress"], len(parts.data.train))
                    moved = set_aside(run_dir, state["progress"]["step"])
            elif config["init_from"] is not None:
                fresh = initialize_from(parts.model, find_run(config["init_from"]), config, parts.data.spec.shape)
            write_text(run_dir / "config.yaml", text)
            if not resume:
                kinds.save(parts.data.spec.kind, run_dir)
            record = Record(run_dir, config, choices or {}, parts.data, device, resumed=resume)
            services = Services(config["tracking"], run_dir, report.settings(config, choices or {}, run_dir))
            tracker = Tracker(run_dir, state["progress"] if state else None, services)
            if state is None:
                tracker.layout(["loss", "nll", *parts.objective.regularizers], parts.objective.units)
            try:
                record.write("running")
                trainer = Trainer(
                    parts.model, parts.objective, parts.optimizers, parts.data, settings, config["seed"], device,
                    tracker, run_dir / "checkpoints",
                    draw=lambda step, evaluation: report.draw(tracker, parts, evaluation, step), watch=watch,
                    identity={"config": text, "data": fingerprint, "checksums": checksums}, started=started,
                )  # fmt: skip
                if state is not None:
                    trainer.restore(state)
                progress = Progression(trainer.total_steps, shown=shown)
                if moved:
                    progress.line(moved)
                new = not trainer.step and config["init_from"] is None
                report.announce(trainer, parts, progress, fresh=new)
                if fresh:
                    start_prior(parts.model, parts.data.train, settings.eval_batch_size, device, progress.line)
                if not trainer.step:
                    parts.objective.start(parts.data.train, progress.line)
                with parallel.joined():
                    if parallel.count() > 1:
                        begun = {"config": built, "device": device.type, "data": fingerprint}
                        parallel.shared(begun | {"state": trainer.state()})
                    yield from trainer.steps(progress)
                summary = report.finish(trainer, parts, config, choices or {}, progress)
                record.write("finished")
                return summary
            except (NotFinite, ProcessLost) as error:
                last = run_dir / "checkpoints" / "last.pt"
                good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written before"
                lost = isinstance(error, ProcessLost)
                remedy = f"resume with resume={run_dir}" if lost else "try a smaller optimizer.lr or trainer.clip=1"
                message = f"{error}; {good}; {remedy}"
                record.write("failed", message)
                raise type(error)(message) from None
            except Pruned as error:
                record.write("pruned", str(error))
                raise
            except (Interrupted, KeyboardInterrupt):
                record.write("interrupted")
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):  # the disk may be full
                    record.write("failed", f"{type(error).__name__}: {one_line(error)}")
                raise
            finally:
                with contextlib.suppress(OSError):
                    tracker.close(str(record.values["state"]))


def train_together(jobs: Sequence[Job]) -> list[dict[str, Any] | BaseException]:
    """Train several runs at once; return the summary of each, or what has ended it. The first one reports.

    Raises:
        UserError: the config or the data is invalid, or the runs cannot train at once; nothing has been written.
        Interrupted: by a signal.
    """
    first = jobs[0]
    settings = TrainerSettings(**first.config["trainer"])
    device = build.pick_device(settings.device)
    with torch_settings(settings), quiet_threads():
        with seeded(first.config["seed"], device):
            data = located(first.config["data"], first.run_dir) if first.resume else first.config["data"]
            parts = build.build(first.config | {"data": data}, device)
            check_monitor(parts)
            replicas.check(len(jobs), parts.model, parts.objective, parts.data.train, settings)
        trainings = [
            training(job.config, job.run_dir, job.choices, job.resume, parts.data, shown=job is first) for job in jobs
        ]
        with seeded(first.config["seed"], device):  # restores the generators of the caller
            return replicas.together(trainings, device)


def assist() -> None:
    """Train with the first process of a run, which has the config, the state and the run directory.

    Raises:
        UserError: the data of this process are others. NotFinite, Interrupted, ProcessLost: as in the first process.
    """
    with parallel.joined():
        if (run := parallel.shared(None)) is None:  # the first process does not train
            return
        config = run["config"]
        settings = TrainerSettings(**config["trainer"] | {"profile": False})  # which would write
        device = build.pick_device(run["device"])
        with torch_settings(settings), seeded(config["seed"], device):
            parts = build.build(config, device)
            if parts.data.train.fingerprint() != run["data"]:
                raise DataError("the training data are not those of the first process")
            trainer = Trainer(
                parts.model, parts.objective, parts.optimizers, parts.data, settings, config["seed"], device,
                Silence(), Path(),
            )  # fmt: skip
            trainer.adopt(run["state"])
            trainer.fit(Progression(trainer.total_steps, quiet=True))


def dismiss() -> None:
    """Let the processes that wait in `assist` end."""
    with parallel.joined():
        parallel.shared(None)


@contextlib.contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Name the run directory in an interruption if it has a checkpoint to resume from."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        has_checkpoint = (run_dir / "checkpoints" / "last.pt").exists()
        raise Interrupted(signum, resumable=str(run_dir) if has_checkpoint else "") from None


def check_processes(settings: TrainerSettings) -> None:
    """Raise ConfigError unless the processes of torchrun can train together."""
    size, processes = settings.batch_size, launched.processes()
    if size % processes:
        near = [n for n in (size - size % processes, size - size % processes + processes) if n > 0]
        why = f"cannot be divided among {processes} processes; use {' or '.join(map(str, near))}"
        raise ConfigError("trainer.batch_size", size, why)
    if settings.compile and processes > 1:
        why = "compiled steps do not exchange with other processes; trainer.compile=false, or leave out torchrun"
        raise ConfigError("trainer.compile", True, why)


def check_unused(folder: Path) -> None:
    """Raise ConfigError unless a run directory is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError("run_dir", folder, "is already in use; name another")


def check_longer(config: Mapping[str, Any], progress: Mapping[str, Any], rows: int) -> None:
    """Raise ConfigError if a run that resumes with another length has no step left to do."""
    settings = TrainerSettings(**config["trainer"])
    per_epoch, done = settings.steps_per_epoch(rows), progress["step"]
    if settings.total_steps(rows) <= done:
        key, value = ("steps", settings.steps) if settings.steps else ("epochs", settings.epochs)
        trained = f"{done} steps" if settings.steps else f"{done / per_epoch:g} epochs"
        raise ConfigError(f"trainer.{key}", value, f"the run has trained for {trained}; give a larger number")
    if settings.patience is not None and progress["stale"] >= settings.patience:
        why = f"the run stopped early, after {progress['stale']} evaluations without improvement; give a larger number"
        raise ConfigError("trainer.patience", settings.patience, f"{why}, or null")


def check_monitor(parts: Parts, resume: bool = False, watched: Sequence[str] = ()) -> None:
    """Check that evaluation computes `trainer.monitor`, which has a direction, and the metrics that are watched.

    Runs of version 0.1 could monitor a metric without one, such as kl; they resume as they started, lower is better.

    Raises:
        ConfigError: it does not, or has none.
    """
    few, monitor = parts.data.val.subset(slice(0, 2)), parts.settings.monitor
    names = evaluate(parts.model, parts.objective, few, parts.data.spec, parts.settings.eval_batch_size).numbers
    directed = [name for name in names if metric(name).higher_is_better is not None]
    if monitor not in (names if resume else directed):
        why = "has no better direction; " if monitor in names else ""
        raise ConfigError("trainer.monitor", monitor, f"{why}must be one of {', '.join(directed)}")
    if missing := [name for name in watched if name not in names]:
        raise ConfigError("metric", missing[0], f"is not computed for these models; choose from {', '.join(names)}")


def resume(
    run_dir: Path, changes: Mapping[str, Any] | None = None, watch: Watch = NOBODY, data: Data | None = None
) -> dict[str, Any]:
    """Resume a run with its own config, from its last checkpoint or, without one, from the beginning.

    Args:
        changes: new values of trainer.epochs, trainer.steps and trainer.patience; a finished run needs one of them.
        data: that the run was trained on; by default, the data set of its config.
    """
    run_dir = find_run(run_dir, finished=False)
    for path in (run_dir, run_dir / "config.yaml", run_dir / "run.json"):
        if not path.exists():
            near = newest_below(run_dir) if run_dir.is_dir() else ""
            raise ConfigError("resume", run_dir, f"is no run directory: {path} does not exist{near}")
    check_inside(run_dir)
    record = read_record(run_dir)
    if record["state"] == "finished" and (run_dir / "summary.json").exists() and not changes:
        why = "is finished; there is nothing to resume; to train for longer, add a larger trainer.epochs"
        raise ConfigError("resume", run_dir, why)
    config = read_config(run_dir)
    if changes:
        for key, value in changes.items():
            if not (type(value) is int or (value is None and key != "epochs")):
                raise ConfigError(f"trainer.{key}", value, "must be a whole number")
        if "epochs" in changes:
            config["trainer"]["steps"] = None  # which would decide
        config["trainer"] |= changes
        config = parse_config(yaml.safe_dump(config, sort_keys=False), run_dir / "config.yaml")
    choices = record.get("choices")
    if (run_dir / "checkpoints" / "last.pt").exists():
        return train(config, run_dir, choices, resume=True, data=data, longer=bool(changes), watch=watch)
    if record["state"] == "finished":
        raise ConfigError("resume", run_dir, "is finished, and has no checkpoints/last.pt to train for longer from")
    if data is None:
        data = build.build_data(config | {"data": located(config["data"], run_dir)})
    if described(data) != record.get("data"):
        raise ConfigError("resume", run_dir, "stopped before its first checkpoint, and the data are others since then")
    clear(run_dir)
    print(f"{run_dir} stopped before its first checkpoint: it starts anew", flush=True)
    return train(config, run_dir, choices, data=data, watch=watch)
