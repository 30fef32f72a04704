"""Reading of tables as data frames, whole or in chunks: CSV, JSON lines, Parquet, Feather, Excel and arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc import memory
from autoenc.data.readers import arrays
from autoenc.data.readers.arrays import read_arrays, roles
from autoenc.data.readers.cells.class_names import check_classes, class_name, class_names, normal_class
from autoenc.data.readers.cells.missing import Markers
from autoenc.data.readers.columnar import CHUNK, dates_as_text, feather_chunks, json_lines, parquet_chunks
from autoenc.data.readers.delimited import QUOTES, header_names, header_row, rows, separator_of, unique
from autoenc.data.readers.paths import check_file, check_members, packed
from autoenc.errors import DataError, counted, one_line, require

if TYPE_CHECKING:
    import pandas as pd

TEXTS = (".csv", ".txt", ".tsv", ".data")
ARRAYS = (".npz", ".npy", ".mat")
JSON = (".jsonl", ".ndjson")
ARROW = (".feather", ".arrow")
FORMATS = ".csv, .txt, .tsv, .jsonl (also .gz), .parquet, .feather, .xlsx, .npz, .npy or .mat"
PEEK = 100  # rows that decide whether numbers in the first line are names
SMALL = 2**20  # bytes that are read in a tenth of a second


def format_of(path: Path) -> str:
    """Return the suffix of a file in lower case, without .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def check(path: Path, options: Mapping[str, Any] | None = None) -> None:
    """Raise DataError unless a file can be opened, is not empty and has a format of tables.

    Args:
        options: of `data=table`: a small file, or the first rows of a large text file, must have this format, and the
            columns and classes that they name.
    """
    check_file(path)
    suffix = format_of(path)
    if suffix not in (*TEXTS, *JSON) and path.suffix.lower() not in (".parquet", *ARROW, ".xlsx", *ARRAYS):
        raise DataError(f"{path}: expected {FORMATS}, found '{path.suffix.lower()}'")
    if suffix in ARRAYS:
        arrays.check(path)
    if options is not None and suffix in (*TEXTS, *JSON):
        _check_named(path, options)


def _check_named(path: Path, options: Mapping[str, Any]) -> None:
    """Raise DataError if columns or classes that options name are not in a file, as far as its first rows tell."""
    source, label, normal = source_of(options), options.get("label"), normal_class(options.get("normal"))
    small = path.stat().st_size < SMALL and not packed(path)
    frame = source.read(path) if small else next(source.chunks(path, size=PEEK))
    check_columns(str(path), frame, label=[] if label is None else [label])
    if path != Path(str(options.get("path"))).expanduser():
        return  # what else is named is of the training rows
    drop = tuple(map(class_name, options.get("drop", ())))
    if options.get("test_path") is None:
        check_columns(str(path), frame, drop=drop)
    check_columns(str(path), [name for name in frame if name not in (label, *drop)], **named_columns(options))
    if small and label is not None:
        check_classes(path, label, normal, sorted(class_names(frame[label], normal).dropna().unique()))


def named_columns(options: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the columns that the options of the preprocessing name: option -> names."""
    return {
        key: tuple(map(class_name, value))
        for key in ("categorical", "keep", "log", "dates")
        if isinstance(value := options.get(key, ()), Sequence) and not isinstance(value, str)
    }


def check_columns(path: str, names: Iterable[str], **wanted: Sequence[str]) -> None:
    """Raise DataError unless the columns that options name, option=names, are among those of a file."""
    names = list(names)
    for key, each in wanted.items():
        if missing := [name for name in each if name not in names]:
            raise DataError(f"data.{key}={missing[0]}: {path} has no such column; it has {', '.join(names)}")


@dataclass(frozen=True)
class Source:
    """The format of table files; saved with the run, so that new files are read in the same way.

    Args:
        header: whether the first line of a CSV file has the names of the columns. None: it has; an error if it may be
            data.
        names: names of the columns of a file without a header; column_0 ... by default.
        separator: separator of the columns of a CSV file; whitespace: any number of blanks or tabs.
        encoding: of a CSV file. UTF-8 and UTF-16 are told apart by a byte order mark.
        missing: markers of missing values, beside empty cells, NA, NaN, null and the like.
        decimal: decimal separator in a CSV file: . or ,
        optional: columns that a file without a header may lack: labels and dropped columns.
        quoting: of cells in a CSV file: double ("" is a quote in a quoted cell), backslash, or none.
        skip: lines to skip at the beginning of a CSV file. comment: beginning of lines to skip.
        thousands: separator of groups of three digits; empty: recognized where it is certain.
        infinite: of numbers: error or missing.
        array: name of the array of rows, or of the sheet, in a file with several.
        unused: further columns that a new file without a header may lack.
        kept: texts that are no markers although they look like it: categories of a run that an earlier version trained.
    """

    header: bool | None = True
    names: tuple[str, ...] = ()
    separator: str = ","
    encoding: str = "utf-8"
    missing: tuple[str, ...] = ()
    decimal: str = "."
    optional: tuple[str, ...] = ()
    quoting: str = "double"
    skip: int = 0
    comment: str = ""
    thousands: str = ""
    infinite: str = "error"
    unused: tuple[str, ...] = ()
    array: str | None = None
    kept: tuple[str, ...] = ()

    @property
    def markers(self) -> Markers:
        """What marks a missing cell."""
        return Markers(self.missing, self.decimal, self.kept)

    def read(self, path: Path) -> pd.DataFrame:
        """Read all rows. Cells of a CSV file are text or missing.

        Raises:
            DataError: a missing or empty file, another format or encoding, rows of different lengths.
        """
        import pandas as pd

        chunks, size = [], 0
        for chunk in self.chunks(path):
            size += int(chunk.memory_usage().sum())
            memory.check_file(path, 2 * size)  # the chunks and the whole
            chunks.append(chunk)
        return pd.concat(chunks)

    def chunks(self, path: Path, notes: list[str] | None = None, size: int = CHUNK) -> Iterator[pd.DataFrame]:
        """Yield the rows in chunks (NumPy files in one chunk); the index numbers them from 1.

        Args:
            notes: receives remarks on names of columns. size: rows of a chunk.
        """
        check(path)
        suffix = format_of(path)
        if suffix in TEXTS:
            chunks = self._csv(path, suffix, [] if notes is None else notes, size)
        elif suffix in JSON:
            chunks = json_lines(path, size)
        elif suffix == ".parquet":
            chunks = parquet_chunks(path)
        elif suffix in ARROW:
            chunks = feather_chunks(path)
        elif suffix == ".xlsx":
            chunks = iter([self._excel(path, [] if notes is None else notes)])
        else:
            chunks = iter([self._array(path)])
        count = 0
        for chunk in chunks if suffix in TEXTS else map(self.plain, chunks):
            chunk.index = range(count + 1, count + len(chunk) + 1)
            count += len(chunk)
            yield chunk
        if not count:
            raise DataError(f"{path}: has no rows")

    def _csv(self, path: Path, suffix: str, notes: list[str], size: int) -> Iterator[pd.DataFrame]:
        import pandas as pd

        separator = "\t" if suffix == ".tsv" else self.separator
        found = rows(path, separator, self.encoding, self.quoting, self.skip, self.comment, notes)
        start = list(islice(found, PEEK + 1))
        if not start:
            raise DataError(f"{path}: has no rows")
        if self.header is None:
            start[0] = start[0][0], header_row(path, start)
        names = self._names(path, start[0][1], [row for _, row in start[1:]], notes)
        found = chain(start[self.header is not False :], found)
        is_marker = self.markers.test()
        while part := list(islice(found, size)):
            cells = zip(*(_of_width(path, line, row, len(names)) for line, row in part), strict=True)
            columns = [[None if is_marker(text := c.strip()) else text for c in column] for column in cells]
            frame = pd.DataFrame({i: pd.Series(column, dtype="str") for i, column in enumerate(columns)})
            frame.columns = names
            yield frame

    def _names(self, path: Path, first: Sequence[str], body: Sequence[Sequence[str]], notes: list[str]) -> list[str]:
        if self.header is not False:
            names = header_names(path, first, body, sure=self.header is True)
            given = [cell.strip() for cell in first]
            changed = [f"{i + 1}: {new}" for i, (old, new) in enumerate(zip(given, names, strict=True)) if old != new]
            if changed:
                more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
                notes.append(
                    f"{path}: columns without a name or with that of another are renamed, "
                    f"by position {', '.join(changed[:3])}{more}"
                )
            return names
        names = list(self.names) or [f"column_{i}" for i in range(len(first))]
        for absent in (self.optional, (*self.optional, *self.unused)):
            if len(first) == len(without := [name for name in names if name not in absent]):
                names = without
        if len(names) != len(first):
            raise DataError(f"{path}: has {counted(len(first), 'columns')}, data.names has {len(names)}")
        if len(unique(names)) != len(set(names)):
            twice = min(name for name in names if names.count(name) > 1)
            raise DataError(f"data.names: two columns are named '{twice}'")
        return names

    def _given(self, path: Path, width: int) -> list[str]:
        """Return the names of the columns of a file that has none."""
        names = list(self.names) or [f"column_{i}" for i in range(width)]
        if len(names) != width:
            raise DataError(f"{path}: has {width} columns, data.names has {len(names)}")
        return names

    def _array(self, path: Path) -> pd.DataFrame:
        """Read X or x (and y, as the column y) of an archive, or an array."""
        import pandas as pd

        chosen = {role: name for role, name in roles(path, self.array).items() if role in ("x", "y")}
        read = read_arrays(path, set(chosen.values()))
        arrays = {role: read[name] for role, name in chosen.items()}
        x = arrays["x"]
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            found = f"{chosen['x']} {x.shape} {x.dtype}"
            raise DataError(f"{path}: expected numbers x (or X) of shape (rows, columns), found {found}")
        x = x.astype(x.dtype.newbyteorder("="), copy=False)  # pandas has no numbers of the other byte order
        frame = pd.DataFrame(x, columns=self._given(path, x.shape[1]))
        if "y" in arrays:
            if arrays["y"].size != len(x):
                raise DataError(f"{path}: {arrays['y'].size} labels y for {len(x)} rows")
            frame["y"] = arrays["y"].ravel()
        return frame

    def _excel(self, path: Path, notes: list[str]) -> pd.DataFrame:
        import pandas as pd

        check_members(path)
        try:
            with pd.ExcelFile(path, engine="openpyxl") as book:
                sheets = [str(name) for name in book.sheet_names]
                sheet = sheets[0] if self.array is None else self.array
                frame = book.parse(sheet, header=None, skiprows=self.skip) if sheet in sheets else None
        except ImportError:
            raise DataError(f"{path}: reading .xlsx needs openpyxl: pip install 'autoenc[excel]'") from None
        except Exception as error:  # openpyxl raises anything for damaged files
            raise DataError(f"{path}: cannot be read as .xlsx ({one_line(error)})") from None
        others = f"its sheets are {', '.join(sheets)}; data.array=NAME names one"
        if frame is None:
            raise DataError(f"data.array={self.array}: {path} has no such sheet; {others}")
        if not len(frame):
            raise DataError(f"{path}: the sheet {sheet} has no rows; {others}")
        if self.array is None and len(sheets) > 1:
            notes.append(f"{path}: only the sheet {sheet} is read; {others}")
        if self.header is False:
            frame.columns = self._given(path, frame.shape[1])
            return frame
        cells = frame.astype("object").where(frame.notna(), "").head(PEEK + 1).astype(str)
        start = [(self.skip + i + 1, list(row)) for i, row in enumerate(cells.itertuples(index=False))]
        first = header_row(path, start) if self.header is None else start[0][1]
        return frame.iloc[1:].infer_objects().set_axis([name or f"column_{i}" for i, name in enumerate(first)], axis=1)

    def plain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a data frame as if it came from a CSV file: names and dates are text, markers are missing."""
        import pandas as pd

        names = ["_".join(str(part) for part in n if part != "") if isinstance(n, tuple) else str(n) for n in frame]
        frame = dates_as_text(frame.set_axis(unique(names), axis=1))
        for name in frame.columns[frame.dtypes == "object"]:  # texts of writers that do not mark them as such
            if pd.api.types.infer_dtype(frame[name], skipna=True) == "bytes":
                frame[name] = frame[name].str.decode("utf-8", errors="backslashreplace")
        return self.markers.mask(frame)

    def learnt(self) -> Source:
        """Return the format as new files are read: the names are known, so that no first line is in doubt."""
        return dataclasses.replace(self, header=self.header is not False)


def source_of(options: Mapping[str, Any]) -> Source:
    """Return the format that options of `data=table` describe; ConfigError if one is out of range."""
    separator, decimal, thousands = options.get("separator", ","), options.get("decimal", "."), options.get("thousands")
    quoting, skip = options.get("quoting", "double"), options.get("skip", 0)
    label, infinite = options.get("label"), options.get("infinite", "error")
    what = "must be one character, \\t for a tab, or whitespace"
    one = separator_of(separator)
    require(len(one) == 1 and one not in '"\r\n', "separator", repr(separator), what)
    require(quoting in QUOTES, "quoting", quoting, f"must be one of {', '.join(QUOTES)}")
    require(skip >= 0, "skip", skip, "must be 0 or more")
    require(decimal in (".", ","), "decimal", repr(decimal), "must be . or ,")
    require(decimal != separator, "decimal", repr(decimal), "is also the separator of the columns")
    require(thousands in (None, ",", ".", "'", " "), "thousands", repr(thousands), "must be ',', '.', \"'\" or ' '")
    require(thousands != decimal, "thousands", repr(thousands), "is also the decimal separator")
    require(infinite in ("error", "missing"), "infinite", infinite, "must be error or missing")
    why = "needs data.label, the column that has this value"
    require(options.get("normal") is None or label is not None, "normal", options.get("normal"), why)
    names, missing, drop = (tuple(map(class_name, options.get(key, ()))) for key in ("names", "missing", "drop"))
    return Source(
        options.get("header"), names, separator, options.get("encoding", "utf-8"), missing, decimal,
        (*drop, *([label] if label else [])), quoting, skip, options.get("comment") or "", thousands or "", infinite,
        (), options.get("array"),
    )  # fmt: skip


def _of_width(path: Path, line: int, row: list[str], width: int) -> list[str]:
    """Return a row without empty cells beyond the last column; DataError for another number of cells."""
    if len(row) > width and not any(cell.strip() for cell in row[width:]):
        row = row[:width]
    if len(row) != width:
        raise DataError(f"{path}: line {line} has {counted(len(row), 'columns')}, expected {width}")
    return row
