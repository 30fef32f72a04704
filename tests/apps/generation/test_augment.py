"""Labelled sets: balance, range, worth to a classifier, and that training reads them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from autoenc import load_run
from autoenc.apps.generation import augment
from autoenc.bottlenecks import TopK
from autoenc.data import arrays
from autoenc.errors import UserError
from autoenc.loading import Run

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "generate.py"


@pytest.mark.parametrize("method", augment.METHODS)
def test_a_set_is_balanced_in_range_and_repeats(ae: Run, method: str) -> None:
    made = augment.augment(ae, labels=95, per_class=12, method=method, seed=1)
    real, new = made.y[~made.generated], made.y[made.generated]
    assert len(real) == 95
    assert set(np.bincount(real)) == {9, 10}
    assert np.bincount(new).tolist() == [12] * 10
    assert not made.generated[:95].any()
    train = {row.tobytes() for row in ae.data.train.take(slice(None)).x.numpy()}
    assert all(row.tobytes() in train for row in made.x[:95])
    assert not any(row.tobytes() in train for row in made.x[95:])
    assert made.x.min() >= 0
    assert made.x.max() <= 1
    assert made.x.shape == (95 + 120, 1, 8, 8)
    np.testing.assert_array_equal(made.x, augment.augment(ae, 95, 12, method, seed=1).x)
    assert not np.array_equal(made.x, augment.augment(ae, 95, 12, method, seed=2).x)


@pytest.mark.parametrize("method", augment.METHODS)
def test_a_classifier_of_generated_examples_alone_reads_real_digits(ae: Run, method: str) -> None:
    made = augment.augment(ae, labels=100, per_class=30, method=method)
    x, y = made.x[made.generated].reshape(300, -1), made.y[made.generated]
    test = ae.data.test.take(slice(None))
    assert test.y is not None
    accuracy = LogisticRegression(max_iter=300).fit(x, y).score(test.x.flatten(1).numpy(), test.y.numpy())
    assert accuracy > 0.7  # chance: 0.1


def test_new_codes_lie_between_those_of_neighbours() -> None:
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(size=(7, 3)), random.normal(size=(7, 3)) + 100]).astype(np.float32)
    parents, z = augment._between(codes, 200, random)
    for parent, code in zip(parents, z, strict=True):
        near = np.argsort(np.square(codes - codes[parent]).sum(1))[1 : augment.NEIGHBOURS + 1]
        along = codes[near] - codes[parent]
        share = ((code - codes[parent]) * along).sum(1) / np.square(along).sum(1)
        off = np.linalg.norm(codes[parent] + share[:, None] * along - code, axis=1)
        best = off.argmin()
        assert off[best] < 1e-4
        assert -1e-5 <= share[best] <= 1


def test_what_the_code_lost_is_put_back(ae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = np.zeros(3, int)
    monkeypatch.setattr(augment, "_between", lambda codes, n, random: (first, codes[first]))
    made = augment.augment(ae, labels=20, per_class=3)
    for label in range(10):
        parent = made.x[(made.y == label) & ~made.generated][0]
        for found in made.x[(made.y == label) & made.generated]:
            np.testing.assert_allclose(found, parent, atol=1e-6)  # no step in the code: the example itself


def test_the_gaussian_of_a_class_is_that_of_ledoit_and_wolf(ae: Run) -> None:
    codes = ae.codes(ae.data.train.subset(slice(0, 10)))
    fitted = augment._class_gaussian(ae, codes)
    expected = LedoitWolf().fit(codes)
    np.testing.assert_allclose(fitted.factors[0] @ fitted.factors[0].T, expected.covariance_, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(fitted.means[0], codes.mean(0), rtol=1e-5, atol=1e-6)


def test_the_comparison_is_over_draws_and_of_the_same_real_examples(ae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "SEEDS", 2)
    found = augment.compare(ae, labels=100, per_class=20)
    fewer = augment.compare(ae, labels=100, per_class=5)
    for name, kinds in found.items():
        assert len(kinds["real"]) == len(kinds["smote"]) == 2
        assert kinds["real"][0] != kinds["real"][1]
        assert kinds["real"] == fewer[name]["real"]
        assert min(kinds["real"] + kinds["smote"]) > 0.75


def test_training_reads_the_file_and_tests_on_real_examples(ae: Run, tmp_path: Path) -> None:
    made = augment.augment(ae, labels=50, per_class=10)
    augment.save(ae, made, tmp_path / "new" / "folder" / "more.npz")
    data = arrays(str(tmp_path / "new" / "folder" / "more.npz"))
    assert data.spec.shape == (1, 8, 8)
    assert data.spec.classes == tuple("0123456789")
    assert len(data.train) + len(data.val) == 150
    test = ae.data.test.take(slice(None))
    torch.testing.assert_close(data.test.take(slice(None)).x, test.x)
    assert data.test.y is not None
    assert test.y is not None
    assert torch.equal(data.test.y, test.y)
    with np.load(tmp_path / "new" / "folder" / "more.npz") as saved:
        assert saved["generated"].sum() == 100
        assert saved["classes"].tolist() == list("0123456789")


def test_vectors_are_augmented_too(table_run: Path) -> None:
    run = load_run(table_run, "cpu")
    made = augment.augment(run, labels=20, per_class=50)
    train = run.data.train.take(slice(None))
    assert train.y is not None
    for label in (0, 1):
        new = made.x[(made.y == label) & made.generated]
        assert new.shape == (50, 8)
        real, other = (train.x[train.y == c].mean(0).numpy() for c in (label, 1 - label))
        assert np.linalg.norm(new.mean(0) - real) < np.linalg.norm(new.mean(0) - other)
    assert augment.figure(run, made) is None


def test_refusals(ae: Run) -> None:
    with pytest.raises(UserError, match="--labels=15: must be 20 or more"):
        augment.augment(ae, labels=15)
    with pytest.raises(UserError, match="--labels=100000: must be at most"):
        augment.augment(ae, labels=100_000)
    with pytest.raises(UserError, match="--method=magic"):
        augment.augment(ae, method="magic")
    with pytest.raises(UserError, match=r"--method style: .* is not conditional; model=cvae"):
        augment.augment(ae, method="style")
    ae.model.bottleneck = TopK((64,), 8, k=2)
    with pytest.raises(UserError, match="TopK"):
        augment.augment(ae, method="gaussian")
    ae.data = replace(ae.data, train=replace(ae.data.train, y=None))
    with pytest.raises(UserError, match="has no labels"):
        augment.augment(ae)


def test_the_script(
    ae_run: Path,
    tmp_path: Path,
    run_script: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(augment, "SEEDS", 2)
    more, out = tmp_path / "more.npz", tmp_path / "out"

    def script(*args: object) -> int:
        return run_script("generate", ae_run, "--augment", more, *args)

    assert script("--output", out, "--labels", 40, "--per-class", 5) == 0
    assert "40 real and 50 generated" in capsys.readouterr().out
    found = json.loads((out / "augment.json").read_text())
    assert len(found["test_accuracy"]["RBF SVM"]["smote"]) == 2
    assert sorted(p.name for p in out.iterdir()) == ["augment.json", "augment.png"]
    before = more.read_bytes()
    assert script("--output", tmp_path / "other") == 2
    assert f"{more}: already exists; --force" in capsys.readouterr().err
    assert more.read_bytes() == before
