"""Cells that are missing: the texts and numbers that mark them, alike in files, data frames and exported detectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from numbers import Number
from typing import TYPE_CHECKING

import numpy as np

from autoenc.data.readers.arrays import is_number
from autoenc.data.readers.cells.class_names import MARKERS, class_name

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Markers:
    """What marks a missing cell.

    Args:
        given: texts beside empty cells, NA, NaN, null and the like. decimal: separator of numbers in texts: . or ,
        kept: texts that are no markers although they look like it.
    """

    given: tuple[str, ...] = ()
    decimal: str = "."
    kept: tuple[str, ...] = ()

    @cached_property
    def numbers(self) -> dict[str, float]:
        """The given markers that are numbers, as they may be written: -200 also as -200.0, with a comma as -200,0."""
        found: dict[str, float] = {}
        for marker in self.given:
            if is_number(plain := marker.replace(self.decimal, ".")):
                for text in (plain, str(float(plain)), class_name(float(plain))):
                    found |= dict.fromkeys((text, text.replace(".", self.decimal)), float(plain))
        return found

    @cached_property
    def texts(self) -> set[str]:
        """The texts, numbers as they are usually written."""
        return MARKERS.difference(self.kept).union(self.given, self.numbers)

    def test(self) -> Callable[[str], bool]:
        """Return a function that tells whether a text without blanks around it is a missing cell."""
        texts, numbers, decimal = self.texts, self.numbers, self.decimal
        if not numbers:
            return texts.__contains__
        return lambda text: text in texts or (decimal in text and text.rstrip("0").rstrip(decimal) in numbers)

    def mask(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a data frame in which the marked cells are missing: texts, and numbers in float64 and float32."""
        is_marker, numbers = self.test(), set(self.numbers.values())
        with np.errstate(over="ignore"):
            numbers |= {short for number in numbers if math.isfinite(short := float(np.float32(number)))}

        def missing(cell: object) -> bool:
            if isinstance(cell, str):
                return is_marker(cell.strip())
            return isinstance(cell, Number) and not isinstance(cell, bool) and cell in numbers

        frame = frame.copy(deep=False)
        for name, dtype in frame.dtypes.items():
            if dtype.kind not in "iufb":
                gone = frame[name].astype("object").map(missing).astype("bool")
            elif dtype.kind == "b" or not numbers:
                continue
            else:
                gone = frame[name].isin(list(numbers))
            if gone.any():
                frame[name] = frame[name].mask(gone)
        return frame
