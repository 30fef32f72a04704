"""Columns of dates as numbers: days since the first training date, day of the week, hour."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pandas as pd

TIME = r"(?P<time>[ T]\d{1,2}:\d{2}.*)?"
MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
# 2024-04-20, 2024-04, 20240420, 20-Apr-2024, Apr 20, 2024
ISO = re.compile(
    r"(?:\d{4}[-/]\d{1,2}[-/]\d{1,2}"
    rf"|\d{{1,2}}\.?[- /]?{MONTH}[- /,]{{0,2}}\d{{4}}|{MONTH} ?\d{{1,2}},? ?\d{{4}}){TIME}"
    r"|(?:19|20)\d{2}(?:-?(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|-(?:0[1-9]|1[0-2]))",
    re.IGNORECASE,
)
OTHER = re.compile(rf"(?P<a>\d{{1,2}})(?P<mark>[./-])(?P<b>\d{{1,2}})[./-](?P<year>\d{{4}}|\d{{2}}){TIME}")

ZONE = re.compile(r"\d(?:Z|z|[+-]\d{2}:?\d{2})$| ?UTC$")

Order = Literal["year", "day", "month"]


@dataclass(frozen=True)
class Dated:
    """How the dates of a column are written.

    Args:
        order: what the cells begin with. first: the first training date. clock: whether there are times of day.
        weekday, hour: ends of the names of derived columns.
    """

    order: Order
    first: str = ""
    clock: bool = False
    weekday: str = " weekday"
    hour: str = " hour"

    @property
    def ends(self) -> tuple[str, ...]:
        """Ends of the names of the numbers: days since the first date, weekday (0 is Monday), hour."""
        return ("", self.weekday, self.hour) if self.clock else ("", self.weekday)

    def apart(self, name: str, taken: Collection[str]) -> Dated:
        """Return the form of the column `name` with derived columns that have no name of another column."""
        weekday, hour = (
            next(each for each in (end, *(f"{end}.{i}" for i in range(1, len(taken) + 1))) if name + each not in taken)
            for end in (self.weekday, self.hour)
        )
        return replace(self, weekday=weekday, hour=hour)

    def moments(self, column: pd.Series) -> pd.Series:
        """Convert a column to datetimes; NaT for values that are not dates."""
        import pandas as pd

        iso = column.astype("object").map(lambda cell: self._iso(str(cell).strip()), na_action="ignore")
        parsed = pd.to_datetime(iso.astype("object"), errors="coerce", format="mixed", utc=True)
        return parsed.dt.tz_localize(None)

    def _iso(self, text: str) -> str | None:
        if ISO.fullmatch(text):
            return text
        match = OTHER.fullmatch(text)
        if match is None or self.order == "year":
            return None
        day, month = (match["a"], match["b"]) if self.order == "day" else (match["b"], match["a"])
        year = (
            match["year"] if len(match["year"]) == 4 else f"{'20' if int(match['year']) < 70 else '19'}{match['year']}"
        )
        return f"{year}-{month:0>2}-{day:0>2}{match['time'] or ''}"

    def numbers(self, moments: pd.Series) -> dict[str, pd.Series]:
        """Return one of `ends` -> numbers."""
        import pandas as pd

        days = (moments - pd.Timestamp(self.first)) / pd.Timedelta(days=1)
        numbers = (days, moments.dt.day_of_week, moments.dt.hour + moments.dt.minute / 60)
        return {end: values.astype("float64") for end, values in zip(self.ends, numbers, strict=False)}

    def text(self, days: pd.Series) -> pd.Series:
        """Convert days since the first date to text."""
        import pandas as pd

        unit = "s" if self.clock else "D"
        moments = pd.Timestamp(self.first) + pd.to_timedelta(days, unit="D")
        return moments.dt.round(unit).dt.strftime("%Y-%m-%d %H:%M:%S" if self.clock else "%Y-%m-%d").astype("object")


def zoned(cells: pd.Series) -> pd.Series:
    """Return which cells have a time zone."""
    return cells.astype("str").str.strip().str.contains(ZONE)


def looks_dated(cells: pd.Series) -> pd.Series:
    """Return which cells have the form of a date."""
    return cells.map(lambda cell: any(form.fullmatch(str(cell).strip()) for form in (ISO, OTHER))).astype("bool")


def order_of(cells: pd.Series) -> Order | None:
    """Return what all dates of a column begin with; None if they are no dates, or day and month look the same."""
    texts = [str(cell).strip() for cell in cells.unique()]
    if all(ISO.fullmatch(text) for text in texts):
        return "year"
    found = [OTHER.fullmatch(text) for text in texts]
    matches = [match for match in found if match is not None]
    if len(matches) < len(found):
        return None
    first, second = (max(int(match[part]) for match in matches) for part in "ab")
    if first > 12 or all(match["mark"] == "." for match in matches):
        return "day" if second <= 12 else None
    return "month" if second > 12 else None
