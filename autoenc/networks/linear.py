"""The network without hidden layers: with a Gaussian likelihood, its optimum spans the principal subspace."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.data.kinds.kind import Kind
from autoenc.networks.parts import Pair, input_module


class UnitNormLinear(nn.Linear):
    """x W^T + b with every column of W scaled to norm 1: a dictionary whose atoms cannot grow.

    Without it an L1 penalty on the code is void: the code shrinks, the atoms grow by as much.
    """

    @property
    def atoms(self) -> Tensor:
        """(out_features, in_features): a column for each unit of the code."""
        return F.normalize(self.weight, dim=0)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.atoms, self.bias)


def linear(
    input_shape: tuple[int, ...],
    latent_dim: int,
    unit_norm: bool = False,
    normalize: Literal["auto", "none", "center", "l2"] = "auto",
    kind: Kind | None = None,
) -> Pair:
    """Baldi & Hornik 1989: the linear autoencoder.

    Args:
        unit_norm: keep the columns of the decoder's weight at norm 1 (the atoms of a dictionary).
        normalize: see `pair.input_module`; auto: none, but l2 of counts of words.
        kind: of data.
    """
    size = math.prod(input_shape)
    layer = UnitNormLinear if unit_norm else nn.Linear
    return Pair(
        encoder=input_module(normalize, size, kind, usual="none"),
        decoder=nn.Sequential(layer(latent_dim, size), nn.Unflatten(-1, input_shape)),
        feature_shape=(size,),
    )
