"""Names of classes, as files of tables have them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Markers of missing values, as pandas reads them.
MARKERS = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
MARKERS |= {"NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
MISSING = "(missing)"  # the class, and the category, of an empty cell


def class_name(value: object) -> str:
    """Return a label as text, whole floats as integers: 1 for 1.0."""
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def class_names(column: pd.Series, normal: str | None) -> pd.Series:
    """Return labels as text or missing; where the normal class is an empty cell or None, those are its labels."""
    names = column.astype("object").where(column.notna(), None).map(class_name, na_action="ignore")
    empty = normal is not None and (normal in MARKERS or normal == MISSING)
    return names.fillna(normal or MISSING) if empty else names


def known_class(name: str, known: Collection[str]) -> str:
    """Return the known class that a name differs from by case or a full stop (<=50K. and <=50K), or the name."""
    if name in known:
        return name
    alike = [each for each in known if each.rstrip(" .").casefold() == name.rstrip(" .").casefold()]
    return alike[0] if len(alike) == 1 else name
