"""Deterministic codes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from autoenc.bottlenecks.affine import affine, latent_shape_of
from autoenc.core import Bottleneck, Code
from autoenc.errors import require

INF = float("inf")
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
RANGES = {"identity": (-INF, INF), "relu": (0, INF), "sigmoid": (0, 1), "tanh": (-1, 1)}


class Deterministic(Bottleneck):
    """z = activation(W features + b), for feature maps at each position."""

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        activation: Literal["identity", "relu", "sigmoid", "tanh"] = "identity",
        bias: bool = True,
    ):
        super().__init__()
        require(activation in ACTIVATIONS, "activation", activation, f"must be one of {', '.join(ACTIVATIONS)}")
        self.latent_shape = latent_shape_of(feature_shape, latent_dim)
        self.code_range = RANGES[activation]
        self.linear = affine(feature_shape, latent_dim, bias)
        self.activation = ACTIVATIONS[activation]()

    def forward(self, features: Tensor) -> Code:
        pre = self.linear(features)
        z = self.activation(pre)
        return Code(z=z, mean=z, info={"pre": pre})
