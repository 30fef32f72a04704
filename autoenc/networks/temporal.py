"""Recurrent networks and Transformers over the time steps of series; layers are those of texts (sequence.py)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from autoenc.errors import ConfigError, require
from autoenc.networks.attention import check_layers, positions
from autoenc.networks.parts import LeadingDims, Pair
from autoenc.networks.sequence import AttentionEncoder, GRUEncoder


class TimeEncoder(nn.Module):
    """Features of series (B, C, T), each group of `patch` steps a position.

    Args:
        pooled: return the maximum over positions (B, F); else the features of each (B, F, T').
    """

    def __init__(self, layers: GRUEncoder | AttentionEncoder, patch: int, pooled: bool):
        super().__init__()
        self.layers, self.patch, self.pooled = layers, patch, pooled

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.layers.dropout(self.layers.embedding(patched(x, self.patch)))
        real = torch.ones(inputs.shape[:2], dtype=torch.bool, device=x.device)
        out = self.layers.read(inputs, real)
        return out.amax(1) if self.pooled else out.transpose(1, 2)


class TimeDecoder(nn.Module):
    """Series from a code (B, K), which each position reads, or from the codes of the positions (B, K, T').

    All steps are decoded at once, none from the steps before: the code alone has to explain the series.
    """

    def __init__(self, layers: GRUEncoder | AttentionEncoder, shape: tuple[int, ...], patch: int, width: int):
        super().__init__()
        self.layers, self.shape, self.patch, self.width = layers, shape, patch, width
        self.out = nn.Linear(width, patch * shape[0])

    def forward(self, z: Tensor) -> Tensor:
        count = -(-self.shape[1] // self.patch)
        inputs = z[:, None].expand(-1, count, -1) if z.dim() == 2 else z.transpose(1, 2)
        hidden = self.layers.embedding(inputs)
        hidden = self.layers.dropout(hidden + positions(0, count, self.width, hidden))
        real = torch.ones(hidden.shape[:2], dtype=torch.bool, device=z.device)
        out = self.out(self.layers.read(hidden, real))  # (B, T', patch C)
        return out.unflatten(-1, (self.patch, -1)).flatten(1, 2)[:, : self.shape[1]].transpose(1, 2)


def patched(x: Tensor, patch: int) -> Tensor:
    """Return groups of steps, the last of them padded with the last step: (B, C, T) -> (B, T', patch C)."""
    if rest := -x.shape[2] % patch:
        x = torch.cat([x, x[:, :, -1:].expand(-1, -1, rest)], 2)
    return x.transpose(1, 2).unflatten(1, (-1, patch)).flatten(2)


def temporal(
    input_shape: tuple[int, ...],
    latent_dim: int,
    cell: Literal["gru", "transformer"] = "gru",
    patch: int = 1,
    width: int = 64,
    layers: int = 1,
    heads: int = 4,
    dropout: float = 0.0,
    spatial: bool = False,
) -> Pair:
    """Return bidirectional layers over time in encoder and decoder.

    Args:
        cell: gru or transformer, with `layers` layers in encoder and decoder.
        patch: steps of a position; the cost of attention grows with the square of the number of positions.
        width: of the layers. heads: of attention; twice their number divides the width.
        dropout: of the inputs and between layers.
        spatial: a code for each position, (latent_dim, T'), T' the number of steps divided by `patch`, rounded up.

    Raises:
        ConfigError: data that are not series, or a value out of range.
    """
    if len(input_shape) != 2:
        other = "images: network=conv" if len(input_shape) == 3 else "texts or vectors: network=sequence or network=mlp"
        raise ConfigError("", None, f"{cell} reads series; the data are {other}")
    check_layers(cell, patch=patch, width=width, layers=layers, heads=heads)
    require(patch <= input_shape[1], "patch", patch, f"must be at most the {input_shape[1]} steps of a window")
    require(0 <= dropout < 1, "dropout", dropout, "must lie in [0, 1)")
    require(width % 2 == 0, "width", width, "must be even")
    require(cell == "gru" or width % (2 * heads) == 0, "heads", heads, f"twice their number must divide width={width}")

    def read(size: int) -> GRUEncoder | AttentionEncoder:
        embed = nn.Linear(size, width)
        if cell == "gru":
            return GRUEncoder(embed, width, width, layers, dropout)
        return AttentionEncoder(embed, width, width, layers, dropout, heads)

    channels, steps = input_shape
    encoder = TimeEncoder(read(patch * channels), patch, pooled=not spatial)
    decoder = TimeDecoder(read(latent_dim), input_shape, patch, width)
    shape = (width, math.ceil(steps / patch)) if spatial else (width,)
    return Pair(encoder, LeadingDims(decoder, dims=len(shape)), feature_shape=shape)
