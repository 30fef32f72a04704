"""Numbers as people write them: 12.5%, $1,234.50, (123), 1'234, 12 kg."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

CLEANED = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2212": "-", "\u2019": "'"})
CURRENCY = r"[$€£¥₹]|(?:USD|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD) ?"
EXPONENT = r"(?:[eE][+-]?\d+)?"
# ( sign currency sign digits unit )
DISGUISED = re.compile(
    rf"(?P<open>\()?(?P<sign>[+-]?) ?(?P<before>{CURRENCY})? ?(?P<sign2>[+-]?)"
    rf"(?P<body>(?:\d[\d.,' ]*?|[.,]\d+){EXPONENT})(?P<after> ?[^\d\s().,'+:/-][^\d()+:-]{{0,11}})?(?P<close>\))?"
)


class Ambiguous(Exception):
    """A comma may be a decimal or a thousands separator; the argument is a cell."""


@dataclass(frozen=True)
class Written:
    """How the numbers of a column are written.

    Args:
        decimal: . or ,
        thousands: separator of groups of three digits; empty: none.
        unit: text before or after the numbers, such as $, % or kg.
    """

    decimal: str = "."
    thousands: str = ""
    unit: str = ""

    def parse(self, column: pd.Series) -> pd.Series:
        """Convert a column to float64; NaN for values that are not numbers."""
        import pandas as pd

        if self.decimal == "." or column.dtype.kind in "biuf":
            values = pd.to_numeric(column, errors="coerce").astype("float64")
            left = column[values.isna() & column.notna()]
        else:
            values, left = pd.Series(float("nan"), index=column.index), column.dropna()
        if len(left):
            pattern = self._pattern()
            known = {cell: self._number(str(cell), pattern) for cell in left.unique()}
            values = values.where(values.notna() | column.isna(), column.map(known).astype("float64"))
        return values

    def number(self, text: str) -> float:
        """Return the number that a text is; NaN if it is none."""
        return self._number(text, self._pattern())

    def _pattern(self) -> re.Pattern[str]:
        decimal = re.escape(self.decimal)
        groups = rf"\d{{1,3}}(?:{re.escape(self.thousands)}\d{{3}})+|" if self.thousands else ""
        return re.compile(rf"(?:(?:{groups}\d+)(?:{decimal}\d*)?|{decimal}\d+){EXPONENT}")

    def _number(self, text: str, pattern: re.Pattern[str]) -> float:
        text = text.translate(CLEANED).strip()
        negative = text.startswith("(") and text.endswith(")")
        text = text[1:-1].strip() if negative else text
        for _ in range(2):  # -$5 and $-5
            if text[:1] in ("+", "-"):
                negative ^= text[0] == "-"
                text = text[1:].lstrip()
            if self.unit:
                text = text.removeprefix(self.unit).removesuffix(self.unit).strip()
        if not pattern.fullmatch(text):
            return float("nan")
        text = text.replace(self.thousands, "") if self.thousands else text
        value = float(text.replace(self.decimal, "."))
        return -value if negative else value


COMMAS = Written(",", ".")  # 1.234,5


def _disguised(text: str) -> re.Match[str] | None:
    return DISGUISED.fullmatch(text.translate(CLEANED).strip())


def looks_numeric(cells: pd.Series) -> pd.Series:
    """Return which cells have the form of a number, with any unit."""
    return cells.astype(str).map(lambda text: _disguised(text) is not None)


def form_of(cells: Sequence[str], decimal: str, thousands: str) -> Written | None:
    """Return the form in which all of the cells are numbers; None if there is none.

    Args:
        decimal, thousands: separators of the file; thousands may be empty: found where they are certain.

    Raises:
        Ambiguous: a comma that may be either.
    """
    found = [_disguised(text) for text in dict.fromkeys(cells)]
    matches = [match for match in found if match is not None]
    if len(matches) < len(found):
        return None
    if any((match["open"] is None) != (match["close"] is None) for match in matches):
        return None
    units = {((match["before"] or "").strip(), (match["after"] or "").strip()) for match in matches}
    if len(units) > 1 or all(units.pop()):
        return None
    before, after = (matches[0]["before"] or "").strip(), (matches[0]["after"] or "").strip()
    bodies = [match["body"] for match in matches]
    if decimal == "," and not thousands and all(re.fullmatch(rf"\d*(?:\.\d*)?{EXPONENT}", body) for body in bodies):
        point = [body for body in bodies if "." in body and not re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", body)]
        decimal = "." if point else ","  # a column with decimal points among others with commas
    separator = thousands or _thousands(bodies, decimal, currency=bool(before))
    form = Written(decimal, separator, before or after)
    pattern = form._pattern()
    return form if all(pattern.fullmatch(body) for body in bodies) else None


def decimal_commas(texts: pd.Series) -> bool:
    """Whether most cells are numbers with a decimal comma, of which one can only be that: 12,5 or 0,125, any unit."""
    found = [_disguised(text) for text in texts.astype(str)]
    bodies = [match["body"] for match in found if match is not None]
    pattern = Written(",", ".")._pattern()
    certain = any("," in b and pattern.fullmatch(b) and not re.fullmatch(r"[1-9]\d{0,2},\d{3}", b) for b in bodies)
    return certain and sum(pattern.fullmatch(body) is not None for body in bodies) > len(texts) / 2


def thousands_points(column: pd.Series, beside: bool) -> str:
    """Return a cell whose point may separate thousands, as in 33.398 beside 193; empty if there is none.

    Args:
        beside: whole numbers without a point must be there, too.
    """
    if column.dtype.kind in "biuf":
        return ""
    texts = column.astype(str)
    pointed = texts.str.contains(".", regex=False)
    if not pointed.any() or (beside and pointed.all()):
        return ""
    cells = texts[pointed]
    return str(cells.iloc[0]) if cells.str.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}").all() and len(cells) > 2 else ""


def _thousands(bodies: Sequence[str], decimal: str, currency: bool) -> str:
    """Return the separator of thousands that the digits of a column have for certain; empty if none."""
    other = "," if decimal == "." else "."
    for separator in ("'", " ", other):
        having = [body for body in bodies if separator in body]
        if not having:
            continue
        group = rf"[1-9]\d{{0,2}}(?:{re.escape(separator)}\d{{3}})+(?:{re.escape(decimal)}\d*)?"
        if not all(re.fullmatch(group, body) for body in having):
            return ""
        certain = separator != "," or currency or any(decimal in body for body in bodies)
        if not certain and not any(body.count(separator) > 1 for body in having):
            raise Ambiguous(having[0])
        return separator
    return ""
