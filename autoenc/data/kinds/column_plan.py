"""Preprocessing of the columns of a table, fitted to the training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from autoenc.data.kinds.table import SignedLog, Table, numeric
from autoenc.data.readers.tables import COMMA, WHOLE, Source
from autoenc.errors import DataError, require

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Scaling = Literal["standard", "robust", "quantile", "none"]
DATE = r"\d{4}-\d{1,2}-\d{1,2}(?:[ T].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}(?: .*)?"


@dataclass(frozen=True)
class Plan:
    """Options of the preprocessing.

    Args:
        scaling: of numeric columns: standard (mean 0, standard deviation 1), robust (median 0, interquartile range 1),
            quantile (to a normal distribution), none.
        log: apply sign(x) log(1 + |x|) to numbers before scaling: true for all columns, or a list of names.
        categorical: numeric columns to treat as categories.
        max_categories: maximum number of dimensions of a category; the rarest values share the last one.
    """

    scaling: Scaling = "standard"
    log: bool | Sequence[str] = False
    categorical: Sequence[str] = ()
    max_categories: int = 100

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

        named = [*self.categorical, *([] if isinstance(self.log, bool) else self.log)]
        if unknown := [name for name in named if name not in frame]:
            raise DataError(f"data: there is no column '{unknown[0]}'; the columns are {', '.join(map(str, frame))}")
        numbers, categories, notes = self._kinds(frame)
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
        table = Table.fitted(source.learnt(), tuple(numbers), tuple(categories), transformer, order, frame)
        for name, shared in zip(categories, _shared(transformer), strict=True):
            if shared is not None:
                notes.append(f"column {name}: the {len(shared)} rarest values share one dimension")
        return table, notes

    def _kinds(self, frame: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
        """Return the names of numeric and of categorical columns, and notes on those left out."""
        numbers: list[str] = []
        categories: list[str] = []
        notes: list[str] = []
        for name in frame:
            column = frame[name].dropna()
            if len(column) == 0:
                notes.append(f"column {name} is left out: it is empty in the training rows")
            elif name in self.categorical:
                categories.append(name)
            else:
                values = numeric(column)
                good = values.notna()
                if good.all():
                    numbers.append(name)
                elif (comma := column.astype(str).str.fullmatch(WHOLE + COMMA)).any() and (good | comma).mean() > 0.5:
                    raise DataError(
                        f"data: column {name} has decimal commas, '{str(column[comma].iloc[0])[:40]}'; "
                        f"\"data.decimal=','\" reads them, data.categorical=[{name}] if the column is a category"
                    )
                elif good.mean() > 0.5:
                    cell = column[~good].iloc[0]
                    raise DataError(
                        f"data: column {name} has numbers and '{str(cell)[:40]}'; "
                        f"data.missing=['{str(cell)[:40]}'] if that marks a missing value, "
                        f"data.categorical=[{name}] if the column is a category"
                    )
                elif column.nunique() == len(column) and len(column) > 20:
                    notes.append(f"column {name} is left out: its text differs in every row")
                else:
                    if column.astype(str).str.fullmatch(DATE).mean() > 0.5:
                        notes.append(
                            f"Attention: column {name} looks like dates, which are treated as categories; "
                            f"convert them to numbers, or data.drop=[{name}]"
                        )
                    categories.append(name)
        if not numbers and not categories:
            raise DataError("data: no column is left to train on")
        return numbers, categories, notes


def _shared(transformer: Any) -> list[np.ndarray | None]:
    """Return, for each categorical column, the values that share a dimension, or None."""
    encoder = transformer.named_transformers_.get("category")
    return [] if encoder is None else list(encoder.infrequent_categories_)
