"""p-values, false-alarm rates and false discovery rates: by hand, on draws with known truth, and against scipy."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, false_discovery_control

from autoenc import load_run
from autoenc.apps.anomaly import calibration
from autoenc.apps.anomaly.conformal import AlarmRate, Calibration, FalseDiscoveryRate, Quantile, p_values, rows_needed
from autoenc.apps.anomaly.rows.contamination import Share, share
from autoenc.apps.anomaly.rows.detect import Detected
from autoenc.apps.anomaly.scores import Detector
from autoenc.data.kinds.table import Table
from autoenc.data.split import Split
from autoenc.errors import UserError, counted
from autoenc.loading import Run

Script = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(table_run: Path) -> Run:
    """54 validation rows or so of vectors."""
    return load_run(table_run, "cpu")


def test_p_values_count_the_calibration_scores_that_are_as_high() -> None:
    calibration = np.array([3.0, 1, 2, 2])
    found = p_values(calibration, np.array([0.5, 1, 2, 2.5, 3, 4]))
    assert found.tolist() == [5 / 5, 5 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5]


def test_quantiles_of_few_rows_have_a_remark_where_they_are_printed() -> None:
    for level, n, least in ((0.9, 99, "100"), (0.99, 99, "100"), (0.99, 100, ""), (0.999, 999, "1,000")):
        scores, normal = {"error": np.arange(5.0)}, Calibration({"error": np.arange(float(n))}, "validation rows")
        decided = Detected("error", Quantile(level), scores, normal).decided
        assert decided.count(f"rests on {n} validation rows, fewer than the {least}") == bool(least), (level, n)
    assert "rests on" not in Detected("error", AlarmRate(0.2), scores, normal).decided, "it has an interval"


@pytest.mark.parametrize(
    ("n", "nouns", "words"),
    [
        (1, "blocks of 24 steps of the validation recordings", "1 block of 24 steps of the validation recordings"),
        (1, "classes", "1 class"),
        (1, "loss rows", "1 loss row"),
        (1_234, "images", "1,234 images"),
        (0, "gaps", "0 gaps"),
        (1, "rows have", "1 row has"),
        (2, "values are", "2 values are"),
    ],
)
def test_one_is_singular(n: int, nouns: str, words: str) -> None:
    assert counted(n, nouns) == words


def test_the_verb_agrees_with_the_part_and_the_noun_with_the_whole() -> None:
    found = [counted(n, "texts are", of) for n, of in ((1, 1), (1, 1_200), (2, 1_200))]
    assert found == ["1 of 1 text is", "1 of 1,200 texts is", "2 of 1,200 texts are"]


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.1, 0.2, 0.37])
def test_rows_above_the_threshold_are_those_with_a_p_value_of_the_rate_or_less(rate: float) -> None:
    random = np.random.default_rng(0)
    for n in (rows_needed(rate), rows_needed(rate) + 7, 200):
        calibration, values = random.integers(0, 30, n).astype(float), np.arange(-1.0, 32)
        alarms = values > AlarmRate(rate).threshold(calibration, values)
        assert np.array_equal(alarms, p_values(calibration, values) <= rate + 1e-12)
    assert rows_needed(rate) + 1 >= 1 / rate - 1e-9 > rows_needed(rate)


def test_normal_rows_are_alarms_as_often_as_stated_and_within_the_interval_given_the_calibration_rows() -> None:
    """Scores are uniform: the probability of an alarm given the calibration rows is 1 - threshold."""
    random, n, sets = np.random.default_rng(1), 57, 4000
    rule = AlarmRate(0.1)  # k = 5 of 58
    low, high = rule.interval(n)
    limits = np.array([rule.threshold(row, row) for row in random.random((sets, n))])
    alarms = int((random.random(sets) > limits).sum())
    rate = rule.summary(np.zeros(n), np.zeros(1))["false_alarm_rate"]
    assert rate == 5 / 58
    assert binom.ppf(0.001, sets, rate) <= alarms <= binom.ppf(0.999, sets, rate)
    inside = int(((low <= 1 - limits) & (1 - limits <= high)).sum())
    assert binom.ppf(0.001, sets, 0.95) <= inside <= binom.ppf(0.999, sets, 0.95)


def test_equal_scores_do_not_raise_the_rate() -> None:
    random = np.random.default_rng(2)
    calibration, new = random.integers(0, 4, (4000, 30)), random.integers(0, 4, 4000)
    limits = np.array([AlarmRate(0.1).threshold(row.astype(float), row) for row in calibration])
    assert (new > limits).mean() <= 0.1


@pytest.mark.parametrize("level", [0.05, 0.1, 0.3])
def test_alarms_are_those_of_benjamini_hochberg(level: float) -> None:
    random = np.random.default_rng(3)
    for shift in (0, 2, 4):
        calibration = random.normal(size=400)
        values = np.concatenate([random.normal(size=60), random.normal(shift, 1, size=20)])
        alarms = values > FalseDiscoveryRate(level).threshold(calibration, values)
        adjusted = false_discovery_control(p_values(calibration, values))
        assert np.array_equal(alarms, adjusted <= level * (1 + 1e-9))
    everything = np.full(5, 9.0)
    assert (everything > FalseDiscoveryRate(0.5).threshold(np.zeros(1), everything)).all()


def test_the_share_of_normal_rows_among_alarms_is_as_stated() -> None:
    random, shares = np.random.default_rng(4), []
    for _ in range(400):
        values = np.concatenate([random.normal(size=60), random.normal(4, 1, size=20)])
        alarms = values > FalseDiscoveryRate(0.2).threshold(random.normal(size=300), values)
        shares.append(alarms[:60].sum() / max(alarms.sum(), 1))
    error = np.std(shares) / np.sqrt(len(shares))
    assert np.mean(shares) == pytest.approx(0.2 * 60 / 80, abs=3.5 * error)


def test_few_calibration_rows_permit_alarms_only_together() -> None:
    """At n = 99, p >= 0.01: of 50 rows, k alarms need 0.01 <= 0.1 k / 50."""
    rule, calibration = FalseDiscoveryRate(0.1), np.arange(99.0)
    assert rule.least(99, 50) == 5
    for high in (4, 5):
        values = np.concatenate([np.full(50 - high, -1.0), np.full(high, 1000.0)])
        assert (values > rule.threshold(calibration, values)).sum() == (high if high >= 5 else 0)
    assert "no fewer than 5 alarms among 50 rows, 499 would permit 1" in rule.words(calibration, np.zeros(50), "rows")


def test_too_few_calibration_rows_are_refused_with_both_numbers(run: Run) -> None:
    n = len(run.reference.val_table)
    detector = Detector(run)
    with pytest.raises(UserError, match=rf"--alarm-rate 0.001: needs 999 calibration rows, found {n} validation"):
        AlarmRate(0.001).check_rows(n, calibration.validation(detector).source)
    AlarmRate(1 / (n + 1)).check_rows(n, "")
    with pytest.raises(UserError, match=f"--fdr 0.01: needs 99 calibration rows, found {n} .* or --fdr 0.0"):
        FalseDiscoveryRate(0.01).check_rows(n, "validation rows")
    Quantile(0.9999).check_rows(n, "")


def test_calibration_rows_that_were_trained_on_are_refused(run: Run, tmp_path: Path) -> None:
    detector, train, unseen = Detector(run), run.data.train.rows(), run.data.test.rows()
    np.save(tmp_path / "unseen.npy", unseen)
    found = calibration.unseen(run, tmp_path / "unseen.npy")
    assert (found.source, found.remark) == ("rows of unseen.npy", "")
    assert found.scored(detector).scores["error"] == pytest.approx(
        np.square(unseen - run.reconstruct(unseen)).mean(1), rel=1e-5
    )
    np.save(tmp_path / "some.npy", np.concatenate([unseen, train[3:6]]))
    with pytest.raises(UserError, match=f"some.npy: 3 of {len(unseen) + 3} rows were trained on"):
        calibration.unseen(run, tmp_path / "some.npy")


def test_rows_are_recognized_whatever_their_padding_and_storage() -> None:
    short, long = torch.tensor([[5, 6, 0]]), torch.tensor([[5, 6, 0, 0, 0], [5, 6, 7, 8, 9]])
    assert calibration._digests(Split(short)) == calibration._digests(Split(long))[:1]
    assert len(set(calibration._digests(Split(long)))) == 2
    whole, part = torch.tensor([[0, 51, 255]], dtype=torch.uint8), torch.tensor([[0, 51, 255]]).float() * (1 / 255)
    assert calibration._digests(Split(whole, scale=1 / 255)) == calibration._digests(Split(part))


def test_rows_that_repeat_themselves_in_the_training_data_may_repeat_in_calibration(run: Run, tmp_path: Path) -> None:
    train, unseen = run.data.train.rows(), run.data.test.rows()
    np.save(tmp_path / "some.npy", np.concatenate([unseen, train[3:6]]))
    doubled = torch.from_numpy(np.concatenate([train[:200], train[:200]]))
    rows = replace(run.reference.rows, x=doubled)
    run.__dict__["reference"] = replace(run.reference, rows=rows, size=1000)
    found = calibration.unseen(run, tmp_path / "some.npy")
    assert found.remark.startswith("the run stores 400 of 1,000 training rows")


def test_calibration_rows_that_are_labelled_as_anomalies_are_left_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", run.data.test.rows())
    labels = np.ma.array(np.arange(len(run.data.test)) < 4, mask=np.arange(len(run.data.test)) == 7)
    monkeypatch.setattr(type(run.spec.kind), "anomalies", lambda *_: labels)
    with pytest.warns(UserWarning, match="rows.npy: 5 of .* not labelled as normal and left out"):
        found = calibration.unseen(run, tmp_path / "rows.npy")
    assert len(found.split) == len(run.data.test) - 5
    labels = np.ones(len(run.data.test), bool)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(UserError, match="no row is labelled as normal"):
        calibration.unseen(run, tmp_path / "rows.npy")


def test_classes_that_are_left_out_are_no_calibration_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("size,state\n1.0,ok\n9.0,broken\n2.0,Ok\n8.0,\n3.0,strange\n")
    kind = Table((1,), 0.0, 1.0)
    path, options = tmp_path / "rows.csv", {"label": "state", "normal": None}
    assert kind.anomalies(path, options) is None
    labels = kind.anomalies(path, options, ["broken"])
    assert labels is not None
    assert labels.tolist() == [False, True, False, None, False]


def test_the_script_states_what_the_threshold_means(run: Run, table_run: Path, tmp_path: Path, call: Script) -> None:
    rows = run.data.test.rows()
    np.savetxt(tmp_path / "new.csv", np.concatenate([rows[:5] + 20, rows[5:10]]), delimiter=",")
    np.savetxt(tmp_path / "normal.csv", rows[10:], delimiter=",")
    where = tmp_path / "scores.csv"
    file = [table_run, "--input", tmp_path / "new.csv", "--output", where, "--force"]
    code, said, error = call("detect", *file, "--alarm-rate", 0.05, "--calibrate", tmp_path / "normal.csv")
    assert code == 0, error
    n = len(rows) - 10
    low, high = AlarmRate(0.05).interval(n)
    stated = f"false-alarm rate at most 0.05; given {n} rows of normal.csv, 95% interval {low:.2g} to {high:.2g}"
    assert stated in said.replace("\n", " ")
    made = json.loads((tmp_path / "scores.json").read_text())
    assert "quantile" not in made
    assert made["alarm_rate"] == 0.05 >= made["false_alarm_rate"] == int(0.05 * (n + 1)) / (n + 1)
    assert made["false_alarm_rate_interval"] == [low, high]
    assert made["calibration"] == {"source": "rows of normal.csv", "rows": n, "remark": ""}
    table = list(csv.DictReader(where.open()))
    assert [row["p_value"] for row in table[:5]] == [f"{1 / (n + 1):.4g}"] * 5
    assert [row["anomaly"] for row in table] == [str(int(float(row["p_value"]) <= 0.05)) for row in table]
    code, said, error = call("detect", *file, "--fdr", 0.2)
    assert code == 0, error
    assert f"among the alarms at most 0.2, from {len(run.reference.val_table)} validation rows" in said.replace(
        "\n", " "
    )
    assert "the validation rows chose the checkpoint" in said.replace("\n", " ").lower()
    assert json.loads((tmp_path / "scores.json").read_text())["above_threshold"] >= 5


@pytest.mark.parametrize("true", [0.0, 0.02, 0.2])
def test_the_interval_of_the_share_of_anomalies_covers_it(true: float) -> None:
    """Anomalies that score above most normal rows; 97.5% for either end."""
    random, trials = np.random.default_rng(0), 150
    found = []
    for _ in range(trials):
        anomaly = random.uniform(size=300) < true
        found.append(share(random.normal(size=400), random.normal(size=300) + 4 * anomaly))
    enough = binom.ppf(0.001, trials, 0.975)
    assert sum(each.low <= true for each in found) >= enough
    assert sum(each.high >= true for each in found) >= enough
    assert all((each.estimate is None) == (each.low == 0) for each in found)
    told = [each.estimate for each in found if each.estimate is not None]
    if true == 0.2:
        assert len(told) >= enough
        assert np.mean(told) == pytest.approx(true, abs=0.03)
    if true == 0:
        assert len(told) <= trials - enough, "a share of nothing is rarely told"


def test_anomalies_that_look_normal_or_too_few_rows_tell_no_share() -> None:
    random = np.random.default_rng(0)
    same = [share(random.normal(size=300), random.normal(size=300)).low for _ in range(100)]
    assert np.mean(np.array(same) == 0) >= 0.9, "half of them may be anomalies"
    assert share(np.zeros(0), np.zeros(5)) == share(np.zeros(5), np.zeros(0)) == Share()
    tied = share(np.zeros(50), np.zeros(50))
    assert (tied.low, tied.high) == (0, 1)


def test_the_script_estimates_the_share_of_anomalies(run: Run, table_run: Path, tmp_path: Path, call: Script) -> None:
    np.savetxt(tmp_path / "new.csv", run.data.test.rows()[:10], delimiter=",")
    np.savetxt(tmp_path / "normal.csv", run.data.test.rows()[10:], delimiter=",")
    file = [table_run, "--input", tmp_path / "new.csv", "--output", tmp_path / "s.csv", "--force"]
    code, said, error = call("detect", *file, "--contamination", "auto")
    assert code == 0, error
    assert "cannot be told without known normal rows; --calibrate names a file" in said.replace("\n", " ")
    assert json.loads((tmp_path / "s.json").read_text())["contamination"]["estimate"] is None
    np.savetxt(tmp_path / "low.csv", np.repeat(run.data.train.mean()[None].numpy(), 200, 0), delimiter=",")
    code, said, error = call("detect", *file, "--contamination", "auto", "--calibrate", tmp_path / "low.csv")
    assert code == 0, error
    made = json.loads((tmp_path / "s.json").read_text())
    found = made["contamination"]
    assert 0 < found["low"] <= found["estimate"] <= found["high"], "rows nearer to the mean than any of the data"
    assert made["quantile"] == pytest.approx(1 - found["estimate"])
    assert f"share of anomalies in the data of training: {found['estimate']:.2g}; at least" in said.replace("\n", " ")


def test_calibration_rows_unlike_all_of_the_data_tell_no_share(
    run: Run, table_run: Path, tmp_path: Path, call: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert share(np.arange(200.0), np.arange(200.0) + 500).estimate == 1
    np.savetxt(tmp_path / "same.csv", np.repeat(run.data.train.mean()[None].numpy(), 200, 0), delimiter=",")
    monkeypatch.setattr("autoenc.apps.anomaly.rows.contamination.share", lambda normal, data: Share(1.0))
    code, _, error = call("detect", table_run, "--contamination", "auto", "--calibrate", tmp_path / "same.csv")
    assert (code, error.count("\n")) == (2, 1)
    assert f"--contamination auto: all validation rows score higher than those of {tmp_path / 'same.csv'}" in error


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--fdr", "0.1", "--alarm-rate", "0.1"], "--alarm-rate: not allowed with argument --fdr"),
        (["--quantile", "0.9", "--alarm-rate", "0.1"], "--alarm-rate: not allowed with argument --quantile"),
        (["--alarm-rate", "0"], "--alarm-rate: 0 does not lie between 0 and 1"),
        (["--alarm-rate", "0.001"], "--alarm-rate 0.001: needs 999 calibration rows, found "),
        (["--calibrate", "none.npy"], "none.npy: no such file"),
        (["--calibrate", "a.csv", "--input", "./a.csv"], "--calibrate a.csv: is the file of --input"),
    ],
)
def test_the_script_refuses_in_one_line(
    table_run: Path, copied: Callable[[Path], Path], call: Script, args: list[str], message: str
) -> None:
    run = copied(table_run)
    (run / "detect").mkdir()
    (run / "detect" / "detect.json").touch()  # what cannot be is said first
    code, _, error = call("detect", run, *args)
    assert (code, len(error.splitlines())) == (2, 1)
    assert message in error
