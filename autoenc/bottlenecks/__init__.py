"""Bottlenecks: features (B, *feature_shape) -> Code."""

from autoenc.bottlenecks.deterministic import Deterministic
from autoenc.bottlenecks.discrete import Binary, FiniteScalar, ResidualQuantized, VectorQuantized
from autoenc.bottlenecks.features import Features
from autoenc.bottlenecks.gaussian import Gaussian
from autoenc.bottlenecks.sparse import BatchTopK, Gated, JumpReLU, TopK

__all__ = [
    "BatchTopK",
    "Binary",
    "Deterministic",
    "Features",
    "FiniteScalar",
    "Gated",
    "Gaussian",
    "JumpReLU",
    "ResidualQuantized",
    "TopK",
    "VectorQuantized",
]
