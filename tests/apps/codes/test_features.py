"""Probes: the same question to every representation, with an answer that can be checked."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from autoenc import load_run
from autoenc.apps.codes import features
from autoenc.apps.codes.features import Representation
from autoenc.errors import UserError


def test_pca_has_as_many_components_as_the_code_and_is_fitted_on_training_rows(vae_run: Path) -> None:
    run = load_run(vae_run, "cpu")
    found = features.representations(run)
    assert list(found) == ["codes", "untrained", "PCA-8", "raw"]
    train, test = (s.take(slice(None)).x.flatten(1).numpy() for s in (run.data.train, run.data.test))
    pca = PCA(8, svd_solver="full").fit(train)
    ours, theirs = found["PCA-8"].test, pca.transform(test)
    assert np.abs(ours) == pytest.approx(np.abs(theirs), abs=1e-3), "up to signs"
    assert np.array_equal(found["codes"].test, run.codes(run.data.test))


def test_codes_of_digits_are_better_features_than_as_many_principal_components(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    found = features.representations(run)
    numbers = features.probe({name: found[name] for name in ("codes", "PCA-8")}, *features.need_labels(run))
    assert numbers["codes"]["5-nn"] > 0.9
    assert numbers["codes"]["logistic"] > numbers["PCA-8"]["logistic"] - 0.03
    assert 0.6 < numbers["codes"]["logistic_100"] < numbers["codes"]["logistic"]


def test_a_probe_is_scikit_learns_classifier_on_scaled_rows() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    x = (random.normal(size=(300, 5)) + y[:, None]).astype(np.float32)
    numbers = features.probe({"a": Representation(x, x[:50]), "b": Representation(1e4 * x, 1e4 * x[:50])}, y, y[:50])
    scale = np.sqrt(np.square(x - x.mean(0)).mean())
    model = LogisticRegression(max_iter=300)
    model.set_params(C=features.chosen_penalty(model, features.PENALTIES, x / scale, y))
    assert numbers["a"]["logistic"] == model.fit(x / scale, y).score(x[:50] / scale, y[:50])
    assert numbers["a"] == pytest.approx(numbers["b"]), "the unit does not matter"


def test_few_rows_of_many_numbers_give_the_classifier_that_is_fitted_on_all_numbers() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 40)
    x = random.normal(size=(40, 300)) + y[:, None] * (np.arange(300) < 20)
    fitted = features._logistic(x, y)
    whole = LogisticRegression(C=fitted.C, max_iter=1_000, tol=1e-8).fit(x, y)
    new = random.normal(size=(50, 300))
    np.testing.assert_allclose(fitted.predict_proba(new), whole.predict_proba(new), atol=2e-3)
    assert fitted.score(x, y) == 1


def test_the_penalty_is_chosen_on_the_training_labels() -> None:
    """A weak signal among columns of noise asks for a strong penalty, a clean signal of small scale for a weak one."""
    random = np.random.default_rng(0)
    y = np.arange(120) % 2
    noise = random.normal(size=(120, 200)) + 0.15 * y[:, None]
    clean = 0.05 * (y[:, None] + 0.2 * random.normal(size=(120, 1)))
    model = LogisticRegression(max_iter=300)
    strong, weak = (features.chosen_penalty(model, features.PENALTIES, x, y) for x in (noise, clean))
    assert strong < weak
    assert features.chosen_penalty(model, features.PENALTIES, noise[:3], np.array([0, 1, 1])) == 1.0


@pytest.mark.parametrize(("labels", "single"), [(2_500, True), (2_003, False)])
def test_the_penalty_of_more_labels_than_it_is_chosen_on(labels: int, single: bool) -> None:
    y = np.arange(labels) % 10
    x = np.random.default_rng(0).normal(size=(labels, 2)) + y[:, None]
    y[0] = 10 if single else y[0]
    model = LogisticRegression(max_iter=20)
    assert (features.chosen_penalty(model, (0.1, 10.0), x, y) == 1.0) == single


def test_labels_of_shuffled_rows_are_worth_nothing() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(600, 4)).astype(np.float32), random.integers(0, 2, 600)
    numbers = features.probe({"noise": Representation(x[:400], x[400:])}, y[:400], y[400:])["noise"]
    assert numbers["logistic"] == pytest.approx(0.5, abs=0.1)
    assert numbers["5-nn"] == pytest.approx(0.5, abs=0.1)


def test_few_labels_have_every_class_in_its_share() -> None:
    y = np.repeat([0, 1, 2], [500, 300, 200])
    draws = features.few_labels(y, 100, 4)
    assert [np.bincount(y[index]).tolist() for index in draws] == [[50, 30, 20]] * 4
    assert len({tuple(index) for index in draws}) == 4
    assert features.few_labels(y[:150], 100) == [], "hardly more than these"
    assert features.few_labels(np.array([0] * 500 + [1]), 100) == [], "a class of one cannot be divided"


def test_data_without_labels_are_named(train_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    path = train_run(
        "model=ae", "model.latent_dim=2", "data=arrays", f"data.path={tmp_path}/x.npy", "likelihood=gaussian",
        "trainer.epochs=1",
    )  # fmt: skip
    with pytest.raises(UserError, match="x has no labels"):
        features.need_labels(load_run(path, "cpu"))
