"""Detection on the time axis: scores of steps against sums by hand, files, rows that come one by one, metrics."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.signal import lfilter
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from autoenc import load_run, run
from autoenc.apps.anomaly import conformal
from autoenc.apps.anomaly.conformal import AlarmRate
from autoenc.apps.anomaly.scores import TRAINED
from autoenc.apps.anomaly.steps import blocks, figure, follow, metrics, timeline
from autoenc.apps.anomaly.steps.metrics import Scored, stretches
from autoenc.apps.anomaly.steps.scores import StepDetector
from autoenc.apps.anomaly.steps.way import Steps
from autoenc.apps.anomaly.way import Options
from autoenc.data.storage.windows import StepMeans
from autoenc.errors import DataError
from autoenc.estimators.inmemory import compose
from autoenc.loading import Run

W, STEPS = 16, 160


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve logs of two sensors that follow each other; the last has an anomaly and a gap."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("logs")
    for i in range(12):
        t = np.arange(STEPS)
        a = np.sin(t / 3 + random.uniform(0, 6))
        frame = pd.DataFrame({"a": a, "b": 5 + 2 * a}) + 0.1 * random.normal(size=(STEPS, 2))
        frame.insert(0, "time", pd.date_range("2024-05-01", periods=STEPS, freq="10s").astype(str))
        frame["fault"] = 0
        if i == 11:
            frame.loc[100:119, "b"] = 5.0
            frame.loc[100:119, "fault"] = 1
            frame = frame.drop(index=range(40, 60))
        frame.to_csv(path / f"{i:02}.csv", index=False)
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = [f"data.window={W}", "data.label=fault", "data.normal=0", "data.stride=4", "data.split_seed=1"]
    path = tmp_path_factory.mktemp("run") / "run"
    small = ["network=mlp", "network.hidden=[32]", "model.latent_dim=3", "trainer.epochs=30", "trainer.figures=0"]
    test = folder.parent / "test"
    if not test.exists():
        test.mkdir(exist_ok=True)
    (folder / "11.csv").rename(test / "11.csv")
    overrides = ["model=ae", "data=series", f"data.path={folder}", f"data.test_path={test}", *options, *small]
    training = ["trainer.device=cpu", "trainer.batch_size=32", "optimizer.lr=0.003"]
    run.train(compose([*overrides, *training]), path, {"model": "ae"})
    return path


@pytest.fixture(scope="module")
def loaded(trained: Path) -> Run:
    return load_run(trained, "cpu")


@pytest.fixture(scope="module")
def log(folder: Path) -> Path:
    return folder.parent / "test" / "11.csv"


def test_scores_of_steps_are_means_over_windows() -> None:
    random = np.random.default_rng(0)
    places, values = torch.tensor([3, 5, 5, 20]), torch.from_numpy(random.normal(size=(4, 2, 4))).float()
    steps, means = StepMeans.of(places, values)
    by_hand: dict[int, list[np.ndarray]] = {}
    for place, value in zip(places.tolist(), values.numpy(), strict=True):
        for t in range(4):
            by_hand.setdefault(place + t, []).append(value[:, t])
    assert steps.tolist() == sorted(by_hand)
    np.testing.assert_allclose(means, [np.mean(by_hand[step], 0) for step in sorted(by_hand)], rtol=1e-5)


def test_errors_and_blame_are_those_of_a_sum_by_hand(loaded: Run) -> None:
    detector = StepDetector(loaded)
    split = timeline.windows_of(loaded, None)
    found = detector.scores(split)
    x = split.tensor.numpy()
    error = (x - loaded.reconstruct(x)).astype(np.float64)
    step = int(found.steps[7])
    inside = [(n, step - int(p)) for n, p in enumerate(split.x.places) if 0 <= step - int(p) < W]
    square = np.mean([error[n, :, t] ** 2 for n, t in inside], 0)
    assert found.scores["error"][7] == pytest.approx((square / detector.scale).mean(), rel=1e-4)
    assert found.x[7] == pytest.approx(x[inside[0][0], :, inside[0][1]], abs=1e-5)
    part = square / detector.scale
    np.testing.assert_allclose(found.channels[7], part / part.sum(), rtol=1e-4)
    mean = np.mean([error[n, :, t] for n, t in inside], 0)
    assert found.scores["residual"][7] == pytest.approx(np.sqrt(mean @ detector.precision @ mean), rel=1e-3)
    whole = detector.windows.scores(split)["knn"]
    assert found.scores["knn"][7] == pytest.approx(np.mean([whole[n] for n, _ in inside]), rel=1e-4)


def test_thresholds_are_quantiles_of_the_validation_steps(loaded: Run) -> None:
    detector = StepDetector(loaded)
    values = detector.scores(loaded.data.val).scores
    for name in ("residual", "error", "knn"):
        np.testing.assert_allclose(np.sort(detector.validation[name]), np.sort(values[name]), rtol=1e-3, atol=1e-5)
        assert (values[name] > detector.threshold(name, 0.9) * (1 + 1e-5)).mean() <= 0.1


def test_figures_have_the_time_stamps_of_the_file(loaded: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(figure, "pixels", drawn.append)
    split = timeline.windows_of(loaded, None)
    figure.figure(loaded, timeline.timeline(StepDetector(loaded), split))
    lowest = drawn[0].axes[-1]
    labels = [text.get_text() for text in lowest.get_xticklabels()]
    assert labels[0] == "2024-05-01 00:00:00"
    assert labels[-1] == "2024-05-01 00:26:30", "that of the last of the rows"
    assert lowest.get_xlabel() == "time"


def test_a_test_split_is_detected_with_metrics_and_files(
    trained: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = call("detect", trained, "--output", tmp_path)
    assert code == 0, err
    assert re.search(r"residual +│ +[0-9.]+ │ +[0-9.]+", out), "AUROC and average precision"
    assert {p.name for p in tmp_path.iterdir()} == {"detect.json", "detect.csv", "events.csv", "timeline.png"}
    found = json.loads((tmp_path / "detect.json").read_text())
    assert (found["score"], found["chosen"]) == ("residual", StepDetector(load_run(trained, "cpu")).reason)
    assert found["anomalous_events"] == 1
    numbers = found["numbers"]
    assert numbers["residual"]["auroc"] > 0.9 > numbers["random"]["auroc"]
    assert {"pca", "isolation_forest", "raw_knn", "ecod", "random"} <= numbers.keys()
    assert "auroc_untrained" in numbers["residual"]
    rows = list(csv.DictReader((tmp_path / "detect.csv").open()))
    assert len(rows) == STEPS - 20
    assert rows[40]["time"].startswith("2024-05-01 00:10:00")
    assert sum(int(row["label"]) for row in rows) == 20


def test_several_runs_are_compared_on_the_time_axis(
    trained: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = call("detect", trained, trained, "--output", tmp_path)
    assert code == 0, err
    found = json.loads((tmp_path / "detect.json").read_text())
    assert found["mean"]["residual"]["auroc"] > 0.9
    assert "vus_pr" in found["mean"]["residual"]
    code, _, err = call("detect", trained, trained, "--follow", "-")
    assert (code, "--follow -: needs one run, 2 are given" in err) == (2, True)


def test_new_recordings_have_a_score_for_each_row_of_the_file(
    trained: Path, log: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    frame = pd.read_csv(log).drop(columns="fault")
    frame.to_csv(tmp_path / "new.csv", index=False)
    before = (tmp_path / "new.csv").read_bytes()
    code, out, err = call("detect", trained, "--input", tmp_path / "new.csv", "--output", tmp_path / "s.csv")
    assert code == 0, err
    assert re.search(r"\d+ of \d+ steps .*in \d+ intervals?", out.replace("\n", " "))
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["time"] for row in rows] == frame["time"].tolist()
    scores = np.array([float(row["residual"]) for row in rows])
    assert scores[80:100].mean() > 3 * scores[:40].mean()
    events = list(csv.DictReader((tmp_path / "s_events.csv").open()))
    assert any(e["first"] <= "2024-05-01 00:17:30" <= e["last"] for e in events)
    assert (tmp_path / "new.csv").read_bytes() == before
    labels = np.zeros(len(frame))
    labels[80:100] = 1
    np.save(tmp_path / "y.npy", labels)
    code, out, err = call("detect", trained, "--input", tmp_path / "new.csv", "--labels", tmp_path / "y.npy")
    assert code == 0, err
    assert "vus_pr" in out


def _score(loaded: Run, text: str, monkeypatch: pytest.MonkeyPatch, **options: object) -> list[follow.Scored]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    follower = follow.Follower(StepDetector(loaded), **options)  # type: ignore[arg-type]
    return [row for rows in follow.follow(follower, "-") for row in rows]


def test_rows_that_come_one_by_one_are_scored_by_the_window_they_end(
    loaded: Run, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _score(loaded, log.read_text(), monkeypatch, score="error")
    frame = pd.read_csv(log)
    assert [row.stamp for row in rows] == frame["time"].tolist()
    empty = [i for i, row in enumerate(rows) if row.score is None]
    assert empty == [*range(W - 1), *range(40, 40 + W - 1)], "before the first window, and after the gap"
    kind = loaded.spec.kind
    x = kind.channels.forward(torch.from_numpy(frame[["a", "b"]].to_numpy()[10 : 10 + W])[None].float())
    error = (x - loaded.reconstruct(x))[0, :, -1].double().numpy()
    detector = StepDetector(loaded)
    assert rows[10 + W - 1].score == pytest.approx((error**2 / detector.scale).mean(), rel=1e-3)
    alarms = [row.alarm for row in rows]
    assert np.mean(alarms[80:100]) > 0.5 > np.mean(alarms[:40])


def test_thresholds_of_few_windows_have_a_remark(loaded: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = StepDetector(loaded)
    n = len(detector.validation_last["error"])
    for few in (n, n + 1):
        monkeypatch.setattr(conformal, "FEW", few)
        for remark in (
            follow.Follower(detector, "error", 0.5).caution,
            timeline.timeline(detector, loaded.data.test, rule=conformal.Quantile(0.5)).decided.lower(),
        ):
            assert (f"rests on {n:,} validation windows, fewer than the {few:,}" in remark) == (few > n)


def test_other_thresholds_are_named_beside_that_of_steps(loaded: Run) -> None:
    decided = timeline.timeline(StepDetector(loaded), loaded.data.test).decided
    assert re.search(r"--follow and exported detectors .* another threshold", decided)


def test_rows_that_come_say_by_what_whole_files_are_decided(loaded: Run) -> None:
    detector = StepDetector(loaded)
    for best, reason in (("residual", "the default"), ("prior", TRAINED)):
        detector.windows.best, detector.windows.reason = best, reason
        follower = follow.Follower(detector)
        assert follower.decided.startswith(f"residual > {follower.threshold:.4g}, the 0.99 quantile")
        assert f"scripts/detect.py decides by {best}," in follower.decided


def test_intervals_that_are_not_listed_are_counted(loaded: Run) -> None:
    way, interval = Steps(loaded, Options()), timeline.Event("a", "0", "1", 2, 1.0, "0", "x 100%")
    for count, last in ((5, "  a 0 to 1 (1): x 100%"), (7, "  and 2 more with lower peaks")):
        result = SimpleNamespace(events=lambda n=count: [interval] * n)
        assert list(way.highest(result))[-1] == last  # type: ignore[arg-type]


def test_short_gaps_and_empty_cells_do_not_stop_the_scores(
    loaded: Run, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = log.read_text().splitlines()
    lines[21] = lines[21].split(",")[0] + ",,3,0"
    whole = _score(loaded, "\n".join([*lines[:25], *lines[27:40]]), monkeypatch)
    assert [i for i, row in enumerate(whole) if row.score is None] == list(range(W - 1))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: ["time,a", *lines[1:]], r"--follow -: has no column b"),
        (lambda lines: [*lines[:5], lines[3]], r"row 5, .* is not later than the row before"),
        (
            lambda lines: [*lines[:5], lines[4].replace(":30,", ":31,", 1)],
            r"row 5, .* is 1 s after the row before, and the run has steps of",
        ),
        (lambda lines: [*lines[:5], "2024-06-01 00:00,x,1,0"], r"row 5: 'x' is not a finite number"),
        (lambda lines: [*lines[:5], "2024-06-01 00:00,1e999,1,0"], r"row 5: '1e999' is not a finite number"),
        (lambda lines: [*lines[:5], "2024-06-01 00:00,1"], r"row 5 has 2 columns"),
        (
            lambda lines: [lines[0], "2024-06-01 00:00Z,1,1,0"],
            r"row 1: '2024-06-01 00:00Z' has a time zone, .* have none",
        ),
    ],
)
def test_rows_that_cannot_be_scored_are_one_line(
    loaded: Run, log: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _score(loaded, "\n".join(edit(log.read_text().splitlines())), monkeypatch)


def test_a_file_is_followed_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("a\n1\n2")
    lines = follow._written(path)
    assert next(lines) == ["a\n", "1\n"]
    with path.open("a") as file:
        file.write("5\n7\n")
    assert next(lines) == ["25\n", "7\n"]


def test_follow_writes_a_line_for_each_row(
    trained: Path, log: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(log.read_text()))
    code, out, err = call("detect", trained, "--follow", "-")
    assert code == 0, err
    assert re.fullmatch(rf"{trained}: alarm: residual > .*, the 0.99 quantile of .* by residual, .*\n", err)
    assert out.splitlines()[0] == "time,score,anomaly,channels"
    assert len(out.splitlines()) == STEPS - 20 + 1


def test_blocks_share_no_window_and_do_not_cross_gaps_or_recordings() -> None:
    places = np.array([0, 2, 4, 6, 20, 22, 24])  # windows of 4 steps: 0 to 9 and, in steps 10 to 17, 20 to 27
    assert blocks.blocks(places, 4, 3, None) == [(0, 3), (7, 10), (10, 13)]
    assert blocks.blocks(places, 4, 3, [0, 20]) == [(0, 3), (7, 10), (10, 13)]
    assert blocks.blocks(places, 4, 3, [0, 6, 20]) == [(0, 3), (6, 9), (10, 13)], "a recording begins at step 6"
    assert blocks.blocks(places, 4, 9, None) == [(0, 9)]
    assert blocks.blocks(places, 4, "recording", [0, 20, 28]) == [(0, 10), (10, 18)]
    assert blocks.blocks(np.array([0, 4, 8]), 4, 12, [0]) == [(0, 12)], "known to be one recording"
    assert blocks.blocks(np.array([0, 4, 8]), 4, 12, None) == []
    apart = np.arange(0, 40, 4)  # windows of one recording, or of ten
    assert blocks.blocks(apart, 4, 4, None) == blocks.blocks(apart, 4, 4, [0]) == [(i, i + 4) for i in range(0, 40, 8)]


@pytest.mark.parametrize(("steps", "block", "level"), [(2_000, 20, 0.1), (600, 20, 0.1), (60, "recording", 0.1)])
def test_the_rate_of_blocks_with_an_alarm_is_kept(steps: int, block: int | str, level: float) -> None:
    """Of an autoregressive process, correlated over 10 steps. Whole recordings have levels of their own, too."""
    random, trials, length = np.random.default_rng(0), 400, 10
    series = 1 if block != "recording" else 19

    def process(count: int, n: int) -> np.ndarray:
        noise = random.normal(size=(count, n + 100))
        level = random.normal(size=(count, 1)) if block == "recording" else 0
        return np.abs(lfilter([1], [1, -0.9], noise, axis=1)[:, 100:] + 5 * level)

    alarms = []
    for _ in range(trials):
        normal = process(series, steps).ravel()
        places = np.concatenate([np.arange(i * steps, (i + 1) * steps - length + 1) for i in range(series)])
        found = blocks.blocks(places, length, block, range(0, series * steps, steps))
        highest = np.array([normal[a:b].max() for a, b in found])
        limit = AlarmRate(level).threshold(highest, highest)
        alarms.append(bool((process(1, steps if block == "recording" else int(block)) > limit).any()))
    assert binom.ppf(0.001, trials, level / 2) <= sum(alarms) <= binom.ppf(0.999, trials, level)


def test_a_rate_of_alarms_is_that_of_blocks(
    trained: Path, folder: Path, log: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    frame = pd.read_csv(log).drop(columns="fault")[:40]
    (tmp_path / "normal").mkdir()
    for i in range(3):
        frame.assign(a=frame["a"] + 0.01 * (i + 1)).to_csv(tmp_path / f"normal/{i}.csv", index=False)
    frame.to_csv(tmp_path / "new.csv", index=False)
    file = [trained, "--input", tmp_path / "new.csv", "--json"]

    def detected(*options: object) -> tuple[dict, str]:
        code, out, err = call("detect", *file, *options)
        assert code == 0, err
        return json.loads(out), " ".join(err.split())

    found, said = detected("--alarm-rate", "0.2", "--block", "8")
    assert found["calibration"]["source"] == "blocks of 8 steps of the validation recordings"
    assert found["alarm_rate"] == 0.2 >= found["false_alarm_rate"]
    assert "The rate is that of blocks of 8 steps with an alarm, if new normal ones are drawn like these; the" in said
    normal = ["--calibrate", tmp_path / "normal"]
    found, _ = detected(*normal, "--alarm-rate", "0.25", "--block", "recording")
    assert (found["calibration"]["source"], found["calibration"]["rows"]) == ("recordings of normal/", 3)
    found, said = detected(*normal, "--quantile", "0.9")
    assert "the 0.9 quantile of the steps of normal/" in said
    code, _, err = call("detect", *file, "--calibrate", folder)
    assert (code, "were trained on" in err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--follow", "-", "--join", "3"], "--join: has no effect with --follow"),
        (["--follow", "-", "--score", "knn"], "--score knn: rows that come one by one have the scores residual, error"),
        (["--follow", "-", "--alarm-rate", "0.1"], "--alarm-rate 0.1: has no effect with --follow"),
        (["--block", "9"], "--block: is what --alarm-rate is a rate of"),
        (["--alarm-rate", "0.5", "--block", "recording"], "--block recording: needs --calibrate, a folder"),
        (["--alarm-rate", "0.001"], "--alarm-rate 0.001: needs 999 calibration rows, found .* blocks of 16 steps"),
        (["--alarm-rate", "0.5", "--block", "x"], "--block: invalid number of steps, or recording, value: 'x'"),
        (["--fdr", "0.1"], "--fdr 0.1: the time steps of a recording depend on each other"),
        (["--contamination", "auto"], "--contamination auto: is for scores of rows"),
        (["--calibrate", "a.csv"], "a.csv: no such file"),
        (["--score", "colour"], "--score colour: .* has residual, error"),
        (["--resize"], "--resize: is not for recordings"),
        (["--follow", "missing.csv"], "--follow missing.csv: no such file"),
    ],
)
def test_arguments_without_effect_are_refused(
    trained: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[str], message: str
) -> None:
    output = [] if "--follow" in arguments else ["--output", tmp_path / "x"]
    code, _, err = call("detect", trained, *arguments, *output)
    assert code == 2
    assert re.search(message, err.splitlines()[-1])


def test_other_rates_and_channels_are_refused(
    trained: Path, log: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    frame = pd.read_csv(log)
    frame["time"] = pd.date_range("2024-05-01", periods=len(frame), freq="1min").astype(str)
    frame.to_csv(tmp_path / "slow.csv", index=False)
    frame.drop(columns="b").to_csv(tmp_path / "one.csv", index=False)
    for name, message in (("slow", "has steps of 60 s, the training recordings 10 s"), ("one", "has no channel b")):
        code, _, err = call("detect", trained, "--input", tmp_path / f"{name}.csv")
        assert code == 2
        assert message in err


# Metrics


LABELS = np.array([0, 0, 1, 1, 1, 0, 0, 0, 1, 0, 0, 0], dtype=bool)
ALARMS = np.array([0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0], dtype=bool)


def test_stretches_end_at_recordings_and_are_joined() -> None:
    assert stretches(LABELS, (12,)) == [(2, 5), (8, 9)]
    assert stretches(LABELS, (4, 12)) == [(2, 4), (4, 5), (8, 9)]
    assert stretches(LABELS, (12,), join=4) == [(2, 9)]
    assert stretches(LABELS, (12,), join=3) == [(2, 5), (8, 9)]


def test_rates_events_and_adjustment_by_hand() -> None:
    data = Scored(ALARMS.astype(float), LABELS, ALARMS, (12,))
    rates = metrics.rates(LABELS, ALARMS)
    assert rates == {"step_f1": pytest.approx(2 / 6), "false_alarms": 1 / 8, "missed_alarms": 3 / 4}
    assert metrics.events(data) == {"event_precision": 0.5, "event_recall": 0.5, "delay": 1.0}
    adjusted = metrics.adjusted_alarms(LABELS, ALARMS, (12,))
    assert adjusted.astype(int).tolist() == [0, 0, 1, 1, 1, 0, 1, 0, 0, 0, 0, 0]


def test_steps_without_a_label_are_neither_normal_nor_anomalies() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 20 < 5
    scores, gone = random.normal(size=60) + labels, np.isin(np.arange(60), [*range(10, 14), 22, 59])
    data = Scored(scores, np.ma.array(labels | gone, mask=gone), scores > 1, (30, 60), 2)
    told = metrics.labelled(data)
    assert told.ends == (10, 18, 25, 54), "cut where steps are left out, and where the recording ends"
    np.testing.assert_array_equal(told.scores, scores[~gone])
    assert metrics.quality(data, 4) == metrics.quality(told, 4)
    assert metrics.quality(data, 4)["auroc"] == roc_auc_score(labels[~gone], scores[~gone])


def test_empty_labels_of_a_file_are_left_out_of_the_numbers(
    trained: Path, log: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    frame = pd.read_csv(log).astype({"fault": object})
    frame.loc[:29, "fault"] = None
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert call("detect", trained, "--input", tmp_path / "new.csv", "--output", tmp_path / "s.csv")[0] == 0
    made, rows = json.loads((tmp_path / "s.json").read_text()), pd.read_csv(tmp_path / "s.csv")
    assert (made["unlabelled"], made["anomalies"], made["anomalous_events"]) == (30, 20, 1)
    assert rows["label"].isna().tolist() == [True] * 30 + [False] * (len(rows) - 30)
    told = rows[30:]
    assert made["numbers"]["error"]["auroc"] == pytest.approx(roc_auc_score(told["label"], told["error"]), abs=1e-6)


def test_point_adjustment_flatters_random_scores() -> None:
    """Why adjusted_f1 stands beside that of a random score: long anomalies are hit by chance."""
    labels = np.zeros(3_000, dtype=bool)
    labels[1_000:1_400] = labels[2_000:2_500] = True
    scores = np.random.default_rng(1).uniform(size=3_000)
    found = metrics.quality(Scored(scores, labels, scores > 0.95, (3_000,)), buffer=0)
    assert found["auroc"] == pytest.approx(0.5, abs=0.05)
    assert found["adjusted_f1"] > 0.85
    assert found["adjusted_f1_random"] == pytest.approx(found["adjusted_f1"], abs=0.05)
    assert found["step_f1"] < 0.15


def _definition(labels: np.ndarray, scores: np.ndarray, buffer: int) -> float:
    """VUS-PR as Paparrizos et al. 2022 define it, one threshold and one step at a time."""
    areas = []
    for tolerance in range(buffer + 1):
        soft = labels.astype(float)
        for start, stop in stretches(labels, (len(labels),)):
            for away in range(1, tolerance // 2 + 1):
                for at in (start - away, stop - 1 + away):
                    if 0 <= at < len(labels):
                        soft[at] = min(1, soft[at] + np.sqrt(1 - away / tolerance))
        regions = stretches(soft > 0, (len(labels),))
        points = [(0.0, 1.0)]
        for i in np.linspace(0, len(scores) - 1, 250).astype(int):
            alarms = scores >= np.sort(scores)[::-1][i]
            hits = (soft * alarms).sum()
            seen = np.mean([alarms[a:b].any() for a, b in regions])
            recall = min(1, hits / ((labels.sum() + soft.sum()) / 2)) * seen
            points.append((recall, hits / alarms.sum()))
        recall, precision = zip(*points, strict=True)
        areas.append(float(np.trapezoid(precision, recall)))
    return float(np.mean(areas))


@pytest.mark.parametrize("buffer", [0, 1, 5])
def test_vus_pr_is_its_definition(buffer: int) -> None:
    random = np.random.default_rng(buffer)
    scores = np.round(random.normal(size=40) + 2 * np.repeat([0, 1, 0, 1], [10, 5, 20, 5]), 1)  # with ties
    labels = np.repeat([False, True, False, True], [10, 5, 20, 5])
    assert metrics.vus_pr(labels, scores, (40,), buffer) == pytest.approx(_definition(labels, scores, buffer))
    assert metrics.vus_pr(labels, labels.astype(float), (40,), 0) == pytest.approx(1.0)


def test_follow_writes_no_formula_and_through_no_link(
    trained: Path, log: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "x_names", lambda run: ["=cmd|", "=cmd|"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(log.read_text()))
    code, out, err = call("detect", trained, "--follow", "-", "--quantile", 0.01)
    assert code == 0, err
    assert "'=cmd|" in out
    assert ",=cmd|" not in out
    (tmp_path / "bashrc").write_text("mine")
    (tmp_path / "link.csv").symlink_to(tmp_path / "bashrc")
    for target in (tmp_path / "link.csv", log):
        code, _, err = call("detect", trained, "--follow", log, "--output", target, "--force")
        assert (code, err.count("\n")) == (2, 1)
        assert str(target) in err
    assert (tmp_path / "bashrc").read_text() == "mine"
    monkeypatch.setattr(sys, "stdin", io.StringIO(log.read_text()))
    assert call("detect", trained, "--follow", "-", "--output", tmp_path / "new" / "folder" / "rows.csv")[0] == 0
    assert (tmp_path / "new" / "folder" / "rows.csv").exists()
