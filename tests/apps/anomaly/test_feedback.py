"""A score learnt from labelled rows: its regression against scikit-learn's, and the script."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from autoenc import load_run
from autoenc.apps.anomaly.rows import feedback
from autoenc.apps.anomaly.scores import Detector, rarity
from autoenc.errors import DataError, UserError

Script = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def detector(table_run: Path) -> Detector:
    return Detector(load_run(table_run, "cpu"))


@pytest.fixture(scope="module")
def labelled(detector: Detector) -> pd.DataFrame:
    """detect.csv of 60 rows: 12 a little off the subspace, which the error sees best, and 8 rows without a label."""
    run = detector.run
    x = run.data.test.rows()[:60].copy()
    x[:12, 5] += np.tile([0.6, -0.6], 6)
    scores = detector.scores(run.inputs(x))
    frame = pd.DataFrame({"name": range(len(x)), **{name: values.round(6) for name, values in scores.items()}})
    frame["label"] = [1] * 12 + [0] * (len(x) - 20) + [None] * 8
    return frame


def test_the_fit_is_a_balanced_logistic_regression_with_weights_that_are_not_negative() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) < 15
    x = random.normal(size=(60, 2)) + labels[:, None]
    model = LogisticRegression(C=1 / (0.1 * 60), class_weight="balanced", tol=1e-8).fit(x, labels)
    assert feedback.fit(x, labels, 0.1) == pytest.approx([*model.coef_[0], *model.intercept_], abs=1e-3)
    weights = feedback.fit(np.column_stack([x, -x[:, 0]]), labels, 0.1)
    assert weights[2] == 0
    assert weights[:2] == pytest.approx(model.coef_[0], abs=1e-3)


def test_labelled_rows_re_weight_the_scores(detector: Detector, labelled: pd.DataFrame, tmp_path: Path) -> None:
    labelled.to_csv(tmp_path / "a.csv", index=False)
    found = feedback.learn(detector, tmp_path / "a.csv")
    assert (found.anomalies, found.normal) == (12, len(labelled) - 20)
    assert found.auroc["feedback"] > max(found.auroc["mahalanobis"], found.auroc["knn"]) + 0.1
    assert found.weights["error"] > found.weights["mahalanobis"]
    assert min(found.weights.values()) >= 0
    both = feedback.FeedbackDetector(detector.run, found)
    split = detector.run.data.test
    scores, before = both.scores(split), detector.scores(split)
    parts = [w * rarity(detector.training_scores[name], before[name]) for name, w in found.weights.items()]
    assert scores.pop("feedback") == pytest.approx(np.sum(parts, 0) + found.intercept)
    assert all(np.array_equal(scores[name], values) for name, values in before.items())
    assert len(both.validation["feedback"]) == len(detector.run.reference.val_table)


def test_labels_at_random_are_not_better(detector: Detector, labelled: pd.DataFrame, tmp_path: Path) -> None:
    shuffled = labelled.assign(label=np.random.default_rng(1).permutation(labelled["label"].to_numpy()))
    shuffled.to_csv(tmp_path / "a.csv", index=False)
    found = feedback.learn(detector, tmp_path / "a.csv")
    assert found.auroc["feedback"] < 0.75
    assert not found.better


def test_what_cannot_be_learnt_from_is_one_line(detector: Detector, labelled: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for frame, error, message in (
        (labelled.iloc[8:], UserError, r"a.csv: has 4 anomalies and .* normal rows; needs 5 of each"),
        (labelled.iloc[12:], UserError, r"a.csv: has 0 anomalies and"),
        (labelled.drop(columns="label"), DataError, r"a.csv: has no column label; name a file that .* 1 for anomalies"),
        (labelled.drop(columns="knn"), DataError, r"a.csv: has no column knn"),
        (labelled.assign(label=2), DataError, r"a.csv: row 1, column label: must be 1, 0 or empty"),
        (labelled.assign(label="bad"), DataError, r"a.csv: row 1, column label: bad is not a number"),
        (labelled.assign(combined=labelled["combined"] + 1), DataError, r"a.csv: its scores are not those of .* run"),
    ):
        frame.to_csv(path, index=False)
        with pytest.raises(error, match=message):
            feedback.learn(detector, path)


def test_the_script_stores_the_score_beside_the_others(
    table_run: Path, copied: Callable[[Path], Path], labelled: pd.DataFrame, tmp_path: Path, call: Script
) -> None:
    run = copied(table_run)
    labelled.to_csv(tmp_path / "a.csv", index=False)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    code, _, error = call("detect", run, "--score", "feedback")
    assert code == 2
    assert error.startswith(f"--score feedback: {run / 'feedback' / 'feedback.json'} does not exist; ")
    code, said, error = call("detect", run, "--feedback", tmp_path / "a.csv")
    assert code == 0, error
    made = json.loads((run / "feedback" / "feedback.json").read_text())
    assert f"AUROC {made['auroc']['feedback']:.3f} of rows that it was not fitted to" in said
    assert all(path.read_bytes() == content for path, content in before.items())
    code, _, error = call("detect", run, "--score", "feedback", "--alarm-rate", 0.05)
    assert code == 0, error
    rows = list(csv.DictReader((run / "detect" / "detect.csv").open()))
    summary = json.loads((run / "detect" / "detect.json").read_text())
    assert summary["score"] == "feedback"
    above = [float(row["feedback"]) > summary["thresholds"]["feedback"] for row in rows]
    assert [row["anomaly"] for row in rows] == [str(int(alarm)) for alarm in above]
    assert Detector(load_run(run, "cpu")).best == "combined"
    assert "feedback" not in Detector(load_run(run, "cpu")).names
    code, _, error = call("detect", run, "--feedback", tmp_path / "a.csv")
    assert (code, "feedback.json: already exists; --force" in error) == (2, True)
    for option, value in (("--fdr", "0.1"), ("--quantile", "0.9")):
        code, _, error = call("detect", run, "--feedback", tmp_path / "a.csv", option, value)
        assert (code, error.startswith(f"{option} {value}: has no effect with --feedback")) == (2, True)
    (run / "feedback" / "feedback.json").write_text('{"weights": {"nothing": 1}}')
    code, _, error = call("detect", run, "--score", "feedback", "--force")
    assert (code, error.count("\n"), "feedback.json: damaged" in error) == (2, 1, True)
