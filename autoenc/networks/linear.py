"""Network without hidden layers; with a Gaussian likelihood, its optimum spans the principal subspace."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.data.kinds.kind import Kind
from autoenc.networks.parts import ColumnLinear, EntriesSequential, Pair, input_module


class UnitNormLinear(ColumnLinear):
    """x W^T + b with every column of W scaled to norm 1: a dictionary.

    With atoms of any norm, an L1 penalty on the code has no effect: the code shrinks and the atoms grow.
    """

    @property
    def atoms(self) -> Tensor:
        """The dictionary (out_features, in_features), a column for each unit of the code."""
        return F.normalize(self.weight, dim=0)

    def columns(self, units: Tensor) -> Tensor:
        return F.normalize(super().columns(units), dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.atoms, self.bias)


def linear(
    input_shape: tuple[int, ...],
    latent_dim: int,
    unit_norm: bool = False,
    normalize: Literal["auto", "none", "center", "l2"] = "auto",
    kind: Kind | None = None,
) -> Pair:
    """Return the linear autoencoder (Baldi & Hornik 1989).

    Args:
        unit_norm: scale the columns of the decoder's weight, the atoms of a dictionary, to norm 1.
        normalize: see `parts.input_module`; auto: none, but l2 for word counts.
        kind: the kind of data.
    """
    size = math.prod(input_shape)
    layer = UnitNormLinear if unit_norm else ColumnLinear
    return Pair(
        encoder=input_module(normalize, size, kind, usual="none"),
        decoder=EntriesSequential(layer(latent_dim, size), nn.Unflatten(-1, input_shape)),
        feature_shape=(size,),
    )
