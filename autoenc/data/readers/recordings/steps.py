"""Rows with time stamps as recordings on a regular grid of time steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from autoenc import memory
from autoenc.data.readers.arrays import is_number
from autoenc.data.readers.cells.class_names import MISSING
from autoenc.data.readers.cells.dates import ZONE, Dated, order_of, zoned
from autoenc.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 2**20  # steps read at a time
NEAR = 0.05  # of a step: larger deviations from a multiple of the step are interpolated, not rounded away
MADE_UP = 0.2  # fraction of steps without a row above which the step itself is in doubt
FEW = 8  # rows from which on the rates of both halves are compared
TINY = 1e-9  # of a step


@dataclass(frozen=True)
class Rows:
    """The rows of a recording as its file has them.

    Args:
        name: file name, with the id if the file has several recordings.
        values: (R, C); NaN where a cell is missing.
        seconds: (R,) of the time stamps; None: the rows are one step apart.
        stamps: (R,) the time stamps as the file has them; None: rows have numbers only.
        labels: (R,) names of classes; None: no labels.
        rate: steps per second, if there are no time stamps but the file states a rate.
        numbers: (R,) number of each row in the file, from 1, for messages.
    """

    name: str
    values: np.ndarray
    seconds: np.ndarray | None = None
    stamps: list[str] | None = None
    labels: np.ndarray | None = None
    rate: float | None = None
    numbers: np.ndarray | None = None


@dataclass(frozen=True)
class Recording:
    """A recording on a regular grid of T time steps, without missing values.

    Args:
        values: (T, C) numbers, those of a .npy file memory-mapped.
        runs: (start, stop) of the stretches without a gap, which are all of the T steps.
        step: seconds between steps; None: not known.
        labels: (T,) names of classes, or None.
        rows: (R,) the step of each row of the file, -1 for rows in a gap; None: row i is step i.
        observed: (T, C) bool, which values a row has; None: all.
        stamps: as in `Rows`.
        notes: remarks, such as how many steps are interpolated.
    """

    name: str
    values: np.ndarray
    runs: tuple[tuple[int, int], ...]
    step: float | None = None
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None
    stamps: list[str] | None = None
    notes: dict[str, int] = field(default_factory=dict)
    observed: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def label_rows(self, values: np.ndarray, missing: float = np.nan) -> np.ndarray:
        """Return the values of the rows of the file, given those of the steps: (T, ...) -> (R, ...)."""
        if self.rows is None:
            return values
        found = values[np.maximum(self.rows, 0)]
        found[self.rows < 0] = missing
        return found

    def padded(self, length: int, mode: Literal["constant", "edge"]) -> Recording:
        """Return a recording of `length` steps, the last of which are 0 or the last step, with its label."""
        extra = length - len(self)
        if why := memory.excess(length * self.values.shape[1] * self.values.itemsize):
            raise DataError(f"data.window={length}: {why}")
        rows = np.arange(len(self)) if self.rows is None else self.rows
        labels = None if self.labels is None else np.pad(self.labels, (0, extra), "edge")
        return replace(
            self, values=np.pad(self.values, ((0, extra), (0, 0)), mode), rows=rows, labels=labels,
            runs=(*self.runs[:-1], (self.runs[-1][0], length)), notes=self.notes | {"padded": 1},
        )  # fmt: skip


def seconds_of(cells: pd.Series, where: str) -> np.ndarray:
    """Return time stamps as seconds: (R,) float64. Dates are seconds since 1970, UTC if they have no time zone.

    Args:
        where: file and column, for messages. The index of `cells` numbers the rows.

    Raises:
        DataError: missing or unreadable time stamps, or some with a time zone and others without.
    """
    import pandas as pd

    if (gone := cells.isna()).any():
        raise DataError(f"{where}: row {cells.index[gone][0]} has no time stamp")
    if cells.dtype.kind in "iuf" or is_number(str(cells.iloc[0]).replace(",", ".")):
        values = pd.to_numeric(cells.astype("str").str.replace(",", ".", regex=False), errors="coerce")
        if not np.isfinite(values).all():
            row = cells.index[~np.isfinite(values)][0]
            raise DataError(
                f"{where}: row {row}: '{str(cells[row])[:30]}' is not a number, unlike the first time stamp"
            )
        return np.asarray(values, dtype=np.float64)
    texts = cells.astype("str").str.strip()
    zones = zoned(texts)
    if zones.any() and not zones.all():
        one, other = (texts[rows].iloc[0] for rows in (zones, ~zones))
        raise DataError(f"{where}: '{one}' has a time zone and '{other}' has none; write all time stamps alike")
    moments = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True)
    if moments.isna().any():
        order = order_of(texts)
        moments = pd.to_datetime(texts, errors="coerce", format="mixed", utc=True) if order is None else (
            Dated(order).moments(texts).dt.tz_localize("UTC")
        )  # fmt: skip
        if order is None and not moments.isna().any():
            raise DataError(f"{where}: '{texts.iloc[0]}': day and month look the same; write 2024-01-31 12:00:00")
    if (bad := moments.isna()).any():
        raise DataError(f"{where}: row {texts.index[bad][0]}: '{texts[bad].iloc[0][:30]}' is not a time stamp")
    origin = pd.Timestamp("1970-01-01", tz="UTC")  # not in nanoseconds, which end in 2262
    return np.asarray((moments - origin) / pd.Timedelta(seconds=1), dtype=np.float64)


def zone_of(stamp: str, known: bool | None, where: str, other: str) -> bool | None:
    """Return whether a time stamp has a time zone; `known` for numbers.

    Args:
        known: whether those of `other` have one; None: not known. where, other: names for messages.

    Raises:
        DataError: one has a time zone, the other has none.
    """
    if is_number(stamp.replace(",", ".")):
        return known
    found = bool(ZONE.search(stamp.strip()))
    if known in (None, found):
        return found
    one, another = ("no time zone", "one") if known else ("a time zone", "none")
    raise DataError(
        f"{where}: '{stamp}' has {one}, the time stamps of {other} have {another}; write those of all files alike"
    )


def _nearest(place: np.ndarray) -> np.ndarray:
    """Return the step nearest to each place, the earlier one halfway between two: (R,) int64."""
    return np.ceil(place - 0.5 - TINY).astype(np.int64)


def _closest(at: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return which of increasing places (R,) is closest to each grid point (T,), the later one of two."""
    after = np.searchsorted(at, grid).clip(max=len(at) - 1)
    before = (after - 1).clip(min=0)
    return np.where(np.abs(at[before] - grid) < np.abs(at[after] - grid), before, after)


def give_way(counts: np.ndarray, names: np.ndarray, weak: Sequence[str | None]) -> None:
    """Set the counts (N, K) of each weak class to 0 wherever another class has any, in the order of the weak ones."""
    for name in weak:
        counts[np.ix_((counts[:, names != name] > 0).any(1), names == name)] = 0


def _joint(labels: np.ndarray, steps: np.ndarray, normal: str | None) -> np.ndarray:
    """Return the class of each step (T,), given those of the rows (R,) and their steps (R,).

    It is the most frequent class, of classes that are as frequent the one that the recording has first; the normal
    class only where all rows of a step are normal, and no class only where no row has another.
    """
    names, first, codes = np.unique(labels.astype(str), return_index=True, return_inverse=True)
    counts = np.zeros((steps.max() + 1, len(names)))
    np.add.at(counts, (steps, codes), 1)
    give_way(counts, names, (normal, MISSING))
    order = np.argsort(first)
    return labels[first[order[counts[:, order].argmax(1)]]]


def regular(rows: Rows, step: float | None, max_gap: int, normal: str | None = None) -> Recording:
    """Bring the rows of a recording to a regular grid; values between rows are interpolated linearly.

    The recording is cut where rows, or all values of a channel, are missing for more than `max_gap` steps.

    Args:
        step: seconds between the steps of the grid; None: the median distance of the rows.
        normal: class of the steps of which all rows are of it.

    Raises:
        DataError: rows out of order, duplicate time stamps, or a rate that changes.
    """
    given = step is not None
    place, step = _places(rows, step)
    values, at = rows.values, place
    if len(place) > 1 and np.diff(place).min() <= 0.5 + TINY:  # several rows a step: their mean
        bins, inverse = np.unique(_nearest(place), return_inverse=True)
        known = np.isfinite(values)
        sums, counts = (np.zeros((len(bins), values.shape[1])) for _ in range(2))
        np.add.at(sums, inverse, np.where(known, values, 0))
        np.add.at(counts, inverse, known)
        with np.errstate(invalid="ignore"):
            values = sums / counts
        at = bins.astype(np.float64)
    whole = np.arange(len(at))
    if np.array_equal(at, whole) and all(np.isfinite(part).all() for part in parts_of(values)):
        kept, found, fresh = whole, values, 0
    else:
        kept, found, fresh = _interpolated(at, values, max_gap, ("step", step) if given else ("max_gap", max_gap))
    if not len(found):
        raise DataError(f"{rows.name}: every step lies in a gap longer than data.max_gap={max_gap} steps")
    if rows.seconds is not None and not given and fresh > max(2, MADE_UP * len(found)):
        part = f"{fresh:,} of {len(found):,} steps of {step:g} s have no row"
        raise DataError(f"{rows.name}: the rate changes: {part}; data.step=SECONDS resamples")
    edges = np.flatnonzero(np.diff(kept) != 1) + 1
    runs = tuple(zip([0, *edges.tolist()], [*edges.tolist(), len(kept)], strict=True))
    labels = rows.labels
    target: np.ndarray | None = None
    if not np.array_equal(kept, np.arange(len(rows.values))) or not np.array_equal(place, np.arange(len(place))):
        wanted = _nearest(place)
        target = np.searchsorted(kept, wanted).clip(max=len(kept) - 1)
        target[kept[target] != wanted] = -1
        if labels is not None:
            bins, inverse = np.unique(wanted, return_inverse=True)
            labels = _joint(labels, inverse, normal)[_closest(bins, kept)]
    observed: np.ndarray | None = None
    if fresh:
        observed = np.zeros(found.shape, dtype=bool)
        steps = np.arange(len(rows.values)) if target is None else target
        np.logical_or.at(observed, steps[steps >= 0], np.isfinite(rows.values[steps >= 0]))
    notes = {
        "interpolated": fresh,
        "gaps": len(runs) - 1,
        "irregular": int(bool((np.abs(place - np.rint(place)) > TINY).any())),
    }
    return Recording(
        rows.name, found, runs, step, labels, target, rows.stamps,
        {name: n for name, n in notes.items() if n}, observed,
    )  # fmt: skip


def parts_of(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the steps (T, C) in parts that fit into memory."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


def _places(rows: Rows, step: float | None) -> tuple[np.ndarray, float | None]:
    """Return the place of each row on the grid, in steps (R,) float64, and the step in seconds."""
    count = len(rows.values)
    own = None if rows.rate is None else 1 / rows.rate
    if rows.seconds is None or count < 2:
        if step is None or own is None or abs(step - own) < 1e-9 * step:
            return np.arange(count, dtype=np.float64), step if own is None else own
        return np.arange(count) * (own / step), step
    distance = np.diff(rows.seconds)
    if (distance <= 0).any():
        i = int(np.flatnonzero(distance <= 0)[0]) + 1
        number = i + 1 if rows.numbers is None else int(rows.numbers[i])
        stamp = rows.seconds[i] if rows.stamps is None else rows.stamps[i]
        if distance[i - 1] == 0:
            raise DataError(f"{rows.name}: row {number} has the time stamp of the row before, {stamp}; leave one out")
        raise DataError(f"{rows.name}: row {number}, {stamp}, is earlier than the row before; sort the rows by time")
    if step is None and count >= FEW:
        halves = [float(np.median(part)) for part in np.array_split(distance, 2)]
        if max(halves) > (1 + MADE_UP) * min(halves):
            change = f"from steps of {halves[0]:g} s to {halves[1]:g} s"
            raise DataError(f"{rows.name}: the rate changes: {change}; data.step={max(halves):g} resamples")
    base = float(np.median(distance)) if step is None else step
    ratio = distance / base
    steps = np.rint(ratio)
    if (steps >= 1).all() and (np.abs(ratio - steps) <= NEAR).all():
        return np.concatenate([[0], np.cumsum(steps)]), base
    return (rows.seconds - rows.seconds[0]) / base, base


def _interpolated(
    at: np.ndarray, values: np.ndarray, max_gap: int, option: tuple[str, object]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return grid points (T,) int64, values (T, C) float32, and how many grid points have no row near.

    Args:
        at: (R,) increasing places of the rows. Grid points in gaps longer than `max_gap` steps are left out.
        option: name and value of the option that decides about the number of steps.
    """
    longest = (max_gap + 1 + NEAR) * (max(1.0, float(np.median(np.diff(at)))) if len(at) > 1 else 1.0)
    far = np.flatnonzero(np.diff(at) > longest) + 1
    stretches = [(at[rows[0]], at[rows[-1]]) for rows in np.split(np.arange(len(at)), far)]
    if why := memory.excess(8 * (values.shape[1] + 2) * sum(high - low for low, high in stretches)):
        raise DataError(f"data.{option[0]}={option[1]}: {why}: there would be far more steps than rows")
    grid = np.concatenate(  # long pauses never become grid points
        [np.arange(np.ceil(low - TINY), np.floor(high + TINY) + 1, dtype=np.int64) for low, high in stretches]
    )
    found = np.full((len(grid), values.shape[1]), np.nan)
    for c, channel in enumerate(values.T):
        known = at[np.isfinite(channel)]
        if not len(known):
            continue
        right = np.searchsorted(known, grid - TINY).clip(max=len(known) - 1)
        left = (right - (known[right] > grid + TINY)).clip(min=0)
        near = (known[right] - known[left] <= longest) & (known[0] <= grid + TINY) & (grid <= known[-1] + TINY)
        found[near, c] = np.interp(grid[near], known, channel[np.isfinite(channel)])
    valid = np.isfinite(found).all(1)
    grid, found = grid[valid], found[valid].astype(np.float32)
    nearest = _closest(at, grid)
    whole = np.isfinite(values).all(1)[nearest] & (np.abs(at[nearest] - grid) <= 0.5)
    return grid, found, int((~whole).sum())
