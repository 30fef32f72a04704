"""Reading of texts: a document per line, a column of CSV, JSON Lines or Parquet files, or a file per document."""

from __future__ import annotations

import codecs
import json
import os
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from autoenc import memory
from autoenc.data.readers import delimited
from autoenc.data.readers.cells.class_names import class_name
from autoenc.data.readers.paths import check_file, check_unpacked, encoding_of, unpacked
from autoenc.errors import ConfigError, DataError, counted, one_line

TEXT, LABEL = "text", "label"  # default names of columns
FILES = (".txt", ".txt.gz")  # documents in a folder
SMALL = 2**20  # bytes that are read in milliseconds
SHORT = 58  # bytes of a short text in Python
Rows = list[tuple[int, Sequence[Any]]]  # the number of the line (row), the cells


@dataclass(frozen=True)
class Documents:
    """The documents of a file, in order, and their labels, if any; None for a document without one.

    column: the column of the texts; None if there are no columns. names: line, row (from 1) or file of each document.
    """

    texts: list[str]
    labels: list[str | None] | None = None
    column: str | None = None
    names: list[str] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", [str(i + 1) for i in range(len(self.texts))])

    def select(self, index: Sequence[int]) -> Documents:
        """Return the documents at `index`."""
        labels = None if self.labels is None else [self.labels[i] for i in index]
        return Documents([self.texts[i] for i in index], labels, self.column, [self.names[i] for i in index])


def format_of(path: Path) -> str:
    """Return the suffix of a file in lower case, without .gz."""
    name = path.name.lower().removesuffix(".gz")
    return PurePath(name).suffix


def check(path: Path, options: Mapping[str, Any] | None = None) -> None:
    """Raise DataError unless a path is a file that can be opened and is not empty, or a folder of texts.

    Args:
        options: of the data set: a small file is read with them.
    """
    if not path.is_dir():
        check_file(path)
    elif not any(name.lower().endswith(FILES) for _, _, names in os.walk(path) for name in names):
        raise DataError(f"{path}: is a folder without {' or '.join(FILES)} files")
    if options is not None and path.is_file() and path.stat().st_size < SMALL:
        read(path, **{key: options[key] for key in ("column", "label", "encoding", "quoting") if key in options})


def has_columns(path: Path) -> bool:
    """Whether the format of a file has columns."""
    return format_of(path) in READERS and not path.is_dir()


def read(
    path: str | Path,
    column: str | None = None,
    label: str | None = LABEL,
    encoding: str = "utf-8",
    quoting: str = "double",
) -> Documents:
    """Read the documents of a file or folder, including empty ones.

    Args:
        path: `.csv` (commas) or `.tsv` (tabs) with a header, `.jsonl`, `.ndjson` or `.json` (objects), `.parquet`; a
            folder of .txt files, a document each, in folders that are their labels; other files are text, a document
            per line. All but Parquet may be gzipped (`.gz`).
        column: column (key) of the texts. None: `text`, or the only column beside the label.
        label: column of the labels. The default may be missing; another name must exist. None: no labels.
        encoding: of the files; UTF-8 may have a byte order mark, by which UTF-16 is recognized, too.
        quoting: of cells in a CSV file: double ("" is a quote in a quoted cell), backslash, or none.

    Raises:
        ConfigError: an unknown column, encoding or quoting.
        DataError: a missing, empty or binary file, another encoding, rows of different lengths, a stray quote.
    """
    path = Path(path).expanduser()
    if quoting not in delimited.QUOTES:
        raise ConfigError("quoting", quoting, f"must be one of {', '.join(delimited.QUOTES)}")
    check(path)
    if reader := None if path.is_dir() else READERS.get(format_of(path)):
        header, rows = reader(path, encoding, quoting)
        return _documents(path, header, rows, column, label)
    for key, value in (("column", column), ("label", None if label == LABEL else label)):
        if value is not None:
            raise ConfigError(key, value, f"{path} is not a .csv, .tsv, .jsonl or .parquet file and has no columns")
    if path.is_dir():
        return _folder(path, encoding, label)
    lines = decoded(path, encoding).split("\n")
    return Documents(lines[:-1] if not lines[-1] else lines)  # the last line may end with a newline


def decoded(path: Path, encoding: str, empty: bool = False) -> str:
    r"""Decode a file to text with \n as line ends.

    Args:
        empty: accept an empty file.
    """
    try:
        data = unpacked(path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    if not data and not empty:
        raise DataError(f"{path}: is empty")
    try:
        text = data.decode(encoding_of(data, encoding))
    except LookupError:
        raise ConfigError(
            "encoding", encoding, "is not a known encoding; try utf-8, latin-1, cp1252 or utf-16"
        ) from None
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError):
            start = data.rfind(b"\n", 0, error.start) + 1
            line = data.count(b"\n", 0, error.start) + 1
            where = f" (line {line}, byte {error.start - start + 1}: 0x{data[error.start]:02x})"
        hint = "utf-8" if codecs.lookup(encoding).name == "iso8859-1" else "latin-1"
        raise DataError(f"{path}: is not {encoding}{where}; set the encoding, such as data.encoding={hint}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line} has a NUL byte: the file is binary, or its encoding is not {encoding}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _folder(path: Path, encoding: str, label: str | None) -> Documents:
    """Read the .txt files below a folder; the first folder of each is its label, unless some are in none."""
    names = [file.relative_to(path) for file in path.rglob("*") if file.name.lower().endswith(FILES) and file.is_file()]
    names = sorted(name for name in names if not any(part.startswith(".") for part in name.parts))
    if not names:
        raise DataError(f"{path}: is a folder without {' or '.join(FILES)} files")
    texts = [decoded(path / name, encoding, empty=True) for name in names]
    labelled = label is not None and all(len(name.parts) > 1 for name in names)
    labels: list[str | None] | None = [_label(name.parts[0]) for name in names] if labelled else None
    return Documents(texts, labels, None, [str(name) for name in names])


def _documents(path: Path, header: Sequence[str], rows: Rows, column: str | None, label: str | None) -> Documents:
    """Choose the columns of texts and labels."""
    if twice := [name for name in header if header.count(name) > 1]:
        raise DataError(
            f"{path}: has two columns named '{twice[0]}'; the first line must hold the names of the columns"
        )
    available = f"{path} has the columns {', '.join(header)}"
    if label is not None and label != LABEL and label not in header:
        raise ConfigError("label", label, f"no such column; {available}")
    if column is None:
        others = [name for name in header if name != label]
        column = TEXT if TEXT in others else others[0] if len(others) == 1 else None
        if column is None:
            raise ConfigError("column", None, f"name the column of the texts; {available}")
    if column not in header:
        raise ConfigError("column", column, f"no such column; {available}")
    if column == label:
        raise ConfigError("label", label, "is the column of the texts; label=null if there are no labels")
    index = header.index(column)
    for line, row in rows:
        if row[index] is not None and not isinstance(row[index], str | int | float):
            raise DataError(f"{path}: line {line}: '{column}' is a {type(row[index]).__name__}, not a text")
    texts = ["" if row[index] is None else str(row[index]) for _, row in rows]
    labels: list[str | None] | None = None
    if label in header:
        place = header.index(label)
        labels = [_label(row[place]) for _, row in rows]
    return Documents(texts, labels, column)


def _label(value: Any) -> str | None:
    """Return a label as composed text (NFC), 1 for 1.0; None if it is missing or NaN."""
    if value is None or value != value:
        return None
    return unicodedata.normalize("NFC", class_name(value)) or None


def _table(path: Path, encoding: str, quoting: str) -> tuple[list[str], Rows]:
    decoded(path, encoding)  # names the line and byte of another encoding
    separator = "\t" if format_of(path) == ".tsv" else ","
    rows = list(delimited.rows(path, separator, encoding, quoting))
    if not rows:
        raise DataError(f"{path}: is empty")
    header = [name.strip() for name in rows[0][1]]
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                f"{path}: line {line} has {counted(len(row), 'columns')}, the first line has {len(header)}; a text "
                f"with '{separator}' must be quoted"
            )
    if len(header) == 2:
        _check_two_columns(path, rows[1:], separator)
    return header, list(rows[1:])


def _check_two_columns(path: Path, rows: Sequence[tuple[int, list[str]]], separator: str) -> None:
    """Raise DataError if all lines within a cell are rows of their own: the other column has values that exist.

    A text that begins or ends with a stray quote takes the rows up to the next stray quote into one cell.
    """
    for text, other in ((0, 1), (1, 0)):
        values = {row[other] for _, row in rows} - {""}
        numbers = all(value.isdecimal() for value in values)
        for line, row in rows:
            if "\n" not in (cell := row[text].strip("\n")):
                continue
            lines = cell.split("\n")[1:] if other == 0 else cell.split("\n")[:-1]
            ends = [each.partition(separator)[0] if other == 0 else each.rpartition(separator)[2] for each in lines]
            split = all(separator in each for each in lines)
            if split and all(end in values or (numbers and end.isdecimal()) for end in ends):
                why = f"line {line}: a quote takes {len(lines)} more rows into one cell"
                raise DataError(f"{path}: {why}; {delimited.REMEDY}")


def _json(path: Path, encoding: str, quoting: str) -> tuple[list[str], Rows]:
    """Read objects, one per line, or a list of them (.json)."""
    text = decoded(path, encoding)
    found: list[tuple[int, Any]] = []
    try:
        if format_of(path) == ".json" and text.lstrip().startswith("["):
            found = [(i, value) for i, value in enumerate(json.loads(text), 1)]
        else:
            for line, content in enumerate(text.split("\n"), 1):
                if content.strip():
                    found.append((line, json.loads(content)))
    except (ValueError, RecursionError) as error:
        line = len(text.split("\n")) if not found else found[-1][0] + 1
        raise DataError(f"{path}: near line {line}: expected a JSON object per line ({one_line(error)})") from None
    if not found:
        raise DataError(f"{path}: is empty")
    if wrong := [line for line, value in found if not isinstance(value, dict)]:
        raise DataError(f'{path}: line {wrong[0]} is not a JSON object, such as {{"text": "...", "label": "..."}}')
    header = list(dict.fromkeys(key for _, value in found for key in value))
    return header, [(line, [value.get(key) for key in header]) for line, value in found]


def _parquet(path: Path, encoding: str, quoting: str) -> tuple[list[str], Rows]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            cells = file.metadata.num_rows * file.metadata.num_columns
            check_unpacked(path, cells)
            memory.check_file(path, SHORT * cells)
            table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None
    if not len(table):
        raise DataError(f"{path}: has no rows")
    columns = [column.to_pylist() for column in table.columns]
    return table.column_names, list(enumerate(zip(*columns, strict=True), 1))


READERS: dict[str, Callable[[Path, str, str], tuple[list[str], Rows]]] = {
    ".csv": _table,
    ".tsv": _table,
    ".jsonl": _json,
    ".ndjson": _json,
    ".json": _json,
    ".parquet": _parquet,
}  # by format
