"""Restyled examples: what survives of a code by hand, own and other classes, moves from one class to another."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.seeing import restyle

Call = Callable[..., tuple[int, str, str]]


def test_survival_by_hand() -> None:
    z = np.array([[0.0, 5.0], [2.0, 5.0]])
    assert restyle.survival(z, z) == {"style_correlation": pytest.approx(1), "style_r2": pytest.approx(1)}
    assert restyle.survival(z, -z)["style_correlation"] == pytest.approx(-1)
    half = restyle.survival(z, np.array([[0.5, 5.0], [1.5, 5.0]]))  # squared errors 0.25 + 0.25, spread 1 + 1
    assert half == {"style_correlation": pytest.approx(1), "style_r2": pytest.approx(0.75)}
    assert restyle.survival(z, np.array([[1.0, 5.0], [1.0, 5.0]]))["style_r2"] == pytest.approx(0)
    assert restyle.survival(z, np.array([[0.0, 6.0], [2.0, 6.0]]))["style_r2"] == pytest.approx(0), (
        "a shift is an error"
    )


def test_codes_are_compared_orthogonally_to_the_attribute() -> None:
    z = np.array([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(restyle.without(z, np.array([0.0, 2.0])), [[1, 0], [3, 0]])
    np.testing.assert_allclose(restyle.without(z, np.array([[1.0, 0.0], [0.0, 0.0]])), [[0, 2], [3, 4]])


def test_an_example_changes_least_in_its_own_class(cvae_run: Path) -> None:
    loaded = load_run(cvae_run, "cpu")
    some = loaded.data.test.subset(torch.arange(60))
    found = restyle.by_class(loaded, some)
    assert found.x.shape == (60, 11, 1, 8, 8)
    assert some.y is not None
    assert found.labels == [loaded.spec.classes[i] for i in some.y]
    assert found.y is not None
    labels = found.y.reshape(60, 11)
    assert labels[:, 0].tolist() == some.y.tolist()
    assert (labels[:, 1:] == np.arange(10)).all()
    batch = some.take(slice(None))
    np.testing.assert_allclose(found.x[:, 0], batch.x.numpy())
    np.testing.assert_allclose(found.z, np.repeat(loaded.codes(some)[:, None], 11, 1))
    own = found.x[torch.arange(60), 1 + some.y]
    np.testing.assert_allclose(own, loaded.reconstruct(batch.x.numpy(), y=some.y), atol=1e-5)
    changes = np.square(found.x[:, 1:] - found.x[:, :1]).mean((2, 3, 4))
    assert changes[torch.arange(60), some.y].mean() < 0.5 * changes.mean()


def test_strength_0_reconstructs_and_strength_1_moves_one_mean_to_the_other(ae_run: Path) -> None:
    loaded = load_run(ae_run, "cpu")
    vector = restyle.attribute(loaded, "3", "8")
    codes, y = loaded.reference.codes, loaded.reference.labels
    np.testing.assert_allclose(codes[y == 3].mean(0) + vector.vector, codes[y == 8].mean(0), atol=1e-4)
    some = restyle.of_class(loaded, 3, 5)
    assert some.y is not None
    assert some.y.tolist() == [3] * 5
    found = restyle.by_attribute(loaded, some, vector, [0.0, 1.0])
    assert found.x.shape == (5, 3, 1, 8, 8)
    np.testing.assert_allclose(found.x[:, 1], loaded.reconstruct(some.take(slice(None)).x.numpy()), atol=1e-5)
    np.testing.assert_allclose(found.z[:, 2] - found.z[:, 1], np.tile(vector.vector, (5, 1)), atol=1e-5)


def test_the_script_counts_what_a_classifier_takes_for_the_wanted_class(
    ae_run: Path, cvae_run: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said, error = call("restyle", ae_run, "--from-class", "3", "--to-class", "8", "--output", "a")
    assert code == 0, error
    assert "first python scripts/train_classifier.py" in said
    assert call("train_classifier", cvae_run, "--steps", 200)[0] == 0, "also of a run whose codes need labels"
    code, _, error = call("restyle", ae_run, "--from-class", "3", "--to-class", "8", "--output", "a", "--force")
    assert code == 0, error
    found = json.loads(Path("a/restyle.json").read_text())
    numbers = found["numbers"]
    assert numbers["strength 0"]["restyle_accuracy"] < 0.2
    assert numbers["strength 1"]["restyle_accuracy"] > 0.6
    assert numbers["strength 1"]["restyle_accuracy"] > numbers["random vectors"]["restyle_accuracy"] + 0.3
    assert numbers["untrained"].keys() == numbers["strength 1"].keys()
    assert call("restyle", cvae_run, "--output", "c")[0] == 0
    numbers = json.loads(Path("c/restyle.json").read_text())["numbers"]
    assert numbers["restyled"]["restyle_accuracy"] > 0.8 > 0.2 > numbers["chance"]["restyle_accuracy"]
    assert numbers["restyled"]["style_r2"] > 0.5 > 0.1 > numbers["chance"]["style_r2"]
    assert numbers["restyled"]["restyle_accuracy"] > numbers["untrained"]["restyle_accuracy"] + 0.3
    assert {path.name for path in Path("c").iterdir()} == {"restyle.json", "restyle.npz", "restyle.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from-class", "3"], "--from-class and --to-class: give both"),
        (["--strengths", "1"], "--strengths: is for --from-class"),
        (["--from-class", "3", "--to-class", "eleven"], "--to-class=eleven: digits has no such class"),
        (["--from-class", "3", "--to-class", "3"], "--to-class=3: is --from-class too"),
        (["--from-class", "3", "--to-class", "8", "--class", "3"], "--class: is not for --from-class"),
        (["--from-class", "3", "--to-class", "8", "--examples", "-1"], "-1: digits has the examples 0 to"),
        (["--from-class", "3", "--to-class", "8", "--input", "wide.npy"], "wide.npy"),
        (["--examples", "3", "--input", "wide.npy"], "--input, files; give one of them"),
        (["--resize"], "--resize: is for --input"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, list) else "",
)
def test_what_has_no_effect_or_does_not_exist_is_refused_in_one_line(
    ae_run: Path, call: Call, arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("wide.npy", np.zeros((1, 8, 9), np.float32))
    code, _, error = call("restyle", ae_run, *arguments, "--output", "out")
    assert (code, error.count("\n")) == (2, 1)
    assert message in error
    assert not Path("out").exists()


def test_data_without_labels_have_no_attributes(train_run: Callable[..., Path], call: Call, tmp_path: Path) -> None:
    options = ["data=sparse_codes", "data.count=200", "network.hidden=[8]", "model.latent_dim=2", "trainer.steps=1"]
    run = train_run("model=ae", *options)
    code, _, error = call("restyle", run, "--from-class", "a", "--to-class", "b", "--output", tmp_path / "out")
    assert (code, error.count("\n")) == (2, 1)
    assert "--from-class=a: sparse_codes has no labels" in error
