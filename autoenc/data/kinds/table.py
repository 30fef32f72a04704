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
from autoenc.data.readers.dates import HOUR, WEEKDAY, Dated
from autoenc.data.readers.numbers import Written
from autoenc.data.readers.tables import Source
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
        numbers, categories: names of the columns; a column of dates has several numbers.
        order: names of the columns, in the order of the user's files.
        ranges: minimum and maximum of each numeric column in training, and whether all its values are integers.
        written: how the numbers of each numeric column are written. dates: how those of each column of dates are.
        indicated: numeric columns with missing cells in training. Each has a dimension that is 1 where it is missing.
        fills: values of missing cells that training had no example of, in units of the model: outside the range.
        most_missing: the largest number of missing cells in a training row. Rows with more are filled with `fills`.
            None: filled with medians (runs before 0.3).
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
    written: dict[str, Written] = field(default_factory=dict)
    dates: dict[str, Dated] = field(default_factory=dict)
    indicated: tuple[str, ...] = ()
    fills: dict[str, float] = field(default_factory=dict)
    most_missing: int | None = None

    name: ClassVar[str] = "table"
    noun: ClassVar[str] = "rows of a table"
    named_dimensions: ClassVar[bool] = True
    encodes_objects: ClassVar[bool] = True

    @classmethod
    def fitted(
        cls, source: Source, numbers: tuple[str, ...], categories: tuple[str, ...], transformer: Any,
        order: tuple[str, ...], written: dict[str, Written], dates: dict[str, Dated], frame: pd.DataFrame,
    ) -> Table:  # fmt: skip
        """Fit the transformer to the training rows of a data frame."""
        table = cls((0,), 0.0, 1.0, source, numbers, categories, transformer, order, written=written, dates=dates)
        typed = table.typed(frame, "the training rows")
        for name in categories:  # spellings of a value (1 and 1.0, True and TRUE) are one category
            first: dict[str, str] = {}
            typed[name] = typed[name].map({text: first.setdefault(_plain(text), text) for text in typed[name].unique()})
        transformer.fit(typed)
        missing = table._missing(typed)
        most = min(int(missing.sum(axis=1).max()), missing.shape[1] - 1)
        indicated = tuple(name for name in numbers if name in missing and missing[name].any())
        table = replace(table, indicated=indicated)
        scaled, fills = np.asarray(transformer.transform(typed), np.float32), {}
        for i, name in enumerate(table._scaled_numbers):
            low, high = (float(end) for end in (scaled[:, i].min(), scaled[:, i].max()))
            fills[name] = float(np.float32(high + max(high - low, 1.0)))
        ranges = {}
        for name in numbers:
            values = typed[name].dropna()
            whole = bool((values % 1 == 0).all()) and float(values.abs().max()) < 2**53
            ranges[name] = (float(values.min()), float(values.max()), whole)
        rows = typed.head(PROBED)
        probe = {"rows": [rows[name].tolist() for name in rows], "matrix": transformer.transform(rows).tolist()}
        shape = (table.columns[-1].stop,)
        return replace(table, shape=shape, ranges=ranges, probe=probe, fills=fills, most_missing=most)

    def typed(self, frame: pd.DataFrame, what: str) -> pd.DataFrame:
        """Return the used columns, numbers as float64 and categories as text; DataError for mismatched input."""
        import pandas as pd

        names = self._names
        if missing := [name for name in names if name not in frame]:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            one = len(missing) == 1
            listed = ", ".join(map(str, missing[:3])) + more
            raise DataError(f"{what}: the column{'' if one else 's'} {listed} {'is' if one else 'are'} missing")
        typed: dict[str, pd.Series] = {}
        default = Written(self.source.decimal, "." if self.source.decimal == "," else "")  # of runs before 0.3
        for name in (name for name in names if name not in self.categories):
            column = frame[name]
            if name in self.dates:
                moments = self.dates[name].moments(column)
                _check_cells(what, name, column, moments.isna() & column.notna(), "a date")
                typed |= {name + end: values for end, values in self.dates[name].numbers(moments).items()}
                continue
            values = self.written.get(name, default).parse(column)
            if self.source.infinite == "missing":
                values, column = values.where(~np.isinf(values)), column.where(~np.isinf(values))
            _check_cells(what, name, column, (values.isna() & column.notna()) | np.isinf(values), "a finite number")
            typed[name] = values
        for name in self.categories:
            column = frame[name]
            typed[name] = column.astype("object").where(column.notna(), MISSING).map(str)
        return pd.DataFrame({name: typed[name] for name in (*self.numbers, *self.categories)}, index=frame.index)

    def _missing(self, typed: pd.DataFrame) -> pd.DataFrame:
        """Return which cells of the user's columns are missing."""
        typed = typed[[name for name in typed if name not in self._derived]]
        return typed.isna() | (typed == MISSING)

    def _spelled(self, typed: pd.DataFrame) -> pd.DataFrame:
        """Return categories as training spelled them: 1 for 1.0, True for TRUE."""
        encoder = self.transformer.named_transformers_.get("category")
        known = {} if encoder is None else dict(zip(self.categories, encoder.categories_, strict=True))
        for name, values in known.items():
            spelled = {_plain(text): text for text in reversed(values)}
            exact = set(values)
            new = {text: spelled.get(_plain(text), text) for text in typed[name].unique() if text not in exact}
            if new:
                typed[name] = typed[name].replace(new)
        return typed

    def matrix(self, frame: pd.DataFrame, what: str = "the rows") -> np.ndarray:
        """Transform the rows of a data frame to (N, D) float32."""
        typed = self._spelled(self.typed(frame, what))
        matrix = np.asarray(self.transformer.transform(typed), np.float32)
        missing = self._missing(typed)
        indicators = missing[list(self.indicated)].to_numpy(np.float32)
        count = len(self.numbers)
        matrix = np.concatenate([matrix[:, :count], indicators, matrix[:, count:]], 1)
        if self.most_missing is not None:  # missing cells that training had no example of are anomalous, not typical
            beyond = (missing.sum(axis=1) > self.most_missing).to_numpy()
            for column in self.columns:
                if column.kind == "category":
                    gone = beyond & missing[column.name].to_numpy()
                    matrix[gone, column.start : column.stop] = 0
                elif column.name in self.fills:
                    source = column.name.removesuffix(WEEKDAY).removesuffix(HOUR)
                    gone = typed[column.name].isna().to_numpy() & (beyond | (source not in self.indicated))
                    matrix[gone, column.start] = self.fills[column.name]
        if not np.isfinite(matrix).all():
            row, dim = (int(i[0]) for i in np.nonzero(~np.isfinite(matrix)))
            name = next(column.name for column in self.columns if column.start <= dim < column.stop)
            raise DataError(f"{what}: row {frame.index[row]}, column {name}: too large for float32")
        return matrix

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table and their positions among the D dimensions."""
        found = [Column(name, "number", i, i + 1) for i, name in enumerate(self._scaled_numbers)]
        for name in self.indicated:
            found.append(Column(f"{name} {MISSING}", "number", _end(found), _end(found) + 1))
        for part, estimator, names in self.transformer.transformers_:
            if part == "category":
                for name, values, shared in zip(
                    names, estimator.categories_, estimator.infrequent_categories_, strict=True
                ):
                    width = len(values) - (0 if shared is None else len(shared) - 1)
                    found.append(Column(name, "category", _end(found), _end(found) + width))
        return tuple(found)

    @property
    def _scaled_numbers(self) -> list[str]:
        """Names of the numeric columns in the order of their dimensions."""
        parts = self.transformer.transformers_
        return [name for part, _, names in parts if part not in ("category", "remainder") for name in names]

    def frame(self, x: np.ndarray) -> pd.DataFrame:
        """Invert `matrix`: (N, D) to a data frame.

        Numbers are returned in their own units, imputed where they were missing, or NaN if training had no example of
        that; categories as the most likely value, or `(unseen)` for zeros.
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
                for i, column in enumerate(block):
                    filled = x[:, column.start] == self.fills.get(column.name, np.nan)
                    found[column.name] = np.where(filled, np.nan, values[:, i])
        return pd.DataFrame({name: found[name] for name in [*self.numbers, *self.categories]})

    def plausible(self, x: np.ndarray) -> pd.DataFrame:
        """Return generated rows in the format of the user's file.

        Columns are in the order of the file. Numbers are clipped to the range of the training rows, and rounded if all
        training values are integers. Dates are written as 2024-04-20.
        """
        frame = self.frame(x)
        for name, (low, high, whole) in self.ranges.items():
            values = frame[name].clip(low, high)
            integers = "Int64" if values.isna().any() else "int64"
            frame[name] = values.round().astype(integers) if whole else values.round(6)
        for name, dated in self.dates.items():
            frame[name] = dated.text(frame[name].astype("float64"))
        return frame[list(self.order or frame)]

    def cells(self, x: np.ndarray) -> dict[str, list[str]]:
        """Return `frame` of (N, D) as short texts: column -> (N,); missing numbers as such, not as imputed."""
        frame = self.frame(x)
        missing = {name: frame[name].isna().to_numpy() for name in self.numbers}
        found = {}
        for column in self.columns:
            if (name := column.name.removesuffix(f" {MISSING}")) in self.indicated and name != column.name:
                gone = x[:, column.start] > 0.5
                found[column.name] = ["yes" if cell else "no" for cell in gone]
                for each in (name, name + WEEKDAY, name + HOUR):
                    if each in missing:
                        missing[each] = missing[each] | gone
        for name, dated in self.dates.items():
            frame[name] = dated.text(frame[name])
        cells = {
            str(name): [f"{round(v, 6) + 0.0:.4g}" if isinstance(v, float) else str(v) for v in values]
            for name, values in frame.items()
        }
        for name, gone in missing.items():
            cells[name] = [MISSING if cell else text for cell, text in zip(gone, cells[name], strict=True)]
        return cells | found

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
        std = train.sample(10_000).take(slice(None)).x.std(0)[[column.start for column in numbers]]
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
            frame = self.source.plain(pd.DataFrame(raw if not isinstance(raw, pd.Series) else raw.to_frame().T))
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
                cells = frame[column.name][rows][:100].astype("object")
                values = ", ".join(dict.fromkeys(MISSING if v != v or v is None else str(v)[:40] for v in cells))[:80]
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
        unused = tuple(name for name in self.source.names if name not in self._names)
        try:
            return dataclasses.replace(self.source, unused=unused).read(path)
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
            "written": to_plain({name: vars(each) for name, each in self.written.items()}),
            "dates": to_plain({name: vars(each) for name, each in self.dates.items()}),
            "indicated": list(self.indicated),
            "fills": to_plain(self.fills),
            "most_missing": self.most_missing,
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
            written={k: Written(**v) for k, v in from_plain(values.get("written", {"dict": []})).items()},
            dates={k: Dated(**v) for k, v in from_plain(values.get("dates", {"dict": []})).items()},
            indicated=tuple(values.get("indicated", ())),
            fills=from_plain(values.get("fills", {"dict": []})),
            most_missing=values.get("most_missing"),
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
            rows = pd.DataFrame(dict(zip((*self.numbers, *self.categories), self.probe["rows"], strict=True)))
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
        """Names of the user's columns."""
        return [name for name in (*self.numbers, *self.categories) if name not in self._derived]

    @property
    def _derived(self) -> set[str]:
        return {name + end for name in self.dates for end in (WEEKDAY, HOUR)}

    def description(self) -> dict[str, Any]:
        """Return the description of the input for export.json."""
        text = (
            f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}; rows of a table are "
            "imputed, scaled and one-hot encoded as kind.json says first"
        )
        return {"text": text, "columns": [dataclasses.asdict(column) for column in self.columns]}


def _check_cells(what: str, name: str, column: pd.Series, bad: pd.Series, wanted: str) -> None:
    """Raise a DataError that lists the cells that are not `wanted`."""
    if bad.any():
        first, *more = (f"'{str(cell)[:40]}' (row {row})" for row, cell in column[bad].iloc[:4].items())
        others = f"; so are {int(bad.sum()) - 1:,} more: {', '.join(more)}" if more else ""
        cell, _, row = first.rpartition(" (row ")
        raise DataError(f"{what}: row {row[:-1]}, column {name}: {cell} is not {wanted}{others}")


def _plain(text: str) -> str:
    """Return a category in the spelling that all of its spellings have in common."""
    low = text.strip().lower()
    return low if low in ("true", "false") else class_name(text)


def _end(columns: list[Column]) -> int:
    return columns[-1].stop if columns else 0
