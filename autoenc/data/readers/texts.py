"""Files of texts: a document per line, or a CSV with a column of texts. Read whole, never changed."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoenc.errors import ConfigError, DataError

TABLES = {".csv": ",", ".tsv": "\t"}
TEXT, LABEL = "text", "label"  # names of the columns that are taken unasked
LONGEST = 2**31 - 1  # characters of a field; csv refuses more than 131,072 unless told
FIELD_SIZE = threading.Lock()  # the limit is one for all of Python


@dataclass(frozen=True)
class Documents:
    """The documents of a file, in its order, and their labels where it has any.

    column: the column that the texts are from; None where a line is a document.
    """

    texts: list[str]
    labels: list[str] | None = None
    column: str | None = None

    def empty(self) -> list[int]:
        """The places of documents without a visible character."""
        return [i for i, text in enumerate(self.texts) if not text.strip()]

    def without_empty(self) -> Documents:
        """The documents that have something in them."""
        out = set(self.empty())
        return self.select([i for i in range(len(self.texts)) if i not in out]) if out else self

    def select(self, places: Sequence[int]) -> Documents:
        """The documents at these places."""
        labels = None if self.labels is None else [self.labels[i] for i in places]
        return Documents([self.texts[i] for i in places], labels, self.column)


def read(path: str | Path, column: str | None = None, label: str | None = LABEL, encoding: str = "utf-8") -> Documents:
    """The documents of a file; empty ones keep their place.

    Args:
        path: `.csv` (commas) or `.tsv` (tabs) with a line of names; anything else is text, a document per line.
        column: of the texts. None: `text`, or the only column that is not the label.
        label: column of the labels. The default is taken where it is there; another name must be. None: no labels.
        encoding: of the file. UTF-8 may begin with a byte order mark.

    Raises:
        ConfigError: a column that is not there, an encoding that Python does not know.
        DataError: a missing, empty or binary file, another encoding, rows of different length, an unclosed quote.
    """
    path = Path(path).expanduser()
    text = _decoded(path, encoding)
    if delimiter := TABLES.get(path.suffix.lower()):
        return _table(path, text, delimiter, column, label)
    for key, value in (("column", column), ("label", None if label == LABEL else label)):
        if value is not None:
            raise ConfigError(key, value, f"{path} is no .csv or .tsv: a line is a document, without columns")
    lines = text.split("\n")
    return Documents(lines[:-1] if not lines[-1] else lines)  # the last line ends too


def _decoded(path: Path, encoding: str) -> str:
    """The file as text with \\n at the ends of lines."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_dir():
        raise DataError(f"{path}: is a folder, not a file of texts")
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
        raise ConfigError("encoding", encoding, "is unknown to Python; try utf-8, latin-1, cp1252 or utf-16") from None
    except UnicodeError as error:
        where = ""
        if isinstance(error, UnicodeDecodeError):
            start = data.rfind(b"\n", 0, error.start) + 1
            line = data.count(b"\n", 0, error.start) + 1
            where = f" (line {line}, byte {error.start - start + 1}: 0x{data[error.start]:02x})"
        hint = "utf-16" if wide else "latin-1" if encoding.lower() != "latin-1" else "utf-8"
        raise DataError(f"{path}: is not {encoding}{where}; name its encoding, such as data.encoding={hint}") from None
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
        raise DataError(f"{path}: has two columns named '{twice[0]}'; its first line must be the names of its columns")
    there = f"{path} has the columns {', '.join(header)}"
    if label is not None and label != LABEL and label not in header:
        raise ConfigError("label", label, f"there is no such column; {there}")
    if column is None:
        others = [name for name in header if name != label]
        column = TEXT if TEXT in others else others[0] if len(others) == 1 else None
        if column is None:
            raise ConfigError("column", None, f"which column is the text? {there}")
    if column not in header:
        raise ConfigError("column", column, f"there is no such column; {there}")
    if column == label:
        raise ConfigError("label", label, "is the column of the texts; label=null for texts without labels")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(f"{path}: line {line} has {len(row)} columns, the first line has {len(header)}")
    place = header.index(column)
    texts = [row[place] for _, row in rows[1:]]
    if label is None or label not in header:
        return Documents(texts, None, column)
    place = header.index(label)
    if missing := [line for line, row in rows[1:] if not row[place].strip()]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: line {missing[0]} has no {label}{more}; data.label=null leaves labels out")
    return Documents(texts, [row[place].strip() for _, row in rows[1:]], column)


def _rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """The rows of a table, each with the number of the line that it begins in; lines with nothing in them are none."""
    rows = []
    with FIELD_SIZE:
        before = csv.field_size_limit(LONGEST)
        try:
            # Strict: without it, a quote that is never closed takes the rest of the file into one field.
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            line = 1
            for row in reader:
                if row:
                    rows.append((line, row))
                line = reader.line_num + 1
        except csv.Error as error:
            why = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
            raise DataError(f"{path}: line {line}: {why}; a quote inside a quoted field is written twice") from None
        finally:
            csv.field_size_limit(before)
    return rows
