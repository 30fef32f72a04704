"""Tables of recordings with a row for each missing step, and no missing cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autoenc.data.kinds.observed import Completed
from autoenc.data.readers.arrays import is_number
from autoenc.data.readers.recordings import Format, Recording
from autoenc.data.readers.recordings.steps import seconds_of

if TYPE_CHECKING:
    import pandas as pd


def gap_lengths(observed: np.ndarray) -> np.ndarray:
    """Return the length in steps of the gap that each missing value is in; observed: (T, C) bool."""
    lengths: list[int] = []
    for gone in ~observed.T:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], gone.astype(np.int8), [0]])))
        length = edges[1::2] - edges[::2]
        lengths += np.repeat(length, length).tolist()
    return np.array(lengths)


def completed(frame: pd.DataFrame, recording: Recording, values: np.ndarray, format: Format) -> Completed:
    """Return versions of a table with a row for each step, and missing cells of the channels filled.

    Args:
        frame: the rows of the file. values: (versions, T, C) of the steps, NaN where they are not known.
    """
    import pandas as pd

    count, names = len(recording), list(format.channels)
    rows = np.arange(len(frame)) if recording.rows is None else recording.rows
    fresh = np.setdiff1d(np.arange(count), rows)
    before = np.maximum.accumulate(np.where(rows < 0, -1.0, rows))  # of a row in a gap: the last step
    order = np.argsort(np.concatenate([before + 0.5 * (rows < 0), fresh]), kind="stable")
    steps = np.concatenate([rows, fresh])[order]
    new = pd.DataFrame({format.time: stamps_of(recording, fresh)} if len(fresh) else {})
    whole = pd.concat([frame.astype("object"), new], ignore_index=True).iloc[order].reset_index(drop=True)
    missing = whole[names].isna() & (steps >= 0)[:, None]
    missing &= np.isfinite(values[0, steps])
    found = []
    for each in values:
        version = whole.copy()
        for c, name in enumerate(names):
            texts = [f"{value:.7g}".replace(".", format.decimal) for value in each[steps, c]]
            version[name] = version[name].where(~missing[name], np.array(texts, object))
        found.append(version)
    return Completed(found, missing)


def stamps_of(recording: Recording, steps: np.ndarray) -> list[str]:
    """Return time stamps of steps (n,) without a row: numbers, or dates in ISO 8601."""
    import pandas as pd

    assert recording.stamps is not None
    assert recording.rows is not None
    assert recording.step is not None
    known = np.flatnonzero(recording.rows >= 0)
    last = known[np.searchsorted(recording.rows[known], steps) - 1]  # the row before each step
    seconds = seconds_of(pd.Series(recording.stamps), recording.name)[last]
    seconds = seconds + (steps - recording.rows[last]) * recording.step
    first = recording.stamps[0]
    if is_number(first.replace(",", ".")):
        return [f"{second:.12g}" for second in seconds]
    zone = "UTC" if pd.Timestamp(first).tzinfo else None
    moments = [pd.Timestamp(second, unit="s", tz=zone).round("us") for second in seconds]
    return [moment.isoformat() if "T" in first else str(moment) for moment in moments]
