"""What a data set is to the rest of the package: three splits and a description."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.storage.order import Shuffled
from autoenc.errors import DataError, require

PAD, BOS, EOS, UNK, MASK = range(5)  # token ids of every vocabulary: padding, begin, end, unknown, masked
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "[MASK]")
CHUNK = 4_096  # rows at a time, where all are looked at


@dataclass(frozen=True)
class Column:
    """A column of the user's table, and where it is in a vector: the dimensions start to stop - 1.

    A category takes as many dimensions as it has values, one of them 1 and the others 0.
    """

    name: str
    kind: Literal["number", "category"]
    start: int
    stop: int


@dataclass(frozen=True)
class DataSpec:
    """A description of one example, the same for all splits; what a finished run keeps of its data."""

    name: str
    kind: Literal["image", "vector", "counts", "tokens"]
    shape: tuple[int, ...]  # (C, H, W) for images, (D,) for vectors, (V,) for counts of words, (T,) for token ids
    low: float  # the range of the data as it is fed: by definition for images (0 and 1), observed in the
    high: float  # training split otherwise
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ...; empty where there are none
    columns: tuple[Column, ...] = ()  # of tables
    vocabulary: int = 0  # number of token ids
    anomalies: tuple[str, ...] = ()  # classes that training and validation were without


class Rows(Protocol):
    """Examples that are not one tensor in memory: sparse, on the disk, or still to be decoded."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(n, *shape) on the CPU, as stored."""
        ...

    def select(self, index: Tensor | slice) -> Rows:
        """The rows at `index`; copies none that lies on the disk."""
        ...

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """self[index] for each, in order; may work ahead."""
        ...

    def fingerprint(self) -> int:
        """A checksum that differs where the rows differ."""
        ...


@dataclass(frozen=True)
class Split:
    """Examples, batched by indexing: of a tensor without worker, collation or copy but the batch itself.

    Args:
        x: (N, *shape), uint8 or float32 as stored (int64 token ids stay what they are); or `Rows`.
        y: (N,) int64 labels, or None.
        scale: what the stored values are multiplied by when a batch is made (1 / 255 for uint8 images).
        device: where batches go; None leaves them where the examples are stored.
    """

    x: Tensor | Rows
    y: Tensor | None = None
    scale: float = 1.0
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def tensor(self) -> Tensor:
        """(N, *shape) all examples as stored, in memory."""
        return self.x if isinstance(self.x, Tensor) else self.x[:]

    def take(self, index: Tensor | slice) -> Batch:
        """The examples at `index` as a float32 batch (int64 where they are token ids)."""
        if isinstance(self.x, Tensor) and isinstance(index, Tensor):
            return self._batch(self.x.index_select(0, index), index)
        return self._batch(self.x[index], index)

    def _batch(self, x: Tensor, index: Tensor | slice) -> Batch:
        y = None
        if self.y is not None:
            y = self.y.index_select(0, index) if isinstance(index, Tensor) else self.y[index]
        if self.device is not None:
            x, y = x.to(self.device, non_blocking=True), None if y is None else y.to(self.device, non_blocking=True)
        if x.dtype == torch.int64:
            return Batch(x=trimmed(x), y=y)
        if x.dtype != torch.float32 or self.scale != 1.0:
            x = x * self.scale  # of uint8, this is float32: one pass
        return Batch(x=x, y=y)

    def rows(self) -> np.ndarray:
        """(N, D) float32: all examples, flattened."""
        return self.take(slice(None)).x.flatten(1).cpu().numpy()

    def mean(self) -> Tensor:
        """(*shape) the mean of the first 10,000 examples."""
        if isinstance(self.x, Tensor):
            return self.take(slice(0, 10_000)).x.float().mean(0)
        first = self.subset(slice(0, 10_000))  # may take gigabytes when it is dense
        sums = [batch.x.sum(0) for batch in first.in_order(CHUNK)]
        return torch.stack(sums).sum(0) / len(first)

    def range(self) -> tuple[float, float]:
        """The smallest and the largest value as they are fed."""
        if isinstance(self.x, Tensor):
            low, high = self.x.aminmax()
            return float(low) * self.scale, float(high) * self.scale
        ends = [batch.x.aminmax() for batch in self.in_order(CHUNK)]
        return min(float(low) for low, _ in ends), max(float(high) for _, high in ends)

    def fingerprint(self) -> int:
        """A checksum of the examples as stored, in their order."""
        if not isinstance(self.x, Tensor):
            return self.x.fingerprint()
        x = self.x.cpu().contiguous()
        return zlib.crc32(x.view(torch.uint8).numpy().data if x.dtype != torch.uint8 else x.numpy().data)

    def subset(self, index: Tensor | slice) -> Split:
        """A split of the examples at `index`."""
        x = self.x[index] if isinstance(self.x, Tensor) else self.x.select(index)
        return replace(self, x=x, y=None if self.y is None else self.y[index])

    def on(self, device: torch.device) -> Split:
        """A split whose batches are on the device: stored there where it takes less than half of the free memory,
        else batch by batch."""
        if not isinstance(self.x, Tensor):
            return replace(self, device=device)
        if device.type == "cuda" and self.x.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return replace(self, x=self.x.pin_memory(), device=device)
        return replace(self, x=self.x.to(device), y=None if self.y is None else self.y.to(device))

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on, in an order of its own: see order.py."""
        device = self.x.device if isinstance(self.x, Tensor) else None
        yield from self._batches(Shuffled(len(self), batch_size, seed, epoch, start, device))

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their order; the last batch smaller if need be."""
        yield from self._batches([slice(i, i + batch_size) for i in range(0, len(self), batch_size)])

    def _batches(self, indexes: Sequence[Tensor | slice]) -> Iterator[Batch]:
        if isinstance(self.x, Tensor):
            yield from map(self.take, indexes)
        else:
            for x, index in zip(self.x.fetch(indexes), indexes, strict=True):
                yield self._batch(x, index)


def trimmed(ids: Tensor) -> Tensor:
    """Token ids (B, T) without the columns that are padding for all: (B, length of the longest)."""
    used = (ids != PAD).any(0).nonzero()
    return ids[:, : max(1, int(used[-1]) + 1 if len(used) else 1)]


def masked(ids: Tensor, p: float) -> Tensor:
    """Token ids (B, T) with MASK in the place of each with probability p, but for PAD, BOS and EOS."""
    word = (ids != PAD) & (ids != BOS) & (ids != EOS)
    return ids.masked_fill((torch.rand(ids.shape, device=ids.device) < p) & word, MASK)


class Preprocessing(Protocol):
    """How the user's rows or texts become what a model is fed: learnt from the training split, kept in the run.

    Implementations are frozen; data/preprocessing.py lists them by `kind` for loading.
    """

    kind: str  # what preprocessing.json calls it

    def save(self, folder: Path) -> None:
        """Write it into an existing folder, as JSON and the like: nothing that runs when it is read."""
        ...

    def read(self, path: Path) -> Examples:
        """The examples of a file of the user's; DataError where it does not fit."""
        ...

    def apply(self, raw: Any) -> Split:
        """Examples given in Python: a data frame, a list of texts."""
        ...

    def lines(self, versions: Mapping[str, Tensor]) -> list[str] | None:
        """The same examples (N, *shape) in several versions (input, output ...) as people read them; None where they
        look at pictures."""
        ...


@dataclass(frozen=True)
class Examples:
    """New examples, each with a name to be told by: a file name, a row number, or the text itself."""

    split: Split
    names: list[str]


@dataclass(frozen=True)
class Data:
    """A data set: the training rows, a validation split cut from them, and a test split for the end alone.

    Args:
        preprocessing: what new data must pass through, where it is not fed as it is.
        notes: what a person should know of how the files were read, a line each; said when training starts.
        truth: what generated data were made from, by name: arrays that `scripts/evaluate.py` compares with.
            Names that end in _train, _val or _test are of that split, row by row.
        names: split (train, test) -> what its examples are called in the user's files: a file name, a row number.
    """

    spec: DataSpec
    train: Split
    val: Split
    test: Split
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    names: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def told(self, split: str) -> list[str]:
        """What each example of the split (train or test) can be told by: its name, else its number."""
        return [str(name) for name in self.names.get(split, range(len(getattr(self, split))))]

    def mean(self) -> Tensor | None:
        """(*shape) the mean of the first 10,000 training examples, on the CPU; None of token ids, which have none."""
        return None if self.spec.kind == "tokens" else self.train.mean().cpu()


def hold_out(split: Split, fraction: float, seed: int, name: str) -> tuple[Split, Split]:
    """Cut `fraction` of a split off at random, by a seed of its own: (rest, held out)."""
    require(0 < fraction < 1, name, fraction, "must lie between 0 and 1")
    size = math.ceil(fraction * len(split))
    if size >= len(split):
        raise DataError(f"{len(split)} rows are too few to cut {name}={fraction} off")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    held, rest = order[:size].sort().values, order[size:].sort().values
    return split.subset(rest), split.subset(held)


def class_numbers(spec: DataSpec, classes: Sequence[str], name: str) -> list[int]:
    """The labels of classes given by name; DataError where the data has no labels or no such class."""
    if not spec.classes:
        raise DataError(f"{name}={','.join(classes)}: {spec.name} has no labels")
    for wanted in classes:
        if wanted not in spec.classes:
            raise DataError(f"{name}={wanted}: {spec.name} has no such class; it has {', '.join(spec.classes)}")
    return [spec.classes.index(wanted) for wanted in classes]


def without(data: Data, classes: Sequence[str], name: str = "classes") -> Data:
    """Training and validation lose the rows of these classes, the test split keeps them: they are the anomalies.

    The other rows stay in the split and the order that they had. A range that was observed, and is not 0 to 1 by
    definition, is that of the rows that are left.

    Args:
        classes: by name. name: of the option that they are from, for errors.

    Raises:
        DataError: data without labels, an unknown class, or none left to train on.
    """
    if not classes:
        return data
    out = torch.tensor(class_numbers(data.spec, classes, name))

    def kept(split: Split) -> Tensor:
        if split.y is None:
            raise DataError(f"{name}={','.join(classes)}: the training rows of {data.spec.name} have no labels")
        rest = (~torch.isin(split.y, out)).nonzero().squeeze(1)
        if len(rest) == 0:
            raise DataError(f"{name}={','.join(classes)}: leaves no rows of {data.spec.name} to train and validate on")
        return rest

    rows = {"train": kept(data.train), "val": kept(data.val)}
    truth = {key: v[rows[part]] if (part := key.rpartition("_")[2]) in rows else v for key, v in data.truth.items()}
    train, spec = data.train.subset(rows["train"]), replace(data.spec, anomalies=(*data.spec.anomalies, *classes))
    if not (spec.kind == "image" and (spec.low, spec.high) == (0.0, 1.0)):
        low, high = train.range()
        spec = replace(spec, low=low, high=high)
    names = {**data.names}
    if "train" in names:
        names["train"] = [data.names["train"][i] for i in rows["train"].tolist()]
    return replace(data, spec=spec, train=train, val=data.val.subset(rows["val"]), truth=truth, names=names)
