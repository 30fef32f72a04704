"""Running a search: Optuna's studies, one for each variant, whose trials are runs in processes of their own."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from autoenc.config.schema import short_name
from autoenc.errors import UserError
from autoenc.files import locked
from autoenc.forked import isolated, preload
from autoenc.search.goals import shown
from autoenc.search.plan import Plan, Variant, create_folder
from autoenc.search.space import OPTION, written
from autoenc.search.storage import open_studies
from autoenc.search.trial import DONE, PRUNED, WRONG, attempt, epochs_of, reason, refusal, watching
from autoenc.sweeps import folders
from autoenc.training.trainer import Watch

DEFAULT, KILLED, RUN, ERROR = "default", "killed", "run", "error"  # attributes of trials
LOCKS = ".locks"
LOST = "its process was killed before the first checkpoint"


class Search:
    """A search in its folder, in which other processes may work too.

    Args:
        say: called with each line for the console.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]):
        self.plan, self.say = plan, say
        self.killed: set[tuple[str, int]] = set()  # trials of this process, which are replaced by the next call
        self.seconds: dict[str, float] = {}  # that the default of a variant took
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        create_folder(plan)
        (plan.folder / LOCKS).mkdir(exist_ok=True)
        with self._alone():
            self.studies = open_studies(plan)

    def run(self) -> None:
        """Train the defaults, then trials until each variant has its number.

        Raises:
            UserError: config or data are invalid. Interrupted: by a signal.
        """
        preload()  # not within the time of the first run
        for variant in self.plan.variants:
            self._check_ends(variant)
        for variant in self.plan.variants:
            self._default(variant)
        self._estimate()
        while (asked := self._ask()) is not None:
            self._trial(*asked)

    def _check_ends(self, variant: Variant) -> None:
        """Build the model with the ends of the ranges and each choice, before the first trial; UserError if refused."""
        if self.trials(variant):
            return
        for overrides in variant.ends:
            if why := isolated(partial(refusal, overrides), lambda why: None):
                raise UserError(f"{OPTION}, {variant.name}: {why}")

    def repeat(self) -> None:
        """Train the default and the best settings of each variant with seeds of their own."""
        for variant in self.plan.variants:
            for trial in (None, *self.best(variant)):
                settings = [o for o in self.settings(variant, trial) if not o.startswith("seed=")]
                for seed, run_dir in self._repetitions(variant, trial).items():
                    self._run(variant, run_dir, [*settings, f"seed={seed}"])

    def repeated(self, variant: Variant, trial: FrozenTrial | None) -> list[Path]:
        """Return the runs with the settings of a trial, None: the default, and seeds of their own."""
        runs = self._repetitions(variant, trial).values()
        return [run_dir for run_dir in runs if (run_dir / "run.json").exists()]

    def _repetitions(self, variant: Variant, trial: FrozenTrial | None) -> dict[int, Path]:
        name = DEFAULT if trial is None or DEFAULT in trial.user_attrs else str(trial.number)
        seeds = range(variant.seed + 1, variant.seed + 1 + self.plan.seeds)
        return {seed: self.folder(variant) / f"{name}_seed={seed}" for seed in seeds}

    def folder(self, variant: Variant) -> Path:
        """Return the folder with the runs of a variant."""
        return self.plan.folder / variant.name

    def trials(self, variant: Variant) -> list[FrozenTrial]:
        """Return the trials of a variant that count: not the default, and not those that were killed and replaced."""
        return [
            trial
            for trial in self.studies[variant.name].get_trials(deepcopy=False)
            if DEFAULT not in trial.user_attrs
            and (KILLED not in trial.user_attrs or (variant.name, trial.number) in self.killed)
        ]

    def running(self) -> int:
        """Return the number of trials that other processes train."""
        return sum(trial.state == TrialState.RUNNING for v in self.plan.variants for trial in self.trials(v))

    def best(self, variant: Variant) -> list[FrozenTrial]:
        """Return the best trial by the validation metric; of several metrics, the Pareto front."""
        study = self.studies[variant.name]
        if len(self.plan.goals) > 1:
            ordered = sorted(study.best_trials, key=lambda trial: (trial.values[0], trial.number))
            return [t for i, t in enumerate(ordered) if not i or t.values != ordered[i - 1].values]  # each once
        try:
            return [study.best_trial]
        except ValueError:  # none is complete
            return []

    def run_of(self, variant: Variant, trial: FrozenTrial | None) -> Path:
        """Return the run directory of a trial; None: of the default."""
        return self.folder(variant) / (DEFAULT if trial is None else trial.user_attrs[RUN])

    def settings(self, variant: Variant, trial: FrozenTrial | Trial | None) -> list[str]:
        """Return the settings of a trial as on the command line; None: of the default."""
        if trial is None or DEFAULT in trial.user_attrs:
            return list(variant.overrides)
        return [*variant.overrides, *(f"{key}={written(trial.params[key])}" for key in self.plan.space)]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from asking for trials."""
        with FileLock(self.plan.folder / LOCKS / "search"):
            yield

    def _lock(self, variant: Variant, name: str) -> FileLock | None:
        """Hold a run for this process; None if another holds it."""
        lock = FileLock(self.plan.folder / LOCKS / f"{variant.name} {name}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _default(self, variant: Variant) -> None:
        """Train the preset without the space, and add it to the study if its values lie in the space."""
        run_dir = self.run_of(variant, None)
        new = folders.earlier(run_dir) is None
        if (summary := self._run(variant, run_dir, variant.overrides)) is None:
            return
        goals = self.plan.goals
        values = [goal.of(summary) for goal in goals]
        if new:
            self.seconds[variant.name] = summary["perf"]["seconds"]  # also before it was interrupted
            self.say(f"{variant.name}: default{self._numbers(values)}, {self.seconds[variant.name]:.0f} s")
        params = {key: d.holds(variant.default[key]) for key, d in self.plan.space.items()}
        complete = None not in (*params.values(), *values)
        study = self.studies[variant.name]
        with self._alone():
            if complete and not any(DEFAULT in t.user_attrs for t in study.get_trials(deepcopy=False)):
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params,
                        distributions={key: d.optuna() for key, d in self.plan.space.items()},
                        values=[value for value in values if value is not None],
                        user_attrs={DEFAULT: True, RUN: DEFAULT},
                        intermediate_values=epochs_of(run_dir, goals[0].name) if len(goals) == 1 else {},
                    )
                )

    def _run(self, variant: Variant, run_dir: Path, overrides: Sequence[str]) -> dict[str, Any] | None:
        """Train a run to its end, and return its summary; None if it failed or another process trains it."""
        if (lock := self._lock(variant, run_dir.name)) is None:
            return None
        with lock:
            if (summary := folders.earlier(run_dir)) is not None:
                return summary
            folders.write_overrides(run_dir, overrides)
            code = self._train(overrides, run_dir, watching(self.plan.goals))
            if code == WRONG:
                raise UserError(reason(run_dir))
            if code != DONE:
                self.say(f"{variant.name}: {run_dir.name} failed: {reason(run_dir)}")
            return folders.earlier(run_dir)

    @staticmethod
    def _train(settings: Sequence[str], run_dir: Path, watch: Watch) -> str | None:
        """Train a run, or resume it, in a process of its own; return how it ended, None if it was killed."""
        if folders.earlier(run_dir) is not None:
            return DONE
        resume = folders.interrupted(run_dir)
        return isolated(
            lambda: attempt(settings, run_dir, watch, resume), lambda why: folders.note_failure(run_dir, why)
        )

    def _ask(self) -> tuple[Variant, Trial, FileLock] | None:
        """Return a trial to resume, or a new one of the variant that has the fewest; None if all have enough."""
        with self._alone():
            if (left := self._left()) is not None:
                return left
            count = {variant.name: len(self.trials(variant)) for variant in self.plan.variants}
            variant = min(self.plan.variants, key=lambda v: count[v.name])
            if count[variant.name] >= self.plan.trials:
                return None
            study = self.studies[variant.name]
            number = len(study.get_trials(deepcopy=False))
            # A sampler for each trial: one that starts anew, here or in another process, would draw the same again.
            study.sampler = optuna.samplers.TPESampler(seed=variant.seed * 10_007 + number, multivariate=True)
            trial = study.ask({key: distribution.optuna() for key, distribution in self.plan.space.items()})
            lock = self._lock(variant, str(trial.number))
            assert lock is not None
            values = self.settings(variant, trial)[len(variant.overrides) :]
            trial.set_user_attr(RUN, f"{trial.number}_{short_name(values)}")
            return variant, trial, lock

    def _left(self) -> tuple[Variant, Trial, FileLock] | None:
        """Return a trial that a process has left, with a checkpoint; mark those without one as failed."""
        for variant in self.plan.variants:
            study = self.studies[variant.name]
            for frozen in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if (lock := self._lock(variant, str(frozen.number))) is None:
                    continue
                trial = Trial(study, frozen._trial_id)
                if RUN in frozen.user_attrs:
                    run_dir = self.run_of(variant, frozen)
                    run_dir.mkdir(parents=True, exist_ok=True)
                    try:
                        with locked(run_dir):
                            resumable = folders.interrupted(run_dir)
                    except UserError:  # the run still writes its checkpoint
                        lock.release()
                        continue
                    if resumable:
                        return variant, trial, lock
                    folders.note_failure(run_dir, LOST)
                trial.set_user_attr(KILLED, True)
                trial.set_user_attr(ERROR, LOST)
                study.tell(trial, state=TrialState.FAIL)
                lock.release()
        return None

    def _trial(self, variant: Variant, trial: Trial, lock: FileLock) -> None:
        """Train a trial and tell Optuna how it ended."""
        study, goals = self.studies[variant.name], self.plan.goals
        run_dir = self.folder(variant) / trial.user_attrs[RUN]
        overrides, started = self.settings(variant, trial), time.monotonic()
        watch = watching(goals, trial)
        with lock:
            folders.write_overrides(run_dir, overrides)
            code = self._train(overrides, run_dir, watch)
            summary = folders.earlier(run_dir)
            values = [goal.of(summary) for goal in goals] if summary is not None else []
            if code == DONE and None not in values:
                study.tell(trial, [value for value in values if value is not None])
                ended = self._numbers(values)
            elif code == PRUNED:
                study.tell(trial, state=TrialState.PRUNED)
                ended = f" pruned: {reason(run_dir)}"
            else:
                error = reason(run_dir) or "a metric is not finite"
                if code is None:  # the process was killed
                    self.killed.add((variant.name, trial.number))
                    trial.set_user_attr(KILLED, True)
                trial.set_user_attr(ERROR, error)
                study.tell(trial, state=TrialState.FAIL)
                ended = f" failed: {error}"
        done = sum(t.state.is_finished() for t in self.trials(variant))
        found = self.best(variant)
        best = f"; best {shown(found[0].values[0])}" if len(goals) == 1 and found else ""
        values_of = " ".join(overrides[len(variant.overrides) :])
        seconds = time.monotonic() - started
        self.say(f"{variant.name} {done}/{self.plan.trials}  {values_of} {ended}{best}  {seconds:.0f} s")

    def _numbers(self, values: Sequence[float | None]) -> str:
        pairs = zip(self.plan.goals, values, strict=True)
        return "".join(f" {goal.name} {'not finite' if v is None else shown(v)}" for goal, v in pairs)

    def _estimate(self) -> None:
        """Say how long the trials take if they are like those before, or like the defaults."""
        seconds, left = 0.0, 0
        for variant in self.plan.variants:
            ended = [trial for trial in self.trials(variant) if trial.state.is_finished()]
            missing = max(0, self.plan.trials - len(ended))
            durations = [trial.duration.total_seconds() for trial in ended if trial.duration is not None]
            mean = statistics.fmean(durations) if durations else self.seconds.get(variant.name, 0.0)
            seconds, left = seconds + missing * mean, left + missing
        if left:
            time_left = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
            about = f", about {time_left} in one process, and less with pruning" if seconds else ""
            self.say(f"{left} trials left{about}")
