"""The columns of a table as dimensions of a vector: numbers imputed and scaled, categories one-hot; and the inverse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.observed import Column
from autoenc.data.kinds.raw import Category, Raw, RawColumns, RawInput
from autoenc.data.kinds.raw.inputs import GONE
from autoenc.data.readers.cells.class_names import MISSING, class_name
from autoenc.data.readers.cells.dates import Dated, zoned
from autoenc.data.readers.cells.numbers import Written
from autoenc.data.readers.delimited import unique
from autoenc.data.readers.tables import Source
from autoenc.data.split import Split
from autoenc.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from autoenc.core import Likelihood

MOST_DECIMALS = 300  # that float64 can have
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
class Columns(Kind):
    """Columns of a table as dimensions of a vector (D,), by a fitted scikit-learn ColumnTransformer, and back.

    Numbers are imputed by the median and scaled. A category not seen in training is encoded as the dimension shared by
    the rarest values, or as zeros; a missing one as zeros, unless "missing" has a dimension of its own. Other columns
    are ignored.

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

    @classmethod
    def fitted(
        cls, source: Source, numbers: tuple[str, ...], categories: tuple[str, ...], transformer: Any,
        order: tuple[str, ...], written: dict[str, Written], dates: dict[str, Dated], frame: pd.DataFrame,
    ) -> Self:  # fmt: skip
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
                zones = zoned(column.dropna())
                if zones.any() and not zones.all():
                    why = "some dates have a time zone and others have none; write all of them alike"
                    raise DataError(f"{what}: column {name}: {why}")
                moments = self.dates[name].moments(column)
                _check_cells(what, name, column, moments.isna() & column.notna(), "a date")
                typed |= {name + end: values for end, values in self.dates[name].numbers(moments).items()}
                continue
            values = self.written.get(name, default).parse(column)
            if self.source.infinite == "missing":
                values, column = values.where(~np.isinf(values)), column.where(~np.isinf(values))
            remedy = " (data.infinite=missing makes such cells missing)" if np.isinf(values).any() else ""
            bad = (values.isna() & column.notna()) | np.isinf(values)
            _check_cells(what, name, column, bad, f"a finite number{remedy}")
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
            unseen = (text for text in typed[name].unique() if text not in exact)
            new = {text: other for text in unseen if (other := spelled.get(_plain(text), text)) != text}
            if new:
                typed[name] = typed[name].map(lambda text, new=new: new.get(text, text))
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
                few = beyond | (column.indicator is None)
                if column.kind == "category":
                    gone = few & missing[column.name].to_numpy()
                    matrix[gone, column.start : column.stop] = 0
                elif column.name in self.fills:
                    gone = few & typed[column.name].isna().to_numpy()
                    matrix[gone, column.start] = self.fills[column.name]
        if not np.isfinite(matrix).all():
            row, dim = (int(i[0]) for i in np.nonzero(~np.isfinite(matrix)))
            name = next(column.name for column in self.columns if column.start <= dim < column.stop)
            raise DataError(f"{what}: row {frame.index[row]}, column {name}: too large for float32")
        return matrix

    def metrics(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> dict[str, Tensor]:
        return {"mse": self.error(params, x, likelihood)}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table and their positions among the D dimensions."""
        first = len(self.numbers)  # of the indicators
        place = {part: first + i for i, name in enumerate(self.indicated) for part in self._parts(name)}
        found = [
            Column(name, "number", i, i + 1, place.get(name), self.fills.get(name))
            for i, name in enumerate(self._scaled_numbers)
        ]
        for name in self._indicators:
            found.append(Column(name, "number", _end(found), _end(found) + 1))
        for part, estimator, names in self.transformer.transformers_:
            if part == "category":
                for name, (own, rare) in zip(names, _categories(estimator), strict=True):
                    start = _end(found)
                    gone = start + own.index(MISSING) if MISSING in own else None
                    found.append(Column(name, "category", start, start + len(own) + bool(rare), gone))
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
                for column, (own, rare) in zip(block, _categories(estimator), strict=True):
                    shown = own + ([f"(one of {len(rare)} rare)"] if rare else [])
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
            rounded = values.round(self._decimals(name)).clip(low, high)
            frame[name] = values.round().astype(integers) if whole else rounded
        for name, dated in self.dates.items():
            frame[name] = dated.text(frame[name].astype("float64"))
        return frame[list(self.order or frame)]

    def cells(self, x: np.ndarray) -> dict[str, list[str]]:
        """Return `frame` of (N, D) as short texts: column -> (N,); missing numbers as such, not as imputed."""
        frame = self.frame(x)
        missing = self._missing_numbers(frame, x)
        flags = self._flags(x)
        found = {name: ["yes" if cell else "no" for cell in flags[:, i]] for i, name in enumerate(self._indicators)}
        for name, dated in self.dates.items():
            frame[name] = dated.text(frame[name])
        cells = {}
        for name, values in frame.items():
            decimals = self._decimals(name)
            texts = [f"{round(v, decimals) + 0.0:.4g}" if isinstance(v, float) else str(v) for v in values]
            cells[str(name)] = texts
        for name, gone in missing.items():
            cells[name] = [MISSING if cell else text for cell, text in zip(gone, cells[name], strict=True)]
        return cells | found

    def marginals(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return `frame` of (N, D), column -> (N,): numbers and dates, NaN and NaT where they are missing, or texts."""
        import pandas as pd

        frame = self.frame(x)
        for name, gone in self._missing_numbers(frame, x).items():
            frame[name] = frame[name].where(~gone)
        for name, dated in self.dates.items():
            frame[name] = pd.to_datetime(dated.text(frame[name]))
        return {str(name): frame[name].to_numpy() for name in frame}

    def _decimals(self, name: str) -> int:
        """Return with how many decimals numbers are written: six, or as many as their range has six digits with."""
        low, high, _ = self.ranges.get(name, (0.0, 0.0, False))  # which runs of version 0.1 lack
        size = high - low or abs(high)
        return min(max(6, 5 - math.floor(math.log10(size))), MOST_DECIMALS) if size else 6

    @property
    def _indicators(self) -> list[str]:
        """Names of the indicators, which no other column has."""
        taken, names = {*self.numbers, *self.categories}, [f"{name} {MISSING}" for name in self.indicated]
        return names if taken.isdisjoint(names) else unique([*taken, *names])[len(taken) :]

    def _flags(self, x: np.ndarray) -> np.ndarray:
        """Return (N, I) bool, whether the numbers that have an indicator are missing."""
        flags: np.ndarray = x[:, len(self.numbers) : len(self.numbers) + len(self.indicated)] > 0.5
        return flags

    def _missing_numbers(self, frame: pd.DataFrame, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return which numbers of rows (N, D) are missing: column -> (N,) bool."""
        missing = {name: frame[name].isna().to_numpy() for name in self.numbers}
        for name, gone in zip(self.indicated, self._flags(x).T, strict=True):
            for part in self._parts(name):
                missing[part] = missing[part] | gone
        return missing

    def raw(self) -> Raw:
        steps = {part: (estimator, names) for part, estimator, names in self.transformer.transformers_}
        encoder, texts = steps.pop("category", (None, []))
        steps.pop("remainder", None)
        spellings = [] if encoder is None else [self._codes(own, rare) for own, rare in _categories(encoder)]
        inputs, missing = [], tuple(sorted(self.source.markers.texts))
        if numbers := self._numeric:
            text = "numbers, NaN where missing" + ("; dates as seconds since 1970" if self.dates else "")
            inputs.append(RawInput("numbers", "float64", (len(numbers),), text, numbers, tuple(self.dates), missing))
        if texts:
            text = "texts, empty where missing"
            inputs.append(RawInput("categories", "str", (len(texts),), text, tuple(texts), codes=tuple(spellings)))
        return RawColumns(
            inputs,
            {name: (_seconds(dated.first), dated.ends) for name, dated in self.dates.items()},
            [([step for _, step in pipeline.steps], names) for pipeline, names in steps.values()],
            [] if encoder is None else [self._dimensions(own, rare) for own, rare in _categories(encoder)],
            self.columns,
            self.indicated,
            self.most_missing,
            self.source.infinite == "missing",
        )

    def _codes(self, own: list[str], rare: set[str]) -> dict[str, int]:
        """Return the number of each spelling of each value of a column."""
        codes: dict[str, int] = {}
        for i, value in [*enumerate(own), *((len(own), value) for value in sorted(rare))]:
            plain = _plain(value)
            others = {plain.title(), plain.upper()} if plain in ("true", "false") else {f"{plain}.0"}
            for spelling in (value, plain, *sorted(others if plain.lstrip("-").isdigit() or len(others) > 1 else ())):
                codes.setdefault(spelling, i)
        codes |= {value: i for i, value in enumerate(own)} | dict.fromkeys(rare, len(own))
        return codes | dict.fromkeys(["", MISSING, *self.source.markers.texts], GONE)

    def _dimensions(self, own: list[str], rare: set[str]) -> Category:
        other = len(own) if rare else -1
        gone = own.index(MISSING) if MISSING in own else other if self.most_missing is None else -1
        return Category(len(own) + bool(rare), other, gone)

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        """Return rows with more cells missing, and some values not seen in training."""
        import pandas as pd

        frame = pd.DataFrame(self.marginals(x.numpy()))[self._names]
        for name in self.dates:
            frame[name] = frame[name].dt.round("s")
        for i in range(len(frame)):
            if i % 3 == 1:
                cells = [i % frame.shape[1], i // 5 % frame.shape[1]] if i % 2 else [i % frame.shape[1]]
                frame.iloc[i, cells] = None
        for i, name in enumerate(self.categories):
            frame.loc[5 + i :: 20, name] = "(never seen)"
            frame[name] = frame[name].where(frame[name] != MISSING, None)
        seconds = frame.assign(**{name: _seconds(frame[name]) for name in self.dates})
        arrays = []
        if self._numeric:
            arrays.append(seconds[list(self._numeric)].to_numpy(np.float64))
        if self.categories:
            arrays.append(frame[list(self.categories)].astype("object").fillna("").to_numpy(str))
        return self.encode(frame, "raw rows"), arrays

    @property
    def _numeric(self) -> tuple[str, ...]:
        """Names of the user's columns of numbers and dates."""
        return tuple(name for name in self._names if name not in self.categories)

    @property
    def _names(self) -> list[str]:
        """Names of the user's columns."""
        return [name for name in (*self.numbers, *self.categories) if name not in self._derived]

    @property
    def _derived(self) -> set[str]:
        """Names of columns that are derived from dates."""
        return {part for name in self.dates for part in self._parts(name)[1:]}

    def _parts(self, name: str) -> list[str]:
        """Return the numbers that a column of numbers or dates becomes."""
        return [name + end for end in self.dates[name].ends] if name in self.dates else [name]


def _check_cells(what: str, name: str, column: pd.Series, bad: pd.Series, wanted: str) -> None:
    """Raise a DataError that lists the cells that are not `wanted`."""
    if bad.any():
        first, *more = (f"'{str(cell)[:40]}' (row {row})" for row, cell in column[bad].iloc[:4].items())
        others = f"; so are {int(bad.sum()) - 1:,} more: {', '.join(more)}" if more else ""
        cell, _, row = first.rpartition(" (row ")
        raise DataError(f"{what}: row {row[:-1]}, column {name}: {cell} is not {wanted}{others}")


def _seconds(moments: Any) -> Any:
    """Return seconds since 1970, NaN where missing."""
    import pandas as pd

    return (pd.to_datetime(moments) - pd.Timestamp("1970-01-01")) / pd.Timedelta(seconds=1)


def _plain(text: str) -> str:
    """Return a category in the spelling that all of its spellings have in common."""
    low = text.strip().lower()
    return low if low in ("true", "false") else class_name(text)


def _categories(encoder: Any) -> Iterator[tuple[list[str], set[str]]]:
    """Yield, for each column of a OneHotEncoder, values with a dimension of their own and those that share one."""
    for values, shared in zip(encoder.categories_, encoder.infrequent_categories_, strict=True):
        rare = set() if shared is None else set(shared)
        yield [value for value in values if value not in rare], rare


def _end(columns: list[Column]) -> int:
    return columns[-1].stop if columns else 0
