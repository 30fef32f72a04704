"""Values as text that is safe in terminals, logs, CSV files and spreadsheets."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"  # first characters of a formula, full width too


def printable(text: object, keep: str = "") -> str:
    """Escape control characters, which a terminal or a log would obey; names of files and columns may have them.

    Args:
        keep: control characters to leave as they are.
    """
    found = str(text)
    if found.isprintable():
        return found
    return "".join(c.encode("unicode_escape").decode() if _controls(c) and c not in keep else c for c in found)


def _controls(character: str) -> bool:
    """Whether a character is a control character, a separator of lines, a lone surrogate or turns the direction."""
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in BIDIRECTIONAL


def spreadsheet_safe(value: Any) -> Any:
    """Return a cell of a CSV file; texts that a spreadsheet would run as a formula get an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    if len(text) < 2 or text[0] not in FORMULA:
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV, made safe for spreadsheets."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([spreadsheet_safe(cell) for cell in row] for row in rows)
    return text.getvalue()


def ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers in few characters: 0-2,4."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 2 else ",".join(map(str, p)) for p in parts)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted keys; lists become text."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value) if isinstance(value, list | dict) else value
    return found
