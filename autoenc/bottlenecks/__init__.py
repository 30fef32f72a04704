"""Bottlenecks: features (B, *feature_shape) -> Code."""

from autoenc.bottlenecks.deterministic import Deterministic
from autoenc.bottlenecks.gaussian import Gaussian
from autoenc.bottlenecks.quantized import VectorQuantized
from autoenc.bottlenecks.sparse import BatchTopK, Gated, JumpReLU, TopK

__all__ = ["BatchTopK", "Deterministic", "Gated", "Gaussian", "JumpReLU", "TopK", "VectorQuantized"]
