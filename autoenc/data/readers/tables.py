"""Reading of tables as data frames, whole or in chunks: CSV, Parquet and NumPy archives."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoenc.data.readers.arrays import is_number, read_arrays
from autoenc.errors import DataError, one_line

if TYPE_CHECKING:
    import pandas as pd

TEXTS = (".csv", ".txt", ".tsv", ".data")
ARRAYS = (".npz", ".npy")
CHUNK = 50_000  # rows
WHOLE, COMMA = r"[+-]?\d{1,3}(?:[ .]?\d{3})*", r",\d+"  # European numbers: 1.234 and ,5


@dataclass(frozen=True)
class Source:
    """The format of table files; saved with the run, so that new files are read in the same way.

    Args:
        header: whether the first line of a CSV file has the names of the columns.
        names: names of the columns of a file without a header; column_0 ... by default.
        separator: separator of the columns of a CSV file.
        encoding: of a CSV file.
        missing: markers of missing values, beside empty cells, NA, NaN, null and the like.
        decimal: decimal separator in a CSV file: . or ,
        optional: columns that a file without a header may lack: labels and unused columns.
    """

    header: bool = True
    names: tuple[str, ...] = ()
    separator: str = ","
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    decimal: str = "."
    optional: tuple[str, ...] = ()

    def read(self, path: Path) -> pd.DataFrame:
        """Read all rows. Cells of a CSV file are text or missing.

        Raises:
            DataError: a missing or empty file, another format or encoding, rows of different lengths.
        """
        import pandas as pd

        return pd.concat(list(self.chunks(path)), ignore_index=True)

    def chunks(self, path: Path) -> Iterator[pd.DataFrame]:
        """Yield the rows in chunks of 50,000 (NumPy files in one chunk)."""
        if not path.is_file():
            raise DataError(f"{path}: no such file" if not path.exists() else f"{path}: is a folder, not a file")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty")
        suffix = path.suffix.lower()
        if suffix in TEXTS:
            yield from self._csv(path)
        elif suffix == ".parquet":
            yield from _parquet(path)
        elif suffix in ARRAYS:
            yield self._array(path)
        else:
            raise DataError(f"{path}: expected .csv, .txt, .tsv, .parquet, .npz or .npy, found '{suffix}'")

    def _csv(self, path: Path) -> Iterator[pd.DataFrame]:
        import pandas as pd

        separator = "\t" if path.suffix.lower() == ".tsv" else self.separator
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        try:
            names = self._checked(path, separator, encoding)
            chunks = pd.read_csv(
                path, sep=separator, encoding=encoding, header=0 if self.header else None, names=names, dtype="str",
                index_col=False, na_values=list(self.missing), skipinitialspace=True, chunksize=CHUNK,
            )  # fmt: skip
            with chunks:
                yield from (chunk if self.decimal == "." else chunk.apply(_with_points) for chunk in chunks)
        except UnicodeError as error:
            raise DataError(
                f"{path}: is not {self.encoding} ({one_line(error)}); data.encoding=latin-1 can decode every file"
            ) from None
        except LookupError:
            raise DataError(f"data.encoding={self.encoding}: no such encoding") from None
        except (csv.Error, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as CSV ({one_line(error)})") from None

    def _checked(self, path: Path, separator: str, encoding: str) -> list[str]:
        """Return the names of the columns; DataError for rows of different lengths, which pandas would pad silently."""
        names: list[str] = []
        with path.open(newline="", encoding=encoding) as file:
            rows = csv.reader(file, delimiter=separator)
            count = 0
            for row in rows:
                if not names and row:
                    names = self._names(path, row)
                    count -= self.header
                if row and len(row) != len(names):
                    raise DataError(f"{path}: line {rows.line_num} has {len(row)} columns, expected {len(names)}")
                count += bool(row)
        if count < 1:
            raise DataError(f"{path}: has no rows")
        return names

    def _names(self, path: Path, first: Sequence[str]) -> list[str]:
        if self.header:
            names = [cell.strip() for cell in first]
            if any(is_number(name) for name in names):
                shown = ", ".join(names[:4])
                raise DataError(f"{path}: line 1 ({shown}, ...) has numbers, not names; data.header=false for data")
            if len(names) == 1 and (other := next((s for s in ";\t|" if s in names[0]), None)):
                raise DataError(f"{path}: line 1 is one column, '{names[0][:40]}'; \"data.separator='{other}'\"?")
        else:
            names = list(self.names) or [f"column_{i}" for i in range(len(first))]
            if len(first) == len(without := [name for name in names if name not in self.optional]):
                names = without
            if len(names) != len(first):
                raise DataError(f"{path}: has {len(first)} columns, data.names has {len(names)}")
        if twice := {name for name in names if names.count(name) > 1}:
            raise DataError(f"{path}: two columns are named '{min(twice)}'")
        return names

    def _array(self, path: Path) -> pd.DataFrame:
        """Read X or x (and y, as the column y) of an archive, or an array."""
        import pandas as pd

        arrays = {name.lower(): array for name, array in read_arrays(path).items()}
        x = arrays.get("x")
        if x is None or x.ndim != 2 or x.dtype.kind not in "biuf":
            found = ", ".join(f"{k} {v.shape} {v.dtype}" for k, v in arrays.items())
            raise DataError(f"{path}: expected numbers x (or X) of shape (rows, columns), found {found or 'nothing'}")
        frame = pd.DataFrame(x, columns=list(self.names) or [f"column_{i}" for i in range(x.shape[1])])
        if "y" in arrays:
            if arrays["y"].size != len(x):
                raise DataError(f"{path}: {arrays['y'].size} labels y for {len(x)} rows")
            frame["y"] = arrays["y"].ravel()
        return frame


def _parquet(path: Path) -> Iterator[pd.DataFrame]:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            rows = 0
            for batch in file.iter_batches(CHUNK):
                frame = batch.to_pandas().reset_index(drop=True)
                frame.index += rows  # row numbers of the file, as for CSV
                rows += len(frame)
                yield dates_as_text(frame)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None
    if not rows:
        raise DataError(f"{path}: has no rows")


def _with_points(column: pd.Series) -> pd.Series:
    """Convert 12,5 and 1.234,5 to 12.5 and 1234.5; other text is unchanged."""
    number = column.str.fullmatch(f"{WHOLE}(?:{COMMA})?").fillna(False).astype(bool)
    return column.mask(number, column.str.replace(r"[ .]", "", regex=True).str.replace(",", "."))


def dates_as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of dates to text as in a CSV file: 2024-04-20, with the time of day if there is one."""
    dates = frame.select_dtypes(["datetime", "datetimetz"])
    if dates.shape[1] == 0:
        return frame
    return frame.assign(**{name: dates[name].map(_written, na_action="ignore").astype("object") for name in dates})


def _written(moment: pd.Timestamp) -> str:
    return str(moment.date() if moment == moment.normalize() else moment)
