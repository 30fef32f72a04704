"""Thresholds from the scores of normal rows: quantiles, false-alarm rates and false discovery rates.

The p-values are split-conformal (Vovk et al. 2005; Bates et al. 2023): a normal row and n calibration rows, none of
which the scores were fitted to, are exchangeable, so that the rank of its score among theirs is uniform.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from autoenc.apps.anomaly.scores import threshold
from autoenc.errors import UserError, counted

ROUNDING = 1e-9  # of (n + 1) * rate, which is a whole number for rates such as 0.1
COVERAGE = 0.95  # of intervals
FEW = 100  # rows that a quantile is of
HIGHEST = 5  # scores that are printed
NAMED = "named by --score"
REMEDY = "--calibrate names a file of more normal rows"


def p_values(calibration: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return (1 + the number of calibration scores as high) / (n + 1): (n,), (N,) -> (N,).

    For a normal row, P(p <= t) <= t for each t, over draws of the row and of the calibration rows.
    """
    as_high = len(calibration) - np.searchsorted(np.sort(calibration), values)
    return (1 + as_high) / (len(calibration) + 1)


def rows_needed(rate: float) -> int:
    """Return the smallest n for which a p-value, at least 1 / (n + 1), can be as low as the rate."""
    return math.ceil(1 / rate - 1 - ROUNDING)


@dataclass(frozen=True)
class Rule:
    """How a threshold follows from calibration scores; a row is an alarm if its score is above it.

    Attributes:
        option: the option of the script, without dashes. exchangeable: whether rows have to be exchangeable.
    """

    level: float
    option: ClassVar[str] = ""
    exchangeable: ClassVar[bool] = True

    def check_rows(self, n: int, source: str, remedy: str = REMEDY) -> None:
        """Raise UserError, with the remedy, if n calibration rows are too few."""
        if self.exchangeable and n < (needed := rows_needed(self.level)):
            lower = f", or --{self.option} {1 / (n + 1):.2g} or more" if n else ""
            raise UserError(
                f"--{self.option} {self.level:g}: needs {needed:,} calibration rows, found {counted(n, source)}; "
                f"{remedy}{lower}"
            )

    def caution(self, n: int, source: str, remedy: str) -> str:
        """Return why a threshold from n calibration rows is not to be trusted; empty if there is no reason."""
        return ""

    def threshold(self, calibration: np.ndarray, values: np.ndarray) -> float:
        """Return the threshold of a score: calibration scores (n,), scores of the rows (N,) -> number."""
        raise NotImplementedError

    def summary(self, calibration: np.ndarray, values: np.ndarray) -> dict[str, object]:
        """Return numbers for detect.json."""
        return {self.option.replace("-", "_"): self.level}

    def words(self, calibration: np.ndarray, values: np.ndarray, source: str) -> str:
        """Return what the threshold means."""
        raise NotImplementedError


@dataclass(frozen=True)
class Quantile(Rule):
    """The smallest calibration score that at least a fraction `level` of them does not exceed."""

    level: float = 0.99
    option: ClassVar[str] = "quantile"
    exchangeable: ClassVar[bool] = False

    def caution(self, n: int, source: str, remedy: str) -> str:
        """Return a remark if the rows are few, or none of them is expected above the quantile."""
        if n >= (least := max(FEW, rows_needed(1 - self.level) + 1)):
            return ""
        return f"it rests on {counted(n, source)}, fewer than the {least:,} that it needs to be trusted; {remedy}"

    def threshold(self, calibration: np.ndarray, values: np.ndarray) -> float:
        """Return the quantile."""
        return threshold(calibration, self.level)

    def words(self, calibration: np.ndarray, values: np.ndarray, source: str) -> str:
        """Return which quantile it is."""
        return f"the {self.level:g} quantile of the {source}"


@dataclass(frozen=True)
class AlarmRate(Rule):
    """p <= `level`: a normal row is an alarm with at most this probability."""

    option: ClassVar[str] = "alarm-rate"

    def _rank(self, n: int) -> int:
        """k: as many calibration scores are at or above the threshold."""
        return math.floor(self.level * (n + 1) + ROUNDING)

    def threshold(self, calibration: np.ndarray, values: np.ndarray) -> float:
        """Return the k-th highest calibration score, k = floor(level (n + 1)); infinity if the rows are too few."""
        k = self._rank(len(calibration))
        return float(np.sort(calibration)[-k]) if k else math.inf

    def interval(self, n: int) -> tuple[float, float]:
        """Return the 95% interval of the probability of an alarm on a normal row, given the n calibration rows.

        The probability is that of exceeding the k-th highest of n draws, which is Beta(k, n + 1 - k) distributed for
        continuous scores (Vovk 2012) and not higher where scores are equal.
        """
        from scipy.stats import beta

        k = self._rank(n)
        low, high = beta.ppf([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], k, n + 1 - k)
        return float(low), float(high)

    def summary(self, calibration: np.ndarray, values: np.ndarray) -> dict[str, object]:
        """Return the rate, the one that the number of rows permits, and the interval given these rows."""
        n = len(calibration)
        return super().summary(calibration, values) | {
            "false_alarm_rate": self._rank(n) / (n + 1),
            "false_alarm_rate_interval": list(self.interval(n)),
        }

    def words(self, calibration: np.ndarray, values: np.ndarray, source: str) -> str:
        """Return the guarantee, and the interval given the calibration rows."""
        low, high = self.interval(len(calibration))
        return (
            f"false-alarm rate at most {self.level:g}; given {counted(len(calibration), source)}, 95% interval "
            f"{low:.2g} to {high:.2g}"
        )


@dataclass(frozen=True)
class FalseDiscoveryRate(Rule):
    """Benjamini-Hochberg: the expected fraction of normal rows among the alarms of the batch is at most `level`.

    The p-values share their calibration rows, which leaves them positively dependent: the procedure keeps its level
    (Bates et al. 2023).
    """

    option: ClassVar[str] = "fdr"

    def threshold(self, calibration: np.ndarray, values: np.ndarray) -> float:
        """Return the highest score that is not an alarm, of the calibration rows and the rows; infinity without alarms.

        The alarms are the k smallest p-values, k the largest with p_(k) <= level k / N.
        """
        p = np.sort(p_values(calibration, values))
        passed = np.flatnonzero(p <= self.level * np.arange(1, len(p) + 1) / len(p) * (1 + ROUNDING))
        if not len(passed):
            return math.inf
        k = round(p[passed[-1]] * (len(calibration) + 1))  # alarms have fewer than k calibration scores as high
        return float(np.sort(calibration)[-k]) if k <= len(calibration) else -math.inf

    def least(self, n: int, rows: int) -> int:
        """Return the least number of alarms that n calibration rows permit among a number of rows."""
        return max(1, math.ceil(rows / (self.level * (n + 1)) - ROUNDING))

    def summary(self, calibration: np.ndarray, values: np.ndarray) -> dict[str, object]:
        """Return the rate, and the least number of alarms that the number of calibration rows permits."""
        return super().summary(calibration, values) | {"fewest_alarms": self.least(len(calibration), len(values))}

    def words(self, calibration: np.ndarray, values: np.ndarray, source: str) -> str:
        """Return the guarantee, and how many alarms there have to be at once."""
        n, least = len(calibration), self.least(len(calibration), len(values))
        words = f"expected share of normal rows among the alarms at most {self.level:g}, from {counted(n, source)}"
        if least == 1:
            return words
        alone = math.ceil(len(values) / self.level - 1 - ROUNDING)
        return (
            f"{words}; they permit no fewer than {least:,} alarms among {len(values):,} rows, {alone:,} would permit 1"
        )


@dataclass(frozen=True)
class Calibration:
    """Normal rows that the scores were not fitted to.

    Args:
        scores: name -> (n,). source: in words, with a plural noun.
        remark: in words, why the rate that follows from them is not exact; empty if there is no reason.
        note: in words, where another threshold holds. remedy: what gives more of them.
        examples: their number and what they are, if several scores are of one.
    """

    scores: Mapping[str, np.ndarray]
    source: str
    remark: str = ""
    note: str = ""
    remedy: str = "--calibrate names a file of more normal rows"
    examples: tuple[int, str] | None = None


@dataclass(frozen=True)
class Judged:
    """Scores of N rows, images or steps, and what a threshold decides.

    Args:
        score: the deciding score. chosen: how it was chosen. rule: how thresholds follow from the calibration.
        scores: name -> (N,). calibration: scores of normal data.
        numbers: score -> metrics, with labels; higher is better.

    Attributes:
        noun: what has a score, in the plural.
    """

    noun: ClassVar[str] = "rows"
    score: str
    rule: Rule
    scores: dict[str, np.ndarray]
    calibration: Calibration
    numbers: dict[str, Any] = field(default_factory=dict)
    chosen: str = ""

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Score -> its threshold."""
        known = self.calibration.scores
        return {name: self.rule.threshold(known[name], v) for name, v in self.scores.items() if name in known}

    @cached_property
    def alarms(self) -> np.ndarray:
        """Whether the deciding score is above its threshold, (N,) bool."""
        return self.scores[self.score] > self.thresholds[self.score]

    @property
    def compared(self) -> tuple[np.ndarray, np.ndarray]:
        """The deciding score of the calibration (n,) and of the data (N,)."""
        return self.calibration.scores[self.score], self.scores[self.score]

    @property
    def decided(self) -> str:
        """The threshold and what it means, in words; the remark of the calibration if the rule states a rate."""
        limit, known, rule = self.thresholds[self.score], self.calibration, self.rule
        above = f" > {limit:.4g}" if math.isfinite(limit) else ", which no score can reach"
        words = f"{self.score}{above}, {rule.words(*self.compared, known.source)}"
        size, source = known.examples or (len(self.compared[0]), known.source)
        remarks = rule.caution(size, source, known.remedy), known.remark if rule.exchangeable else "", known.note
        return ". ".join([words, *(each[0].upper() + each[1:] for each in remarks if each)])

    def above(self) -> str:
        """Return how many are above the threshold, in words."""
        return f"{int(self.alarms.sum()):,} of {counted(len(self.alarms), self.noun)} above the threshold"

    def highest(self, names: Sequence[str]) -> str:
        """Return the names of the highest scores, in words."""
        values = self.scores[self.score]
        return "highest: " + ", ".join(f"{names[i]} ({values[i]:.4g})" for i in self.order()[:HIGHEST])

    def order(self) -> np.ndarray:
        """Return numbers of rows, images or steps, the most anomalous first."""
        return np.argsort(-self.scores[self.score], kind="stable")

    def summary(self) -> dict[str, Any]:
        """Return the contents of detect.json."""
        raise NotImplementedError

    def judgement(self, counts: Mapping[str, object]) -> dict[str, Any]:
        """Return how the data were judged, and the counts, for detect.json."""
        calibration = self.calibration
        return {
            "score": self.score,
            "chosen": self.chosen,
            **self.rule.summary(*self.compared),
            "calibration": {"source": calibration.source, "rows": len(self.compared[0]), "remark": calibration.remark},
            **counts,
            "thresholds": self.thresholds,
            "numbers": self.numbers,
        }


def chose_the_checkpoint(rows: str) -> str:
    """Return why the rate that follows from validation rows is not exact."""
    return f"the {rows} chose the checkpoint, so that unseen normal ones may score higher and be alarms more often"
