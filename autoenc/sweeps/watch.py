"""How far a sweep is: a line about its jobs, also while they run in other processes."""

from __future__ import annotations

import contextlib
import math
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoenc.forked import CLEAR
from autoenc.sweeps.folders import number_of, seconds_of, state_of
from autoenc.sweeps.forecast import span

REFRESH = 0.5  # seconds


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
            number = number_of(path.parent.name)
            if number is None or number in self.ended or number >= len(self.costs):
                continue
            state = state_of(path)
            if state in ("finished", "failed"):
                self.ended[number] = state, seconds_of(path.parent) if state == "finished" else math.nan
            elif state == "running":
                with contextlib.suppress(FileNotFoundError):  # removed by a job that starts anew
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
