"""In which order the examples of an epoch come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from torch import Tensor

MANY = 2**20  # examples
ROUNDS = 8


class Shuffled(Sequence[Tensor]):
    """The batches of an epoch as places (B,) int64: every example once, the last batch smaller if need be.

    A function of (size, seed, epoch) alone: resuming needs no state but the position. Of more than a million examples
    that are not in memory, the order is not either (`Permutation`): memory does not grow with the data.

    Args:
        start: batches to leave out.
        device: that examples in memory are on, and their order with them; None: they are not in memory.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, epoch: int, start: int = 0, device: torch.device | None = None
    ):
        key = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
        self.size, self.batch_size, self.start = size, batch_size, start
        self._order: Tensor | None = None
        if device is not None or size <= MANY:
            self._order = torch.randperm(size, generator=torch.Generator().manual_seed(key)).to(device or "cpu")
        else:
            self._permutation = Permutation(size, key)

    def __len__(self) -> int:
        return max(0, -(-self.size // self.batch_size) - self.start)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tensor]: ...
    def __getitem__(self, index: int | slice) -> Tensor | Sequence[Tensor]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = (self.start + index) * self.batch_size
        last = min(first + self.batch_size, self.size)
        if self._order is not None:
            return self._order[first:last]
        return torch.from_numpy(self._permutation(np.arange(first, last)))


class Permutation:
    """A permutation of 0 ... size - 1 that takes no memory: a Feistel network on the bits of the places.

    It permutes the numbers below a power of four, whatever its rounds do (Luby & Rackoff 1988); a place that lands at
    `size` or beyond is sent through it again until it does not, which leaves a permutation (Black & Rogaway 2002,
    cycle walking).
    """

    def __init__(self, size: int, seed: int):
        self.size = size
        self.half = np.uint64(max(1, -(-max(1, size - 1).bit_length() // 2)))
        self.mask = np.uint64((1 << int(self.half)) - 1)
        self.keys = np.random.default_rng(seed).integers(0, 2**64, ROUNDS, np.uint64)

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """(B,) places -> (B,) int64 where they are sent to."""
        found = self._once(places.astype(np.uint64))
        while len(outside := np.flatnonzero(found >= self.size)):
            found[outside] = self._once(found[outside])
        return found.astype(np.int64)

    def _once(self, x: np.ndarray) -> np.ndarray:
        left, right = x >> self.half, x & self.mask
        for key in self.keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)  # products wrap around
            mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
            left, right = right, left ^ ((mixed >> np.uint64(40)) & self.mask)
        return (left << self.half) | right
