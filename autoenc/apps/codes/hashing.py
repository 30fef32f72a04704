"""Quality of binary codes as hashes: recall against bits, and collisions, beside hashes that learn nothing or less."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from autoenc.apps.codes import features
from autoenc.apps.codes.neighbours import Index, Metric, nearest_sparse
from autoenc.apps.codes.retrieve import complete
from autoenc.apps.untrained import untrained
from autoenc.data.split import Split, drawn
from autoenc.loading import Run

ROWS, QUERIES = 20_000, 1_000  # training rows and queries, drawn at random
NEAREST, SHORTLIST = 10, 100  # true neighbours, and hits among which they are looked for
SMALLEST = 8  # bits
SEED = 0

Numbers = dict[str, dict[str, float]]


def compare(run: Run, queries: Split, k: int = 10) -> Numbers:
    """Return recall@100, precision@k and collisions of binary codes: row of a table -> numbers.

    recall@100: fraction of the 10 nearest training rows by the cosine of the input that are among the first 100 hits.
    precision@k: where all rows have labels. collisions: fraction of the training rows that share their code with
    another.
    Rows: the first 8, 16, ... bits of the code; those of the untrained network; the signs of as many principal
    components of the centred input, of TF-IDF for texts, and of random projections of it (locality-sensitive hashing,
    Charikar 2002); the probabilities of the bits by their Euclidean distance, and the input by its cosine, which no
    hash can exceed in recall. Only the codes, for data whose input has no features.
    """
    train = run.data.train.subset(drawn(len(run.data.train), ROWS))
    queries = queries.subset(drawn(len(queries), QUERIES))
    bits, asked = run.codes(train), run.codes(queries)
    initial = untrained(run)
    first_bits, first_asked = initial.codes(train), initial.codes(queries)
    p_train, p_queries = (run.over(split, lambda b: _probabilities(run, b)).numpy() for split in (train, queries))
    inputs = run.spec.kind.features(train, queries)
    short = min(SHORTLIST, len(train))
    y, wanted = (complete(None if split.y is None else split.y.cpu().numpy()) for split in (train, queries))
    hits = min(max(short, k), len(train))
    truth = _nearest(*inputs, hits) if inputs else _search(p_train, p_queries, "euclidean", hits)

    def measured(found: np.ndarray) -> dict[str, float]:
        common = [np.isin(a, b).mean() for a, b in zip(truth[:, :NEAREST], found[:, :short], strict=True)]
        numbers = {f"recall@{short}": float(np.mean(common))}
        if y is not None and wanted is not None:
            numbers[f"precision@{k}"] = float((y[found[:, :k]] == wanted[:, None]).mean())
        return numbers

    def hashed(code: np.ndarray, query: np.ndarray) -> dict[str, float]:
        return measured(_search(code, query, "hamming", hits)) | {"collisions": collisions(code)}

    numbers, components = {}, principal_components(*inputs, bits.shape[1]) if inputs else None
    for size in sizes(bits.shape[1]):
        numbers[f"{size} bits"] = hashed(bits[:, :size], asked[:, :size])
        numbers[f"{size} bits, untrained"] = hashed(first_bits[:, :size], first_asked[:, :size])
        if components and size <= components[0].shape[1]:
            numbers[f"{size} principal components"] = hashed(components[0][:, :size], components[1][:, :size])
        if inputs:
            numbers[f"{size} random projections"] = hashed(*random_projections(*inputs, size))
    numbers["probabilities"] = measured(_search(p_train, p_queries, "euclidean", hits))
    return numbers | ({"input": measured(truth)} if inputs else {})


def sizes(bits: int) -> list[int]:
    """Return 8, 16, 32, ... below the number of bits, and that number."""
    found = [SMALLEST]
    while found[-1] * 2 < bits:
        found.append(found[-1] * 2)
    return [size for size in found if size < bits] + [bits]


def collisions(bits: np.ndarray) -> float:
    """Return the fraction of the rows (N, K) of bits that are equal to another row."""
    _, inverse, counts = np.unique(np.packbits(bits > 0.5, axis=1), axis=0, return_inverse=True, return_counts=True)
    return float((counts[inverse.reshape(-1)] > 1).mean())


def principal_components(train: Any, queries: Any, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the signs of the first principal components of rows (N, D) and (Q, D), at most `bits`: 0 or 1."""
    found = features.principal_components(train, queries, bits)
    first, second = (rows > found.train.mean(0) for rows in (found.train, found.test))
    return first.astype(np.float32), second.astype(np.float32)


def random_projections(train: Any, queries: Any, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the signs of random projections of rows (N, D) and (Q, D), centred at the mean of the first: 0 or 1."""
    normal = np.random.default_rng(SEED).standard_normal((train.shape[1], bits)).astype(np.float32)
    center = np.asarray(train.mean(0)).reshape(-1).astype(np.float32) @ normal
    first, second = (np.asarray(rows @ normal) - center > 0 for rows in (train, queries))
    return first.astype(np.float32), second.astype(np.float32)


def _probabilities(run: Run, batch: Any) -> Any:
    posterior = run.model.encode(batch).posterior
    assert posterior is not None, "binary codes have one"
    return posterior.mean.flatten(1)


def _search(codes: np.ndarray, queries: np.ndarray, metric: Metric, k: int) -> np.ndarray:
    return Index(codes, metric).search(queries, k).positions


def _nearest(train: Any, queries: Any, k: int) -> np.ndarray:
    """Return the positions (Q, k) of the rows of largest cosine, nearest first; sparse rows have length 1."""
    return nearest_sparse(train, queries, k) if issparse(train) else _search(train, queries, "cosine", k)
