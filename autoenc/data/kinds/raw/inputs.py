"""Raw rows as tensors: what an exported detector reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

OTHER, GONE = -1, -2  # numbers of cells of text: values not seen in training, and missing cells


@dataclass(frozen=True)
class RawInput:
    """A tensor of raw rows.

    Args:
        dtype: float32, float64, uint8, or str: texts in ONNX; elsewhere their numbers, int64.
        shape: of a row; names are of sides of any length, `least` or more.
        text: what the values are.
        columns: names of the columns in the user's files, if there are any. dates: those whose values are seconds since
            1970.
        missing: texts that are missing cells in the user's files.
        codes: for each column of texts, value -> number; -1 is any other value.
        time: column of the time stamps and seconds of a step, for recordings that have them.
        range: values outside it are not those of such data; None: any. uint8_scale: factor of values of type uint8.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    text: str
    columns: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    codes: tuple[Mapping[str, int], ...] = ()
    time: tuple[str, float] | None = None
    range: tuple[float, float] | None = None
    uint8_scale: float | None = None
    least: int = 1

    @property
    def sides(self) -> dict[int, Dim]:
        """Axes of any length, counted with that of the rows."""
        return {i: Dim(name, min=self.least) for i, name in enumerate(self.shape, 1) if isinstance(name, str)}

    def example(self, rows: int) -> Tensor:
        """Return zeros (rows, *shape) as the module is fed them; sides of any length differ in it."""
        sizes = [2 * self.least + i if isinstance(side, str) else side for i, side in enumerate(self.shape)]
        return torch.zeros(rows, *sizes, dtype=getattr(torch, "int64" if self.codes else self.dtype))

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """Return rows as the module is fed them: texts as their numbers."""
        if not self.codes:
            return values
        columns = zip(values.T, self.codes, strict=True)
        return np.array([[codes.get(str(v), OTHER) for v in column] for column, codes in columns], np.int64).T


class Raw(nn.Module):
    """Raw rows, a tensor for each of `inputs` -> examples (N, *shape) float32 as the model is fed them."""

    def __init__(self, *inputs: RawInput):
        super().__init__()
        self.inputs = inputs

    def forward(self, *tensors: Tensor) -> Tensor:
        return tensors[0]


class Scaled(Raw):
    """Numbers times a factor."""

    def __init__(self, factor: float, given: RawInput):
        super().__init__(given)
        self.factor = factor

    def forward(self, *tensors: Tensor) -> Tensor:
        return tensors[0] * self.factor
