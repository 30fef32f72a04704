"""Every kind of data, from the user's files to every application: what each writes, or the one line that refuses it."""

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autoenc import load_run, run
from autoenc.apps import inputs
from autoenc.apps.anomaly.steps.follow import Follower
from autoenc.apps.anomaly.steps.scores import StepDetector
from autoenc.apps.anomaly.steps.way import Steps
from autoenc.apps.anomaly.way import Options
from autoenc.apps.deploy import export, export_detector
from autoenc.apps.deploy.detectors import PortableSteps
from autoenc.apps.deploy.portable import parts_of
from autoenc.estimators import inmemory

pytestmark = pytest.mark.usefixtures("operators", "quick_classifiers")

RNG = np.random.default_rng(0)
SUBJECTS = {"animals": ["cat", "dog", "cow", "hen"], "tools": ["saw", "axe", "nail", "file"]}


def _table(folder: Path) -> tuple[list[str], Path]:
    rows = [
        [
            round(float(x), 3),
            round(float(2 * x + RNG.normal()), 3),
            "red" if x > 0 else "blue",
            "low" if x < 0 else "high",
        ]
        for x in RNG.normal(size=240)
    ]
    for name, part in (("table.csv", rows), ("new.csv", rows[:3])):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([["a", "b", "colour", "state"], *part])
    return ["data=table", f"data.path={folder / 'table.csv'}", "data.label=state"], folder / "new.csv"


def _documents(folder: Path) -> tuple[str, Path]:
    draw = random.Random(0)
    rows = []
    for _ in range(240):
        subject = draw.choice(list(SUBJECTS))
        rows.append([subject, f"the {draw.choice(SUBJECTS[subject])} is near the {draw.choice(SUBJECTS[subject])} ."])
    for name, part in (("texts.csv", rows), ("new.csv", rows[:3])):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([["label", "text"], *part])
    return f"data.path={folder / 'texts.csv'}", folder / "new.csv"


def _text(folder: Path) -> tuple[list[str], Path]:
    path, new = _documents(folder)
    return ["data=text", path, "data.max_length=10", "network.embedding=8", "network.width=16"], new


def _bag_of_words(folder: Path) -> tuple[list[str], Path]:
    path, new = _documents(folder)
    return ["data=bag_of_words", path, "network.hidden=[16]"], new


def _images(folder: Path, count: int, bright: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        array = RNG.integers(0, 60, (18 + i % 3, 20))
        array[:, 4 : 4 + bright // 20] += bright
        Image.fromarray(array.astype(np.uint8)).save(folder / f"{i:02}.png")


def _image_folder(folder: Path) -> tuple[list[str], Path]:
    for name, bright in (("dim", 40), ("bright", 150)):
        _images(folder / "images" / name, 90, bright)
    _images(folder / "new", 3, 150)
    options = ["data.size=16", "data.workers=0", f"data.cache_folder={folder / 'cache'}"]
    small = ["network.channels=[4,8]", "network.hidden=null"]
    return ["data=image_folder", f"data.path={folder / 'images'}", *options, *small], folder / "new"


def _defects(folder: Path) -> tuple[list[str], Path]:
    for part, count, bright in (("train/good", 12, 40), ("test/good", 4, 40), ("test/hole", 4, 150)):
        _images(folder / "tiles" / part, count, bright)
    (folder / "tiles/ground_truth/hole").mkdir(parents=True)
    for i in range(4):
        mask = np.zeros((18 + i % 3, 20), np.uint8)
        mask[:, 4:11] = 255
        Image.fromarray(mask).save(folder / f"tiles/ground_truth/hole/{i:02}.png")
    _images(folder / "new", 3, 150)
    options = ["data.size=16", "data.patches=8", "network.channels=[4,8]", "network.hidden=null"]
    return ["data=defects", f"data.path={folder / 'tiles'}", *options], folder / "new"


def _channels(folder: Path) -> tuple[list[str], Path]:
    """Eight channels, the last axis, of 12 bits; two of them differ between the classes."""
    y = RNG.integers(0, 2, 240)
    x = RNG.integers(0, 1_000, (240, 12, 10, 8)) + 2_000 * y[:, None, None, None] * (np.arange(8) < 2)
    np.savez(folder / "channels.npz", x=x.astype(np.uint16), y=y)
    np.savez(folder / "new.npz", x=x[:3].astype(np.uint16))
    options = ["data.white=4095", "network=conv", "network.channels=[4,8]", "network.hidden=null"]
    return ["data=arrays", f"data.path={folder / 'channels.npz'}", *options], folder / "new.npz"


def _series(folder: Path) -> tuple[list[str], Path]:
    """Twelve logs of two sensors, half of them slow; new.csv has three windows."""
    (folder / "logs").mkdir()
    for i, name in enumerate(["slow", "fast"] * 6):
        t = np.arange(160) / (6 if name == "slow" else 2)
        frame = pd.DataFrame({"time": np.arange(160), "a": np.sin(t), "b": 3 + np.cos(t)})
        frame[["a", "b"]] += 0.1 * RNG.normal(size=(160, 2))
        frame.to_csv(folder / "logs" / f"{name}_{i}.csv", index=False)
    frame[:32].to_csv(folder / "new.csv", index=False)
    options = ["data.window=16", "data.stride=8", "data.file_label='(slow|fast)'", "network.channels=[4,8]"]
    return ["data=series", f"data.path={folder / 'logs'}", *options, "network.hidden=null"], folder / "new.csv"


def _spectrogram(folder: Path) -> tuple[list[str], Path]:
    """The logs of `_series`, as images of nine frequencies and frames."""
    overrides, new = _series(folder)
    view = ["data.view=spectrogram", "data.fft=16", "data.hop=1", "data.window=24", "data.stride=4"]
    return [*(each for each in overrides if not each.startswith(("data.window", "data.stride"))), *view], new


def _generated(*overrides: str) -> Callable[[Path], tuple[list[str], Path]]:
    def made(folder: Path) -> tuple[list[str], Path]:
        return list(overrides), folder / "new.npy"

    return made


KINDS: dict[str, Callable[[Path], tuple[list[str], Path]]] = {
    "table": _table,
    "text": _text,
    "bag_of_words": _bag_of_words,
    "image_folder": _image_folder,
    "defects": _defects,
    "channels": _channels,
    "series": _series,
    "spectrogram": _spectrogram,
    "shapes": _generated("data=shapes", "data.size=16", "data.count=300", "network.hidden=[16]"),
    "sparse_codes": _generated("data=sparse_codes", "data.count=300", "network.hidden=[16]"),
}


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Its name, a finished run on it, and new data in a file or a folder."""
    folder = tmp_path_factory.mktemp(request.param)
    overrides, new = KINDS[request.param](folder)
    overrides = ["model=vae", *overrides, "model.latent_dim=2", "trainer.epochs=2", "trainer.figures=1"]
    overrides += [] if request.param == "defects" else ["data.test_fraction=0.25"]
    run.train(inmemory.compose(overrides), folder / "run", {"model": "vae"})
    if new.suffix == ".npy":
        np.save(new, load_run(folder / "run", "cpu").data.test.rows()[:3])
    return request.param, folder / "run", new


# Script and arguments, and the files that it writes. {new}: new data; {out}: the folder of the results.
CALLS: dict[str, tuple[list[str], set[str]]] = {
    "evaluate": ([], {"evaluation.json"}),
    "denoise": (["--noise", "gaussian", "--level", "0.2"], {"denoise.json", "examples.png"}),
    "detect": ([], {"detect.json", "detect.csv"}),
    "detect new": (["--input", "{new}", "--output", "{out}/s.csv"], {"s.csv"}),
    "drift": ([], {"drift.json", "drift.csv"}),
    "project": (["--method", "pca"], {"project.json", "points.csv", "pca.png"}),
    "generate": (["--count", "5"], {"generate.json", "samples.npz"}),
    "generate path": (["--interpolate", "0", "1"], {"interpolate.json", "interpolate.npz"}),
    "generate traversal": (["--traverse"], {"traverse.json", "traverse.npz"}),
    "generate sheet": (["--sheet"], {"sheet.json", "sheet.npz"}),
    "generate set": (["--augment", "{out}/a.npz", "--labels", "20", "--per-class", "5"], {"augment.json", "a.npz"}),
    "embed": (["--probe"], {"embed.json", "codes.npz"}),
    "embed new": (["--input", "{new}"], {"embed.json", "codes.npz"}),
    "finetune": (["--labels", "20", "--steps", "5", "--seeds", "2"], {"finetune.json"}),
    "retrieve": ([], {"retrieve.json", "hits.csv"}),
    "retrieve new": (["--input", "{new}"], {"retrieve.json", "hits.csv"}),
    "dream": (["--most", "1"], {"dream.json"}),
    "compare": ([], {"comparison.csv", "comparison.png", "comparison.html"}),
}
# What a kind of data has not, and the words that say so.
NO_SIGNAL, NO_LABELS, ONLY_OTHERS = "denoising is for images and series", "has no labels", "was trained on text data"
PATCHES = "expected 16x16 pixels, found 20x18; --resize scales images"
REFUSED: dict[str, dict[str, str]] = {
    "table": {"denoise": NO_SIGNAL},
    "text": {"denoise": NO_SIGNAL, "dream": "no gradient moves token ids"}
    | dict.fromkeys(("generate traversal", "generate sheet", "generate set"), ONLY_OTHERS),
    "bag_of_words": {"denoise": NO_SIGNAL},
    "image_folder": {},
    "defects": dict.fromkeys(("embed", "finetune", "generate set"), NO_LABELS)
    | {"embed new": PATCHES, "retrieve new": PATCHES},
    "channels": {},
    "series": {"drift": "the windows of a recording depend on each other"},
    "spectrogram": {"drift": "the windows of a recording depend on each other"},
    "shapes": {},
    "sparse_codes": {"denoise": NO_SIGNAL} | dict.fromkeys(("embed", "finetune", "generate set"), NO_LABELS),
}

AS_IMAGES = {"evaluate", "embed", "finetune", "compare", "generate set", "generate path", "generate traversal"}


@pytest.mark.parametrize("name", list(CALLS))
def test_every_application_works_or_says_why_not(
    name: str, kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    data, run_dir, new = kind
    if data == "spectrogram" and name in AS_IMAGES:
        pytest.skip("takes the same path as for images")
    script, (arguments, files) = name.split()[0], CALLS[name]
    given = [argument.format(new=new, out=tmp_path) for argument in arguments]
    given += [] if "--output" in given else ["--output", str(tmp_path)]
    code, _, err = call(script, run_dir, *given, *([] if script == "compare" else ["--device", "cpu"]))
    found = {path.name for path in tmp_path.iterdir()}
    if name in REFUSED[data]:
        assert (code, found) == (2, set())
        assert err.count("\n") == 1
        assert REFUSED[data][name] in err
    else:
        other_size = "Attention: 3 of 3 images are scaled to 16x16 pixels"
        err = "".join(line for line in err.splitlines(True) if not line.startswith("evaluating "))
        assert code == 0
        assert not err or (data == "image_folder" and err.startswith(other_size))
        assert files <= found, "what the help promises"
        drawn = data in ("image_folder", "defects", "channels", "series", "spectrogram", "shapes")
        assert ("hits.png" in found) == (script == "retrieve" and drawn)


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "defects"], indirect=True)  # learnt from patches
def test_new_data_are_read_as_those_of_the_training_were(kind: tuple[str, Path, Path]) -> None:
    data, run_dir, new = kind
    run = load_run(run_dir, "cpu")
    codes = run.codes(inputs.read(run, new).split)
    assert codes.shape == (3, 2)
    assert np.isfinite(codes).all()
    if data in ("table", "text", "bag_of_words"):  # the new rows are the first of the training file
        frame = pd.read_csv(new)
        raw = frame if data == "table" else frame["text"].tolist()
        assert run.encode(raw) == pytest.approx(codes, abs=1e-5)
        assert run.as_transformer().transform(raw) == pytest.approx(codes, abs=1e-5)


@pytest.mark.parametrize("kind", ["channels"], indirect=True)
def test_eight_channels_are_exported_and_new_arrays_denoised(
    kind: tuple[str, Path, Path],
    call: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, run_dir, new = kind
    run = load_run(run_dir, "cpu")
    assert (run.spec.shape, run.spec.low, run.spec.high) == ((8, 12, 10), 0, 1)
    x = np.load(new)["x"]
    np.testing.assert_allclose(run.inputs(x).tensor, x.transpose(0, 3, 1, 2) / np.float32(4_095), rtol=1e-6)
    monkeypatch.setattr(export, "parts_of", lambda *given: {"score": parts_of(*given)["score"]})  # has all operators
    assert call("export", run_dir, "--output", tmp_path / "export")[0] == 0
    assert call("denoise", run_dir, "--input", new, "--output", tmp_path / "clean")[0] == 0
    assert np.load(tmp_path / "clean" / "denoise.npz")["denoised"].shape == (3, 8, 12, 10)


@pytest.mark.parametrize("kind", ["series"], indirect=True)
def test_denoised_recordings_have_the_users_rows_and_the_means_of_overlapping_windows(
    kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, run_dir, new = kind
    assert call("denoise", run_dir, "--input", new, "--clean", new, "--output", tmp_path)[0] == 0
    found, given = pd.read_csv(tmp_path / "denoised.csv"), pd.read_csv(new)
    assert list(found) == ["time", "a", "b"]
    assert found["time"].tolist() == given["time"].tolist()
    arrays = np.load(tmp_path / "denoise.npz")
    run = load_run(run_dir, "cpu")
    windows = run.spec.kind.decode(arrays["denoised"])
    covered = [windows[i][:, 20 - 8 * i] for i in (1, 2)]  # windows begin at the steps 0, 8 and 16
    assert found.loc[20, ["a", "b"]].to_numpy(float) == pytest.approx(np.mean(covered, axis=0), rel=1e-4)
    numbers = json.loads((tmp_path / "denoise.json").read_text())
    error = np.square(arrays["denoised"] - arrays["clean"]).sum((1, 2))
    expected = 10 * np.log10(np.square(arrays["clean"]).sum((1, 2)) / error).mean()
    assert numbers["model"]["snr"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["series"], indirect=True)
def test_windows_that_excite_units_are_drawn(
    kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    assert call("units", kind[1], "--output", tmp_path, "--examples", "200")[0] == 0, "fewer are stored"
    assert {path.name for path in tmp_path.iterdir()} == {"units.csv", "units.json", "units.png"}


@pytest.mark.parametrize("kind", ["spectrogram"], indirect=True)
@pytest.mark.parametrize("script", ["denoise", "impute"])
def test_spectrograms_are_not_written_as_recordings(
    script: str, kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, run_dir, new = kind
    output = tmp_path / {"denoise": "clean", "impute": "whole.csv"}[script]
    code, _, error = call(script, run_dir, "--input", new, "--output", output)
    assert (code, output.exists()) == (2, False)
    assert "spectrograms do not tell the values of a recording; train without data.view" in error


@pytest.mark.parametrize("kind", ["spectrogram"], indirect=True)
def test_spectrograms_that_overlap_have_scores_on_the_time_axis(
    kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, run_dir, new = kind
    code, _, error = call("detect", run_dir, "--input", new, "--output", tmp_path / "s.csv", "--alarm-rate", "0.25")
    assert code == 0, error
    assert {path.name for path in tmp_path.iterdir()} == {"s.csv", "s.json", "s_events.csv", "s_timeline.png"}
    found, given = pd.read_csv(tmp_path / "s.csv"), pd.read_csv(new)
    assert found["time"].tolist() == given["time"].tolist()

    run = load_run(run_dir, "cpu")
    detector, split = StepDetector(run), run.spec.kind.cut(run.spec.kind.recordings(new), "")
    x = split.tensor.numpy()
    square = np.square((x - run.reconstruct(x)).astype(np.float64)).mean(2)  # (N, C, T), frames of 16 steps, 1 apart
    step, places = 20, split.x.places.tolist()
    assert places == [0, 4, 8]
    frames = [square[i, :, min(step - place - 8, 8)] for i, place in enumerate(places)]  # a frame's middle is its 8th
    assert found["error"][step] == pytest.approx((np.mean(frames, 0) / detector.scale).mean(), rel=1e-3)
    mean = np.sqrt(frames).mean(0)
    assert found["residual"][step] == pytest.approx(np.sqrt(mean @ detector.precision @ mean), rel=1e-3)
    for name in ("residual", "error", "local"):
        values = detector.scores(run.data.val).scores[name]
        np.testing.assert_allclose(np.sort(detector.validation[name]), np.sort(values), rtol=1e-3)

    follower = Follower(detector, "error")
    rows = follower.push([(str(i), None, row) for i, row in enumerate(given[["a", "b"]].to_numpy())])
    assert [row.score is None for row in rows] == [True] * 23 + [False] * 9
    assert rows[-1].score == pytest.approx((square[2, :, -1] / detector.scale).mean(), rel=1e-3)

    portable = PortableSteps(Steps(run, Options()))
    (raw,) = export_detector.raw_rows(portable)
    with torch.no_grad():
        outputs = dict(zip(portable.outputs, portable(*map(torch.from_numpy, raw.given.arrays)), strict=True))
    for name in ("score", "alarm", "residual", "local"):
        np.testing.assert_allclose(outputs[name], raw.expected[name], rtol=1e-3)


@pytest.mark.parametrize("kind", ["series"], indirect=True)
def test_missing_steps_of_recordings_are_filled_and_other_cells_stay(
    kind: tuple[str, Path, Path], call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, run_dir, new = kind
    given = pd.read_csv(new).assign(note="kept")
    given.loc[9:10, "b"] = np.nan
    given.drop(index=[3, 4, 5]).to_csv(tmp_path / "holes.csv", index=False)
    output = tmp_path / "whole.csv"
    code, said, _ = call("impute", run_dir, "--input", tmp_path / "holes.csv", "--output", output, "--json")
    assert code == 0
    values = json.loads(said)
    assert (values["cells"], values["rows"], values["hidden_steps"]) == (8, 5, 3)
    assert values["linear interpolation"]["rmse"] > 0
    found = pd.read_csv(output)
    assert found["time"].tolist() == given["time"].tolist()
    assert found["note"].isna().tolist() == [i in (3, 4, 5) for i in range(32)]
    assert not found[["a", "b"]].isna().any().any()
    kept = given["b"].notna() & ~found.index.isin([3, 4, 5])
    assert (found[kept] == given[kept]).all().all()
    if values["method"] == "linear interpolation":
        assert found["a"][2:7].tolist() == pytest.approx(np.linspace(given["a"][2], given["a"][6], 5), rel=1e-4)
    (tmp_path / "logs" / "b").mkdir(parents=True)
    for i, name in enumerate(["a.csv", "b/a.csv", "b/whole.csv"]):
        (given if i == 2 else given.drop(index=[3, 4, 5])).to_csv(tmp_path / "logs" / name, index=False)
    given.drop(columns="note").to_csv(tmp_path / "logs" / "b" / "whole.csv", index=False)
    folders = "--input", tmp_path / "logs", "--output", tmp_path / "filled"
    code, said, error = call("impute", run_dir, *folders, "--json")
    assert code == 0, error
    assert json.loads(said)["cells"] == 6 + 6 + 2 * 3
    for name in ("a.csv", "b/a.csv", "b/whole.csv"):
        assert pd.read_csv(tmp_path / "filled" / name)["time"].tolist() == given["time"].tolist()
    assert "already exists; --force" in call("impute", run_dir, *folders)[2]
    assert "is a file of --input" in call("impute", run_dir, *folders[:3], tmp_path / "logs", "--force")[2]
    for arguments, message in {("--draws", "2"): "is for tables", ("--input", str(new)): "no step is missing"}.items():
        options = ["--input", str(tmp_path / "holes.csv"), "--output", str(tmp_path / "again.csv"), *arguments]
        code, _, error = call("impute", run_dir, *options)
        assert code == 2
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize("kind", ["table", "bag_of_words", "sparse_codes"], indirect=True)
def test_tables_are_generated_in_their_own_units(kind: tuple[str, Path, Path], call: Any, tmp_path: Path) -> None:
    data, run_dir, _ = kind
    assert call("generate", run_dir, "--count", "30", "--output", tmp_path, "--device", "cpu")[0] == 0
    rows = pd.read_csv(tmp_path / "samples.csv")
    assert len(rows) == 30
    if data == "table":
        assert list(rows) == ["a", "b", "colour"]
        assert set(rows["colour"]) <= {"red", "blue"}
        x = np.load(tmp_path / "samples.npz")["x"]
        train = pd.read_csv(run_dir.parent / "table.csv")
        assert np.corrcoef(rows["a"], x[:, 0])[0, 1] == pytest.approx(1)
        assert rows["b"].std() < 3 * train["b"].std()
        assert rows["b"].to_numpy() == pytest.approx(x[:, 1] * train["b"].std() + train["b"].mean(), abs=0.5)
    elif data == "bag_of_words":
        words = {word for text in rows["words"] for word in text.split()}
        assert words <= {"the", "is", "near", *SUBJECTS["animals"], *SUBJECTS["tools"]}
    else:
        assert list(rows) == [f"x{i}" for i in range(64)]


def test_a_run_shows_what_people_read_of_tables_and_texts_and_images_of_the_rest(
    kind: tuple[str, Path, Path],
) -> None:
    data, run_dir, _ = kind
    names = {path.name for path in (run_dir / "figures").iterdir()}
    read = data in ("table", "text", "bag_of_words")
    assert {f"reconstruction.{'txt' if read else 'png'}", f"samples.{'txt' if read else 'png'}"} <= names
    assert ("columns.png" in names) == (data == "table")
    if data == "table":
        lines = (run_dir / "figures" / "reconstruction.txt").read_text().splitlines()
        assert lines[0].split() == [w for i in range(4) for w in ("input", str(i), "output", str(i))]
        assert [line.split()[0] for line in lines[1:]] == ["a", "b", "colour"]
        assert set(lines[3].split()[1:]) <= {"red", "blue"}
