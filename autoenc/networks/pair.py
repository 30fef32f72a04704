"""What a network is to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.errors import require

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


@dataclass(frozen=True)
class Pair:
    """An encoder, (B, *input_shape) -> (B, num_features), and a decoder, (*S, latent_dim) -> (*S, *input_shape).

    The bottleneck owns the last affine map of the encoder: it knows how many numbers a code needs.
    """

    encoder: nn.Module
    decoder: nn.Module
    num_features: int


class LeadingDims(nn.Module):
    """Lets a module for (B, D) work on (*S, B, D)."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        if z.dim() == 2:
            return self.module(z)
        return self.module(z.flatten(0, -2)).unflatten(0, z.shape[:-1])


class UnitLength(nn.Module):
    """Each example divided by its Euclidean length; zeros stay zeros. (B, D) -> (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


def input_module(normalize: str) -> nn.Module:
    """(B, *input_shape) -> (B, D), as it is (none) or of length 1 (l2); ConfigError for another."""
    require(normalize in ("none", "l2"), "normalize", normalize, "must be none or l2")
    return nn.Flatten() if normalize == "none" else nn.Sequential(nn.Flatten(), UnitLength())


def activation_module(name: str) -> nn.Module:
    """The activation of that name; ConfigError for another."""
    require(name in ACTIVATIONS, "activation", name, f"must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def check_widths(key: str, widths: list[int]) -> None:
    """ConfigError unless there is a width at all and each is 1 or more."""
    require(len(widths) > 0 and min(widths) >= 1, key, widths, "must be a list of widths, each 1 or more")
