"""Bottlenecks: features (B, *feature_shape) -> Code."""

from autoenc.bottlenecks.deterministic import Deterministic
from autoenc.bottlenecks.gaussian import Gaussian
from autoenc.bottlenecks.quantized import VectorQuantized
from autoenc.bottlenecks.topk import TopK

__all__ = ["Deterministic", "Gaussian", "TopK", "VectorQuantized"]
