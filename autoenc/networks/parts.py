"""What a network is to the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.data.kinds.kind import Kind
from autoenc.errors import require

Normalize = Literal["auto", "none", "center", "l2"]

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
    """An encoder, (B, *input_shape) -> (B, *feature_shape), and a decoder, (*S, *latent_shape) -> (*S, *input_shape).

    The bottleneck between them owns the last affine map of the encoder: it knows how many numbers a code needs.
    feature_shape is (F,), and latent_shape (K,); or (C, H, W) of a feature map, and latent_shape (K, H, W).
    """

    encoder: nn.Module
    decoder: nn.Module
    feature_shape: tuple[int, ...]


class LeadingDims(nn.Module):
    """Lets a module for (B, *shape) work on (*S, B, *shape), where shape has `dims` dimensions."""

    def __init__(self, module: nn.Module, dims: int = 1):
        super().__init__()
        self.module, self.dims = module, dims

    def forward(self, z: Tensor) -> Tensor:
        if z.dim() == 1 + self.dims:
            return self.module(z)
        return self.module(z.flatten(0, -1 - self.dims)).unflatten(0, z.shape[: -self.dims])


class UnitLength(nn.Module):
    """Each example divided by its Euclidean length; zeros stay zeros. (B, D) -> (B, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class Centered(nn.Module):
    """x less the mean of the training data, which `initialization.start_at_mean` puts here. (B, D) -> (B, D).

    Pixels are all positive: what a weight learns from one it learns from all, whole layers of ReLUs move into the
    negative at once, and stay there (LeCun et al. 1998, "Efficient BackProp", section 4.3).
    """

    mean: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def input_module(normalize: Normalize, size: int, kind: Kind | None, usual: Normalize) -> nn.Module:
    """(B, *input_shape) -> (B, size): what the first layer of an encoder reads.

    Args:
        normalize: none: x as it is. center: less the mean of the training data. l2: of length 1, as Mult-VAE has it
            (Liang et al. 2018): how long a document is does not matter, nor how much of it noise has masked; counts as
            they are let one long document spoil the training. auto: l2 of counts of words, else the usual.
        kind: of data; it may say what is usual for it.

    Raises:
        ConfigError: another name.
    """
    choices: dict[str, list[nn.Module]] = {"none": [], "center": [Centered(size)], "l2": [UnitLength()]}
    require(normalize in ("auto", *choices), "normalize", normalize, f"must be one of auto, {', '.join(choices)}")
    by_default = usual if kind is None or kind.normalize is None else kind.normalize
    chosen = by_default if normalize == "auto" else normalize
    return nn.Sequential(nn.Flatten(), *choices[chosen])


def activation_module(name: str) -> nn.Module:
    """The activation of that name; ConfigError for another."""
    require(name in ACTIVATIONS, "activation", name, f"must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def check_widths(key: str, widths: list[int]) -> None:
    """ConfigError unless there is a width at all and each is 1 or more."""
    require(len(widths) > 0 and min(widths) >= 1, key, widths, "must be a list of widths, each 1 or more")
