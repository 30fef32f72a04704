"""Random translation and mirroring of training images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.split import Split

MEAN_OF = 1_000  # examples; each may have to be decoded


@dataclass(frozen=True)
class Shifts:
    """Translation and mirroring of each example in one epoch."""

    down: Tensor  # (N,) int64 pixels, as right
    right: Tensor
    mirrored: Tensor  # (N,) bool

    def apply(self, x: Tensor, index: Tensor) -> Tensor:
        """Transform the examples x (B, C, H, W) at `index`; edges are reflected (v2.RandomCrop, padding "reflect")."""
        columns = _sources(x.shape[3], self.right[index])  # (B, W)
        columns = torch.where(self.mirrored[index, None], columns.flip(1), columns)
        rows = _sources(x.shape[2], self.down[index])  # (B, H)
        batch, channels = (torch.arange(n, device=x.device) for n in x.shape[:2])
        return x[batch[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _sources(size: int, shift: Tensor) -> Tensor:
    """Return the source row or column of each row or column of shifted images: (B, size)."""
    source = (torch.arange(size, device=shift.device) + shift[:, None]).abs()
    return size - 1 - (size - 1 - source).abs()


@dataclass(frozen=True)
class AugmentedImages(Split):
    """Images in [0, 1], augmented in `shuffled` and nowhere else.

    Args:
        flip: mirror horizontally with probability 1/2. shift: translate by up to this many pixels in each direction.
        shifts: of the current epoch.
    """

    flip: bool = False
    shift: int = 0
    shifts: Shifts | None = None

    @property
    def redrawn(self) -> bool:
        """Whether images are augmented."""
        return self.flip or self.shift > 0

    def range(self) -> tuple[float, float]:
        """Return (0, 1), without decoding."""
        return 0.0, 1.0

    def mean(self) -> Tensor:
        """Return the mean (*shape) of up to 1,000 examples, spread over the split."""
        index = torch.arange(len(self))[:: max(1, len(self) // MEAN_OF)]
        if isinstance(self.x, Tensor):
            index = index.to(self.x.device)
        return torch.stack([b.x.double().sum(0) for b in self._batches(index.split(100))]).sum(0).float() / len(index)

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield augmented batches; the augmentation is a function of seed, epoch and row, not of the batch."""
        split = self
        if self.redrawn:
            number = int(np.random.SeedSequence((seed, epoch, 1)).generate_state(1)[0])
            generator = torch.Generator().manual_seed(number)
            device = self.x.device if isinstance(self.x, Tensor) else torch.device("cpu")
            down, right = torch.randint(-self.shift, self.shift + 1, (2, len(self)), generator=generator).to(device)
            mirrored = torch.rand(len(self), generator=generator) < (0.5 if self.flip else 0.0)
            split = replace(self, shifts=Shifts(down, right, mirrored.to(device)))
        yield from Split.shuffled(split, batch_size, seed, epoch, start)

    def _batch(self, x: Tensor, index: Tensor | slice) -> Batch:
        if self.shifts is not None and isinstance(index, Tensor):
            x = self.shifts.apply(x, index)
        return super()._batch(x, index)
