"""Discrete codes: entries of codebooks, rounded numbers, bits."""

from autoenc.bottlenecks.discrete.binary import Binary
from autoenc.bottlenecks.discrete.quantized import VectorQuantized
from autoenc.bottlenecks.discrete.residual import ResidualQuantized
from autoenc.bottlenecks.discrete.scalar import FiniteScalar

__all__ = ["Binary", "FiniteScalar", "ResidualQuantized", "VectorQuantized"]
