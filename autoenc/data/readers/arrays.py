"""Reading of arrays: .npy, .npz, .mat, and CSV files of numbers."""

from __future__ import annotations

import csv
import math
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from autoenc import memory
from autoenc.data.readers.paths import check_contents, check_file, check_members, decoding, opened
from autoenc.errors import DataError, counted, one_line

WHITES = (1, 255, 1_023, 4_095, 16_383, 65_535)  # the highest values of common bit depths
TOLERANCE = 0.01  # of the range: values that interpolation moved beyond it are clipped, others rejected
# Exceptions that NumPy raises for damaged .npy and .npz files.
UNREADABLE = (
    *(OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error),
    *(tokenize.TokenError, SyntaxError, TypeError, OverflowError, NotImplementedError),  # of headers
)

# Bytes of a number in a MATLAB file, by its class.
BYTES = {"char": 4, "logical": 1, "single": 4, "double": 8}
BYTES |= {f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)}

# Names of arrays in archives, by what they are: those of Keras, scikit-learn, MedMNIST, dSprites and others.
ROLES = {
    "x": ("x", "x_train", "train_x", "train_images", "train_data", "imgs", "images", "data", "features", "z_train"),
    "y": ("y", "y_train", "train_y", "train_labels", "labels", "label", "targets", "target"),
    "x_val": ("x_val", "val_x", "val_images", "x_valid", "z_val"),
    "y_val": ("y_val", "val_y", "val_labels", "y_valid"),
    "x_test": ("x_test", "test_x", "test_images", "test_data", "z_test"),
    "y_test": ("y_test", "test_y", "test_labels"),
}


def roles(path: Path, array: str | None = None, label: str | None = "y") -> dict[str, str]:
    """Return what the arrays of a file are: x, y, x_val, ... -> name in the file.

    Args:
        array: name of x; None: one of ROLES, or the only array. label: name of y; y: one of ROLES; None: no labels.

    Raises:
        DataError: no array x, or no array of that name.
    """
    there = array_names(path)
    lower = {name.lower(): name for name in reversed(there)}
    named = {"x": array, "y": None if label == "y" else label}
    found = {}
    for role, aliases in ROLES.items():
        if role.startswith("y") and label is None:
            continue
        if role.startswith("y") and named["y"] is not None:
            aliases = (role.replace("y", named["y"].lower(), 1),)
        if role == "x" and array is not None:
            if array not in there:
                raise DataError(f"data.array={array}: {path} has no such array; it has {', '.join(there)}")
            found[role] = array
        elif name := next((lower[alias] for alias in aliases if alias in lower), None):
            found[role] = name
    if "x" not in found:
        rest = [name for name in there if name not in found.values()]
        if len(rest) != 1:
            if not there:
                raise DataError(
                    f"{path}: has no array of real numbers; structs, cells and sparse matrices are not read"
                )
            raise DataError(
                f"{path}: has no array x, only {', '.join(there)}; data.array=NAME names the one to train on"
            )
        found["x"] = rest[0]
    return found


def check(path: Path) -> None:
    """Raise DataError unless a file may be one of arrays: it can be opened and begins like one."""
    start = check_file(path)
    if path.suffix.lower() not in (".mat", ".parquet") and not start.startswith((b"\x93NUMPY", b"PK")):
        raise DataError(f"{path}: is not a .npy or .npz file; write it with numpy.save or numpy.savez")


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays of a file; x for .npy."""
    if path.suffix.lower() == ".mat":
        return list(_mat(path))
    try:
        if zipfile.is_zipfile(path):
            with np.load(path, allow_pickle=False) as archive:
                return list(archive.files)
    except UNREADABLE as error:
        raise DataError(f"{path}: cannot be read: truncated or damaged ({one_line(error)})") from None
    return ["x"]


def _mat(path: Path) -> dict[str, np.ndarray]:
    """Read the numeric arrays of a MATLAB file."""
    from scipy.io import loadmat, whosmat

    check_file(path)
    try:
        sizes = {name: math.prod(shape) * BYTES[kind] for name, shape, kind in whosmat(path) if kind in BYTES}
        check_contents(path, sum(sizes.values()))
        found = loadmat(path, variable_names=list(sizes))
    except DataError:
        raise
    except NotImplementedError:
        raise DataError(f"{path}: is of MATLAB 7.3; save it with -v7, or as .npz") from None
    except Exception as error:  # scipy raises anything for damaged files
        raise DataError(f"{path}: cannot be read as .mat ({one_line(error)})") from None
    return {k: v for k, v in found.items() if isinstance(v, np.ndarray) and v.dtype.kind in "biufU"}


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Read a .npy file as {"x": array}, or the arrays of a .npz archive or a .mat file under their own names.

    Args:
        names: arrays to read, in upper or lower case; all by default.

    Raises:
        DataError: the file is missing, empty or damaged, or has object arrays: loading a pickle can run arbitrary code.
    """
    check(path)
    if path.suffix.lower() == ".mat":
        return {name: array for name, array in _mat(path).items() if names is None or name in names}
    try:
        if not zipfile.is_zipfile(path):
            memory.check_file(path, path.stat().st_size)
            return {"x": np.load(path, allow_pickle=False)}
        with np.load(path, allow_pickle=False) as archive:
            wanted = [name for name in archive.files if names is None or name in names or name.lower() in names]
            check_members(path, wanted)
            if not wanted:
                there = ", ".join(archive.files) or "none"
                raise DataError(f"{path}: has no array {sorted(names or ['x'])[0]}, only {there}")
            found = {name: archive[name] for name in wanted}
    except UNREADABLE as error:
        if "Object arrays" in str(error) or "allow_pickle" in str(error):
            raise DataError(
                f"{path}: has dtype object; save numbers (rows of different length must be padded)"
            ) from None
        raise DataError(f"{path}: cannot be read: truncated or damaged ({one_line(error)})") from None
    for name, array in found.items():
        if not isinstance(array, np.ndarray):  # NumPy returns other members as bytes
            raise DataError(f"{path}: {name} is not an array")
    return found


def array_of_file(path: Path, wanted: str = "x") -> np.ndarray:
    """Read the array named `wanted`, in upper or lower case, or the only one of the file."""
    there = array_names(path)
    lower = {name.lower(): name for name in reversed(there)}
    name = next((lower[alias] for alias in ROLES[wanted] if alias in lower), None)
    if name is None:
        if len(there) != 1:
            raise DataError(f"{path}: expected an array {wanted}, found {', '.join(there) or 'none'}")
        name = there[0]
    return read_arrays(path, {name})[name]


def numbers_of_file(path: Path, also: str = "") -> np.ndarray:
    """Read the rows of a .npy, .npz or .csv file.

    Args:
        also: other formats that the caller reads, for the message.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    suffix = path.suffix.lower()
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path}: is empty")
    if suffix in (".npy", ".npz", ".mat"):
        return array_of_file(path)
    if suffix == ".csv" or path.name.lower().endswith(".csv.gz"):
        return read_number_table(path)
    raise DataError(f"{path}: expected {also}.npy, .npz, .mat or .csv, found '{suffix or 'a folder'}'")


def read_number_table(path: Path) -> np.ndarray:
    """Read a CSV file of numbers: (N, D) float32. A first line without numbers is the header."""
    try:
        with decoding(path), opened(path) as file:
            rows = [row for row in csv.reader(file) if row]
    except csv.Error as error:
        raise DataError(f"{path}: is not CSV ({one_line(error)})") from None
    header: list[str] = []
    if rows and not any(is_number(cell) for cell in rows[0]):
        header, rows = rows[0], rows[1:]
    if not rows:
        raise DataError(f"{path}: has no rows")
    width = len(header) or len(rows[0])
    for number, row in enumerate(rows, 2 if header else 1):
        if len(row) != width:
            raise DataError(f"{path}: line {number} has {counted(len(row), 'columns')}, the first has {width}")
        if wrong := [i for i, cell in enumerate(row) if not is_number(cell)]:
            cell, column = row[wrong[0]], header[wrong[0]] if header else wrong[0] + 1
            what = f"'{cell[:30]}' is not a number" if cell.strip() else "is empty"
            hint = "; columns are separated by commas" if ";" in cell or "\t" in cell else ""
            raise DataError(f"{path}: line {number}, column {column}: {what}{hint}")
    return np.array(rows, dtype=np.float32)


def is_number(cell: Any) -> bool:
    """Whether a cell of a file reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def suggested_white(highest: float) -> float:
    """Return the white of data with this largest value: that of a common bit depth, or else the value itself."""
    return next((white for white in WHITES if white / 4 < highest <= white), highest)


def to_unit(values: np.ndarray, white: float) -> np.ndarray:
    """Divide by white and clip to [0, 1]; ValueError for values that lie outside by more than a rounding error."""
    low, high = float(values.min()), float(values.max())
    if not (-TOLERANCE * white <= low and high <= (1 + TOLERANCE) * white):  # NaN too
        hint = f"; data.white={suggested_white(high):g} scales them" if low >= 0 and np.isfinite(high) else ""
        raise ValueError(f"values from {low:g} to {high:g} do not lie in 0 to {white:g}{hint}")
    return (values / white).clip(0, 1)
