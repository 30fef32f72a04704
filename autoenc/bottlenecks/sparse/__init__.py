"""Codes of which most units are zero: dictionaries of atoms."""

from autoenc.bottlenecks.sparse.batch_topk import BatchTopK
from autoenc.bottlenecks.sparse.gated import Gated
from autoenc.bottlenecks.sparse.jumprelu import JumpReLU
from autoenc.bottlenecks.sparse.topk import TopK

__all__ = ["BatchTopK", "Gated", "JumpReLU", "TopK"]
