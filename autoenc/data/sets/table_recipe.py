"""Reading of the rows and labels of a table according to its config."""

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

MOST_CLASSES = 1_000  # a label with more values is a quantity


@dataclass(frozen=True)
class Recipe:
    """The options of a table. paths: one file, or those of the training and of the test rows."""

    paths: tuple[Path, ...]
    label: str | None
    normal: str | None
    drop: tuple[str, ...]
    source: Source
    plan: Plan
    val_fraction: float
    test_fraction: float
    split_seed: int

    def chunks(self, path: Path, notes: list[str] | None = None) -> Iterator[tuple[pd.DataFrame, pd.Series | None]]:
        """Yield chunks of the columns to train on and of the labels as text.

        If there is a normal class, rows without a label are skipped, and their number is added to `notes` at the end.
        """
        from autoenc.data.kinds.table import MISSING, class_name

        out = 0
        for frame in self.source.chunks(path):
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
        """Raise DataError if the label is a quantity or if the normal class does not exist."""
        if len(classes) > MOST_CLASSES:
            raise DataError(
                f"data.label={self.label}: {len(classes):,} different values; a label is the class of a row; "
                f"data.drop=[{self.label}] leaves the column out"
            )
        if self.normal is not None and self.normal not in classes:
            if self.normal.lower() in map(str.lower, classes):
                spelling = next(name for name in classes if name.lower() == self.normal.lower())
                raise DataError(f"data.normal={self.normal}: it is spelt {spelling}: \"data.normal='{spelling}'\"")
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
        """Return the data set of three splits."""
        train, val, test = splits
        for name, split in (("train", train), ("validate", val), ("test", test)):
            if len(split) == 0:
                of = f" of the class {self.normal}" if self.normal and name != "test" else ""
                raise DataError(f"{self.paths[0]}: no row{of} is left to {name} on")
        anomalies = () if self.normal is None else tuple(name for name in classes if name != self.normal)
        if self.normal is not None and not anomalies:
            where = f"data.label={self.label}: every row is of the class {self.normal}"
            notes = [*notes, f"{where}: without anomalies, detection cannot be evaluated"]
        low, high = value_range
        spec = DataSpec(self.paths[0].stem, replace(kind, low=low, high=high), classes, anomalies)
        return Data(spec, train, val, test, notes=tuple(notes), names=names or {})
