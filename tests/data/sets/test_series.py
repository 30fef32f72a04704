"""Series: windows and splits against brute force, no leak between splits, scaling, new data and options."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc.data import kinds, oscillations, series
from autoenc.data.dataset import without
from autoenc.data.kinds.series.channels import Channels, fit
from autoenc.data.readers.recordings import steps
from autoenc.data.readers.recordings.steps import Rows
from autoenc.data.sets.series import recordings as module
from autoenc.data.sets.series.oscillations import ANOMALIES
from autoenc.data.storage.windows import Windows
from autoenc.errors import ConfigError, DataError, UserError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four logs of 60 to 90 steps: the step's number, which tells windows apart, and noise; the last are anomalous."""
    path = tmp_path_factory.mktemp("logs")
    for i in range(4):
        n = 60 + 10 * i
        frame = pd.DataFrame({"time": np.arange(n), "a": 1000.0 * i + np.arange(n), "b": RNG.normal(size=n)})
        frame["bad"] = (np.arange(n) >= n - 5).astype(int)
        frame.to_csv(path / f"{i}.csv", index=False)
    return path


def steps_of(split, kind) -> set[int]:
    """The numbers in channel a of all windows."""
    return set(np.rint(kind.decode(split.tensor)[:, 0]).astype(int).ravel().tolist())


@pytest.mark.parametrize("by", ["time", "recording"])
@pytest.mark.parametrize("differences", [False, True])
def test_no_step_is_in_two_splits(folder: Path, by: str, differences: bool) -> None:
    data = series(str(folder), window=8, stride=1, label="bad", drop=["a"], split=by, differences=differences, gap=3)
    lead, found = int(differences), {}
    for part in ("train", "val", "test"):
        x = getattr(data, part).x
        assert isinstance(x, Windows)
        found[part] = {int(p) + t for p in x.places for t in range(-lead, 8)}
    assert not found["train"] & found["val"] | found["train"] & found["test"] | found["val"] & found["test"]
    if by == "time":  # the gap
        edges = sorted((step, part) for part, steps in found.items() for step in steps)
        jumps = [b - a for (a, p), (b, q) in itertools.pairwise(edges) if p != q]
        assert min(jumps) > 0
        assert sorted(set(jumps))[-1] > 3


def test_it_is_said_where_more_steps_are_unused_than_trained_on(folder: Path) -> None:
    settings = {"window": 8, "label": "bad", "split": "time", "train_steps": 40}
    assert not any("unused" in note for note in series(str(folder), **settings).notes), "64 unused, 96 to train on"
    said = "80 steps to train on, 96 unused between the parts; data.gap=0 uses them"
    assert said in series(str(folder), **settings, gap=12).notes
    assert not any("unused" in note for note in series(str(folder), **settings, gap=0).notes)


def test_a_split_of_windows_at_random_would_leak(folder: Path) -> None:
    """The check above finds the leak that the split avoids."""
    data = series(str(folder), window=8, stride=1, label="bad", split="time")
    everything = data.spec.kind.cut(data.spec.kind.recordings(folder), "logs", stride=1)
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(0))
    one, other = everything.subset(order[:200]), everything.subset(order[200:])
    assert steps_of(one, data.spec.kind) & steps_of(other, data.spec.kind)
    assert not steps_of(data.train, data.spec.kind) & steps_of(data.test, data.spec.kind)


def test_windows_are_those_of_brute_force(folder: Path) -> None:
    data = series(str(folder), window=8, stride=3, label="bad", split="time", scaling="none", train_steps=40, gap=0)
    expected = []
    for i in range(4):
        a = pd.read_csv(folder / f"{i}.csv")["a"].to_numpy()[40:]
        starts = list(range(0, len(a) - 7, 3))
        starts += [len(a) - 8] if starts[-1] != len(a) - 8 else []
        expected += [a[s : s + 8] for s in starts]
    np.testing.assert_allclose(data.test.tensor[:, 0], expected)
    assert data.names["test"][0] == "0.csv 40"


def test_windows_with_other_classes_are_anomalies_and_not_trained_on(folder: Path) -> None:
    data = series(str(folder), window=8, stride=1, label="bad", normal=0, split="recording", gap=0)
    assert data.spec.classes == ("0", "1")
    assert data.spec.anomalies == ("1",)
    assert (data.train.y == 0).all()
    assert data.test.y is not None
    kind = data.spec.kind
    last = np.rint(kind.decode(data.test.tensor)[:, 0, -1]) % 1000
    ends = {i: 59 + 10 * i for i in range(4)}
    which = (kind.decode(data.test.tensor)[:, 0, -1] // 1000).astype(int)
    np.testing.assert_array_equal(data.test.y, [step > ends[i] - 5 for step, i in zip(last, which, strict=True)])
    anomalies = kind.anomalies(folder / "0.csv", {"label": "bad", "normal": 0})
    assert anomalies is not None
    assert anomalies.sum() == 5


def test_scaling_is_that_of_the_training_steps(folder: Path) -> None:
    data = series(str(folder), window=8, stride=1, label="bad", split="recording")
    used = np.concatenate([data.spec.kind.decode(data.train.tensor)[:, 1].ravel()])
    values = np.unique(used)
    kind = data.spec.kind
    np.testing.assert_allclose(
        [kind.channels.center[1], kind.channels.scale[1]], [values.mean(), values.std()], rtol=1e-4
    )


@pytest.mark.parametrize(("log", "differences"), [(True, False), (False, True), (True, True)])
def test_channels_invert_and_differ_as_written(log: bool, differences: bool) -> None:
    x = torch.from_numpy(RNG.normal(size=(5, 9, 2)).cumsum(1)).float() * 10
    channels = Channels(("a", "b"), (0.5, -1.0), (2.0, 3.0), log, differences)
    y = channels.forward(x)
    f = torch.sign(x) * torch.log1p(x.abs()) if log else x
    wanted = f[:, 1:] - f[:, :-1] if differences else f
    wanted = (wanted - torch.tensor([0.5, -1.0])) / torch.tensor([2.0, 3.0])
    torch.testing.assert_close(y, wanted.transpose(1, 2))
    back = channels.inverse(y)
    if not differences:
        torch.testing.assert_close(back, x.transpose(1, 2), rtol=1e-4, atol=1e-3)
    elif not log:
        torch.testing.assert_close(back, (x[:, 1:] - x[:, :1]).transpose(1, 2), rtol=1e-4, atol=1e-3)


def test_robust_scaling_ignores_outliers() -> None:
    steps = torch.randn(2_000, 1, generator=torch.Generator().manual_seed(0))
    steps[:20] = 1e4
    found = fit(["x"], steps, torch.ones(2_000, dtype=torch.bool), "robust")
    assert found.center[0] == pytest.approx(0, abs=0.1)
    assert found.scale[0] == pytest.approx(1, abs=0.1)


def test_large_files_are_memory_mapped_and_give_the_same_windows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"window": 8, "label": "bad", "normal": 0, "cache": str(tmp_path)}
    small = series(str(folder), **options)
    monkeypatch.setattr(module, "LARGE", 0)
    for _ in range(2):  # written, then found
        large = series(str(folder), **options)
        assert torch.equal(small.train.tensor, large.train.tensor)
        assert torch.equal(small.test.y, large.test.y)
        assert small.spec.kind == large.spec.kind
        assert small.test.fingerprint() == large.test.fingerprint()
    assert not isinstance(large.train.x, torch.Tensor)
    assert large.train.x.axis.steps.untyped_storage().nbytes() > 0
    assert any(tmp_path.rglob("x.npy"))


def test_the_cache_tells_test_recordings_from_others(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i, name in enumerate(("a", "b")):
        (tmp_path / "all" / name).mkdir(parents=True)
        shutil.copy(folder / f"{i}.csv", tmp_path / "all" / name / "0.csv")
    monkeypatch.setattr(module, "LARGE", 0)
    series(str(tmp_path / "all"), window=8, gap=0, label="bad", cache=str(tmp_path / "cache"))
    data = series(
        str(tmp_path / "all/a"), str(tmp_path / "all/b"), window=8, label="bad", cache=str(tmp_path / "cache")
    )
    again = series(
        str(tmp_path / "all/a"), str(tmp_path / "all/b"), window=8, label="bad", cache=str(tmp_path / "another")
    )
    assert torch.equal(data.test.tensor, again.test.tensor)
    assert data.names == again.names


def test_windows_of_steps_without_a_label_are_neither_normal_nor_anomalies(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": RNG.normal(size=600), "fault": ["ok"] * 600})
    frame.loc[500:504, "fault"] = None
    frame.loc[550:560, "fault"] = "hot"
    frame.loc[555:570, "fault"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = series(str(tmp_path / "a.csv"), window=8, stride=1, label="fault", normal="ok")
    assert data.spec.classes == ("hot", "ok")
    assert data.spec.anomalies == ("hot",)
    assert any("test windows with steps without a label, left out" in note for note in data.notes)
    starts = np.array([int(name.rpartition(" ")[2]) for name in data.names["test"]])
    assert not set(range(493, 505)) & set(starts), "windows with an unlabelled step and no fault"
    assert (data.test.y[(starts > 542) & (starts <= 554)] == 0).all()
    frame.loc[:, "fault"] = np.where(frame.index < 300, "ok", None)
    frame.to_csv(tmp_path / "b.csv", index=False)
    assert series(str(tmp_path / "b.csv"), window=8, label="fault").spec.classes == ("ok", "(missing)")


def test_a_step_of_several_rows_has_a_fault_if_one_of_them_has(tmp_path: Path) -> None:
    labels = np.array(["0", "1", "0", "0", "(missing)", "1", "0", "(missing)"], object)
    found = steps.regular(Rows("a", np.arange(8.0)[:, None], np.arange(8.0), labels=labels), 2.0, 5, "0")
    assert found.values[:, 0].tolist() == [0.5, 2.5, 4.5, 6.5], "the means of the rows nearest to each step"
    assert found.labels.tolist() == ["1", "0", "1", "(missing)"]
    many = Rows("a", np.arange(8.0)[:, None], np.arange(8.0), labels=np.array(list("abccbacb"), object))
    assert steps.regular(many, 3.0, 5).labels.tolist() == ["a", "c", "a"], "the most frequent, or the first of all"


def test_changes_lost_to_rounding_are_noted(tmp_path: Path) -> None:
    values = 2e8 + RNG.random(400).cumsum()
    pd.DataFrame({"meter": values}).to_csv(tmp_path / "a.csv", index=False)
    data = series(str(tmp_path / "a.csv"), window=8, differences=True)
    assert any("channel meter: values are rounded to 16" in note for note in data.notes)
    pd.DataFrame({"meter": values - 2e8}).to_csv(tmp_path / "b.csv", index=False)
    assert not any("rounded" in note for note in series(str(tmp_path / "b.csv"), window=8, differences=True).notes)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_arrays_are_mapped_and_converted_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    x = (1_000 * RNG.normal(size=(12, 50, 2))).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    small = series(str(tmp_path / "x.npy"), window=8, cache=str(tmp_path / "cache"))
    monkeypatch.setattr(module, "LARGE", 0)
    monkeypatch.setattr(steps, "CHUNK", 7)
    large = series(str(tmp_path / "x.npy"), window=8, cache=str(tmp_path / "cache"))
    assert torch.equal(small.test.tensor, large.test.tensor)
    windows = large.spec.kind.decode(large.test.tensor)
    assert any(np.allclose(windows[0], each[:8].T, rtol=1e-3, atol=0.5) for each in x)


def test_a_kind_is_stored_and_reads_new_files_alike(folder: Path, tmp_path: Path) -> None:
    data = series(str(folder), window=8, stride=8, label="bad", normal=0, log=True)
    kind = data.spec.kind
    kinds.save(kind, tmp_path)
    again = kinds.load(tmp_path, {}, {})
    assert again == kind
    frame = pd.read_csv(folder / "1.csv")
    frame[["b", "a", "time"]].to_csv(tmp_path / "new.csv", index=False)  # no label, other order
    one, two = kind.read(tmp_path / "new.csv"), again.encode(frame)
    assert torch.equal(one.split.tensor, two.tensor)
    assert one.names[:2] == ["new.csv 0", "new.csv 8"]
    assert torch.equal(kind.encode(two.tensor).tensor, two.tensor)


def test_oscillations_have_anomalies_in_test_recordings_only() -> None:
    data = oscillations(count=6, steps=120, window=16, period=12)
    assert set(data.spec.classes) == {*ANOMALIES, "normal"}
    assert data.spec.anomalies == ANOMALIES
    normal = data.spec.classes.index("normal")
    assert (data.train.y == normal).all()
    assert set(data.test.y.tolist()) == set(range(6))
    same = data.truth["clean_test"][data.test.y == normal] - data.test.tensor[data.test.y == normal]
    assert float(same.std()) == pytest.approx(0.1 / np.mean(data.spec.kind.channels.scale), rel=0.1)
    again = oscillations(count=6, steps=120, window=16, period=12)
    assert torch.equal(data.train.tensor, again.train.tensor)


def test_nothing_is_learnt_from_classes_left_out(tmp_path: Path) -> None:
    for i in range(12):
        loud = i % 2
        frame = pd.DataFrame({"x": (1 + 9 * loud) * RNG.normal(size=80)})
        frame.to_csv(tmp_path / f"{'loud' if loud else 'quiet'}_{i}.csv", index=False)
    options = {"window": 8, "file_label": "(loud|quiet)_"}
    both, quiet = series(str(tmp_path), **options), series(str(tmp_path), **options, excluded=["loud"])
    assert both.spec.classes == quiet.spec.classes == ("loud", "quiet")
    assert quiet.spec.kind.channels.scale[0] == pytest.approx(1, abs=0.15)
    assert both.spec.kind.channels.scale[0] > 4
    assert (without(quiet, ["loud"]).train.y == 1).all()
    with pytest.raises(DataError, match="anomaly_classes=loud,quiet: leaves no windows"):
        series(str(tmp_path), **options, excluded=["loud", "quiet"])


def test_few_short_recordings_are_refused_with_the_split_that_divides_them(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(4, 90)))
    with pytest.raises(DataError, match=r"left to test on: .*, and data\.split=recording holds out whole"):
        series(str(tmp_path / "few.npy"), window=20)
    assert len(series(str(tmp_path / "few.npy"), window=20, split="recording").test) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 200}, r"no window is left to train on: a window has data\.window=200 .* without a gap 90$"),
        ({"window": 40, "split": "time"}, r"left to train on: .* 90; a smaller data\.window or data\.gap leaves some"),
        ({"window": 1}, "window=1: must be 2 or more"),
        ({"split": "half"}, "split=half: must be one of auto, recording, time"),
        ({"normal": "fine"}, r"data\.normal=fine: no step is of this class; there are 0, 1"),
        ({"step": "0Hz"}, "step=0Hz: must be seconds, or text such as"),
        ({"drop": ["a", "b"]}, "has no columns of numbers"),
        ({"train_steps": 10}, r"train_steps=10: must be 16 or more"),
    ],
)
def test_options_that_cannot_work_are_one_line(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        series(str(folder), **{"window": 8, "label": "bad", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 1e-12}, r"data\.step=1e-12: needs .* GB of memory.*: there would be far more steps than rows"),
        ({"max_gap": 10**15}, r"data\.max_gap=1000000000000000: needs .* GB of memory"),
        ({"window": 10**12, "short": "zeros"}, r"data\.window=1000000000000: needs .* GB of memory"),
    ],
)
def test_more_steps_than_fit_into_memory_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    stamps = [*pd.date_range("2024-01-01", periods=99, freq="min").astype(str), "9999-01-01 00:00:00"]
    pd.DataFrame({"time": stamps, "x": RNG.normal(size=100)}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=message):
        series(str(tmp_path / "a.csv"), **{"window": 8, **options})


def test_a_constant_channel_and_several_rates_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"time": np.arange(100), "x": RNG.normal(size=100), "same": 3.0})
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"channel same is constant .*data\.drop=\[same\]"):
        series(str(tmp_path), window=8)
    frame.assign(time=np.arange(100) * 2).to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(ConfigError, match=r"a\.csv has steps of 1 s and b\.csv of 2 s; data\.step=2 resamples"):
        series(str(tmp_path), window=8, drop=["same"])
    data = series(str(tmp_path), window=8, drop=["same"], step=2)
    assert [end for _, _, end in data.train.x.axis.runs()] == [50, 150]
