"""Critic of images and series, which also gives features."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from autoenc.errors import require
from autoenc.networks.conv import CONV, stage_sizes, stages


class ImageCritic(nn.Module):
    """Images (B, C, H, W) or series (B, C, T), of any size from 8x8 or 8 -> logits, by way of features.

    Convolutions of stride 2, with normalization in all stages but the first, as in DCGAN (Radford et al. 2016): the
    contrast of an image, which normalization removes, is part of what tells it apart. Groups of channels are
    normalized, not batches, so that logits and features of an image do not depend on other images.

    Args:
        channels: of each stage; a stage halves height and width (rounding up).
        layer: the stage whose output `features` returns, from 1.
        patches: give a logit for each position of the last stage, (B, H', W') or (B, T') (Isola et al. 2017), not one
            for the example, (B,).
    """

    def __init__(self, input_shape: tuple[int, ...], channels: Sequence[int], layer: int = 1, patches: bool = False):
        super().__init__()
        shape, dims = tuple(input_shape), len(input_shape) - 1
        why = f"the critic needs images or series; an example of the data has shape {shape}; model=vae needs none"
        require(dims in (1, 2), "", None, why)
        channels = list(channels)
        sizes = stage_sizes("the critic", input_shape, channels)[1:]
        require(1 <= layer <= len(channels), "layer", layer, f"must be from 1 to {len(channels)}, the number of stages")
        leaky = functools.partial(nn.LeakyReLU, 0.2)
        first = stages(input_shape[0], channels[:1], sizes[:1], leaky, norm="none")
        built = [nn.Sequential(*stage) for stage in [*first, *stages(channels[0], channels[1:], sizes[1:], leaky)]]
        if patches:
            head = nn.Sequential(CONV[dims](channels[-1], 1, 3, padding=1), nn.Flatten(1, 2))
        else:
            head = nn.Sequential(nn.Flatten(), nn.Linear(channels[-1] * math.prod(sizes[-1]), 1), nn.Flatten(0))
        self.below, self.above = nn.Sequential(*built[:layer]), nn.Sequential(*built[layer:], head)

    def features(self, x: Tensor) -> Tensor:
        """Return the output of the stage `layer`: (B, C, H, W) -> (B, C', H', W')."""
        return self.below(x)

    def logits(self, features: Tensor) -> Tensor:
        """Return the logits for these features."""
        return self.above(features).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.features(x))
