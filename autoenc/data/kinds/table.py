"""Rows of a table: reading and encoding, display, and the stored state."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from autoenc.data.kinds.columns import Columns
from autoenc.data.kinds.estimator_json import from_plain, to_plain
from autoenc.data.kinds.kind import REAL, common
from autoenc.data.kinds.observed import Completed
from autoenc.data.readers.cells.class_names import MARKERS, MISSING, class_names
from autoenc.data.readers.cells.dates import Dated
from autoenc.data.readers.cells.numbers import Written
from autoenc.data.readers.tables import Source
from autoenc.data.scaling import is_numeric
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError, counted, one_line

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

SHOWN = 4  # rows displayed by `show`
# The state in kind.json, and what runs of earlier versions lack.
LISTS = ("numbers", "categories", "order", "indicated")
VALUES = ("transformer", "ranges", "probe", "fills", "most_missing")
FORMS = {"written": Written, "dates": Dated}
EARLIER: dict[str, Any] = {"order": [], "indicated": [], "most_missing": None}
EARLIER |= {name: {"dict": []} for name in ("ranges", "probe", "fills", "written", "dates")}


@dataclass(frozen=True, eq=False)
class Table(Columns):
    """Rows of a table; `Columns` are their dimensions."""

    name: ClassVar[str] = "table"
    noun: ClassVar[str] = "rows of a table"
    named_dimensions: ClassVar[bool] = True
    encodes_objects: ClassVar[bool] = True

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

    def direction(self, atom: Tensor) -> str:
        """Return the five columns with the largest entries; the sign of those of a single number."""
        parts = sorted(self.columns, key=lambda column: -float(atom[column.start : column.stop].norm()))[:5]
        blocks = [(column.name, atom[column.start : column.stop]) for column in parts]
        return ", ".join(f"{name} {float(v) if len(v) == 1 else float(v.norm()):+.2g}" for name, v in blocks)

    def changes(self, gradient: Tensor, rows: Tensor) -> list[tuple[str, float]]:
        """Return a standard deviation more of each number, and each value of a category instead of an average one."""
        mean, std, columns = rows.mean(0), rows.std(0), self.columns
        indicators = {column.indicator for column in columns if column.kind == "number"}
        found = []
        for column in columns:
            part, start = gradient[column.start : column.stop], column.start
            if column.kind == "category":
                one_hot = torch.eye(len(mean))[start : column.stop].numpy()
                effects = (part - part @ mean[start : column.stop]).tolist()
                values = self.cells(one_hot)[column.name]
                found += [(f"{column.name}={value}", effect) for value, effect in zip(values, effects, strict=True)]
            elif start in indicators:
                found.append((column.name, float(part)))
            else:
                found.append((f"{column.name} +1 std", float(part * std[start])))
        return found

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
                unseen = f"{counted(int(rows.sum()), 'rows have')} values of {column.name} not seen in training"
                warnings.warn(f"{what}: {unseen}: {values}", stacklevel=4)
        return matrix

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read the rows of a file in the format of the training file; they are named by their numbers from 1."""
        frame = self._frame(path)
        return Examples(Split(torch.from_numpy(self._new(frame, str(path)))), [str(i) for i in frame.index])

    def class_names(self, path: Path, label: str, normal: str | None) -> Sequence[str | None] | None:
        frame = self._frame(path)
        if label not in frame:
            return None
        return [name if isinstance(name, str) else None for name in class_names(frame[label], normal)]

    def _frame(self, path: Path) -> pd.DataFrame:
        unused = tuple(name for name in self.source.names if name not in self._names)
        try:
            return dataclasses.replace(self.source, unused=unused).read(path)
        except DataError as error:
            if "data." not in str(error).replace(str(path), ""):
                raise
            why = "the run reads new files in the format of its training files"  # options cannot be changed here
            raise DataError(f"{error}; {why}") from None

    def completed(self, path: Path, versions: Sequence[Tensor]) -> Completed:
        """Return the rows of a file, each missing cell of the model's columns replaced by that of `plausible`."""
        frame = self._frame(path)
        missing = self._missing(self.typed(frame, str(path)))
        found = []
        for x in versions:
            drawn, whole = self.plausible(x.numpy()), frame.astype("object")
            for name in missing.columns[missing.any()]:
                gone, values = missing[name].to_numpy(), drawn[name].to_numpy(object)
                comma = self.source.decimal == "," and isinstance(values[0], float)
                values = np.array([str(value).replace(".", ",") for value in values], object) if comma else values
                whole[name] = whole[name].where(~gone, values)
            found.append(whole)
        return Completed(found, missing)

    def state(self) -> dict[str, Any]:
        """Return the state as plain values; see estimator_json.py."""
        import sklearn

        forms = {name: to_plain({k: vars(v) for k, v in getattr(self, name).items()}) for name in FORMS}
        return {
            "sklearn": sklearn.__version__,
            "source": to_plain(vars(self.source)),
            **{name: list(getattr(self, name)) for name in LISTS},
            **{name: to_plain(getattr(self, name)) for name in VALUES},
            **forms,
        }

    @classmethod
    def load(cls, folder: Path | None, values: dict[str, Any]) -> Table:
        """Return the table that `save` wrote; DataError if this version of scikit-learn gives other results."""
        values = EARLIER | values
        state: dict[str, Any] = {name: from_plain(values[name]) for name in (*VALUES, *FORMS)}
        state |= {name: {k: form(**v) for k, v in state[name].items()} for name, form in FORMS.items()}
        state |= {name: tuple(values[name]) for name in LISTS}
        table = cls(**common(values), source=Source(**from_plain(values["source"])), **state)
        table._check_version(str(values.get("sklearn", "unknown")))
        encoder = table.transformer.named_transformers_.get("category")
        known = set() if encoder is None else {text for each in encoder.categories_ for text in each}
        return dataclasses.replace(table, source=dataclasses.replace(table.source, kept=tuple(sorted(known & MARKERS))))

    def _check_version(self, written: str) -> None:
        """Raise DataError unless the transformer reproduces the stored results: another version, or damage."""
        import pandas as pd
        import sklearn

        try:
            if not self.probe:  # an old run without a probe: the transformer must at least run
                self.transformer.transform(self.typed(pd.DataFrame({n: [None] for n in self._names}), "a probe"))
                return
            rows = pd.DataFrame(dict(zip((*self.numbers, *self.categories), self.probe["rows"], strict=True)))
            same = np.allclose(self.transformer.transform(rows), self.probe["matrix"], atol=1e-6)
        except Exception:  # private attributes of another version raise anything
            same = False
        if not same and written == sklearn.__version__:
            raise DataError("the columns do not give the results that are stored beside them; the state is damaged")
        if not same:
            raise DataError(
                f"the columns were fitted with scikit-learn {written}, and {sklearn.__version__} gives different "
                f"results; pip install scikit-learn=={written}"
            )

    def description(self) -> dict[str, Any]:
        text = (
            f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}; rows of a table are "
            "imputed, scaled and one-hot encoded as kind.json says first"
        )
        return {"text": text, "columns": [dataclasses.asdict(column) for column in self.columns]}
