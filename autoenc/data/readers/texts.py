"""Reading of text files, a document per line, and of CSV files with a column of texts."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoenc.errors import ConfigError, DataError

TABLES = {".csv": ",", ".tsv": "\t"}
TEXT, LABEL = "text", "label"  # default names of columns
LONGEST = 2**31 - 1  # characters of a field; the default limit of csv is 131,072
FIELD_SIZE = threading.Lock()  # the limit is global


@dataclass(frozen=True)
class Documents:
    """The documents of a file, in order, and their labels, if any.

    column: the column of the texts; None if each line is a document.
    """

    texts: list[str]
    labels: list[str] | None = None
    column: str | None = None

    def select(self, index: Sequence[int]) -> Documents:
        """Return the documents at `index`."""
        labels = None if self.labels is None else [self.labels[i] for i in index]
        return Documents([self.texts[i] for i in index], labels, self.column)


def read(path: str | Path, column: str | None = None, label: str | None = LABEL, encoding: str = "utf-8") -> Documents:
    """Read the documents of a file, including empty ones.

    Args:
        path: `.csv` (commas) or `.tsv` (tabs) with a header; other files are text, a document per line.
        column: column of the texts. None: `text`, or the only column beside the label.
        label: column of the labels. The default may be missing; another name must exist. None: no labels.
        encoding: of the file; UTF-8 may have a byte order mark.

    Raises:
        ConfigError: an unknown column or encoding.
        DataError: a missing, empty or binary file, another encoding, rows of different lengths, an unclosed quote.
    """
    path = Path(path).expanduser()
    text = _decoded(path, encoding)
    if delimiter := TABLES.get(path.suffix.lower()):
        return _table(path, text, delimiter, column, label)
    for key, value in (("column", column), ("label", None if label == LABEL else label)):
        if value is not None:
            raise ConfigError(key, value, f"{path} is not a .csv or .tsv file and has no columns")
    lines = text.split("\n")
    return Documents(lines[:-1] if not lines[-1] else lines)  # the last line may end with a newline


def _decoded(path: Path, encoding: str) -> str:
    """Decode a file to text with \\n as line ends."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a text file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if not data:
        raise DataError(f"{path}: is empty")
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        text = data.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
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
        hint = "utf-16" if wide else "latin-1" if encoding.lower() != "latin-1" else "utf-8"
        raise DataError(f"{path}: is not {encoding}{where}; set the encoding, such as data.encoding={hint}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DataError(f"{path}: line {line} has a NUL byte: the file is binary, or its encoding is not {encoding}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _table(path: Path, text: str, delimiter: str, column: str | None, label: str | None) -> Documents:
    rows = _rows(path, text, delimiter)
    if not rows:
        raise DataError(f"{path}: is empty")
    header = [name.strip() for name in rows[0][1]]
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
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first line has {len(header)}")
    index = header.index(column)
    texts = [row[index] for _, row in rows[1:]]
    if label is None or label not in header:
        return Documents(texts, None, column)
    index = header.index(label)
    if missing := [line for line, row in rows[1:] if not row[index].strip()]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: line {missing[0]} has no {label}{more}; data.label=null ignores labels")
    return Documents(texts, [row[index].strip() for _, row in rows[1:]], column)


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table with the numbers of their first lines; empty lines are skipped."""
    rows = []
    with FIELD_SIZE:
        before = csv.field_size_limit(LONGEST)
        try:
            # Strict: otherwise an unclosed quote puts the rest of the file into one field.
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            line = 1
            for row in reader:
                if row:
                    rows.append((line, row))
                line = reader.line_num + 1
        except csv.Error as error:
            why = "a quote is never closed" if "unexpected end" in str(error) else str(error)
            raise DataError(f"{path}: line {line}: {why}; a quote inside a quoted field is written twice") from None
        finally:
            csv.field_size_limit(before)
    return rows
