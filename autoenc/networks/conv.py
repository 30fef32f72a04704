"""Convolutional networks for images of at least 8x8 pixels."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from autoenc.errors import ConfigError, require
from autoenc.networks.parts import LeadingDims, Pair, activation_module, check_widths

SMALLEST = 8


def _norm(kind: str, channels: int) -> list[nn.Module]:
    """Return the normalization layer, in a list that is empty if there is none."""
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    return [nn.GroupNorm(math.gcd(8, channels), channels)] if kind == "group" else []


def stage_sizes(part: str, input_shape: tuple[int, ...], channels: list[int]) -> list[tuple[int, int]]:
    """Return (H, W) of images before each stage and after the last; ConfigError if they are too small.

    Args:
        part: the name in messages.
    """
    check_widths("channels", channels)
    height, width = input_shape[1:]
    if min(height, width) < SMALLEST:
        raise ConfigError("", None, f"{part} needs images of at least {SMALLEST}x{SMALLEST}, got {height}x{width}")
    why = f"too many stages for images of {height}x{width}"
    require(2 ** len(channels) <= min(height, width), "channels", channels, why)
    sizes = [(height, width)]
    for _ in channels:
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    return sizes


def stages(
    depth: int,
    channels: Sequence[int],
    activation: Callable[[], nn.Module],
    kernel_size: int = 3,
    norm: Literal["none", "batch", "group"] = "group",
    bias: bool = True,
) -> list[list[nn.Module]]:
    """Return the layers of each stage: a convolution of stride 2, normalization and activation."""
    return [
        [
            nn.Conv2d(n_in, n_out, kernel_size, stride=2, padding=kernel_size // 2, bias=bias),
            *_norm(norm, n_out),
            activation(),
        ]
        for n_in, n_out in itertools.pairwise([depth, *channels])
    ]


def conv(
    input_shape: tuple[int, ...],
    latent_dim: int,
    channels: Sequence[int] = (32, 64),
    hidden: int | None = 512,
    kernel_size: int = 3,
    activation: str = "relu",
    norm: Literal["none", "batch", "group"] = "group",
    encoder_bias: bool = True,
    spatial: bool = False,
    upsampling: Literal["transposed", "nearest"] = "transposed",
) -> Pair:
    """Return strided convolutions, a layer on either side of the code, and convolutions that double height and width.

    Images have any height and width from 8; the decoder mirrors the sizes of the encoder.

    Args:
        channels: channels of each stage; a stage halves height and width (rounding up).
        hidden: width of the layer between feature map and code: fully connected, or a 1x1 convolution if `spatial`;
            None: no layer, the code is an affine map of the feature map.
        kernel_size: odd, for all convolutions.
        activation, norm: after each convolution but the last.
        encoder_bias: False: an encoder without biases, which model=deep_svdd needs.
        spatial: keep the feature map. The code is then a grid, (latent_dim, H, W) with the height and width of the last
            stage, and latent_dim channels.
        upsampling: transposed: convolutions of fractional stride. nearest: pixels are repeated, then a convolution of
            stride 1 follows, which adds up the same number of terms for every pixel; transposed convolutions do not,
            and a decoder that is trained against a critic shows it as a checkerboard (Odena et al. 2016).
    """
    channels = list(channels)
    require(hidden is None or hidden >= 1, "hidden", hidden, "must be 1 or more")
    require(kernel_size >= 3 and kernel_size % 2 == 1, "kernel_size", kernel_size, "must be odd and 3 or more")
    require(norm in ("none", "batch", "group"), "norm", norm, "must be one of none, batch, group")
    require(upsampling in ("transposed", "nearest"), "upsampling", upsampling, "must be transposed or nearest")
    if len(input_shape) != 3:
        raise ConfigError("", None, f"conv needs images; the data are vectors of {input_shape[0]} numbers: network=mlp")
    depth, *_ = input_shape
    sizes = stage_sizes("conv", input_shape, channels)
    smallest = (channels[-1], *sizes[-1])
    active = functools.partial(activation_module, activation)
    down = itertools.chain(*stages(depth, channels, active, kernel_size, norm, encoder_bias))
    padding = kernel_size // 2

    up: list[nn.Module] = []
    for i in reversed(range(len(channels))):
        n_out = channels[i - 1] if i > 0 else depth
        if upsampling == "nearest":
            up += [nn.Upsample(size=sizes[i]), nn.Conv2d(channels[i], n_out, kernel_size, padding=padding)]
        else:  # stride 2 maps n to 2 n - 1; output padding adds one pixel if the size is even
            pad = ((sizes[i][0] + 1) % 2, (sizes[i][1] + 1) % 2)
            layer = nn.ConvTranspose2d(channels[i], n_out, kernel_size, stride=2, padding=padding, output_padding=pad)
            up.append(layer)
        if i > 0:
            up += [*_norm(norm, n_out), activation_module(activation)]
    if spatial:
        into: list[nn.Module] = []
        out = [nn.Conv2d(hidden or latent_dim, channels[-1], 1), activation_module(activation)]
        if hidden is not None:
            into = [nn.Conv2d(channels[-1], hidden, 1, bias=encoder_bias), activation_module(activation)]
            out = [nn.Conv2d(latent_dim, hidden, 1), activation_module(activation), *out]
        return Pair(
            encoder=nn.Sequential(*down, *into),
            decoder=LeadingDims(nn.Sequential(*out, *up), dims=3),
            feature_shape=(hidden or channels[-1], *smallest[1:]),
        )
    size_of_map = math.prod(smallest)
    into = [nn.Flatten()]
    out = [nn.Linear(hidden or latent_dim, size_of_map), activation_module(activation)]
    if hidden is not None:
        into += [nn.Linear(size_of_map, hidden, encoder_bias), activation_module(activation)]
        out = [nn.Linear(latent_dim, hidden), activation_module(activation), *out]
    return Pair(
        encoder=nn.Sequential(*down, *into),
        decoder=LeadingDims(nn.Sequential(*out, nn.Unflatten(-1, smallest), *up)),
        feature_shape=(hidden or size_of_map,),
    )
