"""Schedules: stateless functions of the step.

Lengths are fractions of the run; build.py passes `total_steps`. Evaluation uses the value at `math.inf`, the end
of the schedule. Compiled steps hand in a scalar tensor: schedules of weights have no branches on it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from autoenc.errors import require


@dataclass(frozen=True)
class WarmUp:
    """Linear from `start` to `end` over the first `fraction` of the run, then constant (Bowman et al. 2016)."""

    total_steps: int
    start: float = 0.0
    end: float = 1.0
    fraction: float = 0.25

    def __post_init__(self) -> None:
        require(0 < self.fraction <= 1, "fraction", self.fraction, "must lie in (0, 1]")

    def __call__(self, step: float) -> float:
        return self.start + (self.end - self.start) * min(1.0, step / (self.fraction * self.total_steps))


@dataclass(frozen=True)
class Cyclical:
    """Cyclical: linear from `start` to `end` over a fraction `ramp` of each cycle, then constant (Fu et al. 2019).

    After the end of the run, and so in evaluation, the value is `end`.
    """

    total_steps: int
    start: float = 0.0
    end: float = 1.0
    cycles: int = 4
    ramp: float = 0.5

    def __post_init__(self) -> None:
        require(self.cycles >= 1, "cycles", self.cycles, "must be 1 or more")
        require(0 < self.ramp <= 1, "ramp", self.ramp, "must lie in (0, 1]")

    def __call__(self, step: float) -> float:
        place = step * self.cycles / self.total_steps
        position = place - min(self.cycles - 1, place // 1)  # within the cycle; 1 or more after the last one
        return self.start + (self.end - self.start) * min(1.0, position / self.ramp)


@dataclass(frozen=True)
class Cosine:
    """Linear from 0 to 1 over the first `warmup` of the run, then half a cosine down to 0 (Loshchilov 2017)."""

    total_steps: int
    warmup: float = 0.0

    def __call__(self, step: float) -> float:
        ramp = round(self.warmup * self.total_steps)
        if step < ramp:
            return (step + 1) / ramp
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - ramp) / max(1, self.total_steps - ramp))))


@dataclass(frozen=True)
class Staged:
    """Stages i = 0 ... 7 of 3^i parts of the run, each with the factor 10^(-i / 7) (Burda et al. 2016, section 5).

    From 1 to 0.1; the last stage is two thirds of the run. Linear from 0 over the first `warmup` of it, as Constant.
    """

    total_steps: int
    warmup: float = 0.0
    stages: ClassVar[int] = 8

    def __call__(self, step: float) -> float:
        parts = (3**self.stages - 1) // 2  # 3,280 passes over the training data in the paper
        place = min(step / self.total_steps, 1.0) * parts
        stage = sum((3**i - 1) / 2 <= place for i in range(1, self.stages))
        return 10 ** (-stage / (self.stages - 1)) * Constant(self.total_steps, self.warmup)(step)


@dataclass(frozen=True)
class Constant:
    """Linear from 0 to 1 over the first `warmup` of the run, then 1."""

    total_steps: int
    warmup: float = 0.0

    def __call__(self, step: float) -> float:
        return min(1.0, (step + 1) / max(1, round(self.warmup * self.total_steps)))
