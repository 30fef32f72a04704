"""Fully connected networks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Literal

from torch import nn

from autoenc.data.kinds.kind import Kind
from autoenc.errors import require
from autoenc.networks.parts import (
    ColumnLinear,
    EntriesSequential,
    Pair,
    VectorDecoder,
    activation_module,
    check_widths,
    input_module,
)

NORMS: dict[str, type[nn.Module]] = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


def mlp(
    input_shape: tuple[int, ...],
    latent_dim: int,
    hidden: Sequence[int] = (512, 256),
    decoder_hidden: Sequence[int] | None = None,
    activation: str = "relu",
    norm: Literal["none", "batch", "layer"] = "none",
    normalize: Literal["auto", "none", "center", "l2"] = "auto",
    encoder_bias: bool = True,
    kind: Kind | None = None,
) -> Pair:
    """Return layers of the given widths in the encoder, and in reverse order in the decoder.

    Args:
        hidden: widths from input to code.
        decoder_hidden: widths from code to output, if they are not those of `hidden` in reverse; []: an affine decoder.
        activation: after each hidden layer.
        norm: between each hidden layer and its activation.
        encoder_bias: False: an encoder without biases, which model=deep_svdd needs.
        normalize: see `parts.input_module`; auto: center, but l2 for word counts.
        kind: the kind of data.
    """
    hidden = list(hidden)
    check_widths("hidden", hidden)
    back = list(reversed(hidden)) if decoder_hidden is None else list(decoder_hidden)
    if back:
        check_widths("decoder_hidden", back)
    require(norm in NORMS, "norm", norm, f"must be one of {', '.join(NORMS)}")
    size = math.prod(input_shape)

    def layers(widths: list[int], bias: bool = True) -> Iterator[nn.Module]:
        for n_in, n_out in itertools.pairwise(widths):
            yield ColumnLinear(n_in, n_out, bias=bias and norm != "batch")
            if norm != "none":
                yield NORMS[norm](n_out)
            yield activation_module(activation)

    return Pair(
        encoder=nn.Sequential(
            input_module(normalize, size, kind, usual="center"), *layers([size, *hidden], encoder_bias)
        ),
        decoder=VectorDecoder(
            EntriesSequential(
                *layers([latent_dim, *back]), ColumnLinear([latent_dim, *back][-1], size), nn.Unflatten(-1, input_shape)
            )
        ),
        feature_shape=(hidden[-1],),
    )
