"""Means and differences with 95 % intervals, and p-values corrected for the number of comparisons."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

LEVEL = 0.05  # of the family of comparisons
ROUNDING = 1e-9  # relative spread below which values are the same


@dataclass(frozen=True)
class Difference:
    """Mean difference of two groups with its 95 % interval, and the p-value of no difference.

    Attributes:
        p: None if nothing varies, so that there is no spread to judge the difference by.
        pairs: number of seeds that both groups have and that the mean is over; 0: not paired, the mean is over all.
    """

    mean: float
    half: float
    p: float | None
    pairs: int


def half_width(values: Sequence[float]) -> float | None:
    """Return half the width of the 95 % interval of the mean (Student's t); None for fewer than two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    return float(stats.t.ppf(1 - LEVEL / 2, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))


def difference(a: Mapping[Hashable, float], b: Mapping[Hashable, float]) -> Difference | None:
    """Compare the values b of a metric with a, both by seed.

    Student's test of the differences of seeds that both have, if these are two or more; otherwise Welch's test of all
    values. None if there is nothing to estimate the spread from: fewer than two shared seeds, and a group of one value.
    """
    from scipy import stats

    shared = [seed for seed in a if seed in b]
    x, y = list(a.values()), list(b.values())
    size = max(map(abs, (*x, *y)), default=0.0)
    if len(shared) > 1:
        differences = [b[seed] - a[seed] for seed in shared]
        mean, half = statistics.fmean(differences), half_width(differences)
        assert half is not None
        if half <= ROUNDING * size:
            return Difference(mean, 0.0, None, len(shared))
        return Difference(mean, half, float(stats.ttest_1samp(differences, 0).pvalue), len(shared))
    if min(len(x), len(y)) < 2:
        return None
    mean = statistics.fmean(y) - statistics.fmean(x)
    if max(statistics.stdev(x), statistics.stdev(y)) <= ROUNDING * size:
        return Difference(mean, 0.0, None, 0)
    test = stats.ttest_ind(y, x, equal_var=False)
    low, high = test.confidence_interval(1 - LEVEL)
    return Difference(mean, float(high - low) / 2, float(test.pvalue), 0)


def holm(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for the number of comparisons (Holm 1979)."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected
