"""Reading of columns in chunks from files of JSON lines, Feather and Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from autoenc import memory
from autoenc.data.readers.paths import check_file, check_unpacked, decoding, opened
from autoenc.errors import DataError, one_line

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 50_000  # rows
TEXT = 8  # bytes of a short text in memory, at least
METADATA = (ValueError, KeyError, TypeError, AttributeError)  # errors of pandas if its part of a file is damaged


def json_lines(path: Path, size: int) -> Iterator[pd.DataFrame]:
    """Yield the objects of a file, one on a line, in chunks; a key that some lack is missing there."""
    import pandas as pd

    names: tuple[str, ...] = ()
    with decoding(path), opened(path) as file:
        lines = ((number, line) for number, line in enumerate(file, 1) if line.strip())
        while part := list(islice(lines, size)):
            frame = pd.DataFrame([_record(path, number, line) for number, line in part])
            if not names:  # a later chunk may have other keys
                names = tuple(frame) if len(part) < size else _keys(path, path.stat().st_mtime_ns)
            yield frame.reindex(columns=list(names))


@lru_cache(4)
def _keys(path: Path, time: int) -> tuple[str, ...]:
    """Return the keys of all objects of a file last modified at `time`, in the order of their first use."""
    with decoding(path), opened(path) as file:
        records = (_record(path, number, line) for number, line in enumerate(file, 1) if line.strip())
        return tuple(dict.fromkeys(chain.from_iterable(records)))


def _record(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        record = json.loads(line, parse_int=lambda digits: int(digits) if len(digits) < 300 else float(digits))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: line {number} is not JSON ({one_line(error)})") from None
    if not isinstance(record, dict):
        raise DataError(f"{path}: line {number} is not an object, {{...}}")
    return record


def feather_chunks(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the rows of a Feather file in chunks."""
    import pyarrow as pa
    from pyarrow import dataset, feather

    try:
        if check_file(path).startswith(b"ARROW"):  # files of version 1 are not compressed
            there = dataset.dataset(path, format="feather")
            rows = there.count_rows()  # without reading them
            widths = [kind.bit_width / 8 if pa.types.is_primitive(kind) else TEXT for kind in there.schema.types]
            check_unpacked(path, rows * len(widths))
            memory.check_file(path, rows * sum(widths))
        for batch in feather.read_table(path).to_batches(CHUNK):
            yield batch.to_pandas().reset_index(drop=True)
    except (pa.ArrowException, OSError, *METADATA) as error:
        raise DataError(f"{path}: cannot be read as Feather ({one_line(error)})") from None


def parquet_chunks(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the rows of a Parquet file in chunks."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            check_unpacked(path, file.metadata.num_rows * file.metadata.num_columns)
            for batch in file.iter_batches(CHUNK):
                frame = batch.to_pandas()
                # An index that has a name is a column, such as the time stamps of a recording.
                yield frame.reset_index(drop=frame.index.names == [None])
    except (pa.ArrowException, OSError, *METADATA) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({one_line(error)})") from None


def dates_as_text(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of dates to text as in a CSV file: 2024-04-20, with the time of day if there is one."""
    dates = frame.select_dtypes(["datetime", "datetimetz"])
    if dates.shape[1] == 0:
        return frame

    def written(moment: pd.Timestamp) -> str:
        text = str(moment)
        return text.partition(" ")[0] if moment.tzinfo is None and moment == moment.normalize() else text

    return frame.assign(**{name: dates[name].map(written, na_action="ignore").astype("object") for name in dates})
