"""What is to be done to the columns of a table, and learning it from training rows."""

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
    """What is to be done to the columns, before anything is learnt from them.

    Args:
        scaling: of numbers: standard (mean 0, deviation 1), robust (median 0, quartiles' distance 1), quantile (to a
            normal distribution), none.
        log: take sign(x) log(1 + |x|) of numbers before they are scaled; true, or the columns by name.
        categorical: columns of numbers that are categories.
        max_categories: dimensions of a category; the rarest values share the last one.
    """

    scaling: Scaling = "standard"
    log: bool | Sequence[str] = False
    categorical: Sequence[str] = ()
    max_categories: int = 100

    def __post_init__(self) -> None:
        require(self.max_categories >= 2, "max_categories", self.max_categories, "must be 2 or more")

    def fit(self, frame: pd.DataFrame, source: Source) -> tuple[Table, list[str]]:
        """Learn from training rows; and lines that say what was left out or stands out.

        Raises:
            DataError: a column of both numbers and text; columns named in the config that are not there; none left.
        """
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import Pipeline
        from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

        named = [*self.categorical, *([] if isinstance(self.log, bool) else self.log)]
        if unknown := [name for name in named if name not in frame]:
            raise DataError(f"data: there is no column '{unknown[0]}'; there are {', '.join(map(str, frame))}")
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
            raise DataError(f"data.log=[{wrong[0]}]: the column has categories, and no numbers")
        logged = [n for n in numbers if self.log is True or (not isinstance(self.log, bool) and n in self.log)]
        plain = [n for n in numbers if n not in logged]
        encoder = OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=self.max_categories, sparse_output=False
        )
        parts = [("number", pipeline(False), plain), ("log", pipeline(True), logged), ("category", encoder, categories)]
        transformer = ColumnTransformer([part for part in parts if part[2]], sparse_threshold=0)
        order = tuple(name for name in frame if name in {*numbers, *categories})
        made = Table.fitted(source, tuple(numbers), tuple(categories), transformer, order, frame)
        for name, shared in zip(categories, _shared(transformer), strict=True):
            if shared is not None:
                notes.append(f"column {name}: the {len(shared)} rarest values share one dimension")
        return made, notes

    def _kinds(self, frame: pd.DataFrame) -> tuple[list[str], list[str], list[str]]:
        """Names of the columns that are numbers, of those that are categories, and notes on those left out."""
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
                        f"data: column {name} has numbers with a comma, '{str(column[comma].iloc[0])[:40]}'; "
                        f"\"data.decimal=','\" reads them, data.categorical=[{name}] if the column is a category"
                    )
                elif good.mean() > 0.5:
                    cell = column[~good].iloc[0]
                    raise DataError(
                        f"data: column {name} has numbers, and '{str(cell)[:40]}'; "
                        f"data.missing=['{str(cell)[:40]}'] if that is a missing value, "
                        f"data.categorical=[{name}] if the column is a category"
                    )
                elif column.nunique() == len(column) and len(column) > 20:
                    notes.append(f"column {name} is left out: text that is different in every row")
                else:
                    if column.astype(str).str.fullmatch(DATE).mean() > 0.5:
                        notes.append(
                            f"Attention: column {name} looks like dates, which are taken as categories; "
                            f"make numbers of them, or data.drop=[{name}]"
                        )
                    categories.append(name)
        if not numbers and not categories:
            raise DataError("data: no column is left to train on")
        return numbers, categories, notes


def _shared(transformer: Any) -> list[np.ndarray | None]:
    """For each category, the values that share a dimension; None where none do."""
    encoder = transformer.named_transformers_.get("category")
    return [] if encoder is None else list(encoder.infrequent_categories_)
