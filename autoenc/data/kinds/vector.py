"""Vectors of numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from autoenc.data.kinds.kind import Kind, common
from autoenc.data.kinds.raw import Raw, RawInput, Scaled
from autoenc.data.split import Split

LOOKED_AT = 10_000  # rows used for the remark about scales


@dataclass(frozen=True)
class Vector(Kind):
    """Vectors (D,).

    Args:
        white: see `Kind.white_value`.
        factor: of the values of the user's files, so that the mean squared norm of the training rows is D; 1: none.
    """

    white: float | None = None
    factor: float = 1.0

    name: ClassVar[str] = "vector"
    named_dimensions: ClassVar[bool] = True

    @property
    def white_value(self) -> float | None:
        return self.white

    def units(self, raw: Any, what: str, noisy: bool = False) -> Split:
        split = super().units(raw, what, noisy)
        return replace(split, scale=split.scale * self.factor)

    def decode(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Return vectors (N, D) in the units of the user's files."""
        return np.asarray(x) / self.factor

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]] | None:
        return super().listing(x / self.factor)

    def state(self) -> dict[str, Any]:
        return {"white": self.white, "factor": self.factor}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Vector:
        white = values.get("white")
        factor = float(values.get("factor", 1.0))
        return cls(**common(values), white=None if white is None else float(white), factor=factor)

    def raw(self) -> Raw:
        text = f"values as in the training files, {self.low / self._factor:.6g} to {self.high / self._factor:.6g}"
        return Scaled(self._factor, RawInput("x", "float32", self.shape, text))

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        rows = (x / self._factor if self.white is None else (x / self._factor).round()).numpy()
        return self.encode(rows), [rows]

    @property
    def _factor(self) -> float:
        """Factor from the values of the user's files to those of the model."""
        return self.factor / (self.white or 1.0)

    def remark(self, train: Split) -> str | None:
        """Return a warning about constant columns or standard deviations that differ by orders of magnitude."""
        if len(train) < 2:
            return None
        std = train.sample(LOOKED_AT).take(slice(None)).x.std(0)
        constant, std = int((std == 0).sum()), std[std > 0]
        if len(std) == 0:
            return "every column of the training data is constant" if constant else None
        low, high = float(std.min()), float(std.max())
        if high > 100 or low < 0.001 or high > 100 * low:
            return f"columns have standard deviations from {low:.3g} to {high:.3g}; scale them to 1 first"
        return f"{constant} of {constant + len(std)} columns are constant" if constant else None
