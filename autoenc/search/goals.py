"""What a search optimizes: metrics of the validation split, and costs of a run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autoenc.errors import ConfigError, suggest
from autoenc.metric_table import TABLE, metric

OPTION = "--metric"
COSTS = ("parameters", "seconds", "training_seconds", "peak_memory_mb")  # in `perf` of summary.json; less is better
MOST = 3


@dataclass(frozen=True)
class Goal:
    """A number to minimize or maximize.

    Attributes:
        part: of summary.json that has it: val or perf.
    """

    part: str
    name: str
    maximize: bool

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """The direction as Optuna names it."""
        return "maximize" if self.maximize else "minimize"

    @property
    def label(self) -> str:
        """The metric as it is named on the command line."""
        return f"val/{self.name}" if self.part == "val" else self.name

    def of(self, summary: Mapping[str, Any]) -> float | None:
        """Return the number of a finished run; None if it was not finite."""
        value = summary[self.part].get(self.name)
        return None if value is None else float(value)


def shown(value: float) -> str:
    """Return a number for people: all digits of a whole number, such as that of parameters."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.5g}"


def parse_goals(text: str, terms: Iterable[str] = ()) -> list[Goal]:
    """Return the goals of val/nll,parameters.

    Args:
        terms: names of terms of the objective, which evaluation reports too.

    Raises:
        ConfigError: an unknown metric; a metric of which neither direction is better; more than three.
    """
    goals = [_goal(part.strip(), set(terms)) for part in text.split(",")]
    if len({goal.label for goal in goals}) < len(goals):
        raise ConfigError(OPTION, text, "names a metric twice")
    if len(goals) > MOST:
        raise ConfigError(OPTION, text, f"must be at most {MOST} metrics")
    if all(goal.part != "val" for goal in goals):
        raise ConfigError(OPTION, text, "needs a metric of the validation split as well, such as val/nll")
    return goals


def _goal(text: str, terms: set[str]) -> Goal:
    match = re.fullmatch(r"(?:(\w+)/)?([\w@-]+)(?::(min|max))?", text)
    part, name, way = match.groups() if match else ("", text, None)
    if part == "test":
        raise ConfigError(OPTION, text, f"is of the test split, which is not searched on; val/{name}")
    if part is None and name in COSTS:
        return Goal("perf", name, way == "max")
    if name not in TABLE and name not in terms:
        known = [*(f"val/{known}" for known in (*TABLE, *terms)), *COSTS]
        near = suggest(text if part else f"val/{text}", known)
        raise ConfigError(
            OPTION, text, f"no such metric; {near if 'did you' in near else 'docs/metrics.md lists them'}"
        )
    if part != "val":
        raise ConfigError(OPTION, text, f"write val/{name}: a search is judged on the validation split")
    if metric(name).higher_is_better is None and way is None:
        raise ConfigError(OPTION, text, f"neither direction is better by itself; val/{name}:min or val/{name}:max")
    return Goal("val", name, way == "max" if way else bool(metric(name).higher_is_better))
