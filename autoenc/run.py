"""Training of a run, from a checked config to a complete run directory."""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from autoenc import build, figures, reference
from autoenc.build import Parts
from autoenc.config.remedies import against_collapse
from autoenc.config.stored import parse_config, read_config
from autoenc.core import Autoencoder, Batch
from autoenc.data import Data, kinds
from autoenc.data.split import Split
from autoenc.errors import ConfigError, DataError, Interrupted, NotFinite, UserError, one_line
from autoenc.files import check_inside, flat, write_json, write_text
from autoenc.metric_table import legend, metric
from autoenc.training import checkpoint
from autoenc.training.evaluation import Evaluation, evaluate, latent_health
from autoenc.training.process import seeded, torch_settings
from autoenc.training.rundir import (
    Record,
    check_same,
    claimed,
    disk_errors,
    find_run,
    located,
    logged,
    newest_below,
    read_record,
)
from autoenc.training.settings import TrainerSettings
from autoenc.training.tracking import METRICS, Progression, Tracker, result_table
from autoenc.training.trainer import Trainer
from autoenc.verdict import verdict

log = logging.getLogger("autoenc")

FEW = 50  # training examples below which a remark is made
PROJECTED = 1_000  # codes in the embedding projector
COMPARED = ("model.latent_dim", "optimizer.lr", "trainer.epochs", "trainer.batch_size", "seed")  # always in hparams


def train(
    config: dict[str, Any],
    run_dir: Path,
    choices: Mapping[str, str] | None = None,
    resume: bool = False,
    data: Data | None = None,
    longer: bool = False,
) -> dict[str, Any]:
    """Train a checked config in `run_dir` and return its summary.

    Nothing is written before config and data are checked. run.json has the state of the run.

    Args:
        choices: options chosen in the config groups (model: vae ...).
        resume: resume from checkpoints/last.pt.
        data: by default, the data set of the config.
        longer: the run was finished or its length has changed; ConfigError if no step is left to do.

    Raises:
        UserError: config or data are invalid. NotFinite: the loss became infinite or NaN. Interrupted: by a signal.
    """
    started = time.perf_counter()
    settings = TrainerSettings(**config["trainer"])
    device = build.pick_device(settings.device)
    with torch_settings(settings), seeded(config["seed"]), resumable(run_dir):
        if resume and data is None:
            data = build.build_data(config | {"data": located(config["data"], run_dir)})
        parts = build.build(config, device, data)
        check_monitor(parts, resume)
        text = yaml.safe_dump(config, sort_keys=False)
        fingerprint = parts.data.train.fingerprint()
        with disk_errors(run_dir), claimed(run_dir), logged(run_dir):
            state, fresh = None, not resume
            if resume:
                state = checkpoint.load(run_dir / "checkpoints" / "last.pt", device)
                if missing := {"config", "data", "progress", "model", "optimizers", "rng"} - state.keys():
                    raise DataError(f"{run_dir / 'checkpoints' / 'last.pt'}: has no {', '.join(sorted(missing))}")
                trained = yaml.safe_dump(parse_config(state["config"], run_dir), sort_keys=False)
                check_same(run_dir, state | {"config": trained}, text, fingerprint)
                if longer:
                    check_longer(config, state["progress"], len(parts.data.train))
            elif config["init_from"] is not None:
                fresh = initialize_from(parts.model, find_run(config["init_from"]))
            if fresh:
                start_prior(parts.model, parts.data.train, settings.eval_batch_size, device)
            write_text(run_dir / "config.yaml", text)
            if not resume:
                kinds.save(parts.data.spec.kind, run_dir)
            record = Record(run_dir, config, choices or {}, parts.data, device, resumed=resume)
            tracker = Tracker(run_dir, state["progress"] if state else None)
            if state is None:
                tracker.layout(["loss", "nll", *parts.objective.regularizers])
            try:
                record.write("running")
                trainer = Trainer(
                    parts.model, parts.objective, parts.optimizers, parts.data, settings, config["seed"], device,
                    tracker, run_dir / "checkpoints",
                    draw=lambda step, evaluation: _draw(tracker, parts, evaluation, step),
                    identity={"config": text, "data": fingerprint},
                )  # fmt: skip
                if state is not None:
                    trainer.restore(state)
                summary = _fit_and_finish(trainer, parts, config, choices or {}, run_dir, tracker, started)
                record.write("finished")
                return summary
            except NotFinite as error:
                last = run_dir / "checkpoints" / "last.pt"
                good = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was written before"
                message = f"{error}; {good}; try a smaller optimizer.lr or trainer.clip=1"
                record.write("failed", message)
                raise NotFinite(message) from None
            except (Interrupted, KeyboardInterrupt):
                record.write("interrupted")
                raise
            except BaseException as error:
                with contextlib.suppress(OSError):  # the disk may be full
                    record.write("failed", f"{type(error).__name__}: {one_line(error)}")
                raise
            finally:
                with contextlib.suppress(OSError):
                    tracker.close()


@contextlib.contextmanager
def resumable(run_dir: Path) -> Iterator[None]:
    """Name the run directory in an interruption if it has a checkpoint to resume from."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        has_checkpoint = (run_dir / "checkpoints" / "last.pt").exists()
        raise Interrupted(signum, resumable=str(run_dir) if has_checkpoint else "") from None


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


def start_prior(model: Autoencoder, train: Split, batch_size: int, device: torch.device) -> None:
    """Set what the prior learns from the training split before the first step."""

    def codes(n: int) -> Tensor:
        def both(batch: Batch) -> Tensor:
            code = model.encode(batch)
            return torch.stack([code.mean, code.z], 1).float()

        return reference.over(model, train.sample(n), both, batch_size, device)

    if model.bottleneck.prior is not None:
        model.bottleneck.prior.start(lambda n: train.sample(n).take(slice(None)).x, codes)


def initialize_from(model: Autoencoder, path: Path) -> bool:
    """Load the best weights of another run of the same architecture into a model.

    The prior keeps its own if that run has another one; return whether it does. A Gaussian code may start from a
    deterministic one (`Bottleneck.adopted`).

    Raises:
        ConfigError: the directory has no weights, or a tensor has another name or shape.
    """
    try:
        found = checkpoint.load(path / "checkpoints" / "best.pt")["model"]
    except (UserError, KeyError) as error:
        raise ConfigError("init_from", path, f"has no weights of a run ({one_line(error)})") from None
    expected = model.state_dict()
    code, prior = "bottleneck.", "bottleneck.prior."
    own = {name.removeprefix(code): found.pop(name) for name in list(found) if name.startswith(code)}
    found |= {code + name: tensor for name, tensor in model.bottleneck.adopted(own).items()}
    theirs, ours = ({k: v.shape for k, v in s.items() if k.startswith(prior)} for s in (found, expected))
    if theirs != ours:
        found = {k: v for k, v in found.items() if k not in theirs} | {k: expected[k] for k in ours}
    for name in [*expected, *(n for n in found if n not in expected)]:
        shapes = [tuple(state[name].shape) if name in state else None for state in (found, expected)]
        if shapes[0] != shapes[1]:
            there, here = ("missing" if shape is None else f"of shape {shape}" for shape in shapes)
            why = f"{name} is {there} there and {here} here; use the model and network options of that run"
            raise ConfigError("init_from", path, why)
    model.load_state_dict(found)
    return theirs != ours


def check_monitor(parts: Parts, resume: bool = False) -> None:
    """Check that evaluation computes `trainer.monitor` and that it has a direction.

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


def _fit_and_finish(
    trainer: Trainer,
    parts: Parts,
    config: dict[str, Any],
    choices: Mapping[str, str],
    run_dir: Path,
    tracker: Tracker,
    started: float,
) -> dict[str, Any]:
    """Train, then evaluate the best weights on validation and test data."""
    model, data = parts.model, parts.data
    progress = Progression(trainer.total_steps)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    sizes = f"{len(data.train):,} training, {len(data.val):,} validation, {len(data.test):,} test examples"
    progress.line(f"{data.spec.name}: {sizes}; {count:,} parameters; {trainer.total_steps:,} steps on {trainer.device}")
    for note in data.notes:
        progress.line(note)
    prior = model.bottleneck.prior
    advice = "" if prior is None or trainer.step or config["init_from"] is not None else prior.remark
    remarks = (data.spec.kind.remark(data.train), model.bottleneck.remark, model.likelihood.remark, advice)
    for remark in filter(None, remarks):
        progress.line(f"Attention: {remark}")
    if len(data.train) < FEW:
        progress.line(f"Attention: {len(data.train)} training examples are few: results depend on which these are")
    if trainer.step:
        progress.line(f"resuming after step {trainer.step:,}")
    else:
        parts.objective.start(data.train, progress.line)
    trainer.fit(progress)

    best = checkpoint.load(run_dir / "checkpoints" / "best.pt", trainer.device)
    checkpoint.restore_best(best, model, parts.objective)
    step, batch_size = trainer.step, parts.settings.eval_batch_size
    results = {
        name: evaluate(model, parts.objective, split, data.spec, batch_size)
        for name, split in (("val", data.val), ("test", data.test))
    }
    latent = latent_health(model, data.test, results["test"], data.spec, batch_size)
    scale = model.likelihood.remedy(results["val"].numbers.get("mse", 0.0))
    numbers, remedies = results["test"].numbers | latent, [scale, *against_collapse(config, choices)]
    assessment = verdict(model, parts.objective, numbers, remedies, len(data.test))
    summary = {
        "state": "finished",
        "step": best["step"],
        "val": results["val"].numbers,
        "test": results["test"].numbers,
        "latent": latent,
        "verdict": assessment.text,
        "perf": {
            "seconds": time.perf_counter() - started,
            "training_seconds": trainer.training_seconds,
            "examples_per_second": trainer.examples_per_second,
            "peak_memory_mb": _peak_memory_mb(trainer.device),
            "parameters": count,
        },
    }
    tracker.evaluation("test", step, step / trainer.steps_per_epoch, results["test"].numbers | latent)
    tracker.scalars("test", results["test"].numbers, step)
    tracker.scalars("latent", latent, step)
    _draw(tracker, parts, results["val"], step)
    lines = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
    with figures.tried("loss"):
        tracker.image("loss", figures.curves(lines, best["step"]), step)
    with figures.tried("projector"):
        _project(tracker, parts, results["val"])
    tags = [*(f"test/{name}" for name in results["test"].numbers), *(f"latent/{name}" for name in latent)]
    tracker.hparams(_hparams(config, choices, _overridden(run_dir)), tags)
    write_json(run_dir / "summary.json", summary)
    reference.save(reference.compute(model, data, batch_size, trainer.device), run_dir / reference.FILE)
    progress.console.print(result_table("result", {"val": results["val"].numbers, "test": results["test"].numbers}))
    for line in legend(results["test"].numbers):
        progress.line(line)
    progress.line(assessment.text if assessment.healthy else f"Attention: {assessment.text}")
    perf = summary["perf"]
    progress.line(
        f"{perf['seconds']:.1f} s, {perf['examples_per_second']:,.0f} examples/s, {perf['peak_memory_mb']:,.0f} MB;"
        f" weights of step {best['step']}"
    )
    progress.line(f"run: {run_dir}   figures: {run_dir / 'figures'}")
    return summary


def _hparams(config: dict[str, Any], choices: Mapping[str, str], overridden: set[str] | None) -> dict[str, Any]:
    """Return the chosen options and settings for TensorBoard's hparams tab.

    Settings are those of `COMPARED` and those named on the command line, as the others follow from the options.
    `latent_dim` is without `model.`, since the tab sorts by name and shows the first five.

    Args:
        overridden: keys on the command line; None, if there was none: all settings.
    """
    left_out = ("data.", "resume", "init_from", *(f"trainer.{key}" for key in ("device", "threads", "figures", "eval")))
    left_out += ("likelihood.learned", "likelihood.output", "optimizer.fused")
    settings = {k: v for k, v in flat(config).items() if not k.startswith(left_out) and not k.endswith("_target_")}
    if overridden is not None:
        chosen = (*COMPARED, *(overridden - choices.keys()))
        settings = {k: v for k, v in settings.items() if any(f"{k}.".startswith(f"{key}.") for key in chosen)}
    settings["latent_dim"] = settings.pop("model.latent_dim")
    settings = {k: v for k, v in settings.items() if v not in (None, "", "[]", "{}")}
    return {k: v for k, v in choices.items() if k != "trainer"} | settings


def _overridden(run_dir: Path) -> set[str] | None:
    """Return the keys on the command line that Hydra has stored in the run; None without them."""
    try:
        lines = yaml.safe_load((run_dir / ".hydra" / "overrides.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return None
    return {str(line).partition("=")[0].lstrip("+~") for line in lines or ()}


def _draw(tracker: Tracker, parts: Parts, evaluation: Evaluation, step: int) -> None:
    """Write the figures of the model and a histogram of its codes."""
    for name, shown in figures.of_run(
        parts.model, parts.data.val, parts.data.spec, evaluation, parts.objective
    ).items():
        if isinstance(shown, list):
            tracker.text(name, shown, step)
        else:
            tracker.image(name, shown, step)
    tracker.histogram("codes", evaluation.codes, step)


def _project(tracker: Tracker, parts: Parts, evaluation: Evaluation) -> None:
    """Write validation codes for the embedding projector."""
    n = min(PROJECTED, len(evaluation.codes))
    labels = None
    if evaluation.labels is not None:
        labels = [parts.data.spec.class_name(i) for i in evaluation.labels[:n].tolist()]
    if evaluation.codes.shape[1] > 1:  # the projector needs two dimensions
        tracker.embedding(evaluation.codes[:n], labels, figures.sprites(parts.data.val, parts.data.spec, n))


def resume(run_dir: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Resume a run with its own config.

    Args:
        changes: new values of trainer.epochs, trainer.steps and trainer.patience; a finished run needs one of them.
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
    if not (run_dir / "checkpoints" / "last.pt").exists():
        raise ConfigError("resume", run_dir, "stopped before its first checkpoint; start it again")
    config = read_config(run_dir)
    if changes:
        for key, value in changes.items():
            if not (type(value) is int or (value is None and key != "epochs")):
                raise ConfigError(f"trainer.{key}", value, "must be a whole number")
        if "epochs" in changes:
            config["trainer"]["steps"] = None  # which would decide
        config["trainer"] |= changes
        config = parse_config(yaml.safe_dump(config, sort_keys=False), run_dir / "config.yaml")
    return train(config, run_dir, record.get("choices"), resume=True, longer=bool(changes))


def _peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory of the GPU if there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):  # Linux, where ru_maxrss includes the parent process
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
