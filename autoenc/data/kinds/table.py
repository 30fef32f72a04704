"""Tables: numbers imputed and scaled, categories one-hot, and back to the user's columns and units."""

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
from autoenc.data.readers.tables import Source, dates_as_text
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError, one_line

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SHOWN = 4  # rows that `show` shows
PROBED = 3  # rows that are kept to check another version of scikit-learn
UNSEEN = "(unseen)"  # a category that training did not have: none of its dimensions is 1
MISSING = "(missing)"  # the category of an empty cell


class SignedLog(TransformerMixin, BaseEstimator):
    """sign(x) log(1 + |x|): for amounts and counts that span orders of magnitude."""

    def fit(self, X: np.ndarray, y: object = None) -> SignedLog:
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return np.sign(X) * np.log1p(np.abs(X))

    def inverse_transform(self, X: np.ndarray) -> np.ndarray:
        return np.sign(X) * np.expm1(np.abs(X))


@dataclass(frozen=True, eq=False)
class Table(Kind):
    """A row of a table as a vector (D,): a fitted scikit-learn ColumnTransformer, and how files are read.

    Numbers are imputed by the median and scaled. A category that is not seen in training has the dimension that the
    rarest values share, or zeros. Columns of other names are ignored.

    Args:
        numbers, categories: names of the columns, in the order of the dimensions.
        order: of both in the user's files.
        ranges: of the numbers in training: low, high, whether all are whole.
        probe: rows as `typed` returns them, column by column, and what the transformer returned for them; checked where
            a run is loaded with another version of scikit-learn.
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
        made = cls((0,), 0.0, 1.0, source, numbers, categories, transformer, order)
        typed = made.typed(frame, "the training rows")
        transformer.fit(typed)
        ranges = {}
        for name in numbers:
            values = typed[name].dropna()
            whole = bool((values % 1 == 0).all()) and float(values.abs().max()) < 2**53
            ranges[name] = (float(values.min()), float(values.max()), whole)
        rows = typed.head(PROBED)
        probe = {"rows": [rows[name].tolist() for name in rows], "matrix": transformer.transform(rows).tolist()}
        return replace(made, shape=(made.columns[-1].stop,), ranges=ranges, probe=probe)

    def typed(self, frame: pd.DataFrame, what: str) -> pd.DataFrame:
        """The columns that are used, numbers as float64 and categories as text; DataError where they do not fit."""
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
                raise DataError(f"{what}: row {frame.index[row]}, column {name}: '{cell}' is no finite number")
            typed[name] = values
        for name in self.categories:
            column = frame[name]
            typed[name] = column.astype("object").where(column.notna(), MISSING).map(str)
        return pd.DataFrame(typed, index=frame.index)

    def matrix(self, frame: pd.DataFrame, what: str = "the rows") -> np.ndarray:
        """(N, D) float32; D as in `columns`."""
        made = np.asarray(self.transformer.transform(self.typed(frame, what)), np.float32)
        if not np.isfinite(made).all():
            row, dim = (int(i[0]) for i in np.nonzero(~np.isfinite(made)))
            name = next(column.name for column in self.columns if column.start <= dim < column.stop)
            raise DataError(f"{what}: row {frame.index[row]}, column {name}: is too large for float32")
        return made

    @property
    def columns(self) -> tuple[Column, ...]:
        """Where each column of the table is among the D dimensions."""
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
        """(N, D) in the terms of the table: numbers in their own units, the likeliest value of a category, `(unseen)`
        for one that training did not have."""
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
                    place = np.where(one_hot.any(1), one_hot.argmax(1), len(shown))
                    found[column.name] = np.array([*shown, UNSEEN], object)[place]
            elif part != "remainder":
                values = x[:, block[0].start : block[-1].stop]
                for name, step in reversed(estimator.steps):
                    values = values if name == "impute" else step.inverse_transform(values)
                found |= {column.name: values[:, i] for i, column in enumerate(block)}
        return pd.DataFrame({name: found[name] for name in [*self.numbers, *self.categories]})

    def plausible(self, x: np.ndarray) -> pd.DataFrame:
        """`frame` of rows that a model made up, as the user's own: in the order of the columns of the file, numbers
        within the range of the training rows, whole where all of those are."""
        frame = self.frame(x)
        for name, (low, high, whole) in self.ranges.items():
            values = frame[name].clip(low, high)
            frame[name] = values.round().astype("int64") if whole else values.round(6)
        return frame[list(self.order or frame)]

    def cells(self, x: np.ndarray) -> dict[str, list[str]]:
        """(N, D) as short texts in the terms of the table: column -> (N,)."""
        return {
            str(name): [f"{round(v, 6) + 0.0:.4g}" if isinstance(v, float) else str(v) for v in values]
            for name, values in self.frame(x).items()
        }

    def show(self, versions: Mapping[str, Tensor]) -> list[str]:
        """The first four rows in all versions side by side: a line for each column of the table."""
        cells = [self.cells(np.asarray(x[:SHOWN])) for x in versions.values()]
        count = len(next(iter(versions.values()))[:SHOWN])
        table = [["", *(f"{name} {i}" for i in range(count) for name in versions)]]
        table += [[name, *(found[name][i] for i in range(count) for found in cells)] for name in cells[0]]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        return ["  ".join([f"{row[0]:{widths[0]}}", *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table]

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> None:
        return None

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]]:
        """`plausible` rows: the header and the rows of a CSV file in the user's columns."""
        frame = self.plausible(x.flatten(1).numpy())
        return [str(name) for name in frame], frame.values.tolist()

    def decode(self, x: Tensor | np.ndarray) -> pd.DataFrame:
        """`frame`."""
        return self.frame(np.asarray(x))

    def given(self) -> dict[str, Any]:
        return {"columns": self.columns}

    def remark(self, train: Split) -> str | None:
        """Warn of numbers that are the same in every training row; all others are scaled as the config says."""
        numbers = [column for column in self.columns if column.kind == "number"]
        if not numbers or len(train) < 2:
            return None
        std = train.take(slice(0, 10_000)).x.std(0)[[column.start for column in numbers]]
        flat = [column.name for column, value in zip(numbers, std, strict=True) if value == 0]
        if not flat:
            return None
        more = f" and {len(flat) - 3} more" if len(flat) > 3 else ""
        return f"the same in every training row: {', '.join(map(str, flat[:3]))}{more}; data.drop leaves columns out"

    def encode(
        self, raw: Any, what: str = "the data frame", noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Split:
        """Return rows as the model is fed them.

        Args:
            raw: a data frame, or what pandas makes one of (column name -> values); the path of a file; or an array or
                tensor (N, D), which is as fed already.
        """
        import pandas as pd

        if is_numeric(raw):
            return super().encode(raw, what, noisy, support)
        if isinstance(raw, str | Path):
            return self.read(Path(raw)).split
        try:
            frame = dates_as_text(pd.DataFrame(raw if not isinstance(raw, pd.Series) else raw.to_frame().T))
        except (ValueError, TypeError) as error:
            raise DataError(f"expected a data frame, or what pandas makes one of ({one_line(error)})") from None
        if len(frame) == 0:
            raise DataError("the data frame has no rows")
        return Split(torch.from_numpy(self._new(frame, "the data frame")))

    def _new(self, frame: pd.DataFrame, what: str) -> np.ndarray:
        """`matrix`; warns of categories that training did not have."""
        made = self.matrix(frame, what)
        for column in self.columns:
            if column.kind == "category" and (rows := (made[:, column.start : column.stop] == 0).all(1)).any():
                values = ", ".join(dict.fromkeys(str(v)[:40] for v in frame[column.name][rows][:100]))[:80]
                warnings.warn(
                    f"{what}: {rows.sum():,} rows have values of {column.name} that training did not have: {values}",
                    stacklevel=4,
                )
        return made

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read the rows of a file like the training file; their names are their numbers from 0."""
        frame = self._frame(path)
        return Examples(Split(torch.from_numpy(self._new(frame, str(path)))), [str(i) for i in range(len(frame))])

    def labels(self, path: Path, column: str) -> list[str] | None:
        """That column of a file, which is not fed: as classes are called; None where the file has none or a cell is
        empty."""
        frame = self._frame(path)
        return None if column not in frame or frame[column].isna().any() else frame[column].map(class_name).tolist()

    def _frame(self, path: Path) -> pd.DataFrame:
        unused = tuple(name for name in self.source.names if name not in (*self.numbers, *self.categories))
        try:
            return dataclasses.replace(self.source, optional=unused).read(path)
        except DataError as error:
            if "data." not in str(error).replace(str(path), ""):
                raise
            why = "the run reads new files as those that it was trained on"  # its options are not to be had here
            raise DataError(f"{error}; {why}") from None

    def state(self) -> dict[str, Any]:
        """All of it as plain values: see estimator_json.py."""
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
        """What `state` returned; DataError where this version of scikit-learn computes something else of it."""
        made = cls(
            **common(values),
            source=Source(**from_plain(values["source"])),
            numbers=tuple(values["numbers"]),
            categories=tuple(values["categories"]),
            transformer=from_plain(values["transformer"]),
            order=tuple(values.get("order", ())),
            ranges=from_plain(values.get("ranges", {"dict": []})),
            probe=from_plain(values.get("probe", {"dict": []})),
        )
        made._check_version(str(values.get("sklearn", "unknown")))
        return made

    def _check_version(self, written: str) -> None:
        """DataError unless the transformer returns what it returned where it was fitted."""
        import pandas as pd
        import sklearn

        if written == sklearn.__version__:
            return
        try:
            if not self.probe:  # written before probes were kept: at least the transformer has to work
                self.transformer.transform(self.typed(pd.DataFrame({n: [None] for n in self._names}), "a probe"))
                return
            rows = pd.DataFrame(dict(zip(self._names, self.probe["rows"], strict=True)))
            same = np.allclose(self.transformer.transform(rows), self.probe["matrix"], atol=1e-6)
        except Exception:  # private attributes of another version raise anything
            same = False
        if not same:
            raise DataError(
                f"the columns were prepared by scikit-learn {written}, and {sklearn.__version__} computes something "
                f"else of them; pip install scikit-learn=={written}"
            )

    @property
    def _names(self) -> list[str]:
        return [*self.numbers, *self.categories]

    def description(self) -> dict[str, Any]:
        """What export.json says about the input."""
        text = (
            f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}; rows of a table are "
            "imputed, scaled and made one-hot, as kind.json says, before they are fed"
        )
        return {"text": text, "columns": [dataclasses.asdict(column) for column in self.columns]}


def class_name(value: object) -> str:
    """1 for 1.0, as archives keep labels, and files in which one is missing."""
    text = str(value)
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text


def numeric(column: pd.Series) -> pd.Series:
    """As float64; what is no number is missing."""
    import pandas as pd

    return pd.to_numeric(column, errors="coerce").astype("float64")


def _end(columns: list[Column]) -> int:
    return columns[-1].stop if columns else 0
