"""Counts of words as a model is fed them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from autoenc.data.kinds.raw.inputs import Raw, RawInput


class RawCounts(Raw):
    """Counts (N, V), as they are or, with idf (V,), as TF-IDF: (1 + ln count) idf, each row of length 1."""

    def __init__(self, given: RawInput, idf: np.ndarray | None):
        super().__init__(given)
        self.idf: Tensor | None
        self.register_buffer("idf", None if idf is None else torch.from_numpy(idf))

    def forward(self, *tensors: Tensor) -> Tensor:
        counts = tensors[0]
        if self.idf is None:
            return counts
        weights = torch.where(counts > 0, 1 + counts.clamp(min=1).log(), 0) * self.idf
        return weights / weights.square().sum(1, keepdim=True).sqrt().clamp(min=torch.finfo(torch.float32).tiny)
