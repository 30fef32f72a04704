"""Convolutional networks for images of at least 8x8 pixels, and series of at least 8 steps."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from autoenc.errors import ConfigError, require
from autoenc.networks.parts import LeadingDims, Pair, activation_module, check_widths

SMALLEST = 8
CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
BATCH: dict[int, type[nn.BatchNorm1d | nn.BatchNorm2d]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
NOUNS = {1: ("windows", " steps"), 2: ("images", "")}


def _norm(kind: str, channels: int, size: tuple[int, ...]) -> list[nn.Module]:
    """Return the normalization layer of maps of a size, in a list that is empty if there is none.

    There are 8 groups, or 1 if these would have a value or two each: one normalized by itself is 0, two are signs.
    """
    if kind == "batch":
        return [BATCH[len(size)](channels)]
    if kind != "group":
        return []
    groups, values = math.gcd(8, channels), channels * math.prod(size)
    why = f"the last stage has {values} values, and what tells examples apart would be normalized away; norm=none"
    require(values > 2, "channels", channels, why)
    return [nn.GroupNorm(groups if values > 2 * groups else 1, channels)]


def stage_sizes(part: str, input_shape: tuple[int, ...], channels: list[int]) -> list[tuple[int, ...]]:
    """Return the size, (H, W) of images or (T,) of series, before each stage and after the last.

    Args:
        part: the name in messages.

    Raises:
        ConfigError: the examples are too small.
    """
    check_widths("channels", channels)
    size = tuple(input_shape[1:])
    noun, unit = NOUNS[len(size)]
    found = "x".join(map(str, size))
    if min(size) < SMALLEST:
        least = "x".join([str(SMALLEST)] * len(size))
        raise ConfigError("", None, f"{part} needs {noun} of at least {least}{unit}, got {found}")
    require(2 ** len(channels) <= min(size), "channels", channels, f"too many stages for {noun} of {found}{unit}")
    sizes = [size]
    for _ in channels:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


def stages(
    depth: int,
    channels: Sequence[int],
    sizes: Sequence[tuple[int, ...]],
    activation: Callable[[], nn.Module],
    kernel_size: int = 3,
    norm: Literal["none", "batch", "group"] = "group",
    bias: bool = True,
) -> list[list[nn.Module]]:
    """Return the layers of each stage: a convolution of stride 2, normalization and activation.

    Args:
        sizes: (H, W) of images or (T,) of series after each stage.
    """
    return [
        [
            CONV[len(size)](n_in, n_out, kernel_size, stride=2, padding=kernel_size // 2, bias=bias),
            *_norm(norm, n_out, size),
            activation(),
        ]
        for (n_in, n_out), size in zip(itertools.pairwise([depth, *channels]), sizes, strict=True)
    ]


class Dilated(nn.Module):
    """x + conv(activation(x)), a dilated convolution that keeps the shape: (B, C, T) or (B, C, H, W).

    Several with dilations 1, 2, 4 ... see exponentially many steps (van den Oord et al. 2016; Bai et al. 2018).
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, activation: str, dims: int = 1):
        super().__init__()
        self.activation = activation_module(activation)
        self.conv = CONV[dims](
            channels, channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.activation(x))


def conv(
    input_shape: tuple[int, ...],
    latent_dim: int,
    channels: Sequence[int] = (32, 64),
    hidden: int | None = 512,
    kernel_size: int = 3,
    dilations: Sequence[int] = (),
    activation: str = "relu",
    norm: Literal["none", "batch", "group"] = "group",
    encoder_bias: bool = True,
    spatial: bool = False,
    upsampling: Literal["transposed", "nearest"] = "transposed",
) -> Pair:
    """Return strided convolutions, a layer on either side of the code, and convolutions that double height and width.

    Images have any height and width from 8; the decoder mirrors the sizes of the encoder. Series (C, T) are images with
    one axis.

    Args:
        channels: channels of each stage; a stage halves height and width (rounding up).
        hidden: width of the layer between feature map and code: fully connected, or a 1x1 convolution if `spatial`;
            None: no layer, the code is an affine map of the feature map.
        kernel_size: odd, for all convolutions.
        dilations: of the convolutions with a residual connection after each stage, and before each of the decoder.
        activation, norm: after each convolution but the last.
        encoder_bias: False: an encoder without biases, which model=deep_svdd needs.
        spatial: keep the feature map. The code is then a grid, (latent_dim, H, W) with the height and width of the last
            stage, and latent_dim channels.
        upsampling: transposed: convolutions of fractional stride. nearest: pixels are repeated, then a convolution of
            stride 1 follows, which adds up the same number of terms for every pixel; transposed convolutions do not,
            and a decoder that is trained against a critic shows it as a checkerboard (Odena et al. 2016).

    Raises:
        ConfigError: vectors, examples that are too small, or a value out of range.
    """
    if len(input_shape) == 1:
        why = f"conv needs images or series; the data are vectors of {input_shape[0]} numbers: network=mlp"
        raise ConfigError("", None, why)
    channels, dilations, dims = list(channels), list(dilations), len(input_shape) - 1
    require(hidden is None or hidden >= 1, "hidden", hidden, "must be 1 or more")
    require(kernel_size >= 3 and kernel_size % 2 == 1, "kernel_size", kernel_size, "must be odd and 3 or more")
    require(norm in ("none", "batch", "group"), "norm", norm, "must be one of none, batch, group")
    require(upsampling in ("transposed", "nearest"), "upsampling", upsampling, "must be transposed or nearest")
    require(all(each >= 1 for each in dilations), "dilations", dilations, "must be a list of numbers, each 1 or more")
    if dilations and not encoder_bias:
        raise ConfigError("dilations", dilations, "have biases; network.encoder_bias=true, or network.dilations=[]")

    def between(width: int) -> list[nn.Module]:
        return [Dilated(width, kernel_size, each, activation, dims) for each in dilations]

    depth = input_shape[0]
    sizes = stage_sizes("conv", input_shape, channels)
    smallest = (channels[-1], *sizes[-1])
    active = functools.partial(activation_module, activation)
    built = stages(depth, channels, sizes[1:], active, kernel_size, norm, encoder_bias)
    down = [layer for stage, width in zip(built, channels, strict=True) for layer in (*stage, *between(width))]
    padding = kernel_size // 2

    up: list[nn.Module] = []
    for i in reversed(range(len(channels))):
        n_out = channels[i - 1] if i > 0 else depth
        up += between(channels[i])
        if upsampling == "nearest":
            up += [nn.Upsample(size=sizes[i]), CONV[dims](channels[i], n_out, kernel_size, padding=padding)]
        else:  # stride 2 maps n to 2 n - 1; output padding adds one if the size is even
            pad = tuple((side + 1) % 2 for side in sizes[i])
            transposed = TRANSPOSED[dims]
            up.append(transposed(channels[i], n_out, kernel_size, stride=2, padding=padding, output_padding=pad))
        if i > 0:
            up += [*_norm(norm, n_out, sizes[i]), activation_module(activation)]
    if spatial:
        one = functools.partial(CONV[dims], kernel_size=1)
        into: list[nn.Module] = []
        out: list[nn.Module] = [one(hidden or latent_dim, channels[-1]), activation_module(activation)]
        if hidden is not None:
            into = [one(channels[-1], hidden, bias=encoder_bias), activation_module(activation)]
            out = [one(latent_dim, hidden), activation_module(activation), *out]
        return Pair(
            encoder=nn.Sequential(*down, *into),
            decoder=LeadingDims(nn.Sequential(*out, *up), dims=1 + dims),
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
