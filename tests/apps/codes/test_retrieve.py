"""Retrieval: exact neighbours, kept, and measured as the books define it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.metrics import average_precision_score
from sklearn.neighbors import NearestNeighbors

from autoenc import load_run
from autoenc.apps.codes import neighbours, retrieve
from autoenc.errors import DataError, UserError


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_hits_are_the_nearest_neighbours(metric: neighbours.Metric) -> None:
    random = np.random.default_rng(0)
    codes, queries = random.normal(size=(200, 6)).astype(np.float32), random.normal(size=(9, 6)).astype(np.float32)
    hits = neighbours.Index(codes, metric).search(queries, 5)
    distances, places = NearestNeighbors(n_neighbors=5, metric=metric).fit(codes).kneighbors(queries)
    assert np.array_equal(hits.positions, places)
    assert hits.scores == pytest.approx(1 - distances if metric == "cosine" else distances, abs=1e-5)


def test_too_many_hits_and_other_sizes_are_refused() -> None:
    index = neighbours.Index(np.eye(3, dtype=np.float32))
    with pytest.raises(UserError, match="k=4: the index has 3 examples"):
        index.search(np.eye(3, dtype=np.float32), 4)
    with pytest.raises(DataError, match=r"expected \(Q, 3\), found \(2, 5\)"):
        index.search(np.zeros((2, 5)), 1)


def test_precision_and_mean_average_precision() -> None:
    y, y_query = np.array([0, 1, 0, 1]), np.array([0, 1])
    hits = neighbours.Hits(np.array([[0, 1], [1, 3]]), np.zeros((2, 2)))
    assert neighbours.precision(hits, y, y_query) == 0.75
    random = np.random.default_rng(0)
    codes, queries = random.normal(size=(40, 3)), random.normal(size=(250, 3))
    y, y_query = random.integers(0, 3, 40), random.integers(0, 4, 250)  # no example of class 3
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (queries, codes)]
    similarity = unit[0] @ unit[1].T
    expected = [average_precision_score(y == c, s) for c, s in zip(y_query, similarity, strict=True) if c < 3]
    assert neighbours.mean_average_precision(codes, y, queries, y_query) == pytest.approx(np.mean(expected), abs=1e-6)


def test_digits_find_digits_of_their_class(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(ae_run), "cpu")
    hits = retrieve.retrieve(run, run.data.test)
    y, y_test = run.data.train.y.numpy(), run.data.test.y.numpy()
    assert neighbours.precision(hits, y, y_test) > 0.8  # chance: 0.1
    itself = retrieve.retrieve(run, run.data.train.subset(slice(0, 20)), k=1)
    assert itself.scores.ravel() == pytest.approx(1, abs=1e-5)


def test_frames_tell_right_hits_from_wrong_ones(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(ae_run), "cpu")
    queries, rows = run.data.test.subset(slice(0, 3)), retrieve.indexed(run)
    assert queries.y is not None
    assert rows.labels is not None
    same = [np.flatnonzero(rows.labels == y)[:2] for y in queries.y.numpy()]
    names = ["0", "1", "2"]

    def framed(positions: np.ndarray) -> dict[str, bool]:
        image = retrieve.figure(run, queries, names, neighbours.Hits(positions, np.zeros((3, 2))), rows)
        colors = {name: getattr(retrieve, name) for name in ("QUERY", "RIGHT", "WRONG")}
        return {name: bool((image == list(bytes.fromhex(c[1:]))).all(-1).any()) for name, c in colors.items()}

    positions = np.array(same)
    assert framed(positions) == {"QUERY": True, "RIGHT": True, "WRONG": False}
    positions[1, 1] = np.flatnonzero(rows.labels != int(queries.y[1]))[0]
    assert framed(positions) == {"QUERY": True, "RIGHT": True, "WRONG": True}


def test_the_index_is_built_once_and_anew_when_the_weights_change(
    ae_run: Path, copied: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = load_run(copied(ae_run), "cpu")
    first = retrieve.open_index(run)
    file = run.path / "index" / "cosine.npy"
    before = file.stat().st_mtime_ns
    with monkeypatch.context() as patched:
        patched.setattr(type(run), "codes", lambda *_: pytest.fail("encoded again"))
        again = retrieve.open_index(run)
    query = run.codes(run.data.test.subset(slice(0, 5)))
    assert np.array_equal(first.search(query, 3).positions, again.search(query, 3).positions)
    (run.path / "checkpoints" / "best.pt").touch()
    retrieve.open_index(run)
    assert file.stat().st_mtime_ns > before


def test_a_strange_index_file_is_refused(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(ae_run), "cpu")
    retrieve.open_index(run)
    file = run.path / "index" / "cosine.npy"
    good = file.read_bytes()
    np.save(file, np.zeros((3, 8), np.float32))
    other = file.read_bytes()
    np.save(file, np.array([{"a": 1}] * 3), allow_pickle=True)
    flipped = good[:-2] + bytes([good[-2] ^ 1]) + good[-1:]
    for bad in (b"", b"rubbish", good[:-4], other, file.read_bytes(), flipped):
        file.write_bytes(bad)
        with pytest.raises(
            DataError, match=r"cosine\.npy: (is not an index of|cannot be read|is damaged).*--force builds"
        ):
            retrieve.open_index(run)
    assert len(retrieve.open_index(run, force=True)) == len(run.data.train)
    assert json.loads((run.path / "index" / "cosine.json").read_text())["dim"] == 8


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_many_blocks_and_many_hits_are_exact(metric: neighbours.Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    monkeypatch.setattr(neighbours, "QUERIES", 4)
    monkeypatch.setattr(neighbours, "VALUES", 150)  # of 50 codes: of two queries at once where k is 25
    random = np.random.default_rng(1)
    codes = np.sort(random.normal(size=(100, 3)), axis=0).astype(np.float32)  # the later, the nearer to some
    queries = random.normal(size=(11, 3)).astype(np.float32)
    for k in (1, 6, 7, 30, 100):
        hits = neighbours.Index(codes, metric).search(queries, k)
        _, places = NearestNeighbors(n_neighbors=k, metric=metric).fit(codes).kneighbors(queries)
        assert np.array_equal(hits.positions, places)
    assert neighbours.Index(codes, metric).search(queries[:0], 5).positions.shape == (0, 5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "hamming"])
def test_of_codes_at_equal_distances_the_classes_that_come_first_have_no_advantage(metric: neighbours.Metric) -> None:
    """Discrete codes often are at equal distances, and rows are often sorted by class."""
    y, codes = np.arange(2_000) // 500, np.ones((2_000, 4), np.float32)
    hits = neighbours.Index(codes, metric).search(codes[::100], 100)
    assert (np.bincount(y[hits.positions[0]], minlength=4) > 10).all()
    assert neighbours.precision(hits, y, y[::100]) == pytest.approx(0.25, abs=1e-9)
    sparse = neighbours.nearest_sparse(csr_matrix(codes), csr_matrix(codes[:1]), 100)
    assert (np.bincount(y[sparse[0]], minlength=4) > 10).all()
