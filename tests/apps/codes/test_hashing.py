"""Binary codes as hashes: Hamming distances by brute force, collisions by counting."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from autoenc import load_run
from autoenc.apps.codes import hashing, neighbours, retrieve
from autoenc.data.dataset import few_labels
from autoenc.errors import UserError
from autoenc.loading import Run


def test_hamming_search_is_brute_force() -> None:
    random = np.random.default_rng(0)
    codes, queries = ((random.random((n, 37)) < 0.5).astype(np.float32) for n in (2_500, 9))
    hits = neighbours.Index(codes, "hamming").search(queries, 20)
    distances = (codes[None] != queries[:, None]).sum(-1)
    assert np.array_equal(hits.scores, np.sort(distances, axis=1)[:, :20]), "whole numbers, in order"
    assert np.array_equal(np.take_along_axis(distances, hits.positions, 1), hits.scores)
    assert all(len(set(row)) == 20 for row in hits.positions.tolist())


def test_collisions_count_rows_that_are_equal_to_another() -> None:
    bits = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 0], [1, 0, 0]])
    assert hashing.collisions(bits) == 5 / 8
    assert hashing.collisions(np.eye(20)) == 0


def test_random_projections_keep_signs_and_angles() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(300, 12)).astype(np.float32) + 5
    codes, same = hashing.random_projections(x, x[:50], 4_000)
    assert np.array_equal(codes[:50], same)
    centred = x - x.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    angle = np.arccos((unit[0] @ unit[1:].T).clip(-1, 1)) / np.pi  # Charikar 2002: P(the signs differ)
    assert (codes[0] != codes[1:]).mean(1) == pytest.approx(angle, abs=0.04)
    sparse, _ = hashing.random_projections(csr_matrix(x), csr_matrix(x), 64)
    assert (sparse == hashing.random_projections(x, x, 64)[0]).mean() > 0.999


def test_principal_components_keep_the_signs_of_the_largest_variances() -> None:
    random = np.random.default_rng(2)
    x = (random.normal(size=(500, 6)) * [9, 1, 5, 1, 1, 1] + 100).astype(np.float32)
    codes, same = hashing.principal_components(x, x[:9], 2)
    assert np.array_equal(codes[:9], same)
    for column, axis in ((0, 0), (1, 2)):
        agree = (codes[:, column] == (x[:, axis] > x[:, axis].mean())).mean()
        assert max(agree, 1 - agree) > 0.97, "either sign of a component"
    sparse, _ = hashing.principal_components(csr_matrix(x), csr_matrix(x[:9]), 20)
    assert sparse.shape == (500, 5), "of six columns"


def test_sizes_are_powers_of_two_and_the_whole_code() -> None:
    assert [hashing.sizes(bits) for bits in (4, 8, 12, 32)] == [[4], [8], [8, 12], [8, 16, 32]]


def test_retrieve_compares_binary_codes_with_random_projections(
    train_run: Callable[..., Path], ae_run: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    options = ("model.latent_dim=16", "trainer.steps=150", "optimizer.lr=0.003", "regularizer.kl.weight=0.1")
    path = train_run("model=binary", *options)
    code, out, err = call("retrieve", path)
    assert (code, err) == (0, "")
    assert "collisions" in out
    found = json.loads((path / "retrieve" / "retrieve.json").read_text())
    assert found["metric"] == "hamming"
    rows = found["hashing"]
    kinds = ("bits", "bits, untrained", "principal components", "random projections")
    assert list(rows)[:8] == [f"{size} {kind}" for size in (8, 16) for kind in kinds]
    assert rows["16 bits"]["recall@100"] > rows["16 bits, untrained"]["recall@100"]
    assert rows["input"]["recall@100"] == 1
    assert rows["16 bits"]["recall@100"] > rows["8 bits"]["recall@100"] > 100 / 1_293, "chance"
    assert rows["16 bits"]["collisions"] < rows["8 bits"]["collisions"] <= 1
    assert rows["16 bits"]["precision@10"] > 0.4
    _precision_is_that_of_a_search(load_run(path, "cpu"))
    hits = retrieve.retrieve(load_run(path, "cpu"), load_run(path, "cpu").data.test.subset(slice(0, 3)))
    assert np.array_equal(hits.scores, hits.scores.round())
    code, _, err = call("retrieve", ae_run, "--metric", "hamming")
    assert (code, err.count("\n")) == (2, 1)
    assert "--metric hamming: is for binary codes" in err
    with pytest.raises(UserError, match="those of a Deterministic bottleneck are numbers: use cosine"):
        retrieve.metric_of(load_run(ae_run, "cpu"), "hamming")


def _precision_is_that_of_a_search(run: Run) -> None:
    """Of more hits than the 100 of recall, too; of all training rows it is the share of the class."""
    train, queries = run.data.train, run.data.test.subset(slice(0, 50))
    assert train.y is not None
    assert queries.y is not None
    y, wanted = train.y.numpy(), queries.y.numpy()
    whole = hashing.compare(run, queries, len(train))
    for name in ("16 bits", "probabilities", "input"):
        assert whole[name][f"precision@{len(train)}"] == pytest.approx((y == wanted[:, None]).mean())
    found = hashing.compare(run, queries, 200)["16 bits"]
    hits = neighbours.Index(run.codes(train), "hamming").search(run.codes(queries), 200)
    assert found["precision@200"] == pytest.approx(neighbours.precision(hits, y, wanted), abs=2e-3), "ties"
    assert found["recall@100"] == pytest.approx(whole["16 bits"]["recall@100"], abs=0.02)
    run.data = few_labels(run.data, 200, 0)
    assert "precision@10" not in hashing.compare(run, queries)["16 bits"], "hits without a label are not wrong"
