"""Features (B, F) -> Code."""

from autoenc.bottlenecks.deterministic import Deterministic
from autoenc.bottlenecks.gaussian import Gaussian
from autoenc.bottlenecks.topk import TopK

__all__ = ["Deterministic", "Gaussian", "TopK"]
