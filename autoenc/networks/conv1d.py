"""Convolutional networks for series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from autoenc.errors import ConfigError, require
from autoenc.networks.conv import convolutional
from autoenc.networks.parts import Pair, activation_module


class Dilated(nn.Module):
    """x + conv(activation(x)), a dilated convolution that keeps the length: (B, C, T) -> (B, C, T).

    Several with dilations 1, 2, 4 ... see exponentially many steps (van den Oord et al. 2016; Bai et al. 2018).
    """

    def __init__(self, channels: int, kernel_size: int, dilation: int, activation: str):
        super().__init__()
        self.activation = activation_module(activation)
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=dilation * (kernel_size // 2), dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.activation(x))


def conv1d(
    input_shape: tuple[int, ...],
    latent_dim: int,
    channels: Sequence[int] = (32, 64),
    hidden: int | None = 128,
    kernel_size: int = 5,
    dilations: Sequence[int] = (),
    activation: str = "relu",
    norm: Literal["none", "batch", "group"] = "group",
    encoder_bias: bool = True,
    spatial: bool = False,
    upsampling: Literal["transposed", "nearest"] = "transposed",
) -> Pair:
    """Return strided convolutions over time, a layer on either side of the code, and transposed convolutions.

    Windows have any length from 8; the decoder mirrors the lengths of the encoder.

    Args:
        channels: channels of each stage; a stage halves the length (rounding up).
        hidden: width of the layer between feature map and code; see `conv`. None: no layer.
        kernel_size: odd, for all convolutions.
        dilations: of the convolutions with a residual connection after each stage, and before each of the decoder.
        activation, norm, encoder_bias, upsampling: see `conv`.
        spatial: keep the feature map. The code is then (latent_dim, T') with the length T' of the last stage.

    Raises:
        ConfigError: data that are not series, or a value out of range.
    """
    if len(input_shape) != 2:
        other = "images: network=conv" if len(input_shape) == 3 else f"vectors of {input_shape[0]} numbers: network=mlp"
        raise ConfigError("", None, f"conv1d needs series; the data are {other}")
    dilations = list(dilations)
    require(all(each >= 1 for each in dilations), "dilations", dilations, "must be a list of numbers, each 1 or more")
    if dilations and not encoder_bias:
        raise ConfigError("dilations", dilations, "have biases; network.encoder_bias=true, or network.dilations=[]")
    return convolutional(
        "conv1d",
        input_shape,
        latent_dim,
        channels,
        hidden,
        kernel_size,
        activation,
        norm,
        encoder_bias,
        spatial,
        upsampling,
        lambda width: [Dilated(width, kernel_size, each, activation) for each in dilations],
    )
