"""Encoder-decoder pairs and their common modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import Entries, EntriesDecoder
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

    The bottleneck between them has the last affine map of the encoder, since it determines the size of its output.
    feature_shape is (F,) and latent_shape (K,); or, for feature maps, (C, H, W) and (K, H, W).
    """

    encoder: nn.Module
    decoder: nn.Module
    feature_shape: tuple[int, ...]


class LeadingDims(nn.Module):
    """Applies a module for (B, *shape) to (*S, B, *shape), where shape has `dims` dimensions."""

    def __init__(self, module: nn.Module, dims: int = 1):
        super().__init__()
        self.module, self.dims = module, dims

    def forward(self, z: Tensor) -> Tensor:
        if z.dim() == 1 + self.dims:
            return self.module(z)
        return self.module(z.flatten(0, -1 - self.dims)).unflatten(0, z.shape[: -self.dims])


class ColumnLinear(nn.Linear):
    """x W^T + b, also for the non-zero entries of x: the sum of the columns of W that they select."""

    def columns(self, units: Tensor) -> Tensor:
        """Return columns of W as rows: (U,) -> (U, out_features)."""
        return self.weight.t().index_select(0, units)

    def of_entries(self, entries: Entries) -> Tensor:
        """Return what `forward` does for the dense x."""
        units, position = entries.units.unique(return_inverse=True)
        columns = self.columns(units)  # only those in use: 0.1 s of 16,384 units are 1 ms of 1,000
        values = entries.values.to(columns.dtype)
        out = F.embedding_bag(position, columns, per_sample_weights=values, mode="sum")
        return out if self.bias is None else out + self.bias


class EntriesSequential(nn.Sequential, EntriesDecoder):
    """Layers of which the first is a `ColumnLinear`."""

    def of_entries(self, entries: Entries) -> Tensor:
        first, *others = self
        assert isinstance(first, ColumnLinear)
        out = first.of_entries(entries)
        for layer in others:
            out = layer(out)
        return out


class VectorDecoder(LeadingDims, EntriesDecoder):
    """Layers (*S, K) -> (*S, *shape)."""

    module: EntriesSequential

    def of_entries(self, entries: Entries) -> Tensor:
        return self.module.of_entries(entries)


class UnitLength(nn.Module):
    """Each example divided by its Euclidean norm, (B, D) -> (B, D); zeros stay zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)


class Centered(nn.Module):
    """x less the mean of the training data, (B, D) -> (B, D); `initialization.start_at_mean` sets the mean.

    With inputs that are all positive, the weights of a unit can only increase or decrease together, which slows
    learning and lets whole layers of ReLUs die (LeCun et al. 1998, "Efficient BackProp", section 4.3).
    """

    mean: Tensor

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean


def input_module(normalize: Normalize, size: int, kind: Kind | None, usual: Normalize) -> nn.Module:
    """Return the normalization before the first layer of an encoder, (B, *input_shape) -> (B, size).

    Args:
        normalize: none; center: subtract the mean of the training data; l2: scale to norm 1, as in Mult-VAE (Liang et
            al. 2018), so that neither the length of a document nor the fraction that noise has masked matters; auto:
            the choice of the kind of data (l2 for word counts), else `usual`.

    Raises:
        ConfigError: normalize has another value.
    """
    choices: dict[str, list[nn.Module]] = {"none": [], "center": [Centered(size)], "l2": [UnitLength()]}
    require(normalize in ("auto", *choices), "normalize", normalize, f"must be one of auto, {', '.join(choices)}")
    by_default = usual if kind is None or kind.normalize is None else kind.normalize
    chosen = by_default if normalize == "auto" else normalize
    return nn.Sequential(nn.Flatten(), *choices[chosen])


def activation_module(name: str) -> nn.Module:
    """Return the activation of that name; ConfigError if there is none."""
    require(name in ACTIVATIONS, "activation", name, f"must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def check_widths(key: str, widths: list[int]) -> None:
    """Raise ConfigError for an empty list or a width below 1."""
    require(len(widths) > 0 and min(widths) >= 1, key, widths, "must be a list of widths, each 1 or more")
