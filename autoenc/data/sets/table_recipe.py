"""Reading of the rows and labels of a table according to its config."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.readers.cells.class_names import check_classes, class_names, known_class
from autoenc.data.readers.tables import Source, check_columns
from autoenc.data.split import Split
from autoenc.errors import DataError, counted

if TYPE_CHECKING:
    import pandas as pd

    from autoenc.data.kinds.column_plan import Plan
    from autoenc.data.kinds.table import Table


@dataclass(frozen=True)
class Recipe:
    """The options of a table. paths: one file, or those of the training and of the test rows."""

    paths: tuple[Path, ...]
    label: str | None
    normal: str | None
    excluded: tuple[str, ...]
    drop: tuple[str, ...]
    source: Source
    plan: Plan
    val_fraction: float
    test_fraction: float
    split_seed: int

    def chunks(self, path: Path, notes: list[str] | None = None) -> Iterator[tuple[pd.DataFrame, pd.Series | None]]:
        """Yield chunks of the columns to train on and of the labels as text.

        Rows without any input are skipped and, if there is a normal class, rows without a label; otherwise, their
        label is missing. Their numbers are added to `notes` at the end.
        """
        empty = out = left = 0
        for frame in self.source.chunks(path, notes):
            self._check_columns(path, frame)
            inputs = frame.drop(columns=[name for name in {*self.drop, self.label} if name in frame])
            kept = inputs.notna().any(axis=1)
            empty += int((~kept).sum())
            labels = None
            if self.label is not None:
                labels = class_names(frame[self.label], self.normal)
                out += int((kept & labels.isna()).sum())
                if self.normal is not None:
                    kept &= labels.notna()
                labels = labels[kept]
            left += int(kept.sum())
            yield inputs[kept], labels
        if not left:
            raise DataError(f"{path}: {'no row has a value' if empty else f'no row has a {self.label}'}")
        if notes is not None:
            if empty:
                notes.append(f"{path}: {counted(empty, 'rows')} without any value, left out")
            if out:
                fate = (
                    "left out" if self.normal is not None else "trained on without a label, left out of the test rows"
                )
                notes.append(f"Attention: {path}: {counted(out, 'rows')} without {self.label}, {fate}")

    def _check_columns(self, path: Path, frame: pd.DataFrame) -> None:
        """Raise DataError if there is no column of labels, or if none of the files has a column to drop."""
        others = [other for other in self.paths if other != path]
        lacking = [name for name in self.drop if name not in frame]
        drop = [name for name in lacking if not any(name in next(self.source.chunks(other)) for other in others)]
        check_columns(str(path), frame, label=[] if self.label is None else [self.label], drop=drop)

    def spelling(self, train: Collection[str], test: Collection[str]) -> tuple[dict[str, str], list[str]]:
        """Return classes of the test file -> those of training that differ by case or a full stop, and a note."""
        found = {name: known for name in sorted(test) if (known := known_class(name, train)) != name}
        listed = ", ".join(f"{name} as {known}" for name, known in found.items())
        return found, [f"{self.paths[-1]}: classes are spelt as in the training file: {listed}"] if found else []

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise DataError if no row has a label, it is a quantity or the normal class does not exist."""
        if not classes and self.label is not None:
            raise DataError(f"{self.paths[0]}: no row has a {self.label}")
        check_classes(self.paths[0], self.label, self.normal, classes)

    def check_sizes(self, sizes: Sequence[int]) -> None:
        """Raise DataError unless each split has rows."""
        for name, size in zip(("train", "validate", "test"), sizes, strict=True):
            if size == 0:
                of = f" of the class {self.normal}" if self.normal and name != "test" else ""
                why = f"anomaly_classes={','.join(self.excluded)}: " if self.excluded and name != "test" else ""
                raise DataError(f"{why}{self.paths[0]}: no row{of} is left to {name} on")

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
        self.check_sizes([len(split) for split in splits])
        train, val, test = splits
        anomalies = () if self.normal is None else tuple(name for name in classes if name != self.normal)
        if self.normal is not None and not anomalies:
            where = f"data.label={self.label}: every row is of the class {self.normal}"
            notes = [*notes, f"{where}: without anomalies, detection cannot be evaluated"]
        low, high = value_range
        spec = DataSpec(self.paths[0].stem, replace(kind, low=low, high=high), classes, anomalies)
        return Data(spec, train, val, test, notes=tuple(notes), names=names or {})
