"""Reading the rows and the labels of a table, as its config says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.readers.tables import Source
from autoenc.data.split import Split
from autoenc.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from autoenc.data.kinds.column_plan import Plan
    from autoenc.data.kinds.table import Table

MOST_CLASSES = 1_000  # a label with more is a quantity


@dataclass(frozen=True)
class Recipe:
    """What is to be done to the user's files. paths: one, or that of training and that of the test rows."""

    paths: tuple[Path, ...]
    label: str | None
    normal: str | None
    drop: tuple[str, ...]
    source: Source
    plan: Plan
    val_fraction: float
    test_fraction: float
    split_seed: int

    def pieces(self, path: Path, notes: list[str] | None = None) -> Iterator[tuple[pd.DataFrame, pd.Series | None]]:
        """The columns to train on, and the labels as text, piece by piece; where there is a normal class, only rows
        that have a label: how many have none is added to `notes` at the end."""
        from autoenc.data.kinds.table import MISSING, class_name

        out = 0
        for frame in self.source.pieces(path):
            for option, names in (("label", [self.label] if self.label else []), ("drop", self.drop)):
                for name in names:
                    if name not in frame:
                        there = ", ".join(map(str, frame))
                        raise DataError(f"data.{option}={name}: {path} has no such column; it has {there}")
            labels = None
            if self.label is not None:
                column = frame[self.label].astype("object")
                if self.normal is not None:
                    out += int(column.isna().sum())
                    frame, column = frame[column.notna()], column[column.notna()]
                labels = column.where(column.notna(), MISSING).map(class_name)
            yield frame.drop(columns=list(dict.fromkeys([*self.drop, *([self.label] if self.label else [])]))), labels
        if out and notes is not None:
            notes.append(f"Attention: {path}: {out:,} rows have no {self.label} and are left out")

    def check_classes(self, classes: Sequence[str]) -> None:
        """DataError where the label is a quantity, or no class is the normal one."""
        if len(classes) > MOST_CLASSES:
            raise DataError(
                f"data.label={self.label}: {len(classes):,} different values; a label says the class of a row; "
                f"data.drop=[{self.label}] leaves the column out"
            )
        if self.normal is not None and self.normal not in classes:
            if self.normal.lower() in map(str.lower, classes):
                spelt = next(name for name in classes if name.lower() == self.normal.lower())
                raise DataError(f"data.normal={self.normal}: the class is written {spelt}: \"data.normal='{spelt}'\"")
            there = ", ".join(classes[:20])
            raise DataError(f"data.normal={self.normal}: {self.paths[0]} has no such class; it has {there}")

    def data(
        self,
        kind: Table,
        splits: Sequence[Split],
        classes: tuple[str, ...],
        value_range: tuple[float, float],
        notes: Sequence[str],
        names: Mapping[str, Sequence[Any]] | None = None,
    ) -> Data:
        """The data set of three splits."""
        train, val, test = splits
        for name, split in (("train", train), ("validate", val), ("test", test)):
            if len(split) == 0:
                of = f" of the class {self.normal}" if self.normal and name != "test" else ""
                raise DataError(f"{self.paths[0]}: no row{of} is left to {name} on")
        anomalies = () if self.normal is None else tuple(name for name in classes if name != self.normal)
        if self.normal is not None and not anomalies:
            where = f"data.label={self.label}: every row is of the class {self.normal}"
            notes = [*notes, f"{where}: without anomalies, how well they are found cannot be measured"]
        low, high = value_range
        spec = DataSpec(self.paths[0].stem, replace(kind, low=low, high=high), classes, anomalies)
        return Data(spec, train, val, test, notes=tuple(notes), names=names or {})
