"""Quality of samples: distances that are known, what precision and recall react to, and the classifier's features."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from autoenc import load_run
from autoenc.apps.generation import classifier, density, generate, quality
from autoenc.apps.protocol import evaluate
from autoenc.data.split import Split
from autoenc.errors import DataError, UserError
from autoenc.loading import Run


@pytest.fixture(scope="module")
def ae(ae_run: Path) -> Run:
    return load_run(ae_run, "cpu")


def samples(run: Run, temperature: float = 1.0, kind: str = "mixture") -> dict[str, np.ndarray]:
    n, fitted = quality.size(run), density.of(run, kind)
    return {"samples": generate.samples(run, n, fitted, temperature=temperature).x}


def test_the_frechet_distance_is_that_of_the_matrix_square_root() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(size=(500, 4)) @ random.normal(size=(4, 4)), random.normal(size=(300, 4)) + 1
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    expected = np.square(a.mean(0) - b.mean(0)).sum()
    expected += np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root)
    assert quality.frechet(a, b) == pytest.approx(expected, rel=1e-6)
    assert quality.frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert quality.frechet(a, a + 2) == pytest.approx(16, rel=1e-6)
    assert quality.frechet(a[:, :1], 3 * a[:, :1] - 2 * a[:, :1].mean()) == pytest.approx(4 * a[:, 0].var(ddof=1))


def test_precision_falls_with_wrong_samples_and_recall_with_missing_modes() -> None:
    random = np.random.default_rng(0)
    modes = 20 * np.eye(5)
    real, other = (modes[random.integers(0, 5, 600)] + random.normal(size=(600, 5)) for _ in range(2))
    assert quality.precision_recall(real, real) == (1, 1)
    assert quality.precision_recall(real + 1_000, real) == (0, 0)
    good, whole = quality.precision_recall(other, real)
    assert min(good, whole) > 0.8, "the same distribution"
    dropped = other[np.linalg.norm(other - modes[0], axis=1) > 10]
    precise, covered = quality.precision_recall(dropped, real)
    assert precise == pytest.approx(good, abs=0.03)
    assert covered == pytest.approx(0.8 * whole, abs=0.05), "one of five modes is missing"
    wrong = np.concatenate([other[:300], other[:300] + 100])
    precise, covered = quality.precision_recall(wrong, real)
    assert precise == pytest.approx(good / 2, abs=0.05)
    assert covered > 0.7


def test_precision_and_recall_are_counted_by_hand() -> None:
    """k = 1 on a line: the balls of real 0, 1, 4 have radii 1, 1, 3; those of samples 0.5, 9, 9.5: 8.5, 0.5, 0.5."""
    real, drawn = np.array([[0.0], [1.0], [4.0]]), np.array([[0.5], [9.0], [9.5]])
    assert quality.precision_recall(drawn, real, k=1) == (pytest.approx(1 / 3), 1)


def test_quality_prefers_fitted_samples_to_wild_and_to_equal_ones(ae: Run) -> None:
    good, wild, equal = (quality.quality(ae, samples(ae, t)) for t in (1.0, 4.0, 0.0))
    assert good["validation"] == wild["validation"]
    assert good["validation"]["nearest"] == 1
    real = good["validation"]["frechet_pca"]
    assert real < good["samples"]["frechet_pca"] < min(wild["samples"]["frechet_pca"], equal["samples"]["frechet_pca"])
    assert 0.5 < good["samples"]["nearest"] < wild["samples"]["nearest"]


def test_the_nearest_ratio_is_0_for_a_model_that_repeats_training_data(ae: Run) -> None:
    repeated = {"samples": ae.data.train.take(slice(0, quality.size(ae))).x.numpy()}
    found = quality.quality(ae, repeated)
    assert found["samples"]["nearest"] < 1e-3
    assert found["samples"]["memorized"] == 1 > 0.7 > found["validation"]["memorized"]


def test_the_script_keeps_a_classifier_whose_features_evaluate_uses(
    ae: Run, call: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    without = evaluate.evaluate(ae, ["generation"])["generation"]
    assert "train_classifier.py" in without["remark"]
    numbers = {"frechet_pca", "nearest", "memorized", "sharpness", "sharpness_gap"}
    assert set(without["samples"]) == numbers
    assert {"samples", "untrained", "reconstructions", "validation"} <= set(without)
    run_dir = ae.path.resolve()
    code, said, error = call("train_classifier", run_dir, "--steps", 200)
    assert code == 0, error
    folder = next((tmp_path / "outputs" / "classifiers").iterdir())
    accuracy = json.loads((folder / "classifier.json").read_text())["accuracy"]
    assert accuracy > 0.9
    assert f"test accuracy {accuracy:.4f}" in said
    code, _, error = call("train_classifier", run_dir)
    assert (code, error.count("\n")) == (2, 1)
    assert "already exists; --force" in error
    state = torch.get_rng_state()
    found = evaluate.evaluate(ae, ["generation"])["generation"]
    assert torch.equal(state, torch.get_rng_state())
    assert found["classifier"] == f"128 features of a classifier of digits, test accuracy {accuracy:.4f}"
    best, drawn, initial = (found[name] for name in ("validation", "samples", "untrained"))
    assert best["frechet_features"] < drawn["frechet_features"] < initial["frechet_features"]
    assert best["sample_precision"] > 0.7 < best["sample_recall"]
    assert best["sample_recall"] > drawn["sample_recall"] > initial["sample_recall"]
    (folder / "classifier.pt").write_bytes(b"PK damaged")
    with pytest.raises(DataError, match=r"classifier.pt: (damaged|rejected)"):
        classifier.load(ae)


def test_data_without_labels_have_no_classifier(ae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ae.__dict__, "data", replace(ae.data, train=Split(ae.data.train.take(slice(None)).x)))
    with pytest.raises(UserError, match="labels"):
        classifier.train(ae)


def test_without_labels_no_classifier_is_recommended(ae: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(ae.__dict__, "data", replace(ae.data, train=Split(ae.data.train.take(slice(None)).x)))
    remark = evaluate.evaluate(ae, ["generation"])["generation"]["remark"]
    assert remark == "Frechet distance of features, precision and recall need labels, and digits has none"


def test_a_classifier_belongs_to_the_labels_that_it_was_trained_on(ae: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = classifier.folder(ae)
    monkeypatch.setitem(vars(ae), "reference", replace(ae.reference, labels=ae.reference.labels[::-1].copy()))
    assert classifier.folder(ae) != before
