"""What a data set is to the rest of the package: three splits and a description."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.errors import DataError, require


@dataclass(frozen=True)
class DataSpec:
    """A description of one example, the same for all splits; what a finished run keeps of its data."""

    name: str
    kind: Literal["image", "vector"]
    shape: tuple[int, ...]  # (C, H, W) for images, (D,) for vectors
    low: float  # the range of the data as it is fed: by definition for images (0 and 1), observed in the
    high: float  # training split otherwise
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ...; empty where there are none


@dataclass(frozen=True)
class Split:
    """Examples held as one tensor, batched by indexing: no worker, no collation, no copy but the batch itself.

    Args:
        x: (N, *shape), uint8 or float32 as stored.
        y: (N,) int64 labels, or None.
        scale: what the stored values are multiplied by when a batch is made (1 / 255 for uint8 images).
        device: where batches go; None leaves them where the examples are stored.
    """

    x: Tensor
    y: Tensor | None = None
    scale: float = 1.0
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: Tensor | slice) -> Batch:
        """The examples at `index` as a float32 batch."""
        if isinstance(index, Tensor):
            x = self.x.index_select(0, index)
            y = None if self.y is None else self.y.index_select(0, index)
        else:
            x, y = self.x[index], None if self.y is None else self.y[index]
        if self.device is not None:
            x, y = x.to(self.device, non_blocking=True), None if y is None else y.to(self.device, non_blocking=True)
        if x.dtype != torch.float32 or self.scale != 1.0:
            x = x * self.scale  # of uint8, this is float32: one pass
        return Batch(x=x, y=y)

    def rows(self) -> np.ndarray:
        """(N, D) float32: all examples, flattened."""
        return self.take(slice(None)).x.flatten(1).cpu().numpy()

    def mean(self) -> Tensor:
        """(*shape) the mean of the first 10,000 examples."""
        return self.take(slice(0, 10_000)).x.mean(0)

    def subset(self, index: Tensor | slice) -> Split:
        """A split of the examples at `index`."""
        return replace(self, x=self.x[index], y=None if self.y is None else self.y[index])

    def on(self, device: torch.device) -> Split:
        """A split whose batches are on the device: stored there where it takes less than half of the free memory,
        else batch by batch."""
        if device.type == "cuda" and self.x.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return replace(self, x=self.x.pin_memory(), device=device)
        return replace(self, x=self.x.to(device), y=None if self.y is None else self.y.to(device))

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from the `start`-th on, every example once, the last batch smaller if need be.

        The order is a function of (seed, epoch) alone: resuming needs no state but the position.
        """
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
        order = torch.randperm(len(self), generator=generator).to(self.x.device)
        for index in order.split(batch_size)[start:]:
            yield self.take(index)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All examples in their order; the last batch smaller if need be."""
        for i in range(0, len(self), batch_size):
            yield self.take(slice(i, i + batch_size))


@dataclass(frozen=True)
class Data:
    """A data set: the training rows, a validation split cut from them, and a test split for the end alone."""

    spec: DataSpec
    train: Split
    val: Split
    test: Split


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

    def kept(split: Split) -> Split:
        if split.y is None:
            raise DataError(f"{name}={','.join(classes)}: the training rows of {data.spec.name} have no labels")
        rest = split.subset((~torch.isin(split.y, out)).nonzero().squeeze(1))
        if len(rest) == 0:
            raise DataError(f"{name}={','.join(classes)}: leaves no rows of {data.spec.name} to train and validate on")
        return rest

    train, spec = kept(data.train), data.spec
    if not (spec.kind == "image" and (spec.low, spec.high) == (0.0, 1.0)):
        low, high = (float(v) * train.scale for v in train.x.aminmax())
        spec = replace(spec, low=low, high=high)
    return Data(spec, train, kept(data.val), data.test)
