"""Drift: whether new rows are from the distribution that a run was trained on, and which columns moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.drift.two_sample import (
    PERMUTATIONS,
    Tested,
    energy,
    kolmogorov_smirnov,
    marginal,
    smallest_statistic,
)
from autoenc.apps.protocol.statistics import holm
from autoenc.data.split import Split
from autoenc.errors import UserError, counted
from autoenc.loading import Run

LEVEL = 0.05
FEWEST = 10  # rows
NAMED = 5  # tests of a kind in the verdict
LARGE = 0.25  # difference of distribution functions, of a normal distribution that moves by 0.64 standard deviations
HEADER = ["of", "name", "test", "statistic", "p", "p_adjusted", "drift", "reference", "new"]


@dataclass(frozen=True)
class Result:
    """A test of one score, of the codes, or of one column.

    Args:
        of: score, codes or column. p: adjusted, so that some test has p <= level with at most the probability `level`
            if there is no drift.
    """

    of: str
    name: str
    tested: Tested
    p: float


@dataclass(frozen=True)
class Drift:
    """All tests of N new rows, ordered by what they are of and by p.

    Args:
        smallest: score, column -> the statistic from which on Kolmogorov-Smirnov shows drift. lowest: p that the test
            of codes can have, adjusted.
    """

    results: list[Result]
    level: float
    rows: int
    reference_rows: int
    smallest: Mapping[str, float]
    lowest: float

    @property
    def moved(self) -> list[Result]:
        """The tests that show drift."""
        return [result for result in self.results if result.p <= self.level]

    @property
    def verdict(self) -> str:
        """One line: whether there is drift, and of what."""
        compared = f"{self.rows:,} rows against {self.reference_rows:,}, level {self.level:g}"
        if not self.moved:
            lowest = min(self.results, key=lambda result: result.p)
            return f"no drift shown: lowest adjusted p = {lowest.p:.2g}, {lowest.of} {lowest.name} ({compared})"
        texts = []
        for of, group in groupby(self.moved, key=lambda result: result.of):
            found = list(group)
            shown = [_words(result) for result in found[:NAMED]]
            more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
            texts.append(f"{of}{'s' if len(found) > 1 else ''} {', '.join(shown)}{more}")
        return f"drift: {'; '.join(texts)} ({compared})"

    @property
    def limits(self) -> str:
        """One line: what the tests of so many rows can show."""
        found = ", ".join(f"from {value:.2g} on of a {of}" for of, value in self.smallest.items())
        text = f"a statistic of Kolmogorov-Smirnov (0 to 1) shows drift {found}"
        few = min(self.rows, self.reference_rows)
        why = f"{few:,} rows are few: " if max(self.smallest.values()) > LARGE else ""
        if self.lowest > self.level:
            why = why or "--level is low: "
            text += f"; codes never do: {PERMUTATIONS} permutations give no adjusted p below {self.lowest:.2g}"
        return f"Attention: {why}{text}" if why else text

    def summary(self) -> dict[str, object]:
        """Return the contents of drift.json."""
        return {
            "drift": bool(self.moved),
            "verdict": self.verdict,
            "level": self.level,
            "rows": self.rows,
            "reference_rows": self.reference_rows,
            "smallest_statistic": dict(self.smallest),
            "moved": {of: [r.name for r in group] for of, group in groupby(self.moved, key=lambda r: r.of)},
            "tests": [dict(zip(HEADER, row, strict=True)) for row in self.table()],
        }

    def table(self) -> list[list[object]]:
        """Return the rows of drift.csv."""
        return [
            [r.of, r.name, r.tested.test, r.tested.statistic, r.tested.p, r.p, int(r.p <= self.level),
             r.tested.reference, r.tested.new]
            for r in self.results
        ]  # fmt: skip


def _words(result: Result) -> str:
    change = (
        f"{result.tested.reference} -> {result.tested.new.removeprefix('median ')}, " if result.tested.reference else ""
    )
    return f"{result.name} ({change}p = {result.p:.2g})"


def drift(run: Run, split: Split, what: str, level: float = LEVEL) -> Drift:
    """Compare new rows with those of the run.

    Scores and codes are compared with those of the validation rows, which the model was not fitted to; columns with the
    training rows that the run stores. p-values are adjusted by Holm's method within scores, codes and columns, and
    multiplied by the number of these families.

    Args:
        what: the source of the rows, for messages.

    Raises:
        UserError: fewer than 10 rows, or windows of recordings, which depend on each other.
    """
    kind, reference = run.spec.kind, run.reference
    if kind.dependent:
        raise UserError(
            f"{what}: the windows of a recording depend on each other, and the tests are of independent rows; "
            "scripts/detect.py scores recordings"
        )
    if (fewest := min(len(split), len(reference.val_table))) < FEWEST:
        rows = f"{what}: has" if len(split) < FEWEST else f"{run.path}: validation has"
        raise UserError(f"{rows} {counted(fewest, 'rows')}; tests of drift need {FEWEST} or more")
    detector = Detector(run)
    scores = detector.scores(split)
    families = {
        "score": {name: kolmogorov_smirnov(detector.validation[name], values) for name, values in scores.items()},
        "codes": {"distribution": energy(reference.val_table[:, 2:], run.codes(split))},
        "column": columns(run, split),
    }
    families = {of: tests for of, tests in families.items() if tests}
    results, smallest = [], {}
    for of, tests in families.items():
        adjusted = [p * len(families) for p in holm([tested.p for tested in tests.values()])]
        found = [Result(of, name, tests[name], min(p, 1.0)) for name, p in zip(tests, adjusted, strict=True)]
        results += sorted(found, key=lambda result: (result.p, -result.tested.statistic))
        if sizes := [tested.effective for tested in tests.values() if tested.effective]:
            smallest[of] = smallest_statistic(level / len(families) / len(tests), min(sizes))
    lowest = len(families) / (1 + PERMUTATIONS)
    return Drift(results, level, len(split), len(reference.val_table), smallest, lowest)


def columns(run: Run, split: Split) -> Mapping[str, Tested]:
    """Return the test of each column; empty for data without columns, or if no training rows are stored."""
    kind, known = run.spec.kind, run.reference.rows
    if not kind.named_dimensions or not len(known):
        return {}
    before, after = kind.marginals(known.rows()), kind.marginals(split.rows())
    return {name: marginal(values, after[name]) for name, values in before.items()}
