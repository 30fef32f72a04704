"""A run stands on its own: its training files are deleted, it is moved elsewhere, and new data are scored."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from autoenc import load_run, run
from autoenc.errors import DataError
from autoenc.estimators.inmemory import compose
from autoenc.reference import FILE

Call = Callable[..., tuple[int, str, str]]
RANDOM = np.random.default_rng(0)


def table(folder: Path) -> tuple[Path, list[str]]:
    n = 300
    frame = pd.DataFrame({"a": RANDOM.normal(size=n), "b": RANDOM.integers(0, 9, n), "c": RANDOM.choice(["x", "y"], n)})
    frame["d"] = frame["a"] * 2 + frame["b"]
    frame.to_csv(folder / "train.csv", index=False)
    frame.head(5).to_csv(folder / "new.csv", index=False)
    return folder / "new.csv", ["data=table", f"data.path={folder}/train.csv"]


def vectors(folder: Path) -> tuple[Path, list[str]]:
    x = (RANDOM.normal(size=(300, 3)) @ RANDOM.normal(size=(3, 8))).astype(np.float32)
    np.savez(folder / "train.npz", x=x, y=RANDOM.integers(0, 2, 300))
    np.save(folder / "new.npy", x[:5])
    return folder / "new.npy", ["data=arrays", f"data.path={folder}/train.npz", "likelihood=gaussian"]


def images(folder: Path) -> tuple[Path, list[str]]:
    for label in ("black", "white"):
        (folder / "train" / label).mkdir(parents=True)
        for i in range(30):
            pixels = RANDOM.integers(0, 120, (16, 16, 3), np.uint8) + (120 if label == "white" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "train" / label / f"{i}.png")
    Image.fromarray(RANDOM.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / "new.png")
    options = [
        "data=image_folder",
        "network=mlp",
        "network.hidden=[16]",
        f"data.path={folder}/train",
        "data.workers=0",
        f"data.cache_folder={folder}/cache",
    ]
    return folder / "new.png", options


def documents(folder: Path) -> Path:
    words = ["red", "blue", "cat", "dog", "runs", "sleeps", "the", "a"]
    lines = [" ".join(RANDOM.choice(words, 5)) for _ in range(200)]
    (folder / "train.txt").write_text("\n".join(lines))
    (folder / "new.txt").write_text("\n".join(lines[:3]))
    return folder / "new.txt"


def bags(folder: Path) -> tuple[Path, list[str]]:
    return documents(folder), ["data=bag_of_words", f"data.path={folder}/train.txt", "data.min_count=1"]


def tokens(folder: Path) -> tuple[Path, list[str]]:
    sizes = ["network.embedding=8", "network.width=16", "network.word_dropout=0"]
    return documents(folder), ["data=text", f"data.path={folder}/train.txt", "data.min_count=1", *sizes]


KINDS = {"table": table, "vectors": vectors, "images": images, "bags": bags, "tokens": tokens}


@pytest.fixture(scope="module", params=KINDS)
def moved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Path, np.ndarray]:
    """The kind, the run elsewhere, a file of new data, and its codes from before the training files were deleted."""
    folder = tmp_path_factory.mktemp("files")
    new, overrides = KINDS[request.param](folder)
    settings = ["model.latent_dim=3", "trainer.epochs=2", "trainer.batch_size=32", "trainer.figures=0"]
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    run.train(compose(["model=vae", *settings, *overrides]), run_dir, {"model": "vae"})
    codes = load_run(run_dir).codes(load_run(run_dir).spec.kind.read(new).split)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.move(run_dir, elsewhere)
    for path in folder.glob("train*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(folder / "cache", ignore_errors=True)
    return request.param, elsewhere, new, codes


def test_new_data_need_the_run_directory_and_nothing_else(
    moved: tuple[str, Path, Path, np.ndarray], call: Call, tmp_path: Path
) -> None:
    kind, run_dir, new, codes = moved
    calls = [
        ("detect", "--input", new, "--output", tmp_path / "scores.csv"),
        ("embed", "--input", new, "--output", tmp_path / "embed"),
        ("retrieve", "--input", new, "--k", 3, "--output", tmp_path / "retrieve"),
        ("generate", "--count", 4, "--output", tmp_path / "prior"),
        ("generate", "--count", 4, "--density", "gaussian", "--output", tmp_path / "gaussian"),
        *([] if kind == "tokens" else [("export", "--output", tmp_path / "deploy")]),
        *([("denoise", "--input", new, "--output", tmp_path / "denoise")] if kind == "images" else []),
    ]
    for name, *arguments in calls:
        code, _, err = call(name, run_dir, *arguments)
        assert code == 0, f"{name}: {err}"
    with np.load(tmp_path / "embed" / "codes.npz") as found:
        np.testing.assert_allclose(found["z"], codes, atol=1e-6)
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == len(codes) + 1


def test_the_test_split_is_one_named_line(moved: tuple[str, Path, Path, np.ndarray], call: Call) -> None:
    code, _, err = call("detect", moved[1])
    assert (code, err.count("\n")) == (2, 1)
    assert "train" in err


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
    assert (tmp_path / "hits" / "hits.csv").read_text().splitlines()[1].split(",")[:3] == ["0", "1", str(row)]
