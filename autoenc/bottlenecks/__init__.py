"""Bottlenecks: features (B, *feature_shape) -> Code."""

from autoenc.bottlenecks.deterministic import Deterministic
from autoenc.bottlenecks.discrete import Binary, FiniteScalar, ResidualQuantized, VectorQuantized
from autoenc.bottlenecks.gaussian import Gaussian
from autoenc.bottlenecks.sparse import BatchTopK, Gated, JumpReLU, TopK

__all__ = [
    "BatchTopK",
    "Binary",
    "Deterministic",
    "FiniteScalar",
    "Gated",
    "Gaussian",
    "JumpReLU",
    "ResidualQuantized",
    "TopK",
    "VectorQuantized",
]
