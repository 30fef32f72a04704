"""Sweeps: how far they are, and how one that was stopped resumes: what is finished is kept, the rest is trained."""

from __future__ import annotations

import contextlib
import copy
import math
import re
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from autoenc.config.schema import short_name
from autoenc.errors import ConfigError, DataError, UserError, keys_below, one_line
from autoenc.files import check_inside, locked, plain_yaml, read_json, read_text, write_json
from autoenc.forecast import span
from autoenc.forked import CLEAR
from autoenc.training.settings import TrainerSettings

REPLICAS = "trainer.replicas"
STORED = "multirun.yaml"  # Hydra writes it before the first job
LAUNCHER = ("hydra/launcher", "hydra.launcher.")  # settings that may change when a sweep resumes
REFRESH = 0.5  # seconds
TOGETHER = "hydra.callbacks.autoenc.together"  # the jobs train at once
AT_ONCE = re.compile(r"seed|optimizer\.\w+|noise\.\w+|regularizer\.\w+\.weight(\.\w+)?")  # may differ between them
OWN = ("hydra.mode", "hydra.sweep.dir")  # settings that are set anew
SUBDIR = re.compile(r"(?:[\w=,-]|\$\{hydra\.job\.num\}|\$\{short:\$\{hydra\.overrides\.task\}\})+", re.ASCII)


def is_sweep(folder: Path) -> bool:
    """Return whether a folder is that of a sweep."""
    return (folder / STORED).is_file()


def arguments(folder: Path, others: list[str]) -> list[str]:
    """Return the command line that continues a sweep.

    Args:
        others: settings of the launcher, which may differ from before.

    Raises:
        ConfigError: another setting would change. DataError: the stored command line is damaged.
    """
    if wrong := [other for other in others if not other.startswith(LAUNCHER)]:
        why = f"a sweep resumes with its own settings, of which only hydra/launcher may change; leave out {wrong[0]}"
        raise ConfigError("resume", folder, why)
    check_inside(folder)
    place = folder / STORED
    try:
        overrides = plain_yaml(read_text(place))["hydra"]["overrides"]
        task, own = ([str(text) for text in overrides[part]] for part in ("task", "hydra"))
        parsed = OverridesParser.create().parse_overrides([*task, *own])
    except (OSError, ValueError, KeyError, TypeError, HydraException):
        raise DataError(f"{place}: is damaged: it has no hydra.overrides.task") from None
    for text, override in zip(task, parsed, strict=False):
        if "hydra" in (override.key_or_group[:5], (override.package or "")[:5]) or override.key_or_group == "resume":
            raise DataError(f"{place}: {text} is no setting of a run")
    kept = []
    for text, override in zip(own, parsed[len(task) :], strict=True):
        key = override.key_or_group
        if key == TOGETHER and others:
            raise ConfigError("resume", folder, f"the jobs train at once, in one process; leave out {others[0]}")
        if key.startswith(LAUNCHER):
            kept += [] if others else [text]
        elif key == TOGETHER or (key == "hydra.sweep.subdir" and SUBDIR.fullmatch(str(override.value()))):
            kept.append(text)
        elif key not in OWN:
            why = f"the sweep was started with {text}, with which a sweep does not resume"
            raise ConfigError("resume", folder, why)
    quoted = str(folder).replace("'", "\\'")
    return ["-m", *task, *kept, *others, f"hydra.sweep.dir='{quoted}'"]


def replicated(args: list[str]) -> list[str]:
    """Return a command line with `trainer.replicas=R` as that of a sweep over R seeds whose jobs train at once.

    Raises:
        ConfigError: another argument contradicts it.
    """
    values = {a.lstrip("+").partition("=")[0]: a.partition("=")[2] for a in args if "=" in a}
    count, first = values.get(REPLICAS, ""), values.get("seed", "0")
    if not count.isdecimal() or any(a.startswith("-") and a not in ("-m", "--multirun") for a in args):
        return args  # the config is only shown, or wrong
    with keys_below("trainer"):
        TrainerSettings(replicas=int(count))
    if not first.isdecimal():
        raise ConfigError("seed", first, f"{REPLICAS}={count} trains this seed and the next ones: give one number")
    for key in ("hydra.run.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra/sweeper"):
        if key in values:
            instead = "name the folder of its runs by hydra.sweep.dir" if key == "hydra.run.dir" else "leave it out"
            raise ConfigError(key, values[key], f"{REPLICAS}={count} is a sweep in one process; {instead}")
    others = [a for a in args if a.lstrip("+").partition("=")[0] not in (REPLICAS, "seed", "-m", "--multirun")]
    seeds = ",".join(map(str, range(int(first), int(first) + int(count))))
    return ["-m", *others, f"seed={seeds}", f"{TOGETHER}=true"]


def at_once(jobs: list[list[str]], number: int) -> list[int]:
    """Return the numbers of the jobs that can train at once with one of them, from that on."""

    def rest(overrides: list[str]) -> list[str]:
        return [text for text in overrides if not AT_ONCE.fullmatch(text.partition("=")[0])]

    return [other for other in range(number, len(jobs)) if rest(jobs[other]) == rest(jobs[number])]


def config_of(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the config of a job that can train at once with that of `cfg`."""
    own = copy.deepcopy(cfg)
    texts = [text for text in overrides if AT_ONCE.fullmatch(text.partition("=")[0])]
    for override in OverridesParser.create().parse_overrides(texts):
        OmegaConf.update(own, override.key_or_group, override.value(), merge=False)
    return own


def prepare(folder: Path, number: int, overrides: list[str]) -> Path:
    """Make the folder of a job, with its overrides, and return it."""
    run_dir = folder / f"{number}_{short_name(overrides)}"
    write_overrides(run_dir, overrides)
    return run_dir


def write_overrides(run_dir: Path, overrides: Sequence[str]) -> None:
    """Write the overrides of a run as Hydra does."""
    (run_dir / ".hydra").mkdir(parents=True, exist_ok=True)
    (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(list(overrides)))


def check_jobs(folder: Path, jobs: list[list[str]]) -> None:
    """Refuse a sweep whose folders hold other jobs than its command line has.

    Raises:
        ConfigError: the first job that differs.
    """
    for path in sorted(folder.glob("*/.hydra/overrides.yaml")):
        name = path.parts[-3]
        number = _number(name)
        if number is None:
            continue
        try:
            stored = [str(text) for text in plain_yaml(read_text(path)) or []]
        except (ValueError, TypeError) as error:
            raise DataError(f"{path}: is damaged ({one_line(error)})") from None
        if number >= len(jobs) or stored != jobs[number]:
            why = f"{name} was trained with {' '.join(stored)}, which is not job {number} of {STORED}"
            raise ConfigError("resume", folder, why)


def _number(name: str) -> int | None:
    """Return the number of the job whose folder has this name."""
    number = name.partition("_")[0]
    return int(number) if re.fullmatch(r"\d{1,9}", number, re.ASCII) else None


def check_place(run_dir: Path, sweep_dir: Path) -> None:
    """Refuse a job that is not in a folder of its own below the sweep.

    Raises:
        ConfigError: it would write, and when it resumes delete, elsewhere.
    """
    inside, outside = run_dir.resolve(), sweep_dir.resolve()
    if inside == outside or not inside.is_relative_to(outside):
        raise ConfigError("hydra.sweep.subdir", run_dir, f"must be a folder below {sweep_dir}")


def earlier(run_dir: Path) -> dict[str, Any] | None:
    """Return the summary of a job that is finished; None if it must be trained."""
    if _state(run_dir / "run.json") != "finished":
        return None
    try:
        return read_json(run_dir / "summary.json")
    except (OSError, ValueError):
        return None


def _state(record: Path) -> str:
    try:
        return str(read_json(record)["state"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def note_failure(run_dir: Path, message: str) -> None:
    """Write into run.json that a job has failed, unless it has ended otherwise."""
    path = run_dir / "run.json"
    run_dir.mkdir(parents=True, exist_ok=True)
    if _state(path) in ("", "running", "interrupted"):
        record = read_json(path) if _state(path) else {}
        write_json(path, record | {"state": "failed", "error": message})


def settle(folder: Path, jobs: list[list[str]], patience: float, failed: Callable[[Path, str], None]) -> None:
    """Leave no job of a sweep that has ended running, and a folder for each that was never started.

    Args:
        patience: seconds that jobs get which another process still writes a checkpoint for.
        failed: called with the folder and the reason of a job whose process was killed.
    """
    wait_until = time.monotonic() + patience
    for record in folder.glob("*/run.json"):
        while _state(record) == "running" and time.monotonic() < wait_until:
            with contextlib.suppress(UserError), locked(record.parent):  # free: nobody trains there any more
                if _state(record) == "running":
                    failed(record.parent, "killed by signal 9")
            time.sleep(0.05)
    started = {_number(path.name) for path in folder.iterdir() if path.is_dir()}
    for number, overrides in enumerate(jobs):
        if number not in started:
            prepare(folder, number, overrides)


def interrupted(run_dir: Path) -> bool:
    """Return whether a job has a checkpoint to resume from; remove what a job without one has left.

    Raises:
        DataError: the folder has files, but none of a run.
    """
    if (run_dir / "checkpoints" / "last.pt").exists() and (run_dir / "config.yaml").exists():
        return True
    from autoenc.training.rundir import clear

    clear(run_dir)
    return False


def missing(folder: Path, total: int) -> list[int]:
    """Return the numbers of the jobs of a sweep that are not finished."""
    done = {_number(path.parent.name) for path in folder.glob("*/run.json") if earlier(path.parent) is not None}
    return [number for number in range(total) if number not in done]


class Watch:
    """How far a sweep is, from the records of its jobs.

    Args:
        costs: seconds that each job is estimated to take; NaN: not known.
        at_once: number of jobs at once.
    """

    def __init__(self, folder: Path, costs: Sequence[float], at_once: int = 1):
        self.folder, self.costs, self.at_once = folder, costs, at_once
        self.ended: dict[int, tuple[str, float]] = {}  # state and seconds of jobs that have ended
        self._line, self._read = "", -math.inf

    def line(self, age: float = 0.0) -> str:
        """Return the number of jobs in each state, and the time that is left.

        Args:
            age: seconds for which the last line is good enough.
        """
        if time.monotonic() - self._read > age:
            self._line, self._read = self._now(), time.monotonic()
        return self._line

    def _now(self) -> str:
        running: dict[int, float] = {}  # seconds since the start
        for path in self.folder.glob("*/run.json"):
            number = _number(path.parent.name)
            if number is None or number in self.ended or number >= len(self.costs):
                continue
            state = _state(path)
            if state in ("finished", "failed"):
                self.ended[number] = state, _seconds(path.parent) if state == "finished" else math.nan
            elif state == "running":
                running[number] = time.time() - (path.parent / "config.yaml").stat().st_mtime
        states = [state for state, _ in self.ended.values()]
        counts = {"running": len(running), "failed": states.count("failed")}
        parts = [f"{states.count('finished')} of {len(self.costs)} done"]
        parts += [f"{count} {name}" for name, count in counts.items() if count]
        left = self._left(running)
        return ", ".join(parts + ([f"about {span(left)} left"] if left > 0 else []))

    def _left(self, running: Mapping[int, float]) -> float:
        """Return the seconds that are left: the estimates, corrected by the jobs that are done; NaN: not known."""
        took = {number: seconds for number, (_, seconds) in self.ended.items() if seconds > 0}
        both = [(took[n], self.costs[n]) for n in took if self.costs[n] > 0]
        factor = sum(a for a, _ in both) / sum(b for _, b in both) if both else 1.0
        usual = statistics.fmean(took.values()) if took else math.nan
        left = []
        for number, cost in enumerate(self.costs):
            if number not in self.ended:
                whole = usual if math.isnan(cost) else cost * factor
                left.append(max(0.0, whole - running.get(number, 0.0)))
        return max(sum(left) / self.at_once, *left, 0.0) if left else 0.0


def _seconds(run_dir: Path) -> float:
    try:
        return float(read_json(run_dir / "summary.json")["perf"]["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan


class Live(threading.Thread):
    """One line about a sweep whose jobs run in other processes: at the foot of a terminal, or whenever a job ends.

    The jobs begin their lines with `CLEAR`, which replaces the line until it is written again.
    """

    def __init__(self, watch: Watch):
        super().__init__(daemon=True)
        self.watch, self.over = watch, threading.Event()

    def run(self) -> None:
        """Write until `stop`."""
        terminal, ended = sys.stdout.isatty(), len(self.watch.ended)
        while not self.over.wait(REFRESH):
            line = self.watch.line()
            if terminal:
                sys.stdout.write(f"{CLEAR}{line[: shutil.get_terminal_size().columns - 1]}")
                sys.stdout.flush()
            elif len(self.watch.ended) > ended:
                print(line, flush=True)
            ended = len(self.watch.ended)
        if terminal:
            sys.stdout.write(CLEAR)

    def stop(self) -> None:
        """Remove the line."""
        self.over.set()
        if self.is_alive():
            self.join()
