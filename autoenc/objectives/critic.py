"""Critic of codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from torch import Tensor, nn

from autoenc.errors import require


class Critic(nn.Module):
    """Codes (B, *latent_shape) -> (B,) logits; see the objectives for the two classes.

    Args:
        hidden: widths of the hidden layers, with leaky ReLUs between.
    """

    def __init__(self, latent_shape: tuple[int, ...], hidden: Sequence[int] = (128, 128)):
        super().__init__()
        require(len(hidden) > 0 and min(hidden) >= 1, "hidden", hidden, "must be a list of widths, each 1 or more")
        widths = [math.prod(latent_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).squeeze(1).float()
