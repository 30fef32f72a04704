"""Reference rows of a run, which new data are compared with; stored in the run directory as reference.npz.

With this file a run detects, retrieves, samples and is exported without the files that it was trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers.arrays import UNREADABLE
from autoenc.data.split import Split
from autoenc.data.storage.sparse import SparseRows
from autoenc.data.storage.windows import Windows
from autoenc.errors import DataError, one_line
from autoenc.files import atomic, check_zip
from autoenc.metrics import mse_per_example
from autoenc.regularizers.kl import class_kl, kl_estimate, kl_per_dim
from autoenc.training.evaluation import over

FILE = "reference.npz"
MOST = 20_000  # training rows, and validation rows
BOUNDED = 2_000  # validation rows with an evidence lower bound, which takes 16 passes of the decoder
LARGEST = 2**29  # bytes of rows, names and captions, decompressed
BYTES = 16 * 2**20  # of stored rows
DRAWS = 16  # of z for the bound
SEED = 0
FLOATS = ("train_table", "val_table", "val_bound", "val_mse", "val_column_nll", "val_steps", "val_last")
ARRAYS = (*FLOATS, "index", "names", "captions", "row_index", "val_places")
EMPTY = {"val_steps": ((0, 0), np.float32), "val_last": ((0, 0), np.float32), "val_places": ((0,), np.int64)}
RENAMED = {"usual": "val_column_nll"}  # in files of version 0.2.0


@dataclass(frozen=True)
class Reference:
    """At most 20,000 training rows, drawn with a fixed seed, and the scores of at most 20,000 validation rows.

    Args:
        train_table: (N, 2 + K) float32, `row_table` of the training rows.
        index: (N,) their positions in the training split, which has `size` rows.
        names: (N,) names in the user's files; empty if there are none. captions: (N,) `Kind.captions`, or empty.
        labels: (N,) or None.
        rows: R of the N rows as the model is fed them, as many as fit 16 MB. row_index: (R,) their positions in N.
        val_table: (M, 2 + K) of the validation rows.
        val_bound: (<= 2,000,) negative evidence lower bounds [nats]; empty for codes without a posterior.
        val_mse: (M,) mean squared errors; empty for token ids.
        val_column_nll: (C,) mean nll of each column of a table over the validation rows that have it; empty for
            other data.
        val_steps: (S, 2 C) of time steps of validation recordings: the error of each channel and its square, means over
            the windows that the step is in. val_last: (M, C) errors of the last step of each window.
            val_places: (M,) the steps at which the windows begin. All are empty for data without a time axis.
    """

    train_table: np.ndarray
    index: np.ndarray
    size: int
    names: np.ndarray
    captions: np.ndarray
    labels: np.ndarray | None
    rows: Split
    row_index: np.ndarray
    val_table: np.ndarray
    val_bound: np.ndarray
    val_mse: np.ndarray
    val_column_nll: np.ndarray
    val_steps: np.ndarray
    val_last: np.ndarray
    val_places: np.ndarray

    @property
    def codes(self) -> np.ndarray:
        """(N, K) float32 codes of the training rows."""
        return self.train_table[:, 2:]

    @property
    def complete(self) -> bool:
        """Whether the training split has no other rows."""
        return len(self) == self.size

    def __len__(self) -> int:
        return len(self.train_table)


def drawn(n: int, most: int = MOST) -> np.ndarray:
    """Return at most `most` of n positions, always the same ones, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(n)[:most])


def row_table(model: Autoencoder, kind: Kind, batch: Batch) -> Tensor:
    """Return error, nll [nats] and code of each row, from the deterministic code: (B, 2 + K) float32."""
    code = model.encode(batch).mean
    return _table(model, kind, batch, code, model.decode(code, batch).float())


def _table(model: Autoencoder, kind: Kind, batch: Batch, code: Tensor, params: Tensor) -> Tensor:
    error = kind.error(params, batch.x, model.likelihood)
    nll = model.likelihood.nll(params, batch.x)
    return torch.cat([error[:, None], nll[:, None], code.flatten(1).float()], 1)


def quantile_levels(shape: tuple[int, ...]) -> Tensor:
    """Return the levels in (0, 1) of the 16 draws of a code of this shape: (16, *shape)."""
    generator, shape = torch.Generator().manual_seed(SEED), (DRAWS, *shape)
    strata = torch.rand(shape, generator=generator).argsort(0)
    return ((strata + torch.rand(shape, generator=generator)) / DRAWS).clamp(1e-6, 1 - 1e-6)


def bound(model: Autoencoder, batch: Batch, levels: Tensor | None = None) -> Tensor:
    """Return E_q[-log p(x|z)] + KL(q || p) of each row: (B,) nats; (B, 0) where there is no posterior or no prior.

    16 draws for the expectation, and for the KL where it has no closed form. The draws are the same quantiles of every
    row's posterior, a sample that depends on the row alone: a Latin hypercube, one in each sixteenth of every dimension
    (McKay, Beckman & Conover 1979).

    Args:
        levels: `quantile_levels` if the bound is traced: all draws are decoded at once, which takes more memory.
    """
    code = model.encode(batch)
    posterior = code.posterior
    if posterior is None or model.bottleneck.prior is None:
        return torch.empty(len(batch), 0)
    at_once = levels is not None
    levels = quantile_levels(code.mean.shape[1:]).to(code.mean.device) if levels is None else levels
    draws = [posterior.icdf(each[:, None]) for each in levels.split(DRAWS if at_once else 1)]  # (S, B, *latent_shape)
    nll = torch.cat([model.nll(z, batch) for z in draws]).mean(0) + class_kl(model)
    kl = kl_per_dim(model, code)
    if kl is None:
        return nll + torch.cat([kl_estimate(model, code, z) for z in draws]).mean(0)
    return nll + kl.flatten(1).sum(-1)


def column_nll(model: Autoencoder, kind: Kind, params: Tensor, x: Tensor) -> Tensor:
    """Return the nll of each column of a table, NaN where it is not observed: (B, C) nats. Other data: (B, 0)."""
    if not kind.columns:
        return torch.empty(len(x), 0, device=x.device)
    nll, observed = model.likelihood.nll_per_dim(params, x), model.likelihood.observed(x)
    nll = torch.stack([nll[:, column.start : column.stop].sum(1) for column in kind.columns], 1)
    return nll if observed is None else nll.masked_fill(~observed[:, [c.start for c in kind.columns]], torch.nan)


def _validation_table(model: Autoencoder, kind: Kind, batch: Batch) -> Tensor:
    """Return `row_table`, `column_nll` and, unless x are token ids, the MSE: (B, 2 + K + C [+ 1])."""
    code = model.encode(batch).mean
    params = model.decode(code, batch).float()
    parts = [_table(model, kind, batch, code, params), column_nll(model, kind, params, batch.x)]
    if kind.continuous:
        x_hat, observed = model.likelihood.mean(params), model.likelihood.observed(batch.x)
        parts.append(mse_per_example(batch.x, x_hat, observed)[:, None])
    return torch.cat(parts, 1)


def _observed_means(nll: np.ndarray) -> np.ndarray:
    """Return the mean of each column (C,) over the rows in which it is not NaN, 0 if there are none."""
    known = ~np.isnan(nll)
    return np.where(known, nll, 0).sum(0) / np.maximum(known.sum(0), 1)


def compute(model: Autoencoder, data: Data, batch_size: int, device: torch.device) -> Reference:
    """Return the reference rows of a trained model: one pass over at most 20,000 training and validation rows each."""
    kind = data.spec.kind
    index = drawn(len(data.train))
    train = data.train.subset(torch.from_numpy(index))
    chosen = kind.representative(len(data.val), MOST)
    val = data.val.subset(torch.from_numpy(drawn(len(data.val)) if chosen is None else chosen))
    bounded = val.subset(torch.from_numpy(drawn(len(val), BOUNDED)))

    def values(split: Split, function: Callable[[Batch], Tensor]) -> np.ndarray:
        return over(model, split, function, batch_size, device).numpy()

    train_table = values(train, lambda batch: row_table(model, kind, batch))
    val_table = values(val, lambda batch: _validation_table(model, kind, batch))
    width, columns = train_table.shape[1], len(kind.columns)
    names = data.names.get("train")
    rows, row_index = _stored(train)
    return Reference(
        train_table=train_table,
        index=index,
        size=len(data.train),
        names=np.array([] if names is None else [str(names[i]) for i in index.tolist()], dtype=str),
        captions=np.array(kind.captions(train) or [], dtype=str),
        labels=None if train.y is None else train.y.cpu().numpy(),
        rows=rows,
        row_index=row_index,
        val_table=val_table[:, :width],
        val_bound=values(bounded, lambda batch: bound(model, batch)).reshape(-1),
        val_mse=val_table[:, width + columns :].reshape(-1),
        val_column_nll=_observed_means(val_table[:, width : width + columns]),
        **_time_axis(model, kind, val, values),
    )


def _time_axis(
    model: Autoencoder, kind: Kind, val: Split, values: Callable[[Split, Callable[[Batch], Tensor]], np.ndarray]
) -> dict[str, np.ndarray]:
    """Return val_steps, val_last and val_places of validation windows; empty arrays for data without a time axis."""
    if not kind.timed:
        return {name: np.empty(shape, dtype) for name, (shape, dtype) in EMPTY.items()}
    error = torch.from_numpy(values(val, lambda batch: kind.step_errors(errors(model, batch))))
    steps = kind.per_step(val, torch.cat([error, error.square()], 1)).numpy()
    places = val.x.places.numpy() if isinstance(val.x, Windows) else np.arange(len(val)) * error.shape[2]
    return {"val_steps": steps, "val_last": error[:, :, -1].numpy(), "val_places": places}


def errors(model: Autoencoder, batch: Batch) -> Tensor:
    """Return x less its reconstruction from the deterministic code: (B, *shape)."""
    return batch.x - model.reconstruct(batch).float()


def _stored(split: Split) -> tuple[Split, np.ndarray]:
    """Return the rows to store, and their positions: all, or as many as fit 16 MB, drawn with a fixed seed."""
    if isinstance(split.x, SparseRows):
        matrix = split.x.matrix
        size = (matrix.data.nbytes + matrix.indices.nbytes) / len(split)
    else:
        first = split.x[:1]
        size = first.numel() * first.element_size()
    index = drawn(len(split), max(1, int(BYTES / max(size, 1))))
    rows = split if len(index) == len(split) else split.subset(torch.from_numpy(index))
    y = None if rows.y is None else rows.y.cpu()
    return Split(rows.x if isinstance(rows.x, SparseRows) else rows.tensor.cpu(), y, rows.scale), index


def save(reference: Reference, path: Path) -> None:
    """Write reference.npz: plain arrays, whole or not at all."""
    arrays: dict[str, Any] = {name: getattr(reference, name) for name in ARRAYS} | {"size": np.array(reference.size)}
    if reference.labels is not None:
        arrays["labels"] = reference.labels
    if isinstance(rows := reference.rows.x, SparseRows):
        matrix = rows.matrix
        arrays |= {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "width": matrix.shape[1]}
    else:
        arrays |= {"x": reference.rows.tensor.numpy(), "scale": np.array(reference.rows.scale)}
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, kind: Kind, latent_dim: int) -> Reference:
    """Read what `save` wrote; DataError if it is damaged or does not fit the run."""
    try:
        check_zip(path, LARGEST + 16 * MOST * (2 + latent_dim))  # two tables of float32, twice
        with np.load(path, allow_pickle=False) as archive:
            stored = {RENAMED.get(name, name): archive[name] for name in archive.files}
        count = len(stored["indptr"]) - 1 if "indptr" in stored else len(stored.get("x", ()))
        stored.setdefault("row_index", np.arange(count))  # version 0.2.0: all rows or none
        for name, (shape, dtype) in EMPTY.items():  # version 0.2.0
            stored.setdefault(name, np.empty(shape, dtype))
        if misfit := _misfit(stored, count, kind, latent_dim):
            raise ValueError(f"{misfit} does not fit")
        rows = _rows(stored, kind)
        if "captions" not in stored:  # version 0.2.0
            stored["captions"] = np.array((kind.captions(rows) if count else None) or [], dtype=str)
        arrays = {name: stored[name] for name in ARRAYS}
        return Reference(**arrays, size=int(stored["size"]), labels=stored.get("labels"), rows=rows)
    except (*UNREADABLE, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: damaged ({one_line(error)}); delete it to have it computed again") from None


def _misfit(stored: dict[str, np.ndarray], count: int, kind: Kind, latent_dim: int) -> str | None:
    """Return the name of an array that does not fit the others, the number of stored rows or the run."""
    n, m, size, width = len(stored["train_table"]), len(stored["val_table"]), int(stored["size"]), 2 + latent_dim
    index, row_index, labels = stored["index"], stored["row_index"], stored.get("labels", np.arange(n))
    labels = labels - UNLABELLED  # from 0 on
    fits = {name: stored[name].dtype.kind == "f" and not np.isnan(stored[name]).any() for name in FLOATS}
    fits["train_table"] &= 0 < n <= size and stored["train_table"].shape[1:] == (width,)
    fits["val_table"] &= m > 0 and stored["val_table"].shape[1:] == (width,)
    fits["val_bound"] &= stored["val_bound"].shape in ((0,), (min(m, BOUNDED),))
    fits["val_mse"] &= stored["val_mse"].shape == ((m,) if kind.continuous else (0,))
    fits["val_column_nll"] &= stored["val_column_nll"].shape == (len(kind.columns),)
    channels = kind.shape[0] if kind.timed and stored["val_steps"].size else 0
    fits["val_steps"] &= stored["val_steps"].shape[1:] == (2 * channels,)
    fits["val_last"] &= stored["val_last"].shape == ((m, channels) if channels else (0, 0))
    fits["val_places"] = stored["val_places"].shape == (m if channels else 0,)
    fits["index"] = index.shape == (n,) and _positions(index, size)
    fits["row_index"] = row_index.shape == (count,) and _positions(row_index, n)
    fits["labels"] = labels.shape == (n,) and _positions(labels, np.iinfo(np.int64).max)
    fits["width"] = "width" not in stored or (int(stored["width"]),) == kind.shape
    for name in ("names", "captions"):
        texts = stored.get(name, np.empty(0, str))
        fits[name] = texts.shape in ((0,), (n,)) and texts.dtype.kind == "U"
    return next((name for name, good in fits.items() if not good), None)


def _positions(values: np.ndarray, size: int) -> bool:
    """Whether values are integers in [0, size)."""
    return values.dtype.kind == "i" and (not values.size or bool(values.min() >= 0 and values.max() < size))


def _rows(stored: dict[str, np.ndarray], kind: Kind) -> Split:
    index = stored["row_index"]
    labels = torch.from_numpy(stored["labels"][index]) if "labels" in stored else None
    if "data" in stored:
        from scipy.sparse import csr_matrix

        shape = (len(index), int(stored["width"]))
        matrix = csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=shape)
        matrix.check_format()
        captions = stored.get("captions", np.empty(0, str))
        return Split(SparseRows(matrix, captions[index] if len(captions) else None), labels)
    if "x" not in stored:  # version 0.2.0
        return Split(torch.empty(0, *kind.shape))
    x = torch.from_numpy(stored["x"])
    if x.shape[1:] != kind.shape and (kind.continuous or x.dim() != 2):
        raise ValueError(f"x of shape {tuple(x.shape)} does not fit")
    return Split(x, labels, float(stored["scale"]))
