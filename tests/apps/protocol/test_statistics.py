"""Intervals, differences and corrected p-values."""

import math

import pytest
from scipy import stats

from autoenc.apps.protocol.statistics import Difference, difference, half_width, holm


def test_the_interval_of_a_mean_is_students() -> None:
    assert half_width([1.0]) is None
    assert half_width([1.0, 2.0, 6.0]) == pytest.approx(4.302653 * math.sqrt(7.0) / math.sqrt(3)), "2 degrees"


def test_differences_are_paired_where_two_seeds_or_more_are_shared() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [1.3, 2.2, 3.4, 4.1]
    paired = difference(dict(enumerate(x)), dict(reversed(list(enumerate(y)))))
    assert paired is not None
    assert (paired.mean, paired.p, paired.pairs) == pytest.approx((0.25, stats.ttest_rel(y, x).pvalue, 4))
    for start in (10, 3):  # no seed is shared, one is
        welch = difference(dict(enumerate(x)), dict(enumerate(y, start)))
        assert welch is not None
        assert welch.p is not None
        assert (welch.p, welch.pairs) == pytest.approx((stats.ttest_ind(y, x, equal_var=False).pvalue, 0))
        assert welch.p > 0.5, "what differs between seeds hides a difference that pairs show"
    assert paired.p is not None
    assert paired.p < 0.05
    assert difference({0: 1.0}, {0: 2.0}) is None, "one run of each shows no spread"


def test_without_spread_there_is_no_p_value() -> None:
    x = {0: 0.1, 1: 0.2, 2: 0.7}
    shifted = difference(x, {seed: value + 0.1 for seed, value in x.items()})
    assert shifted == Difference(pytest.approx(0.1), 0.0, None, 3), "but for rounding, all differences are the same"
    assert difference({0: 1.0, 1: 1.0}, {2: 3.0, 3: 3.0}) == Difference(2.0, 0.0, None, 0)


def test_p_values_are_corrected_by_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
