"""Retrieval of the training examples with the nearest codes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.codes.neighbours import Hits, Index, Metric, nearest_sparse
from autoenc.core import UNLABELLED
from autoenc.data.split import Split, drawn
from autoenc.errors import UserError
from autoenc.figures import titled
from autoenc.files import check_inside, read_json, write_json
from autoenc.loading import Run
from autoenc.run_data import unusable

FOLDER = "index"  # in the run directory
QUERY, RIGHT, WRONG = "#1f77b4", "#2ca02c", "#d62728"  # colours of frames


@dataclass(frozen=True)
class Indexed:
    """The training rows that are searched: all of them, or the reference rows if the training files cannot be read.

    Args:
        codes: computes (N, K). numbers: (N,) row numbers in the training split. labels: (N,) or None.
        rows: those of the N rows that can be shown. row_index: (R,) their positions among the N, ascending.
        names: (N,) names in the user's files, or empty. captions: short texts of the rows at some positions; None if
            there are none.
    """

    codes: Callable[[], np.ndarray]
    numbers: np.ndarray
    labels: np.ndarray | None
    rows: Split
    row_index: np.ndarray
    names: Sequence[Any]
    captions: Callable[[np.ndarray], Sequence[str] | None]

    def __len__(self) -> int:
        return len(self.numbers)

    def shown(self, positions: np.ndarray) -> np.ndarray:
        """Return which positions are those of `rows`: bool."""
        return np.isin(positions, self.row_index)

    def stored(self, positions: np.ndarray) -> Tensor:
        """Return the rows at some positions (n, *shape), NaN if they are not among `rows`."""
        found = self.rows.take(
            torch.from_numpy(np.searchsorted(self.row_index, positions).clip(0, len(self.rows) - 1))
        ).x.clone()
        found[~torch.from_numpy(self.shown(positions))] = torch.nan
        return found


def indexed(run: Run) -> Indexed:
    """Return the rows to search. The training files are not opened if reference.npz has all that is needed."""
    reference = run.reference
    if not reference.complete or len(reference.rows) < len(reference):
        try:
            return _training_rows(run)
        except UserError as error:
            if not reference.complete:
                warnings.warn(
                    f"{run.path}: the training files {unusable(error)}; {len(reference):,} of {reference.size:,} "
                    "training rows are searched",
                    stacklevel=2,
                )
    captions = reference.captions
    return Indexed(
        codes=lambda: reference.codes,
        numbers=reference.index,
        labels=None if run.given_labels else complete(reference.labels),
        rows=reference.rows,
        row_index=reference.row_index,
        names=reference.names.tolist(),
        captions=lambda positions: captions[positions].tolist() if len(captions) else None,
    )


def complete(labels: np.ndarray | None) -> np.ndarray | None:
    """Return labels, or None if some are missing: a hit without a label is neither right nor wrong."""
    return None if labels is None or (labels == UNLABELLED).any() else labels


def _training_rows(run: Run) -> Indexed:
    reference, train = run.reference, run.data.train
    return Indexed(
        codes=lambda: reference.codes if reference.complete else run.codes(train),
        numbers=np.arange(len(train)),
        labels=None if train.y is None or run.given_labels else complete(train.y.cpu().numpy()),
        rows=train,
        row_index=np.arange(len(train)),
        names=run.data.names.get("train", ()),
        captions=lambda positions: run.spec.kind.captions(train.subset(torch.from_numpy(positions))),
    )


def open_index(run: Run, metric: Metric = "cosine", force: bool = False, rows: Indexed | None = None) -> Index:
    """Return the index of the codes of `indexed` rows: built on the first call, stored in RUN/index/, read afterwards.

    It is built again if the weights have changed since, and with `force`.
    """
    rows, folder = rows or indexed(run), run.path / FOLDER
    path, note = folder / f"{metric}.npy", folder / f"{metric}.json"
    weights = run.path / "checkpoints" / "best.pt"
    stamp: dict[str, Any] = {"codes": len(rows), "dim": run.latent_dim, "weights": weights.stat().st_mtime_ns}
    stored = _read(note)
    checksum = stored.get("checksum") if isinstance(stored, dict) else None
    if path.exists() and not force and checksum is not None and stored == stamp | {"checksum": checksum}:
        return Index.load(path, metric, len(rows), run.latent_dim, checksum)
    index = Index(rows.codes(), metric)
    check_inside(run.path)
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        write_json(note, stamp | {"checksum": index.save(path)})
    return index


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def metric_of(run: Run, metric: Metric | None = None) -> Metric:
    """Return the metric of a search: the given one, or that of the bottleneck; UserError for bits where are none."""
    own = run.model.bottleneck.distance
    if metric == "hamming" != own:
        kind = type(run.model.bottleneck).__name__
        why = f"is for binary codes, such as those of model=binary; those of a {kind} bottleneck are numbers: use {own}"
        raise UserError(f"--metric hamming: {why}")
    return metric or own


def retrieve(run: Run, queries: Split, k: int = 10, metric: Metric | None = None, force: bool = False) -> Hits:
    """Return the k training examples whose codes are nearest to those of the queries, by `metric_of` the run."""
    return open_index(run, metric_of(run, metric), force).search(run.codes(queries), k)


def baseline(run: Run, queries: Split, y_query: np.ndarray, k: int) -> dict[str, dict[str, float]]:
    """Return precision@k by the cosine of TF-IDF, without a model: row of a table -> number; empty without words.

    It is that of hits among the training rows with a label.
    """
    train = run.data.train.labelled()
    words = run.spec.kind.lexical(train, queries)
    if words is None or train.y is None:
        return {}
    right = train.y.cpu().numpy()[nearest_sparse(*words, k)] == y_query[:, None]
    return {"TF-IDF": {f"precision@{k}": float(right.mean())}}


def in_figure(run: Run, queries: int) -> list[int]:
    """Return the positions of the queries that `figure` shows, drawn at random, in order."""
    return sorted(drawn(queries, run.spec.kind.queries).tolist())


def figure(run: Run, queries: Split, names: Sequence[str], hits: Hits, rows: Indexed) -> np.ndarray | None:
    """Draw the queries of `in_figure` and their hits; None for kinds without such a figure.

    Queries are blue. Hits of the class of their query are green, those of other classes red, with the word "wrong".
    """
    kind = run.spec.kind
    if not kind.queries:
        return None
    chosen = in_figure(run, len(queries))
    tiles = [torch.cat([queries.take(slice(q, q + 1)).x, rows.stored(hits.positions[q])]) for q in chosen]
    y = None if rows.labels is None or queries.y is None else queries.y.cpu().numpy()
    texts: list[str] = []
    frames: list[str | None] = []
    for q in chosen:
        right = None if y is None or rows.labels is None else rows.labels[hits.positions[q]] == y[q]
        marks = ["" if right is None or right[i] else " wrong" for i in range(hits.positions.shape[1])]
        texts += ["query", *(f"{rank}{mark}" for rank, mark in enumerate(marks, 1))]
        frames += [QUERY, *(None if right is None else WRONG if mark else RIGHT for mark in marks)]
    title = f"{len(chosen)} of {len(queries):,} queries, and the {hits.positions.shape[1]} nearest training examples"
    meanings = {RIGHT: "green: of the class of the query", WRONG: "red: of another class"}
    shown = [text for color, text in meanings.items() if color in frames]
    title += "; queries are blue" if y is None else "\n" + "; ".join(["blue: queries", *shown])
    return titled(kind.ranked(torch.cat(tiles), [f"query {names[q]}" for q in chosen], texts, frames), title)
