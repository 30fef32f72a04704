"""Reading files of new data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from autoenc.data.readers.arrays import array_of_file, read_number_table
from autoenc.data.split import Examples
from autoenc.errors import DataError
from autoenc.loading import Run


def read(run: Run, path: str | Path, resize: bool = False, noisy: bool = False) -> Examples:
    """Read the examples of a file or folder, checked against the training data; see `Kind.read`.

    Args:
        resize: scale images to the size that the run was trained on; otherwise another size is rejected.
        noisy: values may lie outside the range of clean data.

    Raises:
        DataError: the file is missing or unreadable, or the data differ from the training data.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    return run.spec.kind.read(path, resize, noisy, run.model.likelihood.support())


def labels(path: str | Path, rows: int) -> np.ndarray:
    """Read one number for each row of a file: a .npy, a .csv of one column, or the array y of a .npz; (rows,).

    Raises:
        DataError: the file is missing or unreadable, holds no numbers, or another number of rows.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise DataError(f"{path}: expected labels in .npy, .npz or .csv, found '{suffix}'")
    array = read_number_table(path) if suffix == ".csv" else array_of_file(path, "y")
    if array.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{path}: expected {rows} labels, one for each row, found shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected numbers, found {array.dtype}")
    return array.reshape(rows)
