"""The sweep that this process runs: what it will take, how its jobs train, and the table at its end."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, read_write

from autoenc import memory
from autoenc.errors import UserError, counted
from autoenc.forked import CLEAR, Sweep, isolated, stop_with_parent
from autoenc.sweeps import folders, job, together
from autoenc.sweeps.command_line import check_jobs
from autoenc.sweeps.forecast import at_once, forecast, refusals
from autoenc.sweeps.watch import Live, Watch
from autoenc.text import printable

WORKER = 1e9  # bytes of a worker and its job: torch alone is half of it
PATIENCE = 10.0  # seconds that the jobs of a sweep that was killed get for their checkpoints


def limit_workers(launcher: DictConfig, jobs: int) -> None:
    """Let joblib start no more workers than there are jobs, and memory for; a line says so."""
    if "n_jobs" not in launcher:
        return
    asked, fit = at_once(launcher), max(1, int(min(1e6, memory.total() / WORKER)))
    if asked > fit and jobs > fit:
        print(f"hydra.launcher.n_jobs={asked}: {fit} at once, for which the memory suffices ({WORKER / 1e9:g} GB each)")
    if asked > min(fit, jobs):
        with read_write(launcher):
            launcher.n_jobs = min(fit, jobs)


class Refused(Exception):
    """No job of the sweep has trained: what it was asked for is not possible."""


@dataclass
class Running:
    """A sweep. Processes that the jobs of a parallel sweep run in know none of it but `together`."""

    folder: Path | None = None
    jobs: list[list[str]] = field(default_factory=list)  # the overrides of each
    resumed: bool = False  # it was started before
    together: bool = False  # the jobs train at once where they can
    attempted: set[int] = field(default_factory=set)  # jobs that have trained with others
    watch: Watch | None = None
    live: Live | None = None  # where the jobs run in other processes
    failed: list[str] = field(default_factory=list)  # folders of failed jobs

    def start(self, launcher: DictConfig) -> None:
        """Print how many jobs there are and what they will take, and watch them from here on.

        Nothing is printed of a sweep with a job that cannot be composed: Hydra refuses it, and says why.

        Raises:
            ConfigError: the sweep resumes, and its folder holds other jobs. UserError: no job can run.
        """
        assert self.folder is not None
        check_jobs(self.folder, self.jobs)
        missing = folders.missing(self.folder, len(self.jobs))
        slurm = launcher._target_.endswith("SlurmLauncher")  # on other machines, which may have other files
        try:
            refused = {} if slurm else refusals([self.jobs[number] for number in missing])
        except UserError:
            return
        if len(refused) == len(self.jobs):
            raise UserError(next(iter(refused.values())))
        finished = len(self.jobs) - len(missing)
        before = f", of which {finished} are finished" if finished else ""
        print(f"{counted(len(self.jobs), 'jobs')} in {self.folder}{before}", flush=True)
        if not missing or self.together:  # estimates are of jobs one after the other
            return
        if slurm:
            return
        limit_workers(launcher, len(missing))
        expected = forecast([self.jobs[number] for number in missing], launcher, refused)
        print(expected.text, flush=True)
        costs = [0.0] * len(self.jobs)
        for number, cost in zip(missing, expected.costs, strict=True):
            costs[number] = 0.0 if cost.error else cost.seconds
            if cost.error:
                print(printable(f"Attention: job {number} will fail: {cost.error}"), flush=True)
        self.watch = Watch(self.folder, costs, expected.at_once)
        if not launcher._target_.endswith("BasicLauncher"):
            self.live = Live(self.watch)
            self.live.start()

    def train(self, cfg: DictConfig, run_dir: Path) -> float:
        """Train the job that Hydra has composed, unless it is finished, and return its `job.value`; NaN if it fails.

        Raises:
            ConfigError: its folder is not below that of the sweep. Refused: the jobs cannot train at once.
        """
        if Sweep.stopped is not None:
            if [path.name for path in run_dir.iterdir()] == [".hydra"]:
                shutil.rmtree(run_dir)  # "not started" in the table
            return float("nan")
        folders.check_place(run_dir, Path(HydraConfig.get().sweep.dir))
        number, overrides = HydraConfig.get().job.num, " ".join(HydraConfig.get().overrides.task)
        if (summary := folders.earlier(run_dir)) is not None:
            if number not in self.attempted:  # else it has just been trained with others
                print(f"job {number}: {overrides}: finished before", flush=True)
            return job.value(summary, cfg.trainer.monitor)
        if self.together:
            return self._train_together(cfg, number, run_dir.parent)
        from autoenc.training.tracking import Progression

        title = f"job {number}: {overrides}"
        if multiprocessing.parent_process() is not None:  # of hydra/launcher=joblib: the lines of jobs are mixed
            Progression.prefix = f"[{number}] "
            stop_with_parent()
            print(f"{CLEAR * sys.stdout.isatty()}{title}", flush=True)
        else:
            print(f"\n{title}", flush=True)
        if self.watch is not None:
            Progression.sweep = self.watch.line
        value = isolated(lambda: job.attempt(cfg, run_dir), lambda why: job.note_failure(run_dir, why))
        if self.watch is not None:
            print(self.watch.line(), flush=True)
        return float("nan") if value is None else value

    def _train_together(self, cfg: DictConfig, number: int, sweep_dir: Path) -> float:
        """Train a job with all others that can train at once with it, unless it has been trained so."""
        if number in self.attempted:
            return float("nan")  # it has failed
        overrides = {n: self.jobs[n] for n in together.at_once(self.jobs, number)}
        run_dirs = {n: folders.prepare(sweep_dir, n, each) for n, each in overrides.items()}
        left = {n: folder for n, folder in run_dirs.items() if folders.earlier(folder) is None}
        configs = {n: together.config_of(cfg, overrides[n]) for n in left}
        self.attempted |= left.keys()
        common = [text for text in overrides[number] if all(text in each for each in overrides.values())]
        print(f"\njobs {', '.join(map(str, left))} at once: {' '.join(common)}", flush=True)

        def killed(why: str) -> None:
            for folder in left.values():
                job.note_failure(folder, why)

        value = isolated(lambda: together.attempt(configs, left), killed)
        trained = any((folder / "checkpoints").exists() for folder in left.values())
        if value == together.REFUSED and not trained and left.keys() == set(range(len(self.jobs))):
            for folder in left.values():
                shutil.rmtree(folder)
            raise Refused
        return float("nan") if value is None else value

    def report(self) -> None:
        """Write the table, CSV and plot of the sweep, and note which jobs have failed."""
        if self.live is not None:
            self.live.stop()
        from autoenc.apps.protocol.compare_table import report_sweep

        assert self.folder is not None
        folders.settle(self.folder, self.jobs, PATIENCE, job.note_failure)
        self.failed = report_sweep(self.folder)


sweep = Running()  # of this process
