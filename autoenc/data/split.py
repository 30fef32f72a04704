"""Splits of a data set, batched by indexing."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from autoenc import parallel
from autoenc.core import UNLABELLED, Batch
from autoenc.errors import counted, require

PAD, BOS, EOS, UNK, MASK = range(5)  # token ids of every vocabulary: padding, begin, end, unknown, masked
SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]", "[MASK]")
CHUNK = 4_096  # rows per chunk of a full pass
AVERAGED = 10_000  # rows for the mean
SAMPLE_SEED = 0


def drawn(size: int, most: int) -> Tensor:
    """Return at most `most` of the places 0 ... size - 1, drawn without replacement from a fixed seed, in random order.

    Rows of a file are often sorted by class. Whatever looks at a part of a split looks at these places; the first few
    of them are a random sample, too.
    """
    return torch.randperm(size, generator=torch.Generator().manual_seed(SAMPLE_SEED))[:most]


class Rows(Protocol):
    """Examples that are not a tensor in memory: sparse, on disk, or decoded on demand."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return rows (n, *shape) as stored, on the CPU."""
        ...

    def select(self, index: Tensor | slice) -> Rows:
        """Return a view of the rows at `index`; rows on disk are not copied."""
        ...

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """Yield self[index] for each index, in order; may prefetch."""
        ...

    def fingerprint(self) -> int:
        """Return a checksum of the rows."""
        ...


@dataclass(frozen=True)
class Split:
    """Examples, batched by indexing. Batches of a tensor need no workers, no collation and a single copy.

    Args:
        x: (N, *shape) uint8, float32 or int64 (token ids) as stored; or `Rows`.
        y: (N,) int64 labels, or None.
        scale: factor that stored values are multiplied by in a batch (1 / 255 for uint8 images).
        device: device of the batches; None: that of the stored examples.
    """

    x: Tensor | Rows
    y: Tensor | None = None
    scale: float = 1.0
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def tensor(self) -> Tensor:
        """All examples as stored (N, *shape), in memory."""
        return self.x if isinstance(self.x, Tensor) else self.x[:]

    def take(self, index: Tensor | slice) -> Batch:
        """Return the examples at `index` as a float32 batch (int64 for token ids)."""
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
            x = x * self.scale  # uint8 times float is float32: one pass
        return Batch(x=x, y=y)

    @property
    def redrawn(self) -> bool:
        """Whether `shuffled` yields other values than the stored ones, such as augmented images."""
        return False

    def rows(self) -> np.ndarray:
        """Return all examples, flattened, (N, D) float32."""
        return self.take(slice(None)).x.flatten(1).cpu().numpy()

    def mean(self) -> Tensor:
        """Return the mean (*shape) of all examples, or of a sample of 10,000."""
        some = self if len(self) <= AVERAGED else self.sample(AVERAGED)
        if isinstance(some.x, Tensor):
            return some.take(slice(None)).x.float().mean(0)
        sums = [batch.x.sum(0) for batch in some.in_order(CHUNK)]  # may take gigabytes if dense
        return torch.stack(sums).sum(0) / len(some)

    def range(self) -> tuple[float, float]:
        """Return the smallest and the largest value as the model is fed them."""
        if isinstance(self.x, Tensor):
            ends = self.x.aminmax()
            return float(ends.min) * self.scale, float(ends.max) * self.scale
        low, high = math.inf, -math.inf
        for batch in self.in_order(CHUNK):  # floats: tensors that stay between the chunks would fragment the heap
            least, most = batch.x.aminmax()
            low, high = min(low, float(least)), max(high, float(most))
        return low, high

    def fingerprint(self) -> int:
        """Return a checksum of the examples as stored, in order."""
        if not isinstance(self.x, Tensor):
            return self.x.fingerprint()
        x = self.x.cpu().contiguous()
        return zlib.crc32(x.view(torch.uint8).numpy().data if x.dtype != torch.uint8 else x.numpy().data)

    def subset(self, index: Tensor | slice) -> Split:
        """Return a split of the examples at `index`."""
        x = self.x[index] if isinstance(self.x, Tensor) else self.x.select(index)
        return replace(self, x=x, y=None if self.y is None else self.y[index])

    def labelled(self) -> Split:
        """Return a split of the examples whose label is known."""
        return self.subset(
            torch.empty(0, dtype=torch.int64) if self.y is None else (self.y != UNLABELLED).nonzero()[:, 0]
        )

    def sample(self, most: int) -> Split:
        """Return a split of at most `most` examples, drawn at random from a fixed seed; see `drawn`."""
        index = drawn(len(self), most)
        return self.subset(index.to(self.x.device) if isinstance(self.x, Tensor) else index)

    def on(self, device: torch.device) -> Split:
        """Return a split with batches on `device`: stored there if half of the memory suffices."""
        if not isinstance(self.x, Tensor):
            return replace(self, device=device)
        if device.type == "cuda" and self.x.nbytes > 0.5 * torch.cuda.mem_get_info(device)[0]:
            return replace(self, x=self.x.pin_memory(), device=device)
        return replace(self, x=self.x.to(device), y=None if self.y is None else self.y.to(device))

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from number `start` on, in the epoch's random order."""
        yield from self._batches(self.shuffled_rows(batch_size, seed, epoch)[start:])

    def shuffled_rows(self, batch_size: int, seed: int, epoch: int) -> Sequence[Tensor]:
        """Return the indices of each batch of an epoch, on the device of the stored examples."""
        device = self.x.device if isinstance(self.x, Tensor) else None
        return shuffled_indices(len(self), batch_size, seed, epoch, device)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all examples in order, in batches of `batch_sizes`."""
        ends = list(itertools.accumulate(batch_sizes(len(self), batch_size), initial=0))
        yield from self._batches(list(itertools.starmap(slice, itertools.pairwise(ends))))

    def at_random(self, batch_size: int) -> Iterator[tuple[Tensor, Batch]]:
        """Yield all examples as `in_order`, but in a random order from a fixed seed: their indices, and the batch."""
        indexes = self.shuffled_rows(batch_size, SAMPLE_SEED, 0)
        yield from zip(indexes, self._batches(indexes), strict=True)

    def _batches(self, indexes: Sequence[Tensor | slice]) -> Iterator[Batch]:
        if isinstance(self.x, Tensor):
            yield from map(self.take, indexes)
        else:
            for x, index in zip(parallel.fetched(self.x.fetch, indexes), indexes, strict=True):
                yield self._batch(x, index)


def shuffled_indices(
    size: int, batch_size: int, seed: int, epoch: int, device: torch.device | None = None
) -> Sequence[Tensor]:
    """Return the indices (B,) int64 of each batch of an epoch, in random order; see `batch_sizes`.

    The order is a function of (size, seed, epoch), so that resuming needs no state but the number of the batch.
    """
    if size == 0:
        return ()
    key = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    order = torch.randperm(size, generator=torch.Generator().manual_seed(key)).to(device or "cpu")
    return order.split(batch_sizes(size, batch_size))


def batch_sizes(size: int, batch_size: int) -> list[int]:
    """Return the sizes of the batches of a split; the last batch may be smaller.

    A single example that would be left over joins the last batch: one example has no batch statistics.
    """
    sizes = [batch_size] * (size // batch_size)
    if (rest := size % batch_size) == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def trimmed(ids: Tensor) -> Tensor:
    """Remove columns that are padding in all rows from token ids (B, T)."""
    used = (ids != PAD).any(0).nonzero()
    return ids[:, : max(1, int(used[-1]) + 1 if len(used) else 1)]


def masked(ids: Tensor, p: float) -> Tensor:
    """Replace each token id (B, T), except PAD, BOS and EOS, by MASK with probability p."""
    word = (ids != PAD) & (ids != BOS) & (ids != EOS)
    return ids.masked_fill((torch.rand(ids.shape, device=ids.device) < p) & word, MASK)


@dataclass(frozen=True)
class Examples:
    """New examples with their names: file names, row numbers, or beginnings of texts."""

    split: Split
    names: list[str]


def check_fractions(**fractions: float) -> None:
    """Raise ConfigError unless all fractions lie in (0, 1)."""
    for name, value in fractions.items():
        require(0 < value < 1, name, value, "must lie between 0 and 1")


def three_way(
    split: Split, val_fraction: float, test_fraction: float, seed: int, source: str | Path = ""
) -> tuple[Split, Split, Split]:
    """Draw training, validation and test rows. `val_fraction` is a fraction of the rows that are not test rows."""
    rest, test = hold_out(split, test_fraction, seed, "test_fraction", source)
    return *hold_out(rest, val_fraction, seed, "val_fraction", source), test


def hold_out(split: Split, fraction: float, seed: int, name: str, source: str | Path = "") -> tuple[Split, Split]:
    """Hold out a random `fraction` of a split, rounded up. Return the rest and the held-out part.

    Args:
        name: of the argument `fraction`. source: file of the rows, for messages.
    """
    check_fractions(**{name: fraction})
    rest, held = divided(len(split), held_size(len(split), fraction, name, "rows", source), seed)
    return split.subset(rest), split.subset(held)


def held_size(count: int, fraction: float, name: str, what: str, source: str | Path = "") -> int:
    """Return how many of `count` examples a fraction is, rounded up; ConfigError if none would be left.

    Args:
        what: the examples, a plural.
    """
    size = math.ceil(fraction * count)
    of = f" of {source}" if str(source) else ""
    require(size < count, name, fraction, f"leaves nothing of {counted(count, what)}{of} to train on")
    return size


def divided(size: int, held: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions 0 ... size - 1 in two parts, the rest and `held` of them drawn at random, each in order."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[held:].sort().values, order[:held].sort().values
