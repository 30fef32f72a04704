"""Two-sample tests against scipy and their definitions, on draws with and without drift, and the script."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import binom, chi2_contingency, ks_2samp, kstest

from autoenc import load_run
from autoenc.apps.drift import drift, two_sample
from autoenc.apps.drift.two_sample import chi_squared, energy, kolmogorov_smirnov, marginal
from autoenc.data.split import Split
from autoenc.errors import UserError


def texts(*values: str) -> np.ndarray:
    return np.array(values, object)


def test_numbers_are_compared_by_kolmogorov_smirnov_with_missing_values_as_the_lowest() -> None:
    random = np.random.default_rng(0)
    before, after = random.normal(size=120), random.normal(0.3, 1, size=90)
    found, expected = kolmogorov_smirnov(before, after), ks_2samp(before, after)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue), rel=0.05)
    gone = np.where(np.arange(90) < 45, np.nan, random.normal(size=90))
    found = kolmogorov_smirnov(before, gone)
    assert found.statistic >= 0.45
    assert found.p < 1e-6
    assert found.new.endswith(", 50% missing")
    days = np.arange("2024-01-01", "2024-05-01", dtype="datetime64[D]").astype("datetime64[ns]")
    found = marginal(days, days + np.timedelta64(60, "D"))
    assert (found.reference, found.new) == ("median 2024-03-01", "median 2024-04-30")
    assert found.p < 1e-6
    assert kolmogorov_smirnov(before, np.full(9, np.nan)).new == "all missing"


def test_texts_in_another_order_are_compared_alike() -> None:
    """Which of the equally rare values are counted together does not depend on which comes first."""
    before, after = texts(*"a" * 26 + "bb" + "c" * 9 + "d"), texts(*"a" * 26 + "bb" + "c" * 3 + "d" * 11)
    assert chi_squared(before[::-1], after[::-1]) == chi_squared(before, after)


def test_texts_are_compared_by_chi_squared_with_rare_values_together() -> None:
    before, after = texts(*"a" * 60 + "b" * 40), texts(*"a" * 30 + "b" * 70)
    expected = chi2_contingency([[60, 30], [40, 70]], correction=False)
    found = chi_squared(before, after)
    assert (found.statistic, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert {found.reference, found.new} in ({"a 60%", "a 30%"}, {"b 40%", "b 70%"})
    rare = texts(*"a" * 60 + "b" * 32 + "cdefghij")
    expected = chi2_contingency([[60, 30], [32, 70], [8, 0]], correction=False)
    assert chi_squared(rare, after).statistic != pytest.approx(expected.statistic), "8 are too few to stand alone"
    expected = chi2_contingency([[68, 30], [32, 70]], correction=False)  # with a, the rarer one
    assert chi_squared(rare, after).statistic == pytest.approx(expected.statistic)
    assert chi_squared(texts("a"), texts("a", "b")).p == 1


def test_the_energy_distance_is_its_definition_and_its_p_value_that_of_permutations() -> None:
    random = np.random.default_rng(1)
    x, y = random.normal(size=(30, 3)), random.normal(size=(20, 3)) + 0.8
    found = energy(np.column_stack([x, np.ones(30)]), np.column_stack([y, np.ones(20)]))  # and a dead unit
    spread = np.concatenate([x, y]).std(0)
    x, y = x / spread, y / spread
    assert found.statistic == pytest.approx(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())
    assert found.p == 1 / 1000
    assert energy(np.ones((5, 2)), np.ones((5, 2))).p == 1


def test_p_values_are_uniform_without_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(two_sample, "PERMUTATIONS", 99)
    random, found = np.random.default_rng(2), []
    for _ in range(150):
        x = random.gamma(1.0, size=(35, 2))
        found.append(energy(x[:20], x[20:]).p)
    assert kstest(found, "uniform").pvalue > 0.01
    small = [
        p <= 0.1 for p in (chi_squared(*(random.choice(texts(*"aabc"), n) for n in (200, 80))).p for _ in range(300))
    ]
    assert binom.ppf(0.001, 300, 0.1) <= sum(small) <= binom.ppf(0.999, 300, 0.1)


def test_a_shifted_column_is_named_and_unchanged_rows_show_no_drift(table_run: Path) -> None:
    run = load_run(table_run, "cpu")
    none = drift.drift(run, run.data.test, "x")
    assert none.moved == []
    assert none.verdict.startswith("no drift shown: lowest adjusted p = ")
    x = run.data.test.rows()
    x[:, 4] += 3
    found = drift.drift(run, Split(torch.from_numpy(x)), "x")
    assert [result.name for result in found.moved if result.of == "column"] == ["x4"]
    assert "column x4 (median " in found.verdict
    assert "error" in [result.name for result in found.moved if result.of == "score"]
    one_class = run.data.test.subset(run.data.test.y == 1)
    assert "codes" in [result.of for result in drift.drift(run, one_class, "x").moved]
    raw = {r.name: r.tested.p for r in found.results if r.of == "column"}
    assert found.summary()["moved"]["column"] == ["x4"]  # type: ignore[index]
    assert next(r.p for r in found.results if r.name == "x4") == pytest.approx(min(1, raw["x4"] * len(raw) * 3))
    with pytest.raises(UserError, match=r"new.csv: has 9 rows; .*need 10"):
        drift.drift(run, Split(torch.from_numpy(x[:9])), "new.csv")


@pytest.mark.parametrize(("n", "m"), [(35, 35), (35, 400), (1_000, 400)])
def test_drift_is_shown_from_the_smallest_statistic_on(n: int, m: int) -> None:
    limit = two_sample.smallest_statistic(0.01, round(n * m / (n + m)))
    for shift in np.linspace(0, 0.8, 60):
        found = kolmogorov_smirnov(np.arange(n) / n, np.arange(m) / m + shift)
        assert (found.p <= 0.01) == (found.statistic >= limit) or abs(found.statistic / limit - 1) < 0.05


def test_one_line_says_what_the_tests_can_show(table_run: Path) -> None:
    run = load_run(table_run, "cpu")
    found = drift.drift(run, run.data.test.subset(torch.arange(12)), "x")
    assert found.limits.startswith("Attention: 12 rows are few: a statistic of Kolmogorov-Smirnov (0 to 1) shows drift")
    least = min(result.tested.statistic for result in found.moved) if found.moved else 1.0
    assert 0.4 < found.smallest["score"] < 0.9
    assert 0.4 < found.smallest["column"] <= least * 1.1
    assert found.summary()["smallest_statistic"] == found.smallest
    many = replace(found, smallest={"score": 0.12})
    assert many.limits.endswith(" from 0.12 on of a score")
    assert "Attention" not in many.limits
    assert "Attention: --level is low: " in replace(many, level=0.001).limits
    assert "codes never do: 999 permutations give no adjusted p below 0.003" in replace(many, level=0.001).limits


def test_windows_of_recordings_are_refused(table_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = load_run(table_run, "cpu")
    monkeypatch.setattr(type(run.spec.kind), "dependent", True)
    with pytest.raises(UserError, match=r"new.csv: the windows of a recording depend on each other"):
        drift.drift(run, run.data.test, "new.csv")


def test_the_script_writes_the_verdict_and_each_test(
    table_run: Path, copied: Callable[[Path], Path], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    run = copied(table_run)
    x = load_run(run, "cpu").data.test.rows()
    x[:, 2] -= 4
    np.savetxt(tmp_path / "new.csv", x, delimiter=",")
    code, said, error = call("drift", run, "--input", tmp_path / "new.csv", "--level", 0.01)
    assert code == 0, error
    made = json.loads((run / "drift" / "drift.json").read_text())
    assert made["drift"] is True
    assert made["moved"]["column"] == ["x2"]
    assert made["verdict"].startswith("drift: ")
    assert made["verdict"] in said.replace("\n", "")
    assert "Attention: 54 rows are few: " in said
    rows = list(csv.DictReader((run / "drift" / "drift.csv").open()))
    assert list(rows[0]) == drift.HEADER
    assert {row["name"]: row["drift"] for row in rows if row["of"] == "column"} == {
        f"x{i}": str(int(i == 2)) for i in range(8)
    }
    code, _, error = call("drift", run, "--input", tmp_path / "new.csv")
    assert (code, "drift.json: already exists; --force" in error) == (2, True)
