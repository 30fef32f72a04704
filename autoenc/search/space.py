"""The space of a search: which settings vary, and over which values. Imports neither torch nor Optuna."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from autoenc.errors import ConfigError, suggest

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

OPTION = "--space"
HELP = """\
space: KEY=DISTRIBUTION, separated by blanks, in quotes because of the brackets
  int(2,64)            whole numbers from 2 to 64
  int_log(16,1024)     whole numbers, uniform in the logarithm
  uniform(0,0.5)       real numbers
  log(1e-4,1e-2)       real numbers above 0, uniform in the logarithm
  choice(relu,gelu)    one of these values, or options of a group: network=choice(mlp,conv)
"""
NUMBERS = {"int": int, "int_log": int, "uniform": float, "log": float}
DIGITS = 4  # significant digits of a real number


@dataclass(frozen=True)
class Distribution:
    """The values of one setting.

    Attributes:
        kind: int, int_log, uniform, log or choice.
        values: the ends of the range, or the choices as they are written on the command line.
    """

    kind: str
    values: tuple[Any, ...]

    def optuna(self) -> BaseDistribution:
        """Return the distribution as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        low, high = self.values
        if NUMBERS[self.kind] is int:
            return IntDistribution(low, high, log=self.kind == "int_log")
        return FloatDistribution(low, high, log=self.kind == "log")

    def holds(self, value: Any) -> Any:
        """Return the value of a setting as one of this distribution; None if it is not in it."""
        if self.kind == "choice":
            return next((text for text in self.values if _parsed(text) == value), None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        whole = not self.kind.startswith("int") or float(value).is_integer()
        return NUMBERS[self.kind](value) if whole and self.values[0] <= value <= self.values[1] else None


def _parsed(text: str) -> Any:
    """Return a choice as its setting has it; YAML 1.1 takes 1e-3 for a text, Hydra for a number."""
    try:
        return float(text)
    except ValueError:
        return yaml.safe_load(text)


def written(value: Any) -> str:
    """Return a value as it is written on the command line."""
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else str(value)


def parse_space(text: str) -> dict[str, Distribution]:
    """Return key -> distribution.

    Raises:
        ConfigError: not KEY=DISTRIBUTION, an unknown distribution, an empty range.
    """
    found: dict[str, Distribution] = {}
    for entry in _split(text, r"\s"):
        key, equals, right = entry.partition("=")
        call = re.fullmatch(r"(\w+)\((.*)\)", right.strip(), re.DOTALL)
        if not equals or not key or call is None:
            raise ConfigError(OPTION, entry, "write KEY=DISTRIBUTION, such as model.latent_dim=int(2,64)")
        option = f"{OPTION} {key}"
        if key in found:
            raise ConfigError(option, right, "the key is there twice")
        kind, values = call[1], tuple(part.strip() for part in _split(call[2], ","))
        if kind == "choice":
            found[key] = _choice(option, right, values)
        elif kind in NUMBERS:
            found[key] = _range(option, right, kind, values)
        else:
            why = f"no distribution {kind}; {suggest(kind, [*NUMBERS, 'choice'])}"
            raise ConfigError(option, right, why)
    if not found:
        raise ConfigError(OPTION, repr(text), "is empty; write KEY=DISTRIBUTION, such as optimizer.lr=log(1e-4,1e-2)")
    return found


def _choice(option: str, right: str, values: tuple[str, ...]) -> Distribution:
    if len(values) < 2 or len(set(values)) < len(values) or "" in values:
        raise ConfigError(option, right, "needs two or more values, all different: choice(relu,gelu)")
    return Distribution("choice", values)


def _range(option: str, right: str, kind: str, texts: tuple[str, ...]) -> Distribution:
    number, example = NUMBERS[kind], f"{kind}(2,64)" if NUMBERS[kind] is int else f"{kind}(1e-4,1e-2)"
    if len(texts) != 2:
        raise ConfigError(option, right, f"needs two ends: {example}")
    try:
        low, high = (number(text) for text in texts)
    except ValueError:
        what = "two whole numbers" if number is int else "two numbers"
        raise ConfigError(option, right, f"needs {what}: {example}") from None
    if not (abs(low) < float("inf") and abs(high) < float("inf")):
        raise ConfigError(option, right, "must be finite")
    if low > high:
        raise ConfigError(option, right, f"the range is empty; write {kind}({texts[1]},{texts[0]})")
    if low == high:
        raise ConfigError(option, right, f"has one value only; set {option.split()[-1]}={texts[0]} beside the model")
    if kind in ("log", "int_log") and low <= 0:
        raise ConfigError(option, right, "must be above 0: the logarithm is uniform")
    return Distribution(kind, (low, high))


def _split(text: str, separator: str) -> list[str]:
    """Split at a separator that is not inside brackets."""
    parts, depth = [""], 0
    for character in text.strip():
        depth += (character in "([{") - (character in ")]}")
        if depth <= 0 and re.fullmatch(separator, character):
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part] if separator != "," else parts


def corners(space: Mapping[str, Distribution]) -> list[list[str]]:
    """Return settings that together have each end of the ranges and each choice, as they are written."""
    longest = max(len(distribution.values) for distribution in space.values())
    return [[f"{key}={written(d.values[i % len(d.values)])}" for key, d in space.items()] for i in range(longest)]
