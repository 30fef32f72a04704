"""What the jobs of a sweep will take, in seconds and bytes, from short trials of some of them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from autoenc.errors import ConfigError, DataError, NotFinite, UserError, one_line
from autoenc.forked import isolated, preload

SAME = re.compile(
    r"(seed|labels_seed|anomaly_classes|data\.\w+_seed|optimizer\.lr|.*\.weight|noise\.(std|p))="
)  # the cost is the same
NUMBER = re.compile(r"=[\d.e-]+$")
STEPS, SECONDS = (3, 7, 50), 0.5  # trainings one after the other, of which the last counts; none follows after this
LONGEST = 120  # seconds of a trial
OTHER, ALIKE = 0.2, 0.05  # of the time of the sweep: trials of jobs with other parts, and trials of the others


@dataclass(frozen=True)
class Cost:
    """What a job takes: seconds and bytes; whether it may stop early; or why it cannot run."""

    seconds: float = math.nan
    bytes: float = math.nan
    early: bool = False
    error: str = ""


@dataclass(frozen=True)
class Forecast:
    """What the jobs of a sweep take.

    Args:
        costs: of each job; of one like none that was tried, the mean.
        tried: number of jobs that were tried.
        at_once: number of jobs at once. start: seconds until a process can train.
    """

    costs: Sequence[Cost]
    tried: int
    at_once: int
    start: float

    @property
    def text(self) -> str:
        """What people are told before the first job."""
        costs = [cost for cost in self.costs if not math.isnan(cost.seconds)]
        if not costs:
            return "time and size are not known"
        seconds, size = sum(cost.seconds for cost in costs), sum(cost.bytes for cost in costs)
        at_once = min(self.at_once, len(costs))
        longest = max(cost.seconds for cost in costs)
        text = f"about {span(self.start + max(seconds / at_once, longest))} and {math.ceil(size / 1e6):,} MB"
        text += f", {at_once} at once if they do not slow each other down" * (at_once > 1)
        text += f"; estimated from a few steps of {self.tried} of them"
        return text + "; less if they stop early" * any(cost.early for cost in costs)


def span(seconds: float) -> str:
    """Return a time span for people: 90 s, 12 min, 3.5 h."""
    if seconds < 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def refusals(jobs: Sequence[Sequence[str]]) -> dict[int, str]:
    """Return why settings of jobs are wrong, by number, without loading torch.

    Composing a job takes 0.25 s: the first job that has a setting stands for the others, unless none of these can run.

    Raises:
        UserError: a job cannot be composed.
    """
    alike: dict[frozenset[str], list[int]] = {}
    for number, job in enumerate(jobs):
        texts = frozenset(NUMBER.sub("=0", text) if SAME.match(text) else text for text in job)
        alike.setdefault(texts, []).append(number)
    seen: set[str] = set()
    first: list[frozenset[str]] = []
    rest: list[frozenset[str]] = []
    for texts in alike:
        (rest if texts <= seen else first).append(texts)
        seen |= texts
    wrong: dict[frozenset[str], str] = {}
    for texts in [*first, *rest]:
        if len(wrong) >= len(first) and "" in wrong.values():
            break
        wrong[texts] = _refused(jobs[alike[texts][0]])
    return {number: why for texts, why in wrong.items() if why for number in alike[texts]}


def forecast(
    jobs: Sequence[Sequence[str]], launcher: Mapping[str, Any], refused: Mapping[int, str] | None = None
) -> Forecast:
    """Try jobs of a sweep in processes of their own, which leave nothing behind.

    Of jobs that differ in seeds and weights only, one is tried, and of these as many as take little time in comparison
    with the sweep; first those with other parts, such as the model or the data.

    Args:
        jobs: the overrides of each. launcher: settings of Hydra's launcher. refused: see `refusals`.
    """
    count = at_once(launcher)
    keys = [tuple(text for text in job if not SAME.match(text)) for job in jobs]
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for key in dict.fromkeys(keys):
        groups.setdefault(tuple(text for text in key if "." not in text.partition("=")[0]), []).append(key)
    found = {keys[number]: Cost(error=why) for number, why in (refused or {}).items()}
    clock = time.monotonic()
    preload()
    start = 0.0 if count == 1 else time.monotonic() - clock
    spent = 0.0
    order = [*(first for first, *_ in groups.values()), *(key for _, *rest in groups.values() for key in rest)]
    for i, key in enumerate(order):
        whole = sum(cost.seconds for cost in _all(keys, found))
        if key in found or spent > (OTHER if i < len(groups) else ALIKE) * whole:  # no if it is not known
            continue
        clock = time.monotonic()
        found[key] = _tried(jobs[keys.index(key)])
        spent += time.monotonic() - clock
    tried = sum(not math.isnan(cost.seconds) for cost in found.values())
    return Forecast(_all(keys, found), tried, count, start)


def _all(keys: Sequence[tuple[str, ...]], found: Mapping[tuple[str, ...], Cost]) -> list[Cost]:
    known = [cost for cost in found.values() if not math.isnan(cost.seconds)]
    mean = Cost()
    if known:
        mean = Cost(statistics.fmean(c.seconds for c in known), statistics.fmean(c.bytes for c in known))
    return [found.get(key, mean) for key in keys]


def at_once(launcher: Mapping[str, Any]) -> int:
    """Return how many jobs a launcher runs at once: `n_jobs` of joblib; -1: one for each core, -2: one less ..."""
    count = int(launcher.get("n_jobs") or 1)
    return count if count > 0 else max(1, (os.cpu_count() or 1) + 1 + count)


def _refused(job: Sequence[str]) -> str:
    """Return why a setting of a job is wrong; UserError if the job cannot be composed."""
    from autoenc.config.checks import check_files
    from autoenc.config.composed import compose

    try:
        check_files(compose(job)["data"])
    except (ConfigError, DataError) as error:
        return str(error)
    return ""


def _tried(job: Sequence[str]) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        value = isolated(lambda: asdict(_attempt(job, Path(folder))), lambda why: None, LONGEST)
    return Cost(**value) if value else Cost()  # killed, or too long


def _attempt(job: Sequence[str], folder: Path) -> Cost:
    from autoenc.config.composed import compose_with_choices

    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
        logging.disable()
        try:
            return measure(*compose_with_choices(job), folder)
        except (UserError, NotFinite) as error:
            return Cost(error=one_line(error))
        except Exception:  # what a trial cannot do, the job may; it reports its own errors
            return Cost()
        finally:
            logging.disable(logging.NOTSET)


def measure(config: dict[str, Any], choices: Mapping[str, str], folder: Path) -> Cost:
    """Return what a run takes: a few steps, an evaluation, figures, and what comes once are measured in a folder."""
    from autoenc import build, report, run
    from autoenc.seeds import seeded
    from autoenc.start import start_prior
    from autoenc.training.evaluation import evaluate
    from autoenc.training.process import torch_settings
    from autoenc.training.settings import LARGEST, TrainerSettings
    from autoenc.training.tracking import Progression, Tracker
    from autoenc.training.trainer import Trainer

    begin = time.perf_counter()
    settings, quiet = TrainerSettings(**config["trainer"]), Progression(0, quiet=True)
    device = build.pick_device(settings.device)
    with torch_settings(settings), seeded(config["seed"], device):
        parts = build.build(config, device)
        run.check_monitor(parts)
        data, tracker = parts.data, Tracker(folder)
        start_prior(parts.model, data.train, settings.eval_batch_size, device)
        once = replace(settings, evaluate_every=LARGEST - 1, figures=0)  # evaluate at the end of `fit` only
        trainer = Trainer(parts.model, parts.objective, parts.optimizers, data, once, config["seed"], device,
                          tracker, folder / "checkpoints")  # fmt: skip
        parts.objective.start(data.train, quiet.line)
        for steps in STEPS:
            before, clock = trainer.training_seconds, time.perf_counter()
            trainer.total_steps = trainer.step + steps
            trainer.fit(quiet)
            training, whole = trainer.training_seconds - before, time.perf_counter() - clock
            if training > SECONDS:
                break
        result = evaluate(parts.model, parts.objective, data.val, data.spec, settings.eval_batch_size)
        for _ in range(2):  # the first figures take longer
            size, clock = sum(tracker.written().values()), time.perf_counter()
            report.draw(tracker, parts, result, trainer.step)
            drawing, drawn = time.perf_counter() - clock, sum(tracker.written().values()) - size
        report.finish(trainer, parts, config, choices, quiet)
        tracker.close()
    step, evaluation = training / steps, whole - training
    total = settings.total_steps(len(data.train))
    evaluations = math.ceil(total / (settings.steps_per_epoch(len(data.train)) * settings.evaluate_every))
    times = step * (total - trainer.step) + evaluation * (evaluations - 1) + drawing * (settings.figures - 2)
    files = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Cost(
        time.perf_counter() - begin + times, files + drawn * (settings.figures - 2), settings.patience is not None
    )
