"""Two-sample tests: whether new values are from the distribution of reference values."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

SEED = 0
MOST = 1_000  # rows of each sample in the energy test, whose time is quadratic
PERMUTATIONS = 999
EXPECTED = 5  # least expected count of a cell in the chi-squared test (Cochran 1954)
EXACT = 10_000  # product of the sample sizes up to which the p-value of Kolmogorov-Smirnov is exact


@dataclass(frozen=True)
class Tested:
    """The result of a two-sample test.

    Args:
        test: its name. statistic: larger is more different. p: the probability of as large a statistic without drift.
        reference, new: the two samples in words. effective: n m / (n + m) of Kolmogorov-Smirnov, 0 of other tests.
    """

    test: str
    statistic: float
    p: float
    reference: str = ""
    new: str = ""
    effective: int = 0


def marginal(reference: np.ndarray, new: np.ndarray) -> Tested:
    """Compare values of one column: numbers and dates (N,) by `kolmogorov_smirnov`, texts by `chi_squared`."""
    return chi_squared(reference, new) if reference.dtype == object else kolmogorov_smirnov(reference, new)


def kolmogorov_smirnov(reference: np.ndarray, new: np.ndarray) -> Tested:
    """Compare numbers or dates (n,) and (m,) by the largest difference of their distribution functions.

    Missing values (NaN, NaT) count as lower than all others, so that a change of their fraction is seen as well. With
    equal values the p-value is too large.
    """
    from scipy.stats import ks_2samp

    method = "exact" if len(reference) * len(new) <= EXACT else "asymp"
    found = ks_2samp(_lowest(reference), _lowest(new), method=method)
    effective = round(len(reference) * len(new) / (len(reference) + len(new)))
    words = _middle(reference), _middle(new)
    return Tested("Kolmogorov-Smirnov", float(found.statistic), float(found.pvalue), *words, effective)


def smallest_statistic(p: float, effective: int) -> float:
    """Return the statistic of Kolmogorov-Smirnov from which on the p-value is p or less, about."""
    from scipy.stats import kstwo

    return float(kstwo.isf(p, effective))


def _lowest(values: np.ndarray) -> np.ndarray:
    """Return float64 values, with -inf in place of missing ones."""
    missing = values != values
    numbers = values.astype("datetime64[s]").astype(np.int64) if values.dtype.kind == "M" else values
    return np.where(missing, -np.inf, numbers.astype(np.float64))


def _middle(values: np.ndarray) -> str:
    """Return the median, and the fraction of missing values if there are any."""
    missing = values != values
    if missing.all():
        return "all missing"
    middle = np.sort(values[~missing])[(~missing).sum() // 2]
    text = f"median {str(middle)[:10] if values.dtype.kind == 'M' else f'{middle:.4g}'}"
    return text + (f", {missing.mean():.0%} missing" if missing.any() else "")


def chi_squared(reference: np.ndarray, new: np.ndarray) -> Tested:
    """Compare texts (n,) and (m,) by their counts; the rarest are counted together until 5 of each sample are expected.

    In words: the value whose fraction differs most.
    """
    from scipy.stats import chi2_contingency

    n, m = len(reference), len(new)
    before, after = Counter(reference.tolist()), Counter(new.tolist())
    values = sorted(before | after, key=lambda value: (before[value] + after[value], value))
    table = [np.array([before[value], after[value]]) for value in values]
    enough = EXPECTED * (n + m) / min(n, m)  # of both samples
    rare = np.zeros(2, int)
    while table and (table[0].sum() < enough or 0 < rare.sum() < enough):
        rare += table.pop(0)
    table += [rare] if rare.any() else []
    moved = max(values, key=lambda value: abs(after[value] / m - before[value] / n))
    shown = f"{moved} {before[moved] / n:.0%}", f"{moved} {after[moved] / m:.0%}"
    if len(table) < 2:
        return Tested("chi-squared", 0.0, 1.0, *shown)
    found = chi2_contingency(np.array(table), correction=False)
    return Tested("chi-squared", float(found.statistic), float(found.pvalue), *shown)


def energy(reference: np.ndarray, new: np.ndarray) -> Tested:
    """Compare rows (n, K) and (m, K) by their energy distance (Szekely & Rizzo 2004), with a permutation p-value.

    2 E|X - Y| - E|X - X'| - E|Y - Y'| is -a' D a, with D the distances of all rows and a = 1/n for those of one sample,
    -1/m for those of the other. It is 0 for equal distributions only. Units are divided by their standard deviation
    over both samples, which permutations do not change. At most 1,000 rows of each sample are used.
    """
    from scipy.spatial.distance import cdist

    random = np.random.default_rng(SEED)
    parts = [x[np.sort(random.permutation(len(x))[:MOST])].astype(np.float64) for x in (reference, new)]
    n, m = map(len, parts)
    rows = np.concatenate(parts)
    spread = rows.std(0)
    rows = rows[:, spread > 0] / spread[spread > 0]
    if not rows.shape[1]:  # constant codes
        return Tested("energy distance", 0.0, 1.0)
    distances = cdist(rows, rows)
    a = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    a = np.column_stack([a, *(random.permutation(a) for _ in range(PERMUTATIONS))])  # (n + m, 1 + permutations)
    found = -(a * (distances @ a)).sum(0)
    as_large = int((found[1:] >= found[0] * (1 - 1e-9)).sum())
    return Tested("energy distance", float(max(found[0], 0.0)), (1 + as_large) / (1 + PERMUTATIONS))
