"""Clusters against classes: exact values, and the components of a mixture prior."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.codes import clustering, features
from autoenc.apps.codes.features import Representation
from autoenc.priors import Mixture


def test_the_accuracy_is_that_of_the_best_matching_of_clusters_and_classes() -> None:
    random = np.random.default_rng(0)
    y = random.integers(0, 4, 60)
    clusters = np.where(random.random(60) < 0.6, (y + 1) % 4, random.integers(0, 4, 60))
    best = max(np.mean(np.array(names)[clusters] == y) for names in itertools.permutations(range(4)))
    assert clustering.matched(y, clusters).mean() == pytest.approx(best)
    assert clustering.matched(y + 7, 10 * clusters).mean() == pytest.approx(best), "names do not matter"
    assert clustering.matched(np.array([0, 0, 1, 1]), np.array([5, 6, 7, 7])).tolist() in (
        [True, False, True, True],
        [False, True, True, True],
    ), "more clusters than classes: one of them counts"
    assert clustering.matched(y, np.zeros(60)).mean() == np.bincount(y).max() / 60


def test_kmeans_and_the_components_of_the_prior_find_separate_classes(vae_run: Path) -> None:
    run = load_run(vae_run, "cpu")
    random = np.random.default_rng(0)
    y = random.integers(0, 3, 300)
    centres = 20 * np.eye(3, 8)
    x = (random.normal(size=(300, 8)) + centres[y]).astype(np.float32)
    noise = random.normal(size=(300, 8)).astype(np.float32)
    found = {"codes": Representation(x, x), "untrained": Representation(noise, noise)}
    numbers = clustering.cluster(run, found, y, y)
    assert numbers["codes"] == pytest.approx({"cluster_accuracy": 1, "nmi": 1, "ari": 1})
    assert numbers["untrained"]["cluster_accuracy"] < 0.5
    assert abs(numbers["untrained"]["ari"]) < 0.1
    assert numbers["remark"].startswith("better than an untrained network")
    assert "prior" not in numbers, "N(0, I) has no clusters"
    run.model.bottleneck.prior = prior = Mixture((8,), 3)
    prior.mean.data.copy_(torch.tensor(centres))
    assert clustering.cluster(run, found, y, y)["prior"] == pytest.approx(numbers["codes"])


def test_codes_of_digits_cluster_better_than_those_of_the_untrained_network(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    numbers = clustering.cluster(run, features.representations(run), *features.need_labels(run))
    assert {"codes", "untrained", "PCA-8", "raw", "remark"} == numbers.keys()
    assert numbers["codes"]["cluster_accuracy"] > numbers["untrained"]["cluster_accuracy"]
    assert 0.5 < numbers["raw"]["nmi"] < 0.9


def test_the_script_reports_it_and_says_where_it_does_not_apply(
    call: Callable[..., tuple[int, str, str]], vae_run: Path, copied: Callable[[Path], Path]
) -> None:
    code, out, _ = call("evaluate", copied(vae_run), "--only", "clustering")
    assert code == 0
    assert "clustering" in out
    assert "cluster_accuracy" in out


def test_equal_rows_are_of_one_cluster_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where centers coincide, rounding chooses by the place in the file: codes without information had an NMI of 0.4
    with the classes that rows were sorted by."""

    class ByPlace(clustering.KMeans):
        def predict(self, X: np.ndarray) -> np.ndarray:
            return np.arange(len(X))

    monkeypatch.setattr(clustering, "KMeans", ByPlace)
    rows = np.eye(3, dtype=np.float32)[np.random.default_rng(0).integers(0, 3, 50)]
    found = clustering.k_means(rows, rows, 2)
    assert len(np.unique(found)) == 3
    assert all(len(np.unique(found[(rows == row).all(1)])) == 1 for row in np.eye(3))
