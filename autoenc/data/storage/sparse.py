"""Rows that are mostly zeros: kept as what is not zero, dense a batch at a time."""

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
    """A sparse matrix (N, D) as `spec.Rows`.

    11,000 documents over 20,000 words take 10 MB instead of 900.

    Args:
        matrix: CSR.
        names: (N,) what each row can be told by, where there is something: the beginning of the document.
    """

    matrix: csr_matrix
    names: np.ndarray | None = None

    def __len__(self) -> int:
        return int(self.matrix.shape[0])

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """(n, D) float32."""
        return torch.from_numpy(self.matrix[_place(index)].toarray().astype(np.float32, copy=False))

    def select(self, index: Tensor | slice) -> SparseRows:
        """The rows at `index`, sparse."""
        place = _place(index)
        return SparseRows(self.matrix[place], None if self.names is None else self.names[place])

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """self[index] for each, in order."""
        return (self[index] for index in indexes)

    def fingerprint(self) -> int:
        """A checksum of the matrix."""
        found = zlib.crc32(repr(self.matrix.shape).encode())
        for part in (self.matrix.indptr.astype(np.int64), self.matrix.indices.astype(np.int64), self.matrix.data):
            found = zlib.crc32(np.ascontiguousarray(part).data, found)
        return found


def _place(index: Tensor | slice) -> Any:
    return index.cpu().numpy() if isinstance(index, Tensor) else index
