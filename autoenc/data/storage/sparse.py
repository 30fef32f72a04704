"""Sparse rows, converted to dense ones a batch at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix (N, D) as `split.Rows`.

    11,000 documents over 20,000 words take 10 MB instead of 900.

    Args:
        matrix: CSR.
        names: (N,) names of the rows, such as the beginnings of documents.
    """

    matrix: csr_matrix
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return rows (n, D) float32."""
        return torch.from_numpy(self.matrix[_numpy(index)].toarray().astype(np.float32, copy=False))

    def select(self, index: Tensor | slice) -> SparseRows:
        """Return the rows at `index`, sparse."""
        rows = _numpy(index)
        return SparseRows(self.matrix[rows], None if self.names is None else self.names[rows])

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """Yield self[index] for each index, in order."""
        return (self[index] for index in indexes)

    def fingerprint(self) -> int:
        """Return a checksum of the matrix."""
        crc = zlib.crc32(repr(self.matrix.shape).encode())
        for part in (self.matrix.indptr.astype(np.int64), self.matrix.indices.astype(np.int64), self.matrix.data):
            crc = zlib.crc32(np.ascontiguousarray(part).data, crc)
        return crc


def _numpy(index: Tensor | slice) -> Any:
    return index.cpu().numpy() if isinstance(index, Tensor) else index
