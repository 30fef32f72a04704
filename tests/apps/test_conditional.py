"""Conditional runs: every application holds with labels, or refuses in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc import load_run, run
from autoenc.apps import inputs
from autoenc.apps.codes import features
from autoenc.apps.generation import augment, generate
from autoenc.apps.protocol.evaluate import evaluate
from autoenc.apps.seeing.restyle import by_class
from autoenc.config.composed import compose
from autoenc.core import UNLABELLED
from autoenc.data.split import Split
from autoenc.errors import DataError, UserError
from autoenc.loading import Run

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = ["network.hidden=[32]", "model.latent_dim=2", "trainer.figures=0", "trainer.device=cpu", "optimizer.lr=0.003"]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def m2_run(train_run: Callable[..., Path]) -> Path:
    return train_run("model=m2", "labels=200", *SMALL, "trainer.epochs=8")


def test_a_class_is_generated_by_its_name(cvae_run: Path) -> None:
    loaded = load_run(cvae_run, "cpu")
    train = loaded.data.train.take(slice(None))
    means = torch.stack([train.x[train.y == label].mean(0) for label in range(10)])
    found = generate.samples(loaded, 40, classes=["3", "7"])
    assert found.y is not None
    assert found.y.tolist() == [3] * 20 + [7] * 20
    assert found.title.startswith("40 samples of class 3, 7 from the prior")
    nearest = (torch.from_numpy(found.x)[:, None] - means).flatten(2).norm(dim=2).argmin(1).numpy()
    assert (nearest == found.y).mean() > 0.7
    drawn = generate.samples(loaded, 2_000).y
    assert drawn is not None
    np.testing.assert_allclose(np.bincount(drawn) / 2_000, 0.1, atol=0.03)


def test_labels_in_python_are_names_or_numbers(cvae_run: Path) -> None:
    loaded = load_run(cvae_run, "cpu")
    batch = loaded.data.test.take(slice(0, 4))
    x, y = batch.x.numpy(), [loaded.spec.classes[i] for i in batch.y.tolist()]  # type: ignore[union-attr]
    codes = loaded.encode(x, y)
    np.testing.assert_allclose(codes, loaded.encode(x, batch.y))
    np.testing.assert_allclose(loaded.decode(codes, y), loaded.reconstruct(x, y), atol=1e-6)
    assert not np.allclose(codes, loaded.encode(x, y[::-1]))
    for wrong, message in (
        ((x,), "needs the label of every row"),
        ((x, y[:2]), r"expected 4 labels"),
        ((x, ["3", "4", "5", "eleven"]), r"y=eleven: digits has no such class"),
        ((x, [3, 4, 5, 10]), r"numbers from 0 to 9"),
    ):
        with pytest.raises(UserError, match=message):
            loaded.encode(*wrong)


def test_unconditional_runs_take_no_labels(ae_run: Path, call: Call, tmp_path: Path) -> None:
    loaded = load_run(ae_run, "cpu")
    with pytest.raises(UserError, match="takes no labels, as it is not conditional"):
        loaded.encode(np.zeros((1, 1, 8, 8), np.float32), [3])
    for script, *arguments in (("generate", "--class", "3"), ("restyle",)):
        code, _, error = call(script, ae_run, *arguments, "--output", tmp_path)
        assert code == 2
        assert "is not conditional" in error
        assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--class", "eleven"], "--class=eleven: digits has no such class"),
        (["generate", "--interpolate", "0", "1"], "the codes between have no class; use scripts/restyle.py"),
        (["generate", "--sheet"], "decodes codes of given classes: y=..., or --class NAME"),
        (["restyle", "--input", "new.npy"], "reads the class of each example; add --class NAME"),
        (["restyle", "--input", "new.npy", "--class", "1", "2"], "one class for all 1 examples of --input"),
        (["restyle", "--examples", "0", "5000"], "digits has the examples 0 to"),
        (["restyle", "--from-class", "1", "--to-class", "2"], "its codes have no class"),
        (["generate", "--traverse", "--class", "1"], "--class is for samples or --sheet, not for --traverse"),
        (["detect", "--input", "new.npy"], "needs the label of every row; these rows have none"),
        (["embed", "--input", "new.npy"], "needs the label of every row; these rows have none"),
        (["embed", "--probe"], "its codes are computed from the labels, and would predict them"),
        (["finetune"], "its codes are computed from the labels, and would predict them"),
        (["export"], "a conditional model cannot be exported"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, list) else "",
)
def test_what_needs_labels_is_refused_in_one_line(
    cvae_run: Path, call: Call, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("new.npy", np.zeros((1, 8, 8), np.float32))
    script, *rest = arguments
    code, _, error = call(script, cvae_run, *rest, "--output", tmp_path / ("out.csv" if script == "detect" else "out"))
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_new_rows_have_their_classes_beside_them(cvae_run: Path, tmp_path: Path) -> None:
    run = load_run(cvae_run, "cpu")
    some, path = run.data.test.subset(slice(0, 20)).take(slice(None)), tmp_path / "new.npz"
    assert some.y is not None
    np.savez(path, x=some.x.numpy(), y=some.y.numpy())
    found = inputs.read(run, path).split
    assert found.y is not None
    assert torch.equal(found.y, some.y)
    np.savez(path, x=some.x.numpy(), y=some.y.numpy() + 10)
    with pytest.raises(DataError, match=r"new\.npz: y=\d+: digits has no such class"):
        inputs.read(run, path)
    np.savez(path, x=some.x.numpy(), y=some.y.numpy()[:5])
    with pytest.raises(DataError, match="5 classes for 20 rows"):
        inputs.read(run, path)


def test_scripts_write_classes_and_styles(cvae_run: Path, call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.zeros((1, 8, 8), np.float32))
    for name, arguments in {
        "samples": ["--class", "2", "--count", "5"],
        "restyle": ["--input", str(tmp_path / "new.npy"), "--class", "2"],
        "sheet": ["--sheet", "--class", "4"],
    }.items():
        script = "restyle" if name == "restyle" else "generate"
        assert call(script, cvae_run, *arguments, "--output", tmp_path / name)[0] == 0
        arrays = np.load(tmp_path / name / f"{name}.npz")
        assert set(arrays["y"].tolist()) == {"samples": {2}, "restyle": set(range(10)), "sheet": {4}}[name]
        assert (tmp_path / name / f"{name}.png").exists()


def test_examples_are_generated_by_class_and_by_style(
    cvae_run: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_run(cvae_run, "cpu")
    new = augment.augment(loaded, labels=40, per_class=40, method="style")
    real, y = new.x[~new.generated], new.y[~new.generated]
    styles = by_class(loaded, Split(torch.from_numpy(real), torch.from_numpy(y))).x[:, 1:]
    drawn = new.x[new.generated].reshape(10, 40, -1)
    for label in range(10):  # every style once in every class
        expected = styles[:, label].reshape(40, -1)
        np.testing.assert_allclose(np.sort(drawn[label], 0), np.sort(expected, 0), atol=1e-5)
    monkeypatch.setattr(augment, "SEEDS", 2)
    monkeypatch.setattr(augment, "PENALTIES", (1.0,))
    arguments = ["--augment", tmp_path / "a.npz", "--method", "class", "style", "--labels", 40, "--per-class", 10]
    code, said, error = call("generate", cvae_run, *arguments, "--output", tmp_path / "out")
    assert code == 0, error
    known = len(loaded.data.train)
    assert f"was trained with {known:,} labels, the classifiers have 40" in said
    found = json.loads((tmp_path / "out" / "augment.json").read_text())
    assert found["labels_of_model"] == known
    assert list(found["test_accuracy"]["RBF SVM"]) == ["real", "class", "style"]
    written = np.load(tmp_path / "a.npz")
    assert np.bincount(written["y"][written["generated"]]).tolist() == [10] * 10


def test_sections_that_labels_would_leak_into_are_skipped(cvae_run: Path) -> None:
    found = evaluate(
        load_run(cvae_run, "cpu"),
        ["reconstruction", "latent", "bounds", "denoising", "probes", "retrieval", "projection"],
    )
    assert set(found["skipped"]) == {"probes", "retrieval"}
    assert "neighbour_agreement" not in found["projection"]
    summary = json.loads((cvae_run / "summary.json").read_text())
    assert found["reconstruction"]["loss"] == pytest.approx(summary["test"]["loss"], rel=1e-5)
    assert found["bounds"]["elbo"] >= found["bounds"]["nll_importance"]
    assert {"noisy", "model", "filter"} <= found["denoising"].keys(), "test images have their labels"


def test_retrieval_says_why_it_measures_nothing(cvae_run: Path, call: Call, tmp_path: Path) -> None:
    code, out, _ = call("retrieve", cvae_run, "--output", tmp_path / "hits")
    assert code == 0
    assert "precision is not measured: the codes are computed from the labels" in out


def test_m2_needs_labels_for_codes_alone(m2_run: Path, call: Call, tmp_path: Path) -> None:
    loaded = load_run(m2_run, "cpu")
    assert loaded.data.train.y is not None
    assert int((loaded.data.train.y != UNLABELLED).sum()) == 200
    assert loaded.reference.labels is not None
    x = loaded.data.test.take(slice(0, 4)).x.numpy()
    assert loaded.encode(x).shape == (4, 2)
    with pytest.raises(UserError, match="decodes codes of given classes"):
        loaded.decode(loaded.encode(x))
    np.save(tmp_path / "new.npy", x)
    assert call("detect", m2_run, "--input", tmp_path / "new.npy", "--output", tmp_path / "detect.csv")[0] == 0
    np.save(tmp_path / "one.npy", x[:1])
    assert call("restyle", m2_run, "--input", tmp_path / "one.npy", "--output", tmp_path / "restyle")[0] == 0


def test_the_error_of_the_classifier_stands_beside_logistic_regression_on_the_same_labels(
    m2_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PENALTIES", (1.0,))
    loaded = load_run(m2_run, "cpu")
    found = evaluate(loaded, ["classification"])["classification"]
    summary = json.loads((m2_run / "summary.json").read_text())
    assert found["q(y|x)"]["classification_error"] == pytest.approx(summary["test"]["classification_error"])
    assert "classification_error" not in summary["val"], "validation rows have no labels"
    batch = loaded.data.test.take(slice(None))
    wrong = (loaded.model.labels(batch) != batch.y).float().mean()  # type: ignore[union-attr]
    assert found["q(y|x)"]["classification_error"] == pytest.approx(float(wrong))
    assert {"logistic, raw", "logistic, PCA-2", "logistic, codes", "logistic, untrained"} <= set(found)
    assert 0.02 < found["logistic, raw"]["classification_error"] < 0.25, "on 200 labels"


def test_codes_of_a_run_are_data_of_another(vae_run: Path, call: Call, tmp_path: Path) -> None:
    assert call("embed", vae_run, "--output", tmp_path)[0] == 0
    settings = [
        "model=m2",
        "data=arrays",
        f"data.path={tmp_path / 'codes.npz'}",
        "labels=100",
        *SMALL,
        "trainer.steps=5",
    ]
    run.train(compose(settings), tmp_path / "run")
    loaded = load_run(tmp_path / "run", "cpu")
    base = load_run(vae_run, "cpu")
    np.testing.assert_allclose(loaded.data.test.rows(), base.codes(base.data.test), rtol=1e-6)
    assert loaded.spec.classes == base.spec.classes
    assert loaded.data.test.y is not None
    assert torch.equal(loaded.data.test.y, base.data.test.y)  # type: ignore[arg-type]
    assert int((loaded.data.train.y != UNLABELLED).sum()) == 100  # type: ignore[union-attr]


def test_texts_of_a_class(train_run: Callable[..., Path], call: Call, tmp_path: Path) -> None:
    from autoenc.apps.generation import texts

    path = tmp_path / "texts.csv"
    rows = [
        f"{'good great nice' if i % 2 else 'bad awful poor'} film number {i % 7},{'pos' if i % 2 else 'neg'}"
        for i in range(200)
    ]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    folder = train_run(
        "model=cvae", "data=text", f"data.path={path}", "network.width=32", "network.embedding=16",
        "model.latent_dim=2", "trainer.epochs=15", "optimizer.lr=0.01", "trainer.device=cpu",
    )  # fmt: skip
    loaded: Run = load_run(folder, "cpu")
    for name, word in (("pos", "good"), ("neg", "bad")):
        written = texts.samples(loaded, 10, how=texts.Writing(), classes=[name]).texts
        assert sum(word in text for text in written) >= 8
    _, again = texts.reconstructions(loaded, loaded.data.test.subset(torch.arange(4)))
    assert len(again.texts) == 4
    assert call("restyle", folder, "--examples", "0", "1", "--output", tmp_path / "restyle")[0] == 0
    rows = pd.read_csv(tmp_path / "restyle" / "restyle.csv")["text"].tolist()
    assert len(rows) == 2 * 3
    assert all("good" in pos and "bad" in neg for neg, pos in ((rows[1], rows[2]), (rows[4], rows[5])))
