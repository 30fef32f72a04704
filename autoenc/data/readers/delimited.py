"""Rows of delimited text files, such as CSV, and the names of their columns."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO

from autoenc.data.readers.arrays import is_number
from autoenc.data.readers.paths import decoding, opened
from autoenc.errors import DataError, counted

WHITESPACE = ("whitespace", r"\s+")  # names of the separator of columns that are aligned by blanks or tabs
LONGEST = 2**31 - 1  # characters of a cell; the default limit of csv is 131,072
QUOTES = {
    "double": {"strict": True},
    "backslash": {"strict": True, "doublequote": False, "escapechar": "\\"},
    "none": {"quoting": csv.QUOTE_NONE},
}
REMEDY = r"data.quoting=none reads quotes as characters, data.quoting=backslash reads \" as one"
SEPARATOR_LINE = re.compile("sep=.")  # by which Excel recognizes the separator
BLANK_AFTER_QUOTE = re.compile(r'"[ \t]+(?=[,;|\t]|\r?\n?$)')


def separator_of(text: str) -> str:
    r"""Return the character that separates columns: tab for \t, a blank for whitespace."""
    return {r"\t": "\t", "tab": "\t"}.get(text, " " if text in WHITESPACE else text)


def rows(
    path: Path,
    separator: str,
    encoding: str,
    quoting: str = "double",
    skip: int = 0,
    comment: str = "",
    notes: list[str] | None = None,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of each row; lines that are blank or begin with `comment` are skipped.

    Args:
        notes: receives a remark if quoted cells have line breaks, which may be a stray quote.

    Raises:
        DataError: another encoding, a quote that is never closed or closed by that of another row.
    """
    csv.field_size_limit(LONGEST)
    options = QUOTES[quoting]
    width = 0
    spanning: list[tuple[int, int]] = []
    with decoding(path, encoding):
        with opened(path, encoding) as file:
            lines = _Lines(file, skip, comment, separator in WHITESPACE)
            separator = separator_of(separator)
            reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, **options)  # type: ignore[arg-type]
            while True:
                lines.pending.clear()
                try:
                    row = next(reader, None)
                except csv.Error as error:
                    row = _without_blanks(lines.pending, separator)
                    if row is None:
                        never = "a quote is never closed" if "unexpected end" in str(error) else str(error)
                        raise DataError(f"{path}: line {lines.start}: {never}; {REMEDY}") from None
                if row is None:
                    break
                if not row:
                    continue
                width = width or len(row)
                if len(lines.pending) > 1 and _swallowed(lines.pending, separator, width):
                    last = lines.start + len(lines.pending) - 1
                    why = f"a quote in line {lines.start} is closed in line {last} and takes these rows into one cell"
                    raise DataError(f"{path}: {why}; {REMEDY}")
                if len(lines.pending) > 1:
                    spanning.append((lines.start, lines.start + len(lines.pending) - 1))
                yield lines.start, row
        if spanning and notes is not None:
            first, last = max(spanning, key=lambda span: span[1] - span[0])
            notes.append(
                f"{path}: {counted(len(spanning), 'rows')} of several lines, such as {first} to {last}; {REMEDY}"
            )


class _Lines:
    """Lines of a file; `pending` holds those of the row that is being read."""

    def __init__(self, file: IO[str], skip: int, comment: str, whitespace: bool):
        self.file, self.skip, self.comment, self.whitespace = file, skip, comment, whitespace
        self.number = 0
        self.pending: list[str] = []

    @property
    def start(self) -> int:
        return self.number - len(self.pending) + 1

    def __iter__(self) -> Iterator[str]:
        for line in self.file:
            self.number += 1
            if self.number <= self.skip:
                continue
            if self.comment and not self.pending and line.lstrip().startswith(self.comment):
                continue
            if self.number == 1 and SEPARATOR_LINE.fullmatch(line.rstrip()):
                continue
            if self.whitespace:
                line = " ".join(line.split()) + "\n"
            self.pending.append(line)
            yield line


def _without_blanks(lines: Sequence[str], separator: str) -> list[str] | None:
    """Return the cells of a line with blanks between a quote and the next separator; None if that is not the fault."""
    if len(lines) != 1 or (line := BLANK_AFTER_QUOTE.sub('"', lines[0])) == lines[0]:
        return None
    try:
        return next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return None


def _swallowed(lines: Sequence[str], separator: str, width: int) -> bool:
    """Whether lines that a quoted cell spans are rows of their own: they have as many columns as a row.

    Text with line breaks rarely has. With one separator a line, that of a sentence, more lines are needed to tell.
    """
    if width < 2 or (width == 2 and len(lines) < 5):
        return False
    plain = [line for line in lines if line.count('"') < 2]  # the others have quoted cells, which may have separators
    counts = [len(row) for row in csv.reader(plain, delimiter=separator, quoting=csv.QUOTE_NONE)]
    return bool(counts) and all(count == width for count in counts)


def header_row(path: Path, start: Sequence[tuple[int, list[str]]]) -> list[str]:
    """Return the cells of the first row, with an empty one before them where the others begin with the names of rows.

    Args:
        start: the first row and some below, with the numbers of their lines.

    Raises:
        DataError: the first row is a title: it has fewer than half of the names that the columns below need.
    """

    def filled(row: Sequence[str]) -> int:
        return sum(bool(cell.strip()) for cell in row)

    first, body = start[0][1], [row for _, row in start[1:]]
    width = max(map(len, body), default=0)
    usual = sum(2 * sum(i < len(row) and bool(row[i].strip()) for row in body) > len(body) for i in range(width))
    if filled(first) * 2 < usual or len(first) == 1 < usual:
        line = next((line for line, row in start if filled(row) >= usual), start[1][0])
        title = ", ".join(cell.strip() for cell in first if cell.strip())[:40]
        raise DataError(
            f"{path}: line {start[0][0]} ('{title}') has fewer names than the {usual} columns below; "
            f"data.skip={line - 1} if the header comes after it, data.header=true if it is the header"
        )
    wider = len(first) > 1 and all(len(row) == len(first) + 1 for row in body)
    return ["", *first] if wider and any(row[-1].strip() for row in body) else first


def header_names(path: Path, first: Sequence[str], body: Sequence[Sequence[str]], sure: bool) -> list[str]:
    """Return unique names of the columns from the first row.

    Args:
        body: some rows below, which decide whether numbers are names. sure: data.header=true was given.

    Raises:
        DataError: the first row may be data, or is one column that another separator splits.
    """
    names = [cell.strip() for cell in first]
    if len(names) == 1:
        other = next((s for s in ";\t|," if s in names[0]), None)
        if other is None and len(names[0].split()) > 1 and all(
            len(row[0].split()) == len(names[0].split()) for row in body if row
        ):  # fmt: skip
            other = "whitespace"
        if other is not None:
            typed = r"\t" if other == "\t" else other
            raise DataError(f"{path}: line 1 is one column, '{names[0][:40]}'; \"data.separator='{typed}'\"?")
    numeric = [i for i, name in enumerate(names) if is_number(name) and name.lower() not in ("nan", "inf", "infinity")]
    if numeric and not sure and not _numbers_as_names(names, numeric, body):
        shown = ", ".join(names[:4])
        raise DataError(
            f"{path}: line 1 ({shown}, ...) has numbers, not names; data.header=false for data, "
            "data.header=true if these are names"
        )
    return unique([name or f"column_{i}" for i, name in enumerate(names)])


def unique(names: Sequence[str]) -> list[str]:
    """Return names without duplicates: a, a.1, a.2 ..."""
    found: list[str] = []
    for name in names:
        new, count = name, 0
        while new in found or (count and new in names):
            count += 1
            new = f"{name}.{count}"
        found.append(new)
    return found


def _numbers_as_names(names: Sequence[str], numeric: Sequence[int], body: Sequence[Sequence[str]]) -> bool:
    """Whether numbers in the first row are names: 0, 1, 2 ..., years in a row, or integers above other values."""
    if not all(names[i].isdecimal() for i in numeric):
        return False
    values = [int(names[i]) for i in numeric]
    if len(set(values)) < len(values):
        return False
    consecutive = all(b == a + 1 for a, b in pairwise(values))
    others = {name for i, name in enumerate(names) if i not in numeric}
    if consecutive and values[0] == 0 and (len(values) > 2 or others == {""}):
        return True
    if consecutive and len(values) > 1 and values[0] >= 1500 and values[-1] <= 2200:
        return True
    # All columns have integers in the first row and other values below: the first row is of another kind.
    cells = [[row[i].strip() for row in body if i < len(row) and row[i].strip()] for i in numeric]
    return all(any(not cell.lstrip("+-").isdecimal() for cell in column) for column in cells) and bool(body)
