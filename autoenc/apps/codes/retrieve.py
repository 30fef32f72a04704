"""Semantic retrieval: an index of codes, the nearest examples of a query, and how often they are of its class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional as F

from autoenc.data.readers.arrays import UNREADABLE
from autoenc.data.split import Split
from autoenc.errors import DataError, UserError, one_line
from autoenc.figures import picture_grid
from autoenc.files import atomic, write_json
from autoenc.loading import Run

Metric = Literal["cosine", "euclidean"]
FOLDER = "index"  # in the run directory
BLOCK, QUERIES = 1_024, 1_024  # codes and queries of one matrix product: 4 MB of similarities stay in the cache


@dataclass(frozen=True)
class Hits:
    """The k nearest examples of each query: places in the indexed rows and scores, (Q, k), the nearest first.

    scores: cosine similarity, or Euclidean distance.
    """

    places: np.ndarray
    scores: np.ndarray


class Index:
    """An exact index of codes (N, K): every query is compared with every code.

    A matrix product block by block. Most blocks hold nothing nearer than what has been found for a query already, and
    only their largest score is looked at. A million codes of 32 numbers answer 1,000 queries in a second or two on two
    cores; faiss's IndexFlat, as its wheel comes, took nine there.
    """

    def __init__(self, codes: np.ndarray, metric: Metric = "cosine"):
        self.metric: Metric = metric
        self.codes = self._prepared(codes)

    def __len__(self) -> int:
        return len(self.codes)

    def search(self, codes: np.ndarray, k: int) -> Hits:
        """The k nearest of each row of (Q, K)."""
        if codes.ndim != 2 or codes.shape[1] != self.codes.shape[1]:
            raise DataError(f"queries: expected (Q, {self.codes.shape[1]}), found {codes.shape}")
        if k > len(self):
            raise UserError(f"k={k}: the index has {len(self)} examples")
        queries = self._prepared(codes)
        parts = [self._nearest(part, k) for part in queries.split(QUERIES)]
        places = torch.cat(parts) if parts else torch.empty(0, k, dtype=torch.int64)
        found = self.codes[places]  # (Q, k, K)
        if self.metric == "cosine":
            scores = (found * queries[:, None]).sum(-1)
        else:
            scores = (found - queries[:, None]).square().sum(-1).sqrt()
        order = scores.argsort(dim=1, descending=self.metric == "cosine", stable=True)
        return Hits(places.gather(1, order).numpy(), scores.gather(1, order).numpy())

    def _nearest(self, queries: Tensor, k: int) -> Tensor:
        """(Q, k) places of the codes with the largest similarity, in no order."""
        best = queries.new_full((len(queries), k), -torch.inf)
        places = torch.zeros(len(queries), k, dtype=torch.int64)
        memory = queries.new_empty(len(queries) * min(BLOCK, len(self)))  # once: fresh pages cost more than products
        for start in range(0, len(self), BLOCK):
            block = self.codes[start : start + BLOCK]
            similarity = memory[: len(queries) * len(block)].view(len(queries), len(block))
            torch.mm(queries, block.T, out=similarity)
            if self.metric == "euclidean":  # grows as |q - x|^2 falls
                similarity -= block.square().sum(1) / 2
            better = (similarity.amax(1) > best.amin(1)).nonzero().squeeze(1)
            values, columns = similarity[better].topk(min(k, len(block)), dim=1)
            values, columns = torch.cat([best[better], values], 1), torch.cat([places[better], columns + start], 1)
            best[better], kept = values.topk(k, dim=1, sorted=False)
            places[better] = columns.gather(1, kept)
        return places

    def _prepared(self, codes: np.ndarray) -> Tensor:
        """(N, K) float32, of length 1 for the cosine."""
        tensor = torch.from_numpy(np.ascontiguousarray(codes, dtype=np.float32))
        return F.normalize(tensor, dim=1) if self.metric == "cosine" else tensor

    def save(self, path: Path) -> None:
        """Write the codes as .npy, whole or not at all."""
        with atomic(path) as file:
            np.save(file, self.codes.numpy())

    @classmethod
    def load(cls, path: Path, metric: Metric, size: int, dim: int) -> Index:
        """Read an index of `size` codes of `dim` numbers; DataError where the file holds anything else."""
        try:
            codes = np.load(path, allow_pickle=False)
        except UNREADABLE as error:
            raise DataError(f"{path}: cannot be read ({one_line(error)}); --force builds it anew") from None
        if not isinstance(codes, np.ndarray) or codes.shape != (size, dim) or codes.dtype != np.float32:
            raise DataError(f"{path}: is no index of {size} codes of {dim} numbers; --force builds it anew")
        return cls(codes, metric)


def indexed(run: Run) -> Split:
    """Return the rows that are searched: all training rows if their files can be read, else the reference rows.

    Where the training split has no more rows than the reference, its files are not opened.
    """
    if len(run.reference) == run.reference.size and run.reference.rows is not None:
        return run.reference.rows
    try:
        return run.data.train
    except UserError:
        return run.reference_rows


def row_numbers(run: Run, split: Split) -> np.ndarray:
    """Return the places in the training split of the `indexed` rows: (N,)."""
    return run.reference.index if len(split) == len(run.reference) else np.arange(len(split))


def open_index(run: Run, metric: Metric = "cosine", force: bool = False) -> Index:
    """The index of the codes of `indexed` rows: built at the first call, kept in RUN/index/, read afterwards.

    It is built anew where the weights have changed since, and with `force`.
    """
    folder, split = run.path / FOLDER, indexed(run)
    path, note = folder / f"{metric}.npy", folder / f"{metric}.json"
    weights = run.path / "checkpoints" / "best.pt"
    stamp: dict[str, Any] = {"codes": len(split), "dim": run.latent_dim, "weights": weights.stat().st_mtime_ns}
    if path.exists() and not force and _read(note) == stamp:
        return Index.load(path, metric, len(split), run.latent_dim)
    index = Index(run.reference.codes if len(split) == len(run.reference) else run.codes(split), metric)
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


def tfidf(run: Run, queries: Split | None = None) -> tuple[csr_matrix, csr_matrix] | None:
    """TF-IDF of the training rows (N, V) and of the queries, the test rows by default; see `Kind.lexical`."""
    return run.spec.kind.lexical(indexed(run), queries or run.data.test)


def baseline(run: Run, queries: Split, y_query: np.ndarray, k: int) -> dict[str, dict[str, float]]:
    """precision@k by the cosine of TF-IDF, without a model, as a line of a table; empty where there are no words."""
    words, labels = tfidf(run, queries), indexed(run).y
    if words is None or labels is None:
        return {}
    y, right = labels.cpu().numpy(), 0
    for start in range(0, len(queries), 500):
        part = slice(start, start + 500)
        similarity = (words[1][part] @ words[0].T).toarray()
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        right += int((y[nearest] == y_query[part, None]).sum())
    return {"TF-IDF": {f"precision@{k}": right / (len(queries) * k)}}


def told(run: Run, split: Split) -> list[str] | None:
    """A caption for each example: the first 100 characters of a text; None where there is nothing."""
    return run.spec.kind.captions(split)


def picture(run: Run, queries: Split, names: Sequence[str], hits: Hits, most: int = 10) -> np.ndarray:
    """A row for each of the first queries: the query, then its hits. For images."""
    tiles = [
        torch.cat([queries.take(slice(q, q + 1)).x, indexed(run).take(torch.from_numpy(hits.places[q])).x])
        for q in range(min(most, len(queries)))
    ]
    captions = [f"query {name}"[:14] for name in names[:most]]
    columns = hits.places.shape[1] + 1
    return picture_grid(torch.cat(tiles), columns, run.spec.low, run.spec.high, captions)
