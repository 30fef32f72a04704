"""Reference rows of a run: what new data are compared with. Kept in the run directory as reference.npz.

With it, a run detects, retrieves, samples and is exported where the files that it was trained on are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Code
from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers.arrays import UNREADABLE
from autoenc.data.split import Split
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import DataError, one_line
from autoenc.files import atomic
from autoenc.metrics import mse_per_example
from autoenc.regularizers.kl import kl_estimate, kl_per_dim
from autoenc.training.evaluation import evaluation_mode

FILE = "reference.npz"
MOST = 20_000  # training rows, and validation rows
BOUNDED = 2_000  # validation rows whose evidence lower bound is computed: it takes 16 passes of the decoder
BYTES = 16 * 2**20  # rows are stored as they are fed if they take no more
DRAWS = 16  # of z for the bound
SEED = 0
ARRAYS = ("train_table", "index", "names", "val_table", "val_bound", "val_mse", "usual")
FLOATS = ("train_table", "val_table", "val_bound", "val_mse", "usual")


@dataclass(frozen=True)
class Reference:
    """At most 20,000 training rows, drawn from a fixed seed, and the scores of the validation rows.

    Args:
        train_table: (N, 2 + K) float32, `row_table` of the training rows.
        index: (N,) their places in the training split, which has `size` rows.
        names: (N,) what the user's files call them; empty where they have no names. labels: (N,) or None.
        rows: as they are fed; None where they take more than 16 MB.
        val_table: (M, 2 + K) of the validation rows. val_bound: (<= 2,000,) their negative evidence lower bounds, empty
            for codes without a posterior. val_mse: (M,) squared errors; empty for token ids.
        usual: (C,) mean nll of each column of a table over the validation rows; empty for other data.
    """

    train_table: np.ndarray
    index: np.ndarray
    size: int
    names: np.ndarray
    labels: np.ndarray | None
    rows: Split | None
    val_table: np.ndarray
    val_bound: np.ndarray
    val_mse: np.ndarray
    usual: np.ndarray

    @property
    def codes(self) -> np.ndarray:
        """(N, K) float32 codes of the training rows."""
        return self.train_table[:, 2:]

    def __len__(self) -> int:
        return len(self.train_table)


def drawn(n: int, most: int = MOST) -> np.ndarray:
    """Return at most `most` of n places, always the same ones, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(n)[:most])


def over(
    model: Autoencoder, split: Split, function: Callable[[Batch], Tensor], batch_size: int, device: torch.device
) -> Tensor:
    """Return `function` of every batch of a split, joined: (N, ...) on the CPU, with evaluation's seed."""
    with evaluation_mode(model), torch.no_grad():
        return torch.cat([function(batch).cpu() for batch in replace(split, device=device).in_order(batch_size)])


def row_table(model: Autoencoder, kind: Kind, batch: Batch) -> Tensor:
    """Return error, nll [nats] and code of each row, from the deterministic code: (B, 2 + K) float32."""
    code = model.encode(batch)
    params = model.decode(code.mean, batch).float()
    nll = model.likelihood.nll(params, batch.x)
    error = kind.error(params, batch.x, model.likelihood)
    return torch.cat([error[:, None], nll[:, None], code.mean.flatten(1).float()], 1)


def has_bound(model: Autoencoder, code: Code) -> bool:
    """Whether data have an evidence lower bound: the code has a posterior and a prior."""
    return code.posterior is not None and model.bottleneck.prior is not None


def bound(model: Autoencoder, batch: Batch) -> Tensor:
    """Return E_q[-log p(x|z)] + KL(q || p) of each row: (B,) nats; (B, 0) where the code has no posterior.

    16 draws for the expectation, and for the KL where it has no closed form. The draws are the same quantiles of every
    row's posterior, a sample that depends on the row alone: a Latin hypercube, one in each sixteenth of every dimension
    (McKay, Beckman & Conover 1979).
    """
    code = model.encode(batch)
    posterior = code.posterior
    if posterior is None or not has_bound(model, code):
        return torch.empty(len(batch), 0)
    generator, shape = torch.Generator().manual_seed(SEED), (DRAWS, *code.mean.shape[1:])
    strata = torch.rand(shape, generator=generator).argsort(0)
    u = ((strata + torch.rand(shape, generator=generator)) / DRAWS).clamp(1e-6, 1 - 1e-6).to(code.mean.device)
    draws = [posterior.icdf(quantiles.expand_as(code.mean)) for quantiles in u]
    nll = torch.stack([model.nll(z, batch) for z in draws]).mean(0)
    kl = kl_per_dim(model, code)
    if kl is None:
        return nll + torch.stack([kl_estimate(model, code, z) for z in draws]).mean(0)
    return nll + kl.flatten(1).sum(-1)


def column_nll(model: Autoencoder, kind: Kind, batch: Batch) -> Tensor:
    """Return the nll of each column of a table: (B, C) nats."""
    params = model.decode(model.encode(batch).mean, batch).float()
    nll = model.likelihood.nll_per_dim(params, batch.x)
    return torch.stack([nll[:, column.start : column.stop].sum(1) for column in kind.columns], 1)


def compute(model: Autoencoder, data: Data, batch_size: int, device: torch.device) -> Reference:
    """Return the reference rows of a trained model: one pass over at most 20,000 training and validation rows."""
    kind = data.spec.kind
    index = drawn(len(data.train))
    train = data.train.subset(torch.from_numpy(index))
    val = data.val.subset(torch.from_numpy(drawn(len(data.val))))

    def values(split: Split, function: Callable[[Batch], Tensor]) -> np.ndarray:
        return over(model, split, function, batch_size, device).numpy()

    some = val.subset(torch.from_numpy(drawn(len(val), BOUNDED)))
    told = data.names.get("train")
    names: Sequence[Any] = [] if told is None else [told[i] for i in index.tolist()]
    empty = np.empty(0, np.float32)
    return Reference(
        train_table=values(train, lambda batch: row_table(model, kind, batch)),
        index=index,
        size=len(data.train),
        names=np.array([str(name) for name in names], dtype=str),
        labels=None if train.y is None else train.y.cpu().numpy(),
        rows=_stored(train),
        val_table=values(val, lambda batch: row_table(model, kind, batch)),
        val_bound=values(some, lambda batch: bound(model, batch)).reshape(-1),
        val_mse=values(val, lambda b: mse_per_example(b.x, model.reconstruct(b))) if kind.continuous else empty,
        usual=values(val, lambda b: column_nll(model, kind, b)).mean(0) if kind.columns else empty,
    )


def _stored(split: Split) -> Split | None:
    """The rows in memory, as they are fed; None where they take more than 16 MB."""
    y = None if split.y is None else split.y.cpu()
    if isinstance(split.x, SparseRows):
        matrix = split.x.matrix
        size = matrix.data.nbytes + matrix.indices.nbytes
        return Split(SparseRows(matrix, split.x.names), y) if size <= BYTES else None
    first = split.x[:1]
    if first.numel() * first.element_size() * len(split) > BYTES:
        return None
    return Split(split.tensor.cpu(), y, split.scale)


def save(found: Reference, path: Path) -> None:
    """Write reference.npz: plain arrays, whole or not at all."""
    arrays: dict[str, Any] = {name: getattr(found, name) for name in ARRAYS}
    arrays["size"] = np.array(found.size)
    if found.labels is not None:
        arrays["labels"] = found.labels
    if found.rows is not None and isinstance(found.rows.x, SparseRows):
        matrix = found.rows.x.matrix
        arrays |= {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "width": matrix.shape[1]}
        if found.rows.x.names is not None:
            arrays["captions"] = found.rows.x.names.astype(str)
    elif found.rows is not None:
        arrays |= {"x": found.rows.tensor.numpy(), "scale": np.array(found.rows.scale)}
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def load(path: Path, kind: Kind, latent_dim: int) -> Reference:
    """Read what `save` wrote; DataError where it is damaged or does not fit the run."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            kept = {name: archive[name] for name in archive.files}
        n = len(kept["train_table"])
        fits = n > 0 and len(kept["val_table"]) > 0 and int(kept["size"]) >= n
        fits &= kept["train_table"].shape[1:] == kept["val_table"].shape[1:] == (2 + latent_dim,)
        fits &= len(kept["index"]) == len(kept.get("labels", kept["index"])) == n
        fits &= len(kept["names"]) in (0, n) and kept["names"].dtype.kind == "U"
        fits &= all(kept[name].dtype.kind == "f" and not np.isnan(kept[name]).any() for name in FLOATS)
        fits &= kept["index"].dtype.kind == "i" and int(kept["index"].min()) >= 0
        fits &= int(kept["index"].max()) < int(kept["size"])
        fits &= len(kept["usual"]) == len(kind.columns)
        rows = _rows(kept, kind)
        if not fits or (rows is not None and len(rows) != n):
            raise ValueError("its arrays do not fit each other")
        return Reference(**{k: kept[k] for k in ARRAYS}, size=int(kept["size"]), labels=kept.get("labels"), rows=rows)
    except (*UNREADABLE, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: damaged ({one_line(error)}); delete it, and it is made again") from None


def _rows(kept: dict[str, np.ndarray], kind: Kind) -> Split | None:
    labels = torch.from_numpy(kept["labels"]) if "labels" in kept else None
    if "data" in kept:
        from scipy.sparse import csr_matrix

        shape = (len(kept["indptr"]) - 1, int(kept["width"]))
        matrix = csr_matrix((kept["data"], kept["indices"], kept["indptr"]), shape=shape)
        matrix.check_format()
        return Split(SparseRows(matrix, kept.get("captions")), labels)
    if "x" not in kept:
        return None
    x = torch.from_numpy(kept["x"])
    if x.shape[1:] != kind.shape and (kind.continuous or x.dim() != 2):
        raise ValueError(f"rows of shape {tuple(x.shape[1:])}")
    return Split(x, labels, float(kept["scale"]))
