"""Columns of a table as dimensions of a vector, which cells are observed, and what is filled where they are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.data.split import Split
from autoenc.errors import counted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """A column of the user's table and its dimensions, start to stop - 1, in a vector.

    Categories are one-hot: one dimension per value.

    Args:
        indicator: dimension that is 1 where the cell is missing; None if no training row has such a cell.
        fill: value of a missing number that training had no example of.
    """

    name: str
    kind: Literal["number", "category"]
    start: int
    stop: int
    indicator: int | None = None
    fill: float | None = None


@dataclass(frozen=True)
class Completed:
    """Versions of the rows of a file without missing cells, and which cells were missing, (N, columns) bool."""

    versions: list[pd.DataFrame]
    missing: pd.DataFrame

    @property
    def described(self) -> str:
        """How many cells were missing, in how many rows and columns."""
        cells, rows, columns = self.counts.values()
        of_rows, of_columns = (
            counted(n, noun) for n, noun in zip(self.missing.shape, ("rows", "columns"), strict=True)
        )
        return f"{counted(cells, 'missing cells')} filled, in {rows:,} of {of_rows} and {columns} of {of_columns}"

    @property
    def counts(self) -> dict[str, int]:
        """Missing cells, and the rows and columns that had any."""
        gone = self.missing.to_numpy()
        return {"cells": int(gone.sum()), "rows": int(gone.any(axis=1).sum()), "columns": int(gone.any(axis=0).sum())}


@dataclass(frozen=True)
class Gaps:
    """Windows (N, C, W) of a recording whose missing values are interpolated.

    Args:
        missing: (N, C, W) bool. lengths: of the gaps that missing values are in, in steps; empty: none is missing.
        why: what is filled, for messages.
    """

    split: Split
    missing: Tensor
    lengths: np.ndarray
    why: str


class Observed(nn.Module):
    """Rows (..., D) as a model is fed them -> (..., D) bool, whether each dimension belongs to an observed cell.

    A number is missing where its indicator is 1, or where it has the value that stands for a missing one; a category
    where it is the value "missing", or not known: all its dimensions are 0. Dimensions that say that a cell is missing
    are no data.

    Attributes:
        data: (D,) bool, the dimensions that are data.
    """

    def __init__(self, columns: tuple[Column, ...]):
        super().__init__()
        size = columns[-1].stop
        self.data: Tensor
        self.indicator: Tensor
        self.indicated: Tensor
        self.fill: Tensor
        indicator, indicated = torch.zeros(size, dtype=torch.long), torch.zeros(size, dtype=torch.bool)
        data, fill = torch.ones(size, dtype=torch.bool), torch.full((size,), torch.nan)
        for column in columns:
            here = slice(column.start, column.stop)
            if column.indicator is not None:
                indicator[here], indicated[here], data[column.indicator] = column.indicator, True, False
            if column.fill is not None:
                fill[here] = column.fill
        for name, values in {"indicator": indicator, "indicated": indicated, "data": data, "fill": fill}.items():
            self.register_buffer(name, values, persistent=False)
        self.widths = [column.stop - column.start for column in columns if column.kind == "category"]

    def forward(self, x: Tensor) -> Tensor:
        missing = (self.indicated & (x[..., self.indicator] > 0.5)) | (x == self.fill)
        first = x.shape[-1] - sum(self.widths)
        blocks = x[..., first:].split(self.widths, -1) if self.widths else ()
        unknown = [(block.sum(-1, keepdim=True) == 0).expand_as(block) for block in blocks]
        return ~(missing | torch.cat([torch.zeros_like(x[..., :first], dtype=torch.bool), *unknown], -1)) & self.data
