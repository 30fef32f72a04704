"""A split of pictures, moved and mirrored at random while they are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.split import Split

LOOKED_AT = 1_000  # examples for the mean: each may have to be decoded


@dataclass(frozen=True)
class Moves:
    """What happens to each example of a split in one epoch: rows and columns to move by, whether it is mirrored."""

    down: Tensor  # (N,) int64, as right
    right: Tensor
    mirrored: Tensor  # (N,) bool

    def of(self, x: Tensor, index: Tensor) -> Tensor:
        """The examples x (B, C, H, W), which are at `index`, moved; the edge is a mirror (v2.RandomCrop, reflect)."""
        columns = _places(x.shape[3], self.right[index])  # (B, W)
        columns = torch.where(self.mirrored[index, None], columns.flip(1), columns)
        rows = _places(x.shape[2], self.down[index])  # (B, H)
        batch, channels = (torch.arange(n, device=x.device) for n in x.shape[:2])
        return x[batch[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _places(size: int, by: Tensor) -> Tensor:
    """(B, size) where each row or column of a moved picture is taken from."""
    at = (torch.arange(size, device=by.device) + by[:, None]).abs()
    return size - 1 - (size - 1 - at).abs()


@dataclass(frozen=True)
class Pictures(Split):
    """Pictures in [0, 1]; `shuffled` moves and mirrors them, everything else gives them as they are.

    Args:
        flip: mirror left and right, every second time. shift: move by up to so many pixels, in both directions.
        moves: of the epoch at hand.
    """

    flip: bool = False
    shift: int = 0
    moves: Moves | None = None

    def range(self) -> tuple[float, float]:
        """0 and 1, by definition; nothing is decoded to find that out."""
        return 0.0, 1.0

    def mean(self) -> Tensor:
        """(*shape) the mean of up to 1,000 examples, spread over the split."""
        places = torch.arange(len(self))[:: max(1, len(self) // LOOKED_AT)]
        if isinstance(self.x, Tensor):
            places = places.to(self.x.device)
        return torch.stack([b.x.double().sum(0) for b in self._batches(places.split(100))]).sum(0).float() / len(places)

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """As of any split, and moved: how is a function of seed, epoch and row, not of the place in a batch."""
        moving = self
        if self.flip or self.shift:
            number = int(np.random.SeedSequence((seed, epoch, 1)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(number)
            device = self.x.device if isinstance(self.x, Tensor) else torch.device("cpu")
            down, right = torch.randint(-self.shift, self.shift + 1, (2, len(self)), generator=generator).to(device)
            mirrored = torch.rand(len(self), generator=generator) < (0.5 if self.flip else 0.0)
            moving = replace(self, moves=Moves(down, right, mirrored.to(device)))
        yield from Split.shuffled(moving, batch_size, seed, epoch, start)

    def _batch(self, x: Tensor, index: Tensor | slice) -> Batch:
        if self.moves is not None and isinstance(index, Tensor):
            x = self.moves.of(x, index)
        return super()._batch(x, index)
