"""Semantic retrieval: an index of codes, the nearest examples of a query, and how often they are of its class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
import torch

from autoenc.data.spec import Split
from autoenc.errors import DataError, UserError
from autoenc.figures import picture_grid
from autoenc.files import atomic, write_json
from autoenc.loading import Run

Metric = Literal["cosine", "euclidean"]
FOLDER = "index"  # in the run directory


@dataclass(frozen=True)
class Hits:
    """The k nearest examples of each query: places in the indexed rows and scores, (Q, k), the nearest first.

    scores: cosine similarity, or Euclidean distance.
    """

    places: np.ndarray
    scores: np.ndarray


class Index:
    """An exact index of codes (N, K): every query is compared with every code."""

    def __init__(self, codes: np.ndarray, metric: Metric = "cosine"):
        self.metric: Metric = metric
        codes = self._prepared(codes)
        self._index: Any = _flat(metric, codes.shape[1])
        self._index.add(codes)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, codes: np.ndarray, k: int) -> Hits:
        """The k nearest of each row of (Q, K)."""
        if codes.ndim != 2 or codes.shape[1] != self._index.d:
            raise DataError(f"queries: expected (Q, {self._index.d}), found {codes.shape}")
        if k > len(self):
            raise UserError(f"k={k}: the index has {len(self)} examples")
        scores, places = self._index.search(self._prepared(codes), k)
        return Hits(places, scores if self.metric == "cosine" else np.sqrt(scores.clip(min=0)))

    def _prepared(self, codes: np.ndarray) -> np.ndarray:
        codes = np.ascontiguousarray(codes, dtype=np.float32)
        if self.metric == "cosine":
            codes = codes / np.linalg.norm(codes, axis=1, keepdims=True).clip(min=1e-12)
        return codes

    def save(self, path: Path) -> None:
        """Write the index, whole or not at all."""
        with atomic(path) as file:
            file.write(faiss.serialize_index(self._index).tobytes())

    @classmethod
    def load(cls, path: Path, metric: Metric, size: int, dim: int) -> Index:
        """Read an index of `size` codes of `dim` numbers; DataError where the file holds anything else.

        The file is read as bytes that must have exactly the size of such an index: faiss itself trusts what it reads.
        """
        made = cls.__new__(cls)
        made.metric = metric
        data = np.fromfile(path, dtype=np.uint8)
        kind = b"IxFI" if metric == "cosine" else b"IxF2"
        empty = len(faiss.serialize_index(_flat(metric, dim)))
        if data[:4].tobytes() != kind or len(data) != empty + 4 * size * dim:
            raise DataError(f"{path}: is no index of {size} codes of {dim} numbers; --force builds it anew")
        try:
            found: Any = faiss.deserialize_index(data)
        except RuntimeError:  # numbers inside that contradict each other
            raise DataError(f"{path}: is damaged; --force builds it anew") from None
        if (found.ntotal, found.d) != (size, dim):
            raise DataError(f"{path}: is damaged; --force builds it anew")
        made._index = found
        return made


def _flat(metric: Metric, dim: int) -> Any:
    return (faiss.IndexFlatIP if metric == "cosine" else faiss.IndexFlatL2)(dim)


def open_index(run: Run, metric: Metric = "cosine", force: bool = False) -> Index:
    """The index of the run's training codes: built at the first call, kept in RUN/index/, read afterwards.

    It is built anew where the weights have changed since, and with `force`.
    """
    folder, split = run.path / FOLDER, run.data.train
    path, note = folder / f"{metric}.faiss", folder / f"{metric}.json"
    weights = run.path / "checkpoints" / "best.pt"
    stamp: dict[str, Any] = {"codes": len(split), "dim": run.latent_dim, "weights": weights.stat().st_mtime_ns}
    if path.exists() and not force and _read(note) == stamp:
        return Index.load(path, metric, len(split), run.latent_dim)
    index = Index(run.codes(split), metric)
    folder.mkdir(exist_ok=True)
    index.save(path)
    write_json(note, stamp)
    return index


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def retrieve(run: Run, queries: Split, k: int = 10, metric: Metric = "cosine", force: bool = False) -> Hits:
    """The k training examples whose codes are nearest to those of the queries."""
    return open_index(run, metric, force).search(run.codes(queries), k)


def precision(hits: Hits, y: np.ndarray, y_query: np.ndarray) -> float:
    """precision@k: the part of the hits that are of the query's class, mean over queries."""
    return float((y[hits.places] == y_query[:, None]).mean())


def mean_average_precision(codes: np.ndarray, y: np.ndarray, queries: np.ndarray, y_query: np.ndarray) -> float:
    """Mean over queries of the average precision of the whole ranking by cosine similarity (Manning et al. 2008, 8.4).

    codes (N, K) with labels (N,), queries (Q, K) with labels (Q,). Queries of a class without an example do not count.
    """
    index = Index(codes, "cosine")
    found = []
    for start in range(0, len(queries), 100):
        part = slice(start, start + 100)
        same = y[index.search(queries[part], len(codes)).places] == y_query[part, None]
        ranks = np.arange(1, len(codes) + 1)
        relevant = same.sum(1)
        average = (np.cumsum(same, 1) / ranks * same).sum(1)[relevant > 0] / relevant[relevant > 0]
        found.append(average)
    values = np.concatenate(found)
    if len(values) == 0:
        raise UserError("no query is of a class that the index has")
    return float(values.mean())


def picture(run: Run, queries: Split, names: Sequence[str], hits: Hits, most: int = 10) -> np.ndarray:
    """A row for each of the first queries: the query, then its hits. For images."""
    tiles = [
        torch.cat([queries.take(slice(q, q + 1)).x, run.data.train.take(torch.from_numpy(hits.places[q])).x])
        for q in range(min(most, len(queries)))
    ]
    captions = [f"query {name}"[:14] for name in names[:most]]
    columns = hits.places.shape[1] + 1
    return picture_grid(torch.cat(tiles), columns, run.spec.low, run.spec.high, captions)
