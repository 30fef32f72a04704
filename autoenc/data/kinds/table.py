"""Tables: numbers are imputed and scaled, categories are one-hot encoded; both are inverted for display."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from autoenc.data.kinds.estimator_json import from_plain, to_plain
from autoenc.data.kinds.kind import REAL, Column, Kind, common, is_numeric
from autoenc.data.readers.class_names import MISSING, class_name, class_names, known_class
from autoenc.data.readers.tables import Source, dates_as_text
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError, one_line

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SHOWN = 4  # rows displayed by `show`
PROBED = 3  # rows stored to check compatibility with another version of scikit-learn
UNSEEN = "(unseen)"  # a category not seen in training: all its dimensions are 0


class SignedLog(TransformerMixin, BaseEstimator):
    """sign(x) log(1 + |x|), for amounts and counts that span orders of magnitude."""

    def fit(self, X: np.ndarray, y: object = None) -> SignedLog:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.sign(X) * np.log1p(np.abs(X))

    def inverse_transform(self, X: np.ndarray) -> np.ndarray:
        return np.sign(X) * np.expm1(np.abs(X))


@dataclass(frozen=True, eq=False)
class Table(Kind):
    """Rows of a table as vectors (D,), by a fitted scikit-learn ColumnTransformer.

    Numbers are imputed by the median and scaled. A category not seen in training is encoded as the dimension shared by
    the rarest values, or as zeros. Other columns are ignored.

    Args:
        source: the format of the files.
        numbers, categories: names of the columns, in the order of the dimensions.
        order: names of the columns, in the order of the user's files.
        ranges: minimum and maximum of each numeric column in training, and whether all its values are integers.
        probe: rows as returned by `typed`, by column, and their transformed values; checked when a run is loaded with
            another version of scikit-learn.
    """

    source: Source = field(default_factory=Source)
    numbers: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    transformer: Any = None
    order: tuple[str, ...] = ()
    ranges: dict[str, tuple[float, float, bool]] = field(default_factory=dict)
    probe: dict[str, list[Any]] = field(default_factory=dict)

    name: ClassVar[str] = "table"
    noun: ClassVar[str] = "rows of a table"
    named_dimensions: ClassVar[bool] = True
    encodes_objects: ClassVar[bool] = True

    @classmethod
    def fitted(
        cls, source: Source, numbers: tuple[str, ...], categories: tuple[str, ...], transformer: Any,
        order: tuple[str, ...], frame: pd.DataFrame,
    ) -> Table:  # fmt: skip
        """Fit the transformer to the training rows of a data frame."""
        table = cls((0,), 0.0, 1.0, source, numbers, categories, transformer, order)
        typed = table.typed(frame, "the training rows")
        transformer.fit(typed)
        ranges = {}
        for name in numbers:
            values = typed[name].dropna()
            whole = bool((values % 1 == 0).all()) and float(values.abs().max()) < 2**53
            ranges[name] = (float(values.min()), float(values.max()), whole)
        rows = typed.head(PROBED)
        probe = {"rows": [rows[name].tolist() for name in rows], "matrix": transformer.transform(rows).tolist()}
        return replace(table, shape=(table.columns[-1].stop,), ranges=ranges, probe=probe)

    def typed(self, frame: pd.DataFrame, what: str) -> pd.DataFrame:
        """Return the used columns, numbers as float64 and categories as text; DataError for mismatched input."""
        import pandas as pd

        names = self._names
        if missing := [name for name in names if name not in frame]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            one = len(missing) == 1
            listed = ", ".join(map(str, missing[:3])) + more
            raise DataError(f"{what}: the column{'' if one else 's'} {listed} {'is' if one else 'are'} missing")
        typed = {}
        for name in self.numbers:
            column, values = frame[name], numeric(frame[name])
            bad = (values.isna() & column.notna()) | np.isinf(values)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                cell = str(column.iloc[row])[:40]
                raise DataError(f"{what}: row {frame.index[row]}, column {name}: '{cell}' is not a finite number")
            typed[name] = values
        for name in self.categories:
            column = frame[name]
            typed[name] = column.astype("object").where(column.notna(), MISSING).map(str)
        return pd.DataFrame(typed, index=frame.index)

    def matrix(self, frame: pd.DataFrame, what: str = "the rows") -> np.ndarray:
        """Transform the rows of a data frame to (N, D) float32."""
        matrix = np.asarray(self.transformer.transform(self.typed(frame, what)), np.float32)
        if not np.isfinite(matrix).all():
            row, dim = (int(i[0]) for i in np.nonzero(~np.isfinite(matrix)))
            name = next(column.name for column in self.columns if column.start <= dim < column.stop)
            raise DataError(f"{what}: row {frame.index[row]}, column {name}: too large for float32")
        return matrix

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table and their positions among the D dimensions."""
        found: list[Column] = []
        for part, estimator, names in self.transformer.transformers_:
            if part == "category":
                for name, values, shared in zip(
                    names, estimator.categories_, estimator.infrequent_categories_, strict=True
                ):
                    width = len(values) - (0 if shared is None else len(shared) - 1)
                    found.append(Column(name, "category", _end(found), _end(found) + width))
            elif part != "remainder":
                for name in names:
                    found.append(Column(name, "number", _end(found), _end(found) + 1))
        return tuple(found)

    def frame(self, x: np.ndarray) -> pd.DataFrame:
        """Invert `matrix`: (N, D) to a data frame.

        Numbers are returned in their own units; categories as the most likely value, or `(unseen)` for zeros.
        """
        import pandas as pd

        found: dict[str, Any] = {}
        columns, x = self.columns, np.asarray(x, np.float64)
        for part, estimator, names in self.transformer.transformers_:
            block = [column for column in columns if column.name in set(names)]
            if part == "category":
                for column, values, shared in zip(
                    block, estimator.categories_, estimator.infrequent_categories_, strict=True
                ):
                    rare = set() if shared is None else set(shared)
                    shown = [v for v in values if v not in rare] + ([f"(one of {len(rare)} rare)"] if rare else [])
                    one_hot = x[:, column.start : column.stop]
                    index = np.where(one_hot.any(1), one_hot.argmax(1), len(shown))
                    found[column.name] = np.array([*shown, UNSEEN], object)[index]
            elif part != "remainder":
                values = x[:, block[0].start : block[-1].stop]
                for name, step in reversed(estimator.steps):
                    values = values if name == "impute" else step.inverse_transform(values)
                found |= {column.name: values[:, i] for i, column in enumerate(block)}
        return pd.DataFrame({name: found[name] for name in [*self.numbers, *self.categories]})

    def plausible(self, x: np.ndarray) -> pd.DataFrame:
        """Return generated rows in the format of the user's file.

        Columns are in the order of the file. Numbers are clipped to the range of the training rows, and rounded if all
        training values are integers.
        """
        frame = self.frame(x)
        for name, (low, high, whole) in self.ranges.items():
            values = frame[name].clip(low, high)
            frame[name] = values.round().astype("int64") if whole else values.round(6)
        return frame[list(self.order or frame)]

    def cells(self, x: np.ndarray) -> dict[str, list[str]]:
        """Return `frame` of (N, D) as short texts: column -> (N,)."""
        return {
            str(name): [f"{round(v, 6) + 0.0:.4g}" if isinstance(v, float) else str(v) for v in values]
            for name, values in self.frame(x).items()
        }

    def show(self, versions: Mapping[str, Tensor]) -> list[str]:
        """Show the first four rows of all versions side by side, one line per column of the table."""
        cells = [self.cells(np.asarray(x[:SHOWN])) for x in versions.values()]
        count = len(next(iter(versions.values()))[:SHOWN])
        table = [["", *(f"{name} {i}" for i in range(count) for name in versions)]]
        table += [[name, *(found[name][i] for i in range(count) for found in cells)] for name in cells[0]]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return ["  ".join([f"{row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> None:
        return None

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]]:
        """Return `plausible` rows as the header and the rows of a CSV file."""
        frame = self.plausible(x.flatten(1).numpy())
        return [str(name) for name in frame], frame.values.tolist()

    def decode(self, x: Tensor | np.ndarray) -> pd.DataFrame:
        """Return `frame`."""
        return self.frame(np.asarray(x))

    def given(self) -> dict[str, Any]:
        return {"columns": self.columns}

    def remark(self, train: Split) -> str | None:
        """Return a warning about numeric columns that are constant in the training rows."""
        numbers = [column for column in self.columns if column.kind == "number"]
        if not numbers or len(train) < 2:
            return None
        std = train.take(slice(0, 10_000)).x.std(0)[[column.start for column in numbers]]
        flat = [column.name for column, value in zip(numbers, std, strict=True) if value == 0]
        if not flat:
            return None
        more = f" and {len(flat) - 3} more" if len(flat) > 3 else ""
        return f"constant in the training rows: {', '.join(map(str, flat[:3]))}{more}; data.drop leaves columns out"

    def encode(
        self, raw: Any, what: str = "the data frame", noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Split:
        """Return rows as the model is fed them.

        Args:
            raw: a data frame or anything that pandas converts to one (column name -> values); the path of a file; or an
                array or tensor (N, D) of preprocessed values.
        """
        import pandas as pd

        if is_numeric(raw):
            return super().encode(raw, what, noisy, support)
        if isinstance(raw, str | Path):
            return self.read(Path(raw)).split
        try:
            frame = dates_as_text(pd.DataFrame(raw if not isinstance(raw, pd.Series) else raw.to_frame().T))
        except (ValueError, TypeError) as error:
            raise DataError(f"expected a data frame or a mapping of columns ({one_line(error)})") from None
        if len(frame) == 0:
            raise DataError("the data frame has no rows")
        return Split(torch.from_numpy(self._new(frame, "the data frame")))

    def _new(self, frame: pd.DataFrame, what: str) -> np.ndarray:
        """Return `matrix`; warn of categories not seen in training."""
        matrix = self.matrix(frame, what)
        for column in self.columns:
            if column.kind == "category" and (rows := (matrix[:, column.start : column.stop] == 0).all(1)).any():
                values = ", ".join(dict.fromkeys(str(v)[:40] for v in frame[column.name][rows][:100]))[:80]
                warnings.warn(
                    f"{what}: {rows.sum():,} rows have values of {column.name} not seen in training: {values}",
                    stacklevel=4,
                )
        return matrix

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read the rows of a file in the format of the training file; they are named by their numbers from 1."""
        frame = self._frame(path)
        return Examples(Split(torch.from_numpy(self._new(frame, str(path)))), [str(i) for i in frame.index])

    def anomalies(self, path: Path, options: Mapping[str, Any]) -> np.ndarray | None:
        """Return which rows of a file are not of the class `normal`; rows without a label are masked."""
        label, normal = options.get("label"), options.get("normal")
        if label is None or normal is None:
            return None
        normal = class_name(normal) or MISSING
        frame = self._frame(path)
        if label not in frame:
            return None
        names = class_names(frame[label], normal)
        anomaly = (names.fillna(normal).map(lambda name: known_class(name, [normal])) != normal).to_numpy(bool)
        return np.ma.array(anomaly, mask=names.isna().to_numpy()) if names.isna().any() else anomaly

    def _frame(self, path: Path) -> pd.DataFrame:
        unused = tuple(name for name in self.source.names if name not in (*self.numbers, *self.categories))
        try:
            return dataclasses.replace(self.source, optional=unused).read(path)
        except DataError as error:
            if "data." not in str(error).replace(str(path), ""):
                raise
            why = "the run reads new files in the format of its training files"  # options cannot be changed here
            raise DataError(f"{error}; {why}") from None

    def state(self) -> dict[str, Any]:
        """Return the state as plain values; see estimator_json.py."""
        import sklearn

        return {
            "sklearn": sklearn.__version__,
            "source": to_plain(vars(self.source)),
            "numbers": list(self.numbers),
            "categories": list(self.categories),
            "transformer": to_plain(self.transformer),
            "order": list(self.order),
            "ranges": to_plain(self.ranges),
            "probe": to_plain(self.probe),
        }

    @classmethod
    def load(cls, folder: Path | None, values: dict[str, Any]) -> Table:
        """Return the table that `save` wrote; DataError if this version of scikit-learn gives other results."""
        table = cls(
            **common(values),
            source=Source(**from_plain(values["source"])),
            numbers=tuple(values["numbers"]),
            categories=tuple(values["categories"]),
            transformer=from_plain(values["transformer"]),
            order=tuple(values.get("order", ())),
            ranges=from_plain(values.get("ranges", {"dict": []})),
            probe=from_plain(values.get("probe", {"dict": []})),
        )
        table._check_version(str(values.get("sklearn", "unknown")))
        return table

    def _check_version(self, written: str) -> None:
        """Raise DataError unless the transformer reproduces the stored results."""
        import pandas as pd
        import sklearn

        if written == sklearn.__version__:
            return
        try:
            if not self.probe:  # an old run without a probe: the transformer must at least run
                self.transformer.transform(self.typed(pd.DataFrame({n: [None] for n in self._names}), "a probe"))
                return
            rows = pd.DataFrame(dict(zip(self._names, self.probe["rows"], strict=True)))
            same = np.allclose(self.transformer.transform(rows), self.probe["matrix"], atol=1e-6)
        except Exception:  # private attributes of another version raise anything
            same = False
        if not same:
            raise DataError(
                f"the columns were fitted with scikit-learn {written}, and {sklearn.__version__} gives different "
                f"results; pip install scikit-learn=={written}"
            )

    @property
    def _names(self) -> list[str]:
        return [*self.numbers, *self.categories]

    def description(self) -> dict[str, Any]:
        """Return the description of the input for export.json."""
        text = (
            f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}; rows of a table are "
            "imputed, scaled and one-hot encoded as kind.json says first"
        )
        return {"text": text, "columns": [dataclasses.asdict(column) for column in self.columns]}


def numeric(column: pd.Series) -> pd.Series:
    """Convert a column to float64; NaN for values that are not numbers."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").astype("float64")


def _end(columns: list[Column]) -> int:
    return columns[-1].stop if columns else 0
