"""A run stands on its own: its training files are deleted, it is moved elsewhere, and new data are scored."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autoenc import load_run, run
from autoenc.apps.deploy import export
from autoenc.apps.deploy.portable import Part, parts_of
from autoenc.errors import DataError
from autoenc.estimators.inmemory import compose
from autoenc.reference import FILE, compute

pytestmark = pytest.mark.usefixtures("without_figures", "operators")

Call = Callable[..., tuple[int, str, str]]
RANDOM = np.random.default_rng(0)


def table(folder: Path) -> tuple[Path, list[str]]:
    n = 300
    frame = pd.DataFrame({"a": RANDOM.normal(size=n), "b": RANDOM.integers(0, 9, n), "c": RANDOM.choice(["x", "y"], n)})
    frame["d"] = frame["a"] * 2 + frame["b"]
    frame.to_csv(folder / "train.csv", index=False)
    frame.head(45).to_csv(folder / "new.csv", index=False)
    return folder / "new.csv", ["data=table", f"data.path={folder}/train.csv"]


def vectors(folder: Path) -> tuple[Path, list[str]]:
    x = (RANDOM.normal(size=(300, 3)) @ RANDOM.normal(size=(3, 8))).astype(np.float32)
    np.savez(folder / "train.npz", x=x, y=RANDOM.integers(0, 2, 300))
    np.save(folder / "new.npy", x[:45])
    return folder / "new.npy", ["data=arrays", f"data.path={folder}/train.npz", "likelihood=gaussian"]


def images(folder: Path) -> tuple[Path, list[str]]:
    for label in ("black", "white"):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(30):
            pixels = RANDOM.integers(0, 120, (16, 16, 3), np.uint8) + (120 if label == "white" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "train" / label / f"{i}.png")
    np.save(folder / "new.npy", RANDOM.integers(0, 255, (45, 3, 16, 16), np.uint8))
    options = [
        "data=image_folder",
        "network=mlp",
        "network.hidden=[16]",
        f"data.path={folder}/train",
        "data.workers=0",
        f"data.cache_folder={folder}/cache",
    ]
    return folder / "new.npy", options


def documents(folder: Path) -> Path:
    words = ["red", "blue", "cat", "dog", "runs", "sleeps", "the", "a"]
    lines = [" ".join(RANDOM.choice(words, 5)) for _ in range(200)]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "new.txt").write_text("\n".join(lines[:45]))
    return folder / "new.txt"


def bags(folder: Path) -> tuple[Path, list[str]]:
    return documents(folder), ["data=bag_of_words", f"data.path={folder}/train.txt", "data.min_count=1"]


def tokens(folder: Path) -> tuple[Path, list[str]]:
    sizes = ["network.embedding=8", "network.width=16", "network.word_dropout=0"]
    return documents(folder), ["data=text", f"data.path={folder}/train.txt", "data.min_count=1", *sizes]


KINDS = {"table": table, "vectors": vectors, "images": images, "bags": bags, "tokens": tokens}


SETTINGS = ["model.latent_dim=3", "trainer.epochs=2", "trainer.batch_size=32", "trainer.figures=0"]


@dataclass(frozen=True)
class Moved:
    """A run, and new data for it."""

    kind: str
    run_dir: Path
    new: Path

    def commands(self, folder: Path) -> list[list[object]]:
        """Return the calls of scripts that need the run and new data only."""
        images = self.kind == "images"
        return [
            ["detect", "--input", self.new, "--output", folder / "scores.csv"],
            ["embed", "--input", self.new, "--output", folder / "embed"],
            ["retrieve", "--input", self.new, "--k", 3, "--output", folder / "retrieve"],
            ["project", "--input", self.new, "--method", "pca", "--output", folder / "project"],
            ["generate", "--count", 4, "--output", folder / "prior"],
            ["generate", "--count", 4, "--density", "gaussian", "--output", folder / "gaussian"],
            *([["denoise", "--input", self.new, "--output", folder / "denoise"]] if images else []),
        ]

    def call(self, call: Call, folder: Path) -> None:
        """Run all commands."""
        folder.mkdir(exist_ok=True)
        for name, *arguments in self.commands(folder):
            code, _, err = call(name, self.run_dir, *arguments)
            assert code == 0, f"{name}: {err}"


def trained(folder: Path, kind: str) -> tuple[Path, Path]:
    """Train a run in folder/run on files in folder; return it and a file of new data."""
    new, overrides = KINDS[kind](folder)
    run.train(compose(["model=vae", *SETTINGS, *overrides]), folder / "run", {"model": "vae"})
    return folder / "run", new


def delete_training_files(folder: Path) -> None:
    for path in folder.glob("train*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "cache", ignore_errors=True)


@pytest.fixture(scope="module", params=KINDS)
def moved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Moved:
    folder = tmp_path_factory.mktemp("files")
    run_dir, new = trained(folder, request.param)
    return Moved(request.param, run_dir, new)


def numbers(folder: Path) -> dict[str, np.ndarray]:
    """Return all numbers that scripts wrote: name of the file or array -> values."""
    found = {}
    for path in sorted(folder.rglob("*.csv")):
        frame = pd.read_csv(path)
        found[path.name] = frame.select_dtypes("number").to_numpy()
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as arrays:
            found |= {f"{path.parent.name}/{name}": arrays[name] for name in arrays if arrays[name].dtype.kind != "U"}
    return found


def exports(run_dir: Path, call: Call, folder: Path, convert: bool = True) -> None:
    """Check the threshold that scripts/export.py writes, and one of the three parts, compared with stored rows.

    Args:
        convert: without it, the part itself stands for its files: such models have been converted by other tests.
    """
    parts: list[Part] = []

    def score(*given: Any) -> dict[str, Part]:
        parts.append(parts_of(*given)["score"])
        return {"score": parts[-1]}

    @torch.no_grad()
    def called(*arrays: np.ndarray) -> list[np.ndarray]:
        return [tensor.numpy() for tensor in parts[-1].module(*map(torch.from_numpy, arrays))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "parts_of", score)
        if not convert:
            patch.setattr(export, "onnx_files", lambda parts, *_: dict.fromkeys(parts, b""))
            patch.setattr(export, "pt2_file", lambda *_: b"")
            patch.setattr(export, "CALLS", dict.fromkeys((".onnx", ".pt2"), lambda *_: called))
        code, _, err = call("export", run_dir, "--output", folder)
    assert code == 0, err
    stored, reference = json.loads((folder / "export.json").read_text()), load_run(run_dir).reference
    assert stored["verification"]["examples"] == min(200, len(reference.rows))
    assert max(stored["verification"]["differences"].values()) < 1e-4
    assert stored["score"]["threshold"] in reference.val_mse
    assert (reference.val_mse <= stored["score"]["threshold"]).mean() >= 0.99


def test_results_are_the_same_without_the_training_files(moved: Moved, call: Call, tmp_path: Path) -> None:
    moved.call(call, tmp_path / "before")
    elsewhere = moved.run_dir.rename(moved.run_dir.parent / "moved")
    shutil.rmtree(elsewhere / "index")
    delete_training_files(elsewhere.parent)
    gone = replace(moved, run_dir=elsewhere)
    gone.call(call, tmp_path / "after")
    before, after = numbers(tmp_path / "before"), numbers(tmp_path / "after")
    assert before.keys() == after.keys() >= {"scores.csv", "hits.csv", "points.csv", "embed/z", "prior/x"}
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    if moved.kind != "tokens":
        exports(elsewhere, call, tmp_path / "deploy", convert=moved.kind in ("table", "bags"))
    code, _, err = call("detect", elsewhere)
    assert (code, err.count("\n")) == (2, 1), "the test split is needed"
    assert "train" in err


@pytest.mark.parametrize("kind", ["images", "tokens", "bags"])
def test_rows_over_the_limit_are_stored_in_part(
    kind: str, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoenc.reference.BYTES", 3_000)
    run_dir, new = trained(tmp_path, kind)
    loaded = load_run(run_dir)
    stored, train = loaded.reference, loaded.data.train
    assert 0 < len(stored.rows) < len(stored) == len(train)
    expected = train.subset(torch.from_numpy(stored.row_index))
    assert torch.equal(stored.rows.tensor, expected.tensor)
    assert np.array_equal(stored.codes, loaded.codes(train)), "codes of all rows"
    if stored.labels is not None:
        assert torch.equal(stored.rows.y, torch.from_numpy(stored.labels[stored.row_index]))  # type: ignore[arg-type]
    delete_training_files(tmp_path)
    if kind == "images":
        exports(run_dir, call, tmp_path / "deploy", convert=False)
    code, out, err = call("retrieve", run_dir, "--input", new, "--k", 20, "--force", "--output", tmp_path / "hits")
    assert code == 0, err
    assert ("blank" in out) == (kind == "images")
    hits = pd.read_csv(tmp_path / "hits" / "hits.csv")
    if kind != "images":
        assert hits["text"].notna().all()
    if kind == "images":
        np.save(tmp_path / "x.npy", np.concatenate([stored.rows.tensor[:1].numpy()] * 4))
        np.save(tmp_path / "y.npy", np.array([0, 0, 1, 1]))
        code, _, err = call("detect", run_dir, "--input", tmp_path / "x.npy", "--labels", tmp_path / "y.npy")
        assert (code, err.count("\n")) == (0, 1), err
        assert f"{len(stored.rows)} of {len(stored)} reference rows" in err


@pytest.mark.parametrize(("kind", "option"), [("vectors", "--traverse"), ("tokens", "--reconstruct")])
def test_examples_are_stored_rows_without_the_test_split(kind: str, option: str, call: Call, tmp_path: Path) -> None:
    run_dir, _ = trained(tmp_path, kind)
    delete_training_files(tmp_path)
    loaded = load_run(run_dir)
    code, _, err = call("generate", run_dir, option, 3, "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (0, 1), err
    assert f"examples 0 to {len(loaded.reference) - 1} are training rows" in err
    if option == "--traverse":
        with np.load(tmp_path / "out" / "traverse.npz") as arrays:
            np.testing.assert_allclose(arrays["z"][0, 5], loaded.reference.codes[3], atol=1e-5)
    code, _, err = call("generate", run_dir, "--interpolate", 0, 100_000, "--output", tmp_path / "out")
    assert code == 2
    assert "100000: " in err


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("val_bound", lambda a: a[:-1]),
        ("val_mse", lambda a: a[:-1]),
        ("labels", lambda a: a.astype(float)),
        ("labels", lambda a: a - 2),
        ("row_index", lambda a: a + len(a)),
        ("captions", lambda a: np.array(["one"])),
        ("val_table", lambda a: a * np.nan),
        ("width", lambda a: a + 1),
    ],
)
def test_arrays_that_do_not_fit_are_named(name: str, change: Callable[[Any], Any], small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(small, tmp_path / "run"))
    with np.load(path / FILE) as archive:
        arrays = dict(archive)
    np.savez(path / FILE, **arrays | {name: change(arrays[name])})
    with pytest.raises(DataError, match=rf"reference\.npz: damaged \(.*{name}.*delete it"):
        _ = load_run(path).reference


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labelled bags of words."""
    folder = tmp_path_factory.mktemp("small")
    words = np.random.default_rng(1).choice(["red", "blue", "cat", "dog"], (60, 3))
    lines = [f"{' '.join(row)},{row[0]}" for row in words]
    (folder / "train.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    options = ["data=bag_of_words", f"data.path={folder}/train.csv", "data.min_count=1"]
    run.train(compose(["model=vae", *SETTINGS, *options]), folder / "run", {"model": "vae"})
    return folder / "run"


def test_a_file_of_version_0_2_0_is_read(small: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(small, tmp_path / "run"))
    with np.load(path / FILE) as archive:
        arrays = dict(archive)
    new = load_run(path).reference
    del arrays["row_index"]
    arrays["usual"] = arrays.pop("val_column_nll")
    np.savez(path / FILE, **arrays)
    old = load_run(path).reference
    assert np.array_equal(old.row_index, new.row_index)
    assert np.array_equal(old.captions, new.captions)
    for name in ("data", "indices", "indptr", "captions"):
        del arrays[name]
    np.savez(path / FILE, **arrays)
    loaded = load_run(path)
    assert len(loaded.reference.rows) == 0
    assert len(loaded.reference_rows()) == len(new)


def test_validation_rows_are_decoded_once(make_model: Callable[..., Any], make_data: Callable[..., Any]) -> None:
    model, data = make_model(), make_data(n=24, val=10)
    decoded = []
    model.decoder.register_forward_hook(lambda *call: decoded.append(len(call[2])))
    made = compute(model, data, 100, torch.device("cpu"))
    assert decoded == [24, 10]
    x, x_hat = data.val.tensor, model.reconstruct(data.val.take(slice(None)))
    np.testing.assert_allclose(made.val_mse, (x - x_hat).square().mean(1).numpy(), rtol=1e-5)


def test_scores_are_those_of_the_training_data(table_run: Path, copied: Callable[[Path], Path]) -> None:
    from autoenc.apps.anomaly.scores import Detector

    path = copied(table_run)
    first = Detector(loaded := load_run(path))
    stored = first.scores(loaded.data.test)
    thresholds = {name: first.threshold(name) for name in first.names}
    (path / FILE).unlink()
    again = Detector(made := load_run(path))
    for name, values in again.scores(made.data.test).items():
        np.testing.assert_allclose(stored[name], values, rtol=1e-6, err_msg=name)
        assert thresholds[name] == pytest.approx(again.threshold(name), rel=1e-6)
    assert (path / FILE).exists(), "made on the first call"


def test_a_damaged_reference_and_a_missing_one_are_one_line(table_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(table_run)
    whole = (path / FILE).read_bytes()
    for damaged in (b"", whole[:100], whole[:-200], b"PK" + whole[2:50] + whole[60:]):
        (path / FILE).write_bytes(damaged)
        with pytest.raises(DataError, match=r"reference\.npz: damaged"):
            _ = load_run(path).reference
    (path / FILE).unlink()
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace("table.npz", "gone.npz"))
    with pytest.raises(DataError, match=r"has no reference\.npz, and its training data cannot be read"):
        _ = load_run(path).reference


def test_hits_are_rows_of_the_training_split_where_the_reference_is_a_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr("autoenc.reference.drawn", lambda n, most=0: np.arange(n)[n // 2 :])
    new, overrides = vectors(tmp_path)
    settings = ["model.latent_dim=3", "trainer.epochs=1", "trainer.figures=0"]
    run.train(compose(["model=ae", *settings, *overrides]), tmp_path / "run", {"model": "ae"})
    loaded = load_run(tmp_path / "run")
    size, row = loaded.reference.size, int(loaded.reference.index[0])
    assert row == size // 2
    np.save(new, loaded.data.train.take(slice(row, row + 1)).x.numpy())
    (tmp_path / "train.npz").unlink()
    code, _, err = call("retrieve", tmp_path / "run", "--input", new, "--k", 1, "--output", tmp_path / "hits")
    assert code == 0, err
    assert (tmp_path / "hits" / "hits.csv").read_text().splitlines()[1].split(",")[1:3] == ["1", str(row)]
