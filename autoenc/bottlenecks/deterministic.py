"""The plain code: an affine map of the features and an activation."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from autoenc.core import Bottleneck, Code
from autoenc.errors import require

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


class Deterministic(Bottleneck):
    """z = activation(W features + b)."""

    def __init__(
        self,
        num_features: int,
        latent_dim: int,
        activation: Literal["identity", "relu", "sigmoid", "tanh"] = "identity",
    ):
        super().__init__()
        require(activation in ACTIVATIONS, "activation", activation, f"must be one of {', '.join(ACTIVATIONS)}")
        self.linear = nn.Linear(num_features, latent_dim)
        self.name, self.activation = activation, ACTIVATIONS[activation]()

    @property
    def code_range(self) -> tuple[float, float]:
        """The open interval that the code lies in."""
        inf = float("inf")
        return {"identity": (-inf, inf), "relu": (0, inf), "sigmoid": (0, 1), "tanh": (-1, 1)}[self.name]

    def forward(self, features: Tensor) -> Code:
        z = self.activation(self.linear(features))
        return Code(z=z, mean=z)
