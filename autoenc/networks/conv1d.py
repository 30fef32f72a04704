"""Convolutional networks for series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from autoenc.errors import ConfigError
from autoenc.networks.conv import conv
from autoenc.networks.parts import Pair


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
    """Return `conv` over time; ConfigError for data that are not series.

    Windows have any length from 8. The code is (latent_dim, T') if `spatial`, with the length T' of the last stage.
    """
    if len(input_shape) != 2:
        other = "images: network=conv" if len(input_shape) == 3 else f"vectors of {input_shape[0]} numbers: network=mlp"
        raise ConfigError("", None, f"conv1d needs series; the data are {other}")
    return conv(
        input_shape, latent_dim, channels, hidden, kernel_size, dilations, activation, norm, encoder_bias, spatial,
        upsampling,
    )  # fmt: skip
