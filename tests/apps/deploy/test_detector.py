"""An exported detector scores raw rows as the run does: its preprocessing, every score, p-value and decision."""

import csv
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from autoenc import load_run, run
from autoenc.apps.anomaly import conformal
from autoenc.apps.anomaly.rows import feedback
from autoenc.apps.anomaly.rows.detect import detect
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.anomaly.steps.follow import Follower
from autoenc.apps.anomaly.way import Options, way_of
from autoenc.apps.deploy import export_detector as exporting
from autoenc.apps.deploy.detectors import PortableDetector, tied
from autoenc.apps.deploy.export import Unfaithful, on_cpu
from autoenc.apps.deploy.scoring import PValue, Scores
from autoenc.data.kinds.column_plan import Plan
from autoenc.data.kinds.counts import Counts
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.raw.normal import normal_quantile
from autoenc.data.kinds.series import Series
from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.vector import Vector
from autoenc.data.readers.tables import Source
from autoenc.estimators.inmemory import compose

pytestmark = pytest.mark.usefixtures("operators")

ROOT = Path(__file__).resolve().parents[3]
SERVE = ROOT / "docs" / "serve.py"
Call = Callable[..., tuple[int, str, str]]


def table(n: int = 500) -> pd.DataFrame:
    """Amounts, dates with times of day, categories with a rare value, true and false; missing cells."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=n)
    moments = pd.Timestamp("2024-03-01") + pd.to_timedelta(draw.integers(0, 86_400 * 300, n), unit="s")
    frame = pd.DataFrame({
        "amount": 1000 * np.exp(x + draw.normal(size=n)),
        "colour": np.where(x > 0, "red", "blue").astype(object),
        "count": draw.integers(0, 5, n).astype(float),
        "when": moments.strftime("%Y-%m-%d %H:%M:%S"),
        "z": x + 0.1 * draw.normal(size=n),
        "flag": draw.choice(["True", "False"], n),
    })  # fmt: skip
    frame.loc[::50, "colour"] = draw.choice(["green", "grey", "pink"], len(frame[::50]))
    for name, share in (("amount", 0.05), ("colour", 0.04), ("count", 0.1)):
        frame.loc[draw.random(n) < share, name] = None
    return frame


def trained(folder: Path, *overrides: str) -> Path:
    settings = ["model.latent_dim=3", "trainer.epochs=2", "trainer.figures=0", "network.hidden=[16]"]
    run.train(compose([*settings, *overrides]), folder, {"model": overrides[0].partition("=")[2]})
    return folder


@pytest.fixture(scope="module")
def table_vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    table()[:400].to_csv(folder / "train.csv", index=False)
    return trained(folder / "run", "model=vae", "data=table", f"data.path={folder}/train.csv")


@pytest.fixture(scope="module")
def series_ae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    t = np.arange(1500)
    noise = 0.1 * np.random.default_rng(0).normal(size=(1500, 2))
    frame = pd.DataFrame({"a": 100 + 30 * np.sin(t / 9), "b": np.cos(t / 5)}) + noise
    frame.to_csv(folder / "log.csv", index=False)
    return trained(
        folder / "run", "model=ae", "data=series", f"data.path={folder}/log.csv", "data.window=16", "network=mlp"
    )


def portable(path: Path, **options: Any) -> PortableDetector:
    loaded = on_cpu(load_run(path, "cpu"))
    way = way_of(loaded)(loaded, Options(**options))
    return exporting.PORTABLE[type(way)](way).eval()


def called(detector: PortableDetector) -> Callable[..., list[np.ndarray]]:
    @torch.no_grad()
    def call(*arrays: np.ndarray) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in detector(*map(torch.from_numpy, arrays))]

    return call


def compared(detector: PortableDetector, rows: list[exporting.RawRows] | None = None) -> exporting.Compared:
    rows = rows or exporting.raw_rows(detector)
    return exporting.compare(detector, rows, called(detector), "detector.onnx", as_texts=False)


def modelled(kind: Kind, x: Tensor) -> tuple[Tensor, Tensor]:
    """Raw rows like x by the exported preprocessing, and as the kind encodes them."""
    split, arrays = kind.raw_rows(x)
    raw = kind.raw()
    numbers = [i.numbers(array) for i, array in zip(raw.inputs, arrays, strict=True)]
    return raw(*map(torch.from_numpy, numbers)), split.take(slice(None)).x


# Preprocessing


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [{}, {"scaling": "robust", "log": True}, {"scaling": "quantile", "log": ("amount",)}, {"scaling": "none"},
     {"max_categories": 3}, {"categorical": ("count",)}],
)  # fmt: skip
def test_rows_of_a_table_are_preprocessed_as_in_training(options: dict[str, Any]) -> None:
    frame = table()
    kind, _ = Plan(**options).fit(frame, Source())
    for each in (kind, replace(kind, most_missing=None), replace(kind, source=Source(infinite="missing"))):
        found, expected = modelled(each, each.encode(frame).tensor[:200])
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6, atol=1e-6)


def test_spellings_of_a_category_and_missing_cells_are_those_of_training() -> None:
    frame = pd.DataFrame({"a": ["1", "2", "1", "2"] * 10, "b": ["True", "False"] * 20, "c": ["x", None] * 20})
    kind, _ = Plan(categorical=("a",)).fit(frame, Source())
    new = pd.DataFrame({"a": ["1.0", "2", "7"], "b": ["TRUE", "false", None], "c": ["x", None, "y"]})
    (given,) = kind.raw().inputs
    texts = new[list(given.columns)].fillna("NA").to_numpy(str)
    found = kind.raw()(torch.from_numpy(given.numbers(texts)))
    with pytest.warns(UserWarning, match="not seen in training"):
        assert torch.equal(found, kind.encode(new).tensor)


@pytest.mark.parametrize(
    "kind",
    [
        Vector((4,), 0.0, 1.0, white=16.0),
        Vector((4,), -3.0, 3.0, factor=0.2),
        Counts.learn(["the cat and the dog", "a dog", "the hen"] * 9, "tfidf", 100, 1, True, False),
        Counts.learn(["the cat and the dog", "a dog", "the hen"] * 9, "counts", 100, 1, True, False),
        Series((2, 4), -9.0, 9.0, Channels(("a", "b"), (3.0, -1.0), (2.0, 0.5))),
        Series((2, 4), -9.0, 9.0, Channels(("a", "b"), (0.1, 0.0), (2.0, 0.5), log=True, differences=True)),
    ],
)
def test_raw_rows_of_other_kinds_are_preprocessed_as_in_training(kind: Kind) -> None:
    x = torch.rand(50, *kind.shape)
    found, expected = modelled(kind, x)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_quantiles_of_the_normal_distribution() -> None:
    from scipy.stats import norm

    p = np.concatenate([np.logspace(-15, -2, 50), np.linspace(0.01, 0.99, 99), 1 - np.logspace(-12, -2, 50)])
    np.testing.assert_allclose(normal_quantile(torch.from_numpy(p)).numpy(), norm.ppf(p), rtol=1e-12, atol=1e-14)


# Scores


def test_scores_are_those_of_the_detector_also_for_training_rows(vae_run: Path) -> None:
    loaded = load_run(vae_run, "cpu")
    names = Detector(loaded).training_scores
    weights = feedback.Weights(dict.fromkeys(names, 0.5), -3.0, 0.1, 9, 9, {}, False)
    detector = feedback.FeedbackDetector(loaded, weights)
    scores = Scores(detector)
    for rows in (loaded.reference.val_table, loaded.reference.train_table[:300]):
        expected = detector.of_table(rows.astype(np.float64))
        with torch.no_grad():
            found = scores(torch.from_numpy(rows))
        assert found.keys() == expected.keys() >= {"feedback", "forest", "local", "prior"}
        for name, values in expected.items():
            np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_p_values_are_those_of_the_calibration_rows_and_the_lowest_for_no_number() -> None:
    known = np.array([1.0, 2.0, 2.0, 5.0])
    values = np.array([0.0, 2.0, 2.1, 5.0, 9.0])
    found = PValue(known)(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), conformal.p_values(known, values))
    assert PValue(known)(torch.tensor([torch.nan])).item() == pytest.approx(1 / 5)


def test_rows_of_a_table_are_scored_and_decided_as_by_the_run(table_vae: Path) -> None:
    detector = portable(table_vae, score="elbo", alarm_rate=0.1)
    result = compared(detector)
    assert result.decisions == 0
    assert result.differences.keys() == {"score", "p_value", "alarm", "code", *detector.detector.names}
    assert max(result.differences.values()) < 1e-5
    rows = exporting.raw_rows(detector)[0].expected
    assert 0 < rows["alarm"].sum() < len(rows["alarm"])
    assert np.array_equal(rows["alarm"], rows["p_value"] <= 0.1), "the rate decides"


def test_a_row_without_a_score_is_an_alarm(vae_run: Path) -> None:
    detector = portable(vae_run)
    found = dict(zip(detector.outputs, called(detector)(np.full((1, 1, 8, 8), np.nan, np.float32)), strict=True))
    assert found["alarm"][0]


def test_any_choice_among_neighbours_at_the_same_distance_is_right() -> None:
    from sklearn.neighbors import NearestNeighbors

    codes = np.array([[0.0], [1.0], [-1.0], [1.0], [4.0]])
    spacing = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    table = np.column_stack([np.zeros((5, 2)), codes])
    detector: Any = SimpleNamespace(neighbours=NearestNeighbors(n_neighbors=3).fit(codes), table=table, spacing=spacing)
    low, high = tied(detector, np.array([[0.0], [3.0]]), np.array([2 / 3, 5 / 3]))
    assert low == pytest.approx([2 / 3 / ((1 + 3 + 4) / 3), 5 / 3 / ((5 + 2 + 4) / 3)])
    assert high == pytest.approx([2 / 3 / ((1 + 2 + 3) / 3), low[1]])


def test_steps_are_scored_and_decided_as_when_they_are_followed(series_ae: Path) -> None:
    detector = portable(series_ae)
    assert compared(detector).decisions == 0
    assert "another threshold: scripts/detect.py" in detector.judged.decided, "it has another threshold"
    values = np.random.default_rng(1).normal(size=(20, 2)) * [20, 1] + [100, 0]
    windows = np.lib.stride_tricks.sliding_window_view(values.astype(np.float32), 16, axis=0).transpose(0, 2, 1)
    found = dict(zip(detector.outputs, called(detector)(np.ascontiguousarray(windows)), strict=True))
    assert found["residual"].shape == (5, 16)
    followed = Follower(detector.detector).push([(str(i), None, row) for i, row in enumerate(values)])[15:]
    np.testing.assert_allclose(found["score"], [row.score for row in followed], rtol=1e-4)
    assert found["alarm"].tolist() == [row.alarm for row in followed]


# What differs is found


def perturbed_scale(raw: Any) -> None:
    raw.pipelines[0][1].scale *= 1.01


def perturbed_median(raw: Any) -> None:
    raw.pipelines[0][0].values += 100


def other_order(raw: Any) -> None:
    raw.user[0], raw.user[-1] = raw.user[-1], raw.user[0]


def forgotten_indicator(raw: Any) -> None:
    raw.indicated = raw.indicated[::-1]


def other_first_date(raw: Any) -> None:
    start, ends = raw.first["when"]
    raw.first["when"] = (start + 43_200, ends)


def other_codes(raw: Any) -> None:
    given = raw.inputs[1]
    raw.inputs = (raw.inputs[0], replace(given, codes=({"red": 0, "blue": 0, "": -2}, given.codes[1])))


@pytest.mark.parametrize(
    "change",
    [perturbed_scale, perturbed_median, other_order, forgotten_indicator, other_first_date, other_codes],
)
def test_a_preprocessing_that_differs_is_refused(change: Callable[[Any], None], table_vae: Path) -> None:
    detector = portable(table_vae)
    rows = exporting.raw_rows(detector)
    change(detector.raw)
    with pytest.raises(Unfaithful, match=r"detector\.onnx: \w+ differs from the run by .* nothing was written"):
        compared(detector, rows)


def test_another_threshold_is_refused(table_vae: Path) -> None:
    detector = portable(table_vae)
    rows = exporting.raw_rows(detector)
    detector.limit = detector.limit * 0.5
    with pytest.raises(Unfaithful, match="alarm differs"):
        compared(detector, rows)


# The script, and what it writes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"score": "error"}, {"quantile": 0.8}, {"alarm_rate": 0.1, "score": "knn"}])
def test_decisions_are_those_of_detect_with_the_same_options(table_vae: Path, options: dict[str, Any]) -> None:
    detector, loaded = portable(table_vae, **options), load_run(table_vae, "cpu")
    new = loaded.spec.kind.encode(table()[400:]).tensor
    split, arrays = loaded.spec.kind.raw_rows(new)
    given = [i.numbers(array) for i, array in zip(detector.inputs, arrays, strict=True)]
    found = dict(zip(detector.outputs, called(detector)(*given), strict=True))
    wanted = detect(Detector(loaded), split, score=options.get("score"), rule=Options(**options).rule)
    assert wanted.score == options.get("score", way_of(loaded).default(loaded)) == detector.score
    np.testing.assert_array_equal(found["alarm"], wanted.alarms)
    assert found["alarm"].any() or not options


def test_a_table_is_exported_and_served_without_this_package(
    table_vae: Path, call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = table()[400:].reset_index(drop=True)
    new.loc[0, "colour"] = "violet"
    new.loc[1, ["amount", "colour", "count", "z"]] = None
    new = new[["flag", *reversed(new.columns[:-1])]]  # columns are found by name
    new.to_csv(tmp_path / "new.csv", index=False)
    code, out, err = call("export", table_vae, "--detector", "--alarm-rate", 0.1, "--output", tmp_path / "served")
    assert (code, err) == (0, "")
    assert "decisions that differ" in out
    code, _, err = call(
        "detect", table_vae, "--input", tmp_path / "new.csv", "--alarm-rate", 0.1, "--output", tmp_path / "scores.csv"
    )
    assert code == 0, err
    info = json.loads((tmp_path / "served" / "detector.json").read_text())
    assert {name: each["decisions"] for name, each in info["verification"]["files"].items()} == {
        "detector.onnx": 0, "detector.pt2": 0
    }  # fmt: skip
    blocked = (
        "import sys; sys.modules['torch'] = sys.modules['autoenc'] = None; import runpy; sys.argv[:] = sys.argv[1:]"
    )
    command = [sys.executable, "-c", f"{blocked}; runpy.run_path(sys.argv[0], run_name='__main__')"]
    done = subprocess.run(
        [*command, str(SERVE), "served", "new.csv"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    served, scored = list(csv.DictReader(done.stdout.splitlines())), pd.read_csv(tmp_path / "scores.csv")
    np.testing.assert_allclose([float(row["score"]) for row in served], scored["combined"], rtol=1e-4)
    np.testing.assert_allclose([float(row["p_value"]) for row in served], scored["p_value"], rtol=1e-3)
    assert [int(row["alarm"]) for row in served] == scored["anomaly"].tolist()
    assert 0 < scored["anomaly"].sum() < 100
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    monkeypatch.setattr(sys, "argv", [str(SERVE), str(tmp_path / "served"), str(tmp_path / "odd.csv")])
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SERVE), run_name="__main__")
    assert re.fullmatch(r"\S+odd.csv: has no column \w+\n", "".join(capsys.readouterr()))
    for path in (tmp_path / "served").iterdir():
        for secret in (ROOT, table_vae, "site-packages"):
            assert str(secret).encode() not in path.read_bytes(), path.name


def test_served_windows_are_named_by_the_row_that_they_end_with(tmp_path: Path) -> None:
    info = {"inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 4, 2], "columns": ["p", "q"], "dates": [],
                        "missing": [], "range": None, "uint8_scale": None}]}  # fmt: skip
    served = runpy.run_path(str(SERVE))["inputs"]
    path = tmp_path / "log.csv"
    path.write_text("q,time,p\n" + "".join(f"{10 + i},t{i},{i}\n" for i in range(6)))
    feed, rows = served(path, info)
    assert list(rows) == [4, 5, 6]
    np.testing.assert_array_equal(feed["x"][1], [[1, 11], [2, 12], [3, 13], [4, 14]])
    info["inputs"][0]["time"] = ["time", 60.0]
    day, starts = "2024-03-01T00:", np.arange(6)
    for stamps, why in (
        ([f"{day}{i:02}:00Z" for i in starts], ""),
        ([f"{day}{i + (i > 3):02}:00" for i in starts], "row 5, .*: 2 steps of 60 s after the row before"),
        ([60 * i for i in starts], ""),
        ([60 * min(i, 4) for i in starts], "row 6, 240: 0 steps"),
        ([f"1.3.24 {i}h" for i in starts], "column time: '1.3.24 1h' is not read; leave the column out"),
    ):
        path.write_text("q,time,p\n" + "".join(f"{10 + i},{stamp},{i}\n" for i, stamp in enumerate(stamps)))
        with pytest.raises(ValueError, match=why) if why else nullcontext():
            again, rows = served(path, info)
            np.testing.assert_array_equal(again["x"], feed["x"])
            assert rows == [str(stamp) for stamp in stamps[3:]]
    for text, why in (
        ("p,q\n1,2\n", "is shorter than a window: 1 of 4 rows"),
        ("p,q\n1,2\n3,\n", "row 2, column q: '' cannot be read"),
        ("p,q\n1,2\n3\n", "row 2: has 1 cells, the header 2"),
        ("p\n1\n", "has no column q"),
        ("", "has no column p"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=why):
            served(path, info)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--score", "knn"], "--score knn: needs --detector"),
        (["--alarm-rate", "0.1"], "--alarm-rate 0.1: needs --detector"),
        (["--detector", "--score", "best"], "--score best: "),
        (["--detector", "--alarm-rate", "0.0001"], "needs 9,999 calibration rows"),
        (["--detector", "--score", "feedback"], "--feedback FILE writes it"),
        (["--detector", "--opset", "17"], "--opset=17"),
        (["--detector", "--output", "{run}/config.yaml"], "is a file"),
    ],
)
def test_options_that_are_wrong(options: list[str], named: str, table_vae: Path, call: Call) -> None:
    code, _, err = call("export", table_vae, *(option.format(run=table_vae) for option in options))
    assert (code, err.count("\n")) == (2, 1)
    assert named in err
    assert not (table_vae / "detector").exists()


def test_a_rate_for_time_steps_is_refused(series_ae: Path, call: Call) -> None:
    for path, options, named in (
        (series_ae, ["--alarm-rate", "0.1"], "--quantile"),
        (series_ae, ["--score", "knn"], "residual, error"),
    ):
        code, _, err = call("export", path, "--detector", *options)
        assert (code, err.count("\n")) == (2, 1)
        assert named in err


# Conditional models


def test_the_class_is_an_input_of_a_conditional_model(cvae_run: Path, tmp_path: Path) -> None:
    detector = portable(cvae_run)
    (rows,) = exporting.raw_rows(detector)
    x, names = rows.given.arrays
    assert set(names[:, 0]) <= set(detector.classes)
    result = compared(detector, [rows])
    assert result.decisions == 0
    assert max(result.differences.values()) < 1e-4
    other = np.where(names == detector.classes[0], detector.classes[1], detector.classes[0])
    wrong = exporting.RawRows(replace(rows.given, arrays=[x, other]), rows.expected)
    with pytest.raises(Unfaithful, match="differs from the run"):
        compared(detector, [wrong])
    unknown = detector.inputs[-1].numbers(np.array([["none of them"]]))
    with torch.no_grad():
        found = dict(zip(detector.outputs, detector(torch.from_numpy(x[:1]), torch.from_numpy(unknown)), strict=True))
    assert (found["alarm"].item(), found["score"].isnan().item()) == (True, True)

    served = runpy.run_path(str(SERVE))["inputs"]
    given = [asdict(i) | {"shape": ["N", *i.shape]} for i in detector.inputs]
    np.save(tmp_path / "x.npy", x[:2])
    for text, why in (("0\n", "has 2 rows"), ("0\nten\n", "class 'ten': expected one of 0, 1")):
        (tmp_path / "classes.txt").write_text(text)
        with pytest.raises(ValueError, match=why):
            served(tmp_path / "x.npy", {"inputs": given}, tmp_path / "classes.txt")
    with pytest.raises(ValueError, match="the class of each row"):
        served(tmp_path / "x.npy", {"inputs": given})
    (tmp_path / "classes.txt").write_text("3\n7\n")
    feed, _ = served(tmp_path / "x.npy", {"inputs": given}, tmp_path / "classes.txt")
    assert feed["class"].tolist() == [["3"], ["7"]]


@pytest.mark.parametrize(
    ("shape", "expected", "message"),
    [
        (["N", 4], (8, 2), r"shape \(8, 2\), expected \(N, 4\)"),
        (["N", 1, 8, 8], (24, 4, 4), r"expected \(N, 1, 8, 8\)"),
        (["N", 64, 3], (800, 2), "has 2 channels, the training data 3"),
        (["N", 64, 3], (63, 3), "is shorter than a window: 63 of 64 rows"),
    ],
)
def test_arrays_of_another_shape_are_not_served(
    shape: list[Any], expected: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    serve: Any = runpy.run_path(str(SERVE))
    given = {"shape": shape, "dtype": "float32", "range": None, "uint8_scale": None}
    np.save(tmp_path / "x.npy", np.zeros(expected))
    with pytest.raises(ValueError, match=message):
        serve["numbers"](tmp_path / "x.npy", given)


def test_windows_of_an_array_are_those_that_end_with_each_row(tmp_path: Path) -> None:
    serve: Any = runpy.run_path(str(SERVE))
    x = np.arange(30.0).reshape(10, 3)
    np.save(tmp_path / "x.npy", x)
    given = {"shape": ["N", 4, 3], "dtype": "float32", "range": None, "uint8_scale": None}
    found = serve["numbers"](tmp_path / "x.npy", given)
    assert np.array_equal(found, np.stack([x[i : i + 4] for i in range(7)]))
