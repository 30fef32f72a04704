"""What a run says before training, and what it leaves behind after it: summary, figures, tables, reference rows."""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from autoenc import figures, reference
from autoenc.baselines import baselines
from autoenc.build import Parts
from autoenc.config.remedies import against_collapse
from autoenc.files import plain_yaml, read_text, write_json
from autoenc.metric_table import legend
from autoenc.screen import result_table
from autoenc.text import flat
from autoenc.training import checkpoint
from autoenc.training.evaluation import Evaluation, evaluate, latent_health
from autoenc.training.tracking import CODE, METRICS, TEST, Progression, Tracker, varying
from autoenc.training.trainer import Trainer
from autoenc.verdict import verdict

FEW = 50  # training examples below which a remark is made
PROJECTED = 1_000  # codes in the embedding projector


COMPARED = ("model.latent_dim", "optimizer.lr", "trainer.epochs", "trainer.batch_size", "seed")  # always in hparams


def announce(trainer: Trainer, parts: Parts, progress: Progression, fresh: bool) -> None:
    """Print the sizes of data and model, notes on the data and remarks on the parts.

    Args:
        fresh: the weights are new, neither resumed nor those of another run.
    """
    model, data = parts.model, parts.data
    sizes = f"{len(data.train):,} training, {len(data.val):,} validation, {len(data.test):,} test examples"
    work = f"{_parameters(parts):,} parameters; {trainer.total_steps:,} steps on {trainer.device}"
    progress.line(f"{data.spec.name}: {sizes}; {work}")
    for note in data.notes:
        progress.line(note)
    prior = model.bottleneck.prior
    advice = prior.remark if prior is not None and fresh else ""
    remarks = (data.spec.kind.remark(data.train), model.bottleneck.remark, model.likelihood.remark, advice)
    for remark in filter(None, remarks):
        progress.line(f"Attention: {remark}")
    if len(data.train) < FEW:
        progress.line(f"Attention: {len(data.train)} training examples are few: results depend on which these are")
    if trainer.step:
        progress.line(f"resuming after step {trainer.step:,}")


def finish(
    trainer: Trainer,
    parts: Parts,
    config: dict[str, Any],
    choices: Mapping[str, str],
    progress: Progression,
) -> dict[str, Any]:
    """Evaluate the best weights on validation and test data, write what remains of the run, and return its summary."""
    model, data, tracker = parts.model, parts.data, trainer.tracker
    run_dir = tracker.run_dir
    best = checkpoint.load(run_dir / "checkpoints" / "best.pt", trainer.device)
    checkpoint.restore_best(best, model, parts.objective)
    step, batch_size = trainer.step, parts.settings.eval_batch_size
    results = {
        name: evaluate(model, parts.objective, split, data.spec, batch_size)
        for name, split in (("val", data.val), ("test", data.test))
    }
    latent = latent_health(model, data.test, results["test"], data.spec, batch_size)
    scale = model.likelihood.remedy(results["val"].numbers.get("mse", 0.0))
    numbers, remedies = results["test"].numbers | latent, against_collapse(config, choices, scale)
    assessment = verdict(model, parts.objective, numbers, remedies, len(data.test))
    compared: dict[str, float] = {}
    if data.spec.kind.continuous and "mse" in results["test"].numbers:
        compared = baselines(data.train, data.test, model.likelihood, int(latent["dim"]), batch_size)
    summary = {
        "state": "finished",
        "step": best["step"],
        "val": results["val"].numbers,
        "test": results["test"].numbers,
        "latent": latent,
        "baselines": compared,
        "verdict": assessment.text,
        "perf": {
            "seconds": trainer.seconds,
            "training_seconds": trainer.training_seconds,
            "examples_per_second": trainer.examples_per_second,
            "peak_memory_mb": _peak_memory_mb(trainer.device),
            "parameters": _parameters(parts),
        },
    }
    tracker.evaluation("test", step, step / trainer.steps_per_epoch, results["test"].numbers | latent)
    tracker.scalars(TEST, results["test"].numbers, step)
    tracker.scalars(CODE, varying(latent), step)
    if drawn := parts.settings.figures > 0:
        draw(tracker, parts, results["val"], step)
        lines = [json.loads(line) for line in (run_dir / METRICS).read_text().splitlines()]
        with figures.tried("loss"):
            tracker.image(
                "loss", figures.curves(lines, best["step"], parts.objective.units, parts.settings.monitor), step
            )
        with figures.tried("projector"):
            _project(tracker, parts, results["val"])
    tags = [*(f"{TEST}/{name}" for name in results["test"].numbers), *(f"{CODE}/{name}" for name in varying(latent))]
    tracker.hparams(settings(config, choices, run_dir), tags)
    write_json(run_dir / "summary.json", summary)
    reference.save(reference.compute(model, data, batch_size, trainer.device), run_dir / reference.FILE)
    rows = {name: result.numbers for name, result in results.items()}
    progress.show(result_table(f"{progress.prefix}result", rows, parts.objective.units))
    for line in legend(results["test"].numbers, *rows.values()):
        progress.line(line)
    if "mse_pca" in compared:
        pca = f"PCA with {latent['dim']:g} components {compared['mse_pca']:.5g}"
        own, mean = results["test"].numbers["mse"], compared["mse_mean"]
        progress.line(f"test mse: model {own:.5g}, {pca}, mean of the data {mean:.5g}")
    progress.line(assessment.text if assessment.healthy else f"Attention: {assessment.text}")
    perf = summary["perf"]
    progress.line(
        f"{perf['seconds']:.1f} s, {perf['examples_per_second']:,.0f} examples/s, {perf['peak_memory_mb']:,.0f} MB;"
        f" weights of step {best['step']}, the best validation {parts.settings.monitor} (*)"
    )
    progress.line(f"run: {run_dir}" + (f"   figures: {run_dir / 'figures'}" if drawn else ""))
    if data.spec.classes:
        progress.line(f"anomalies{_among(data.spec.anomalies)}: python scripts/detect.py {run_dir}")
    return summary


def _among(classes: Sequence[str]) -> str:
    """Return the classes that are anomalies in parentheses; empty if there are none."""
    more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
    return f" ({', '.join(classes[:3])}{more})" if classes else ""


def _parameters(parts: Parts) -> int:
    """Return the number of parameters of the model that learn."""
    return sum(p.numel() for p in parts.model.parameters() if p.requires_grad)


def settings(config: dict[str, Any], choices: Mapping[str, str], run_dir: Path) -> dict[str, Any]:
    """Return what a run was started with, see `hparams`."""
    return hparams(config, choices, overridden(run_dir))


def hparams(config: dict[str, Any], choices: Mapping[str, str], typed: set[str] | None) -> dict[str, Any]:
    """Return the chosen options and settings for TensorBoard's hparams tab.

    Settings are those of `COMPARED` and those named on the command line, as the others follow from the options.
    `latent_dim` is without `model.`, since the tab sorts by name and shows the first five.

    Args:
        typed: keys on the command line; None, if there was none: all settings.
    """
    left_out = (
        "data.",
        "resume",
        "init_from",
        "tracking",
        *(f"trainer.{key}" for key in ("device", "threads", "figures", "eval")),
    )
    left_out += ("likelihood.learned", "likelihood.output", "optimizer.fused")
    settings = {k: v for k, v in flat(config).items() if not k.startswith(left_out) and not k.endswith("_target_")}
    if typed is not None:
        chosen = (*COMPARED, *(typed - choices.keys()))
        settings = {k: v for k, v in settings.items() if any(f"{k}.".startswith(f"{key}.") for key in chosen)}
    settings["latent_dim"] = settings.pop("model.latent_dim")
    settings = {k: v for k, v in settings.items() if v not in (None, "", "[]", "{}")}
    return {k: v for k, v in choices.items() if k != "trainer"} | settings


def overridden(run_dir: Path) -> set[str] | None:
    """Return the keys on the command line that Hydra has stored in the run; None without them."""
    try:
        lines = plain_yaml(read_text(run_dir / ".hydra" / "overrides.yaml"))
    except (OSError, ValueError):
        return None
    return {str(line).partition("=")[0].lstrip("+~") for line in lines or ()}


def draw(tracker: Tracker, parts: Parts, evaluation: Evaluation, step: int) -> None:
    """Write the figures of the model and a histogram of its codes."""
    model, objective, data = parts.model, parts.objective, parts.data
    for name, shown in figures.of_run(model, data.val, data.spec, evaluation, objective).items():
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


def _peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory of the GPU if there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    with contextlib.suppress(OSError):  # Linux, where ru_maxrss includes the parent process
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
