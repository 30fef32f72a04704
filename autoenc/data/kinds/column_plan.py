"""Preprocessing of the columns of a table, fitted to the training rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autoenc.data.kinds.columns import SignedLog
from autoenc.data.kinds.table import Table
from autoenc.data.readers.cells.dates import Dated, looks_dated, order_of
from autoenc.data.readers.cells.numbers import (
    Ambiguous,
    Written,
    decimal_commas,
    form_of,
    looks_numeric,
    thousands_points,
)
from autoenc.data.readers.tables import Source, check_columns, named_columns
from autoenc.errors import DataError, require

if TYPE_CHECKING:
    import pandas as pd

Scaling = Literal["standard", "robust", "quantile", "none"]
FEW = 20  # rows, or values, that are too few to tell
EPOCH = r"1\d{9}(?:\d{3}){0,3}"  # seconds, ms, us or ns since 1970, from 2001 to 2033
ID = re.compile(
    r"unnamed: ?\d+|column_0|index|idx|row|row[ _]?(?:id|num|number|index)|(?:.*[_ ])?(?:id|uuid|guid)"
    r"|(?-i:[a-z]+I[dD])|(?:.*[_ ])?timestamp",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Plan:
    """Options of the preprocessing.

    Args:
        scaling: of numeric columns: standard (mean 0, standard deviation 1), robust (median 0, interquartile range 1),
            quantile (to a normal distribution), none.
        log: apply sign(x) log(1 + |x|) to numbers before scaling: true for all columns, or a list of names.
        categorical: numeric columns to treat as categories.
        dates: columns of dates to treat as numbers; auto: all columns that have dates in one form.
        keep: columns to use although they number or identify rows.
        max_categories: maximum number of dimensions of a category; the rarest values share the last one.
    """

    scaling: Scaling = "standard"
    log: bool | Sequence[str] = False
    categorical: Sequence[str] = ()
    max_categories: int = 100
    dates: Literal["auto"] | Sequence[str] = "auto"
    keep: Sequence[str] = ()

    def __post_init__(self) -> None:
        require(self.max_categories >= 2, "max_categories", self.max_categories, "must be 2 or more")

    def fit(self, frame: pd.DataFrame, source: Source) -> tuple[Table, list[str]]:
        """Fit the preprocessing to training rows. Return it, and notes on columns that are left out or unusual.

        Raises:
            DataError: a column mixes numbers and text, a column named in the config does not exist, or none is left.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

        check_columns("the training data", map(str, frame), **named_columns(vars(self)))
        columns = self._kinds(frame, source)
        numbers, categories, notes = columns.numbers, columns.categories, columns.notes
        scalers = {
            "standard": lambda: StandardScaler(),
            "robust": lambda: RobustScaler(),
            "quantile": lambda: QuantileTransformer(
                n_quantiles=min(1000, len(frame)), output_distribution="normal", random_state=0
            ),
        }

        def pipeline(log: bool) -> Any:
            steps: list[tuple[str, Any]] = [("impute", SimpleImputer(strategy="median"))]
            steps += [("log", SignedLog())] if log else []
            steps += [("scale", scalers[self.scaling]())] if self.scaling != "none" else []
            return Pipeline(steps)

        if not isinstance(self.log, bool) and (wrong := [name for name in self.log if name in categories]):
            raise DataError(f"data.log=[{wrong[0]}]: the column is categorical, not numeric")
        logged = [n for n in numbers if self.log is True or (not isinstance(self.log, bool) and n in self.log)]
        plain = [n for n in numbers if n not in logged]
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=self.max_categories, sparse_output=False
        )
        parts = [("number", pipeline(False), plain), ("log", pipeline(True), logged), ("category", encoder, categories)]
        transformer = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)
        order = tuple(name for name in frame if name in {*numbers, *categories})
        table = Table.fitted(
            source.learnt(),
            tuple(numbers),
            tuple(categories),
            transformer,
            order,
            columns.written,
            columns.dates,
            frame,
        )
        counts = frame[list(order)].isna().sum()
        if counts.any():
            cells = ", ".join(f"{name} {count:,}" for name, count in counts[counts > 0].iloc[:8].items())
            more = f" and {(counts > 0).sum() - 8} more columns" if (counts > 0).sum() > 8 else ""
            notes.append(f"missing cells in {len(frame):,} training rows: {cells}{more}")
        for name, shared in zip(categories, _shared(transformer), strict=True):
            if shared is not None:
                notes.append(f"column {name}: the {len(shared)} rarest values share one dimension")
        return table, notes

    def _kinds(self, frame: pd.DataFrame, source: Source) -> _Columns:
        """Return what becomes of each column."""
        found = _Columns(names=frozenset(map(str, frame)))
        for name in frame:
            column = frame[name].dropna()
            if len(column) == 0:
                found.notes.append(f"column {name} is left out: it is empty in the training rows")
            elif column.iloc[:100].map(lambda cell: isinstance(cell, list | dict | tuple | set | np.ndarray)).any():
                raise DataError(f"data: column {name} has lists or records, not single values; data.drop=[{name}]")
            elif name in self.categorical:
                found.categories.append(name)
            elif self._numbers_rows(name, column, gaps=len(column) < len(frame)):
                found.notes.append(f"column {name} is left out: it identifies rows; data.keep=[{name}] keeps it")
            elif not self._is_date(name, column, found) and not self._is_number(name, column, source, found):
                self._category(name, column, found)
        if not found.numbers and not found.categories:
            why = f"; {found.notes[0]}" if found.notes else ""
            raise DataError(f"data: no column is left to train on{why}")
        return found

    def _numbers_rows(self, name: str, column: pd.Series, gaps: bool) -> bool:
        """Whether a column counts or times the rows, or identifies them by its name; each has another value.

        Args:
            column: without missing cells. gaps: whether there are any.
        """
        named = (*self.keep, *(() if isinstance(self.log, bool) else self.log), *self.dates)
        if name in named or len(column) <= FEW or column.nunique() < len(column):
            return False
        if gaps and column.dtype.kind == "f" and ((column % 1 == 0) & (column.abs() < 2**53)).all():
            column = column.astype("int64")  # pandas has whole numbers beside missing cells as floating-point ones
        texts = column.astype(str)
        whole = column.dtype.kind in "iu" or bool(texts.str.fullmatch(r"\d{1,18}").all())
        if whole:
            values = column.astype("int64").sort_index()  # in the order of the file
            ordered = values.is_monotonic_increasing or values.is_monotonic_decreasing
            if (values - values.index).nunique() == 1 or (ordered and texts.str.fullmatch(EPOCH).all()):
                return True
        return ID.fullmatch(name) is not None and (whole or not Written().parse(column).notna().all())

    def _is_date(self, name: str, column: pd.Series, found: _Columns) -> bool:
        if self.dates != "auto" and name not in self.dates:
            return False
        if self.dates == "auto" and not looks_dated(column.iloc[:100]).all():
            return False
        order = order_of(column)
        if order is None:
            if self.dates == "auto":
                return False
            cell = str(column.iloc[0])[:40]
            raise DataError(f"data.dates=[{name}]: '{cell}' and others may be read in several ways; write 2024-04-20")
        dated = Dated(order)
        moments = dated.moments(column)
        if moments.isna().any():
            if self.dates == "auto":
                return False
            raise DataError(f"data.dates=[{name}]: '{str(column[moments.isna()].iloc[0])[:40]}' is not a date")
        clock = bool((moments != moments.dt.normalize()).any())
        found.dates[name] = dated = Dated(order, moments.min().isoformat(), clock).apart(name, found.names)
        found.numbers += [name + end for end in dated.ends]
        for end, usual in zip(dated.ends, Dated(order, clock=clock).ends, strict=True):
            if end != usual:
                found.notes.append(f"column {name + end}: that of the dates in {name}, since {name + usual} is taken")
        if self.dates == "auto":
            hour = ", hour" if clock else ""
            found.notes.append(f"column {name}: dates are read as days, weekday{hour}; data.dates=[] for categories")
        return True

    def _is_number(self, name: str, column: pd.Series, source: Source, found: _Columns) -> bool:
        """Whether all cells are numbers of one form; DataError if most of them are, or if the form is ambiguous."""
        import pandas as pd

        if column.map(lambda cell: isinstance(cell, bool | np.bool_)).all():
            return False  # categories, as in a CSV file
        form = Written(source.decimal, source.thousands)
        plain = form.parse(column).notna()
        category = f"data.categorical=[{name}] if the column is a category"
        try:
            if not plain.all():
                form = form_of([str(cell) for cell in column], source.decimal, source.thousands) or form
        except Ambiguous as error:
            cell = str(error)
            raise DataError(
                f"data: column {name} has '{cell}', with a decimal or a thousands separator: "
                f"\"data.thousands=','\" reads {cell.replace(',', '')}, \"data.decimal=','\" "
                f"reads {cell.replace(',', '.')}; {category}"
            ) from None
        good = form.parse(column).notna()
        if good.all():
            found.numbers.append(name)
            found.written[name] = form
            special = ~plain if source.decimal == "," else pd.to_numeric(column, errors="coerce").isna()
            if column.dtype.kind not in "biuf":
                special |= column.astype(str).str.fullmatch(r"0\d+")  # a code
            if special.any():
                cell = column[special].iloc[:1]
                read = f"'{str(cell.iloc[0])[:40]}' is read as the number {form.parse(cell).iloc[0]:.10g}"
                found.notes.append(f"column {name}: {read}; data.categorical=[{name}] if it is a category")
            if form == Written() and (cell := thousands_points(column, beside=source.separator != ";")):
                why = f"'{cell}' is read as {cell}; \"data.decimal=','\" reads {cell.replace('.', '')}"
                found.notes.append(f"Attention: column {name}: {why}")
            return True
        rest = column[~good].astype(str)
        cells = ", ".join(f"'{cell[:40]}' (row {row})" for row, cell in rest.iloc[:3].items())
        listed = f"{len(rest):,} other cells: {cells}" if len(rest) > 1 else cells
        if source.decimal == "." and decimal_commas(column):
            remedy = f"\"data.decimal=','\" reads them, {category}"
            raise DataError(f"data: column {name} has decimal commas, {listed}; {remedy}")
        numeric = looks_numeric(rest)
        if good.mean() > 0.5 and not numeric.all():
            marks = ",".join(f"'{cell[:40]}'" for cell in dict.fromkeys(rest[~numeric].iloc[:100]))[:80]
            remedy = f"data.missing=[{marks}] if that marks missing values, {category}"
            raise DataError(f"data: column {name} has numbers and {listed}; {remedy}")
        if good.mean() > 0.5 or (rest.nunique() > FEW and (numeric.sum() + good.sum()) / len(column) > 0.5):
            raise DataError(f"data: column {name} has numbers in several forms, {listed}; use one, or {category}")
        return False

    def _category(self, name: str, column: pd.Series, found: _Columns) -> None:
        if column.nunique() == len(column) and len(column) > FEW and name not in self.keep:
            found.notes.append(f"column {name} is left out: its text differs in every row; data.keep=[{name}] keeps it")
            return
        if looks_dated(column).mean() > 0.5:
            found.notes.append(
                f"Attention: column {name} looks like dates, which are treated as categories; "
                f"data.dates=[{name}] reads dates such as 2024-04-20 as numbers"
            )
        elif column.nunique() > FEW and (numeric := column.astype(str).str.match(r"[+-]?\d")).mean() > 0.5:
            cell = str(column[numeric].iloc[0])[:40]
            what = f"'{cell}' and others are treated as categories; convert them if they are quantities"
            found.notes.append(f"Attention: column {name}: {what}; data.categorical=[{name}] if not")
        found.categories.append(name)


@dataclass
class _Columns:
    """What becomes of the columns of a table, which have these names."""

    names: frozenset[str] = frozenset()
    numbers: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    written: dict[str, Written] = field(default_factory=dict)
    dates: dict[str, Dated] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _shared(transformer: Any) -> list[np.ndarray | None]:
    """Return, for each categorical column, the values that share a dimension, or None."""
    encoder = transformer.named_transformers_.get("category")
    return [] if encoder is None else list(encoder.infrequent_categories_)
