"""Names of classes, as files of tables have them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from autoenc.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

# Markers of missing values, as pandas reads them.
MARKERS = {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A"}
MARKERS |= {"NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
MISSING = "(missing)"  # the class, and the category, of an empty cell
MOST = 1_000  # a label with more values is a quantity


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


def normal_class(value: object) -> str | None:
    """Return the name of the normal class of a table, which may be that of an empty cell; None if there is none."""
    return None if value is None else class_name(value) or MISSING


def check_classes(path: Path, label: str | None, normal: str | None, classes: Collection[str]) -> None:
    """Raise DataError if the label of a table is a quantity or if the normal class does not exist."""
    if len(classes) > MOST:
        raise DataError(
            f"data.label={label}: {len(classes):,} different values; a label is the class of a row; "
            f"data.drop=[{label}] leaves the column out"
        )
    if normal is not None and normal not in classes:
        if normal.lower() in map(str.lower, classes):
            spelling = next(name for name in classes if name.lower() == normal.lower())
            raise DataError(f"data.normal={normal}: it is spelt {spelling}: \"data.normal='{spelling}'\"")
        there = ", ".join(list(classes)[:20])
        raise DataError(f"data.normal={normal}: {path} has no such class; it has {there}")
