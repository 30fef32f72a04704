"""Grey images as draws of black and white, anew at each step of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.split import Split, shuffled_indices


@dataclass(frozen=True)
class BinarizedImages(Split):
    """Images whose pixels are 1 with the grey value as the probability (Salakhutdinov & Murray 2008).

    `x` is one draw, from a fixed seed: what everything but training sees. `shuffled` draws anew.

    Args:
        grey: (N, C, H, W) uint8, 255 is certainly 1.
    """

    grey: Tensor | None = None

    @property
    def redrawn(self) -> bool:
        """True: each epoch has draws of its own."""
        return True

    @classmethod
    def of(cls, split: Split, seed: int) -> BinarizedImages:
        """Return a split of uint8 grey values in [0, 255] as draws."""
        uniform = torch.rand(split.tensor.shape, generator=torch.Generator().manual_seed(seed))
        return cls((uniform * 255 < split.tensor).to(torch.uint8), split.y, grey=split.tensor)

    def subset(self, index: Tensor | slice) -> BinarizedImages:
        assert self.grey is not None
        return self._with(super().subset(index), self.grey[index])

    def on(self, device: torch.device) -> BinarizedImages:
        assert self.grey is not None
        moved = super().on(device)
        return self._with(moved, self.grey.to(moved.tensor.device))

    @staticmethod
    def _with(split: Split, grey: Tensor) -> BinarizedImages:
        return BinarizedImages(split.x, split.y, split.scale, split.device, grey)

    def shuffled(self, batch_size: int, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield new draws; they are a function of seed, epoch and number of the batch."""
        assert self.grey is not None
        device = self.tensor.device
        for number, index in enumerate(shuffled_indices(len(self), batch_size, seed, epoch, device)[start:], start):
            key = int(np.random.SeedSequence((seed, epoch, number, 2)).generate_state(1)[0])
            batch, p = self.take(index), self.grey.index_select(0, index).to(self.device or device)
            generator = torch.Generator(p.device).manual_seed(key)
            uniform = torch.rand(p.shape, generator=generator, device=p.device)
            yield replace(batch, x=(uniform * 255 < p).float())
