"""Vision Transformer (Dosovitskiy et al. 2021), for any examples that are cut into tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from autoenc.data.kinds.kind import Column
from autoenc.errors import require
from autoenc.networks.attention import Block
from autoenc.networks.parts import Centered, LeadingDims, Pair
from autoenc.networks.patches import Patches


class PatchEncoder(nn.Module):
    """Transformer of the tokens of an example, and the means of its outputs over regions of the example."""

    region: Tensor  # (T,) of each token

    def __init__(self, patches: Patches, size: int, width: int, layers: int, heads: int, pool: int):
        super().__init__()
        self.patches, self.width = patches, width
        self.register_buffer("region", patches.regions(pool), persistent=False)
        self.regions = pool ** patches.coordinates.shape[1]
        self.centered = Centered(size)
        self.embed, self.position = patches.map(patches.values, width), patches.positions(width)
        self.blocks = nn.ModuleList(Block(width, heads, 0.0) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return features, the means of the outputs over each region: (B, *shape) -> (B, R W).

        Args:
            keep: (B, V) numbers of the visible tokens. Only these pass through the layers; their outputs (B, V, W) are
                returned, for `pooled`.
        """
        tokens = self.embed(self.patches.split(self.centered(x.flatten(1)))) + self.position  # (B, T, W)
        if keep is not None:
            tokens = tokens.gather(1, keep[..., None].expand(-1, -1, self.width))
        for block in self.blocks:
            tokens, _ = block(tokens, None)
        tokens = self.norm(tokens)
        return self.pooled(tokens) if keep is None else tokens

    def pooled(self, tokens: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the means of tokens over regions, 0 for regions without any: (B, V, W) -> (B, R W).

        Args:
            keep: (B, V) numbers of the tokens; None: all.
        """
        region = self.region[None] if keep is None else self.region[keep]
        share = nn.functional.one_hot(region, self.regions).to(tokens.dtype).transpose(1, 2)  # (B, R, V)
        share = share / share.sum(-1, keepdim=True).clamp(min=1)
        return (share @ tokens).flatten(1)


def vit(
    input_shape: tuple[int, ...],
    latent_dim: int,
    patch: int | None = None,
    width: int = 128,
    layers: int = 4,
    heads: int = 4,
    pool: int = 1,
    decoder_hidden: int = 512,
    columns: Sequence[Column] = (),
) -> Pair:
    """Return a Transformer of tokens as the encoder, and a decoder with one hidden layer.

    Args:
        patch: side of a patch in pixels, or the number of steps or values of a token; see `Patches`.
        width, layers, heads: of the encoder.
        pool: the features are the means of the outputs over pool x pool regions of an image, `pool` parts of a series
            or a vector; 1: over all tokens.
        decoder_hidden: width of the decoder's hidden layer.
        columns: of a table, each of which is a token.

    Raises:
        ConfigError: a value out of range, or a patch that does not divide the size of the examples.
    """
    sizes = (("width", width), ("layers", layers), ("heads", heads), ("decoder_hidden", decoder_hidden))
    for key, value in sizes:
        require(value >= 1, key, value, "must be 1 or more")
    require(width % heads == 0, "heads", heads, f"must divide network.width={width}")
    patches, size = Patches(input_shape, patch, columns), math.prod(input_shape)
    shortest = int((patches.coordinates.amax(0) + 1).min())
    require(1 <= pool <= shortest, "pool", pool, f"must lie in 1 to {shortest}, the tokens along the shorter side")
    decoder = nn.Sequential(
        nn.Linear(latent_dim, decoder_hidden), nn.GELU(), nn.Linear(decoder_hidden, size), nn.Unflatten(-1, input_shape)
    )
    encoder = PatchEncoder(patches, size, width, layers, heads, pool)
    return Pair(encoder, LeadingDims(decoder), feature_shape=(encoder.regions * width,))
