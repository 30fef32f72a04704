"""Examples of a data set, batched by indexing."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.storage.order import Shuffled
from autoenc.errors import DataError, require

PAD, BOS, EOS, UNK, MASK = range(5)  # token ids of every vocabulary: padding, begin, end, unknown, masked
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "[MASK]")
CHUNK = 4_096  # rows at a time, where all are read


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


@dataclass(frozen=True)
class Examples:
    """New examples, each with a name to be told by: a file name, a row number, or the text itself."""

    split: Split
    names: list[str]


def hold_out(split: Split, fraction: float, seed: int, name: str) -> tuple[Split, Split]:
    """Cut `fraction` of a split off at random, by a seed of its own: (rest, held out)."""
    require(0 < fraction < 1, name, fraction, "must lie between 0 and 1")
    size = math.ceil(fraction * len(split))
    if size >= len(split):
        raise DataError(f"{len(split)} rows are too few to cut {name}={fraction} off")
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
    held, rest = order[:size].sort().values, order[size:].sort().values
    return split.subset(rest), split.subset(held)
