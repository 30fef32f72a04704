"""One trial of a search: an ordinary run that shows its validation metrics to Optuna after each epoch."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from optuna.trial import Trial

from autoenc.config.composed import compose_with_choices
from autoenc.errors import Pruned, UserError, failure
from autoenc.files import read_json, read_text
from autoenc.search.goals import Goal
from autoenc.sweeps.folders import note_failure
from autoenc.training.tracking import METRICS
from autoenc.training.trainer import Watch

DONE, PRUNED, FAILED, WRONG = "done", "pruned", "failed", "wrong"  # how a run ended


def watching(goals: Sequence[Goal], trial: Trial | None = None) -> Watch:
    """Return what a trial shows its epochs to: reports the metric, and stops the run if Optuna's pruner says so."""

    def see(epoch: int, numbers: Mapping[str, float]) -> None:
        if trial is not None and len(goals) == 1:  # of several metrics, Optuna prunes nothing
            value = numbers[goals[0].name]
            trial.report(value, epoch)
            if trial.should_prune():
                raise Pruned(f"{goals[0].name} {value:.5g} after epoch {epoch} is in the worst quarter")

    return Watch(tuple(goal.name for goal in goals if goal.part == "val"), see)


def attempt(overrides: Sequence[str], run_dir: Path, watch: Watch, resume: bool = False) -> str:
    """Train one run in a process of its own, and return how it ended; its messages are in train.log."""
    from autoenc import run

    with contextlib.redirect_stdout(open(os.devnull, "w")):
        try:
            if resume:
                run.resume(run_dir, watch=watch)
            else:
                config, choices = compose_with_choices(overrides)
                run.train(config, run_dir, choices, watch=watch)
            return DONE
        except Pruned:
            return PRUNED
        except UserError as error:
            note_failure(run_dir, str(error))
            return WRONG
        except Exception as error:
            text, known = failure(error)
            note_failure(run_dir, text)
            if not known:
                traceback.print_exception(error, file=sys.stderr)
            return FAILED


def refusal(overrides: Sequence[str]) -> str:
    """Return why a run with these settings cannot begin, from the building of its data and model; "" if it can."""
    from autoenc import build

    config, _ = compose_with_choices(overrides)
    try:
        build.build(config, build.pick_device(config["trainer"]["device"]))
    except UserError as error:
        return str(error)
    return ""


def reason(run_dir: Path) -> str:
    """Return the reason in run.json."""
    try:
        return str(read_json(run_dir / "run.json").get("error", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def epochs_of(run_dir: Path, name: str) -> dict[int, float]:
    """Return a validation metric of a finished run by epochs, as a trial shows it."""
    lines = [json.loads(line) for line in read_text(run_dir / METRICS).splitlines()]
    found = {round(line["epoch"]): line[name] for line in lines if line["split"] == "val" and name in line}
    return {epoch: value for epoch, value in found.items() if value is not None}
