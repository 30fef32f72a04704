"""Vectors of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from autoenc.data.kinds.kind import Kind, common
from autoenc.data.split import Split

LOOKED_AT = 10_000  # rows used for the remark about scales


@dataclass(frozen=True)
class Vector(Kind):
    """Vectors (D,).

    Args:
        white: see `Kind.white_value`.
    """

    white: float | None = None

    name: ClassVar[str] = "vector"
    named_dimensions: ClassVar[bool] = True

    @property
    def white_value(self) -> float | None:
        return self.white

    def state(self) -> dict[str, Any]:
        return {"white": self.white}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Vector:
        white = values.get("white")
        return cls(**common(values), white=None if white is None else float(white))

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
