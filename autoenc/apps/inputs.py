"""Files that people have: arrays, images and tables of numbers, as a run takes them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from autoenc.data.dataset import Examples
from autoenc.data.readers.tables import is_number
from autoenc.data.sets.arrays import UNREADABLE
from autoenc.errors import DataError, one_line
from autoenc.loading import Run

IMAGES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}


def read(run: Run, path: str | Path, resize: bool = False, noisy: bool = False) -> Examples:
    """Examples of a file or folder, checked against what the run was trained on.

        .npy, .npz      an array, or the array x (or the only one) of an archive; shapes as in Run.inputs
        .csv            a row for each example, numbers only, with or without a line of names; vectors and flat images
        .png .jpg ...   an image, read as grey or RGB as the run needs it
        a folder        all its images, by name

    Where the run has preprocessing: files like those that it was trained on.

    Args:
        resize: bring images to the size that the run was trained on; otherwise another size is refused.
        noisy: values may lie outside the range of clean data.

    Raises:
        DataError: no such file, unreadable, or other data than the run was trained on; says expected and found.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    pictures = path.is_dir() or path.suffix.lower() in IMAGES
    if run.preprocessing is not None and (pictures or run.spec.kind != "image"):
        return run.preprocessing.read(path)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGES)
        if not files:
            raise DataError(f"{path}: has no images ({', '.join(sorted(IMAGES))})")
        return _images(run, files, resize, str(path))
    suffix = path.suffix.lower()
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty")
    if suffix in IMAGES:
        return _images(run, [path], resize, str(path))
    if suffix in (".npy", ".npz"):
        array = _array(path)
    elif suffix == ".csv":
        array = _table(path)
    else:
        raise DataError(f"{path}: expected .npy, .npz, .csv, an image or a folder of images, found '{suffix}'")
    split = run.inputs(array, str(path), noisy)
    return Examples(split, [str(i) for i in range(len(split))])


def labels(path: str | Path, rows: int) -> np.ndarray:
    """(rows,) one number for each row of a file: a .npy, a .csv of one column, or the array y of a .npz.

    Raises:
        DataError: no such file, unreadable, no numbers, or another number of rows.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz", ".csv"):
        raise DataError(f"{path}: expected labels in .npy, .npz or .csv, found '{suffix}'")
    array = _table(path) if suffix == ".csv" else _array(path, "y")
    if array.shape not in ((rows,), (rows, 1)):
        raise DataError(f"{path}: expected {rows} labels, one for each row, found shape {array.shape}")
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: expected numbers, found {array.dtype}")
    return array.reshape(rows)


def _images(run: Run, files: list[Path], resize: bool, what: str) -> Examples:
    if run.spec.kind != "image":
        raise DataError(f"{what}: expected rows of {run.spec.shape[0]} numbers, as {run.spec.name} has, found images")
    from PIL import Image

    channels, height, width = run.spec.shape
    arrays = []
    for file in files:
        try:
            with Image.open(file) as image:
                picture = image.convert("RGB" if channels == 3 else "L")
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{file}: cannot be read as an image ({one_line(error)})") from None
        if picture.size != (width, height):
            if not resize:
                found = f"{picture.size[0]}x{picture.size[1]}"
                raise DataError(f"{file}: expected {width}x{height} pixels, found {found}; --resize scales images")
            picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        arrays.append(np.asarray(picture).reshape(height, width, channels).transpose(2, 0, 1))
    return Examples(run.inputs(np.stack(arrays), what), [file.name for file in files])


def _array(path: Path, wanted: str = "x") -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = {name.lower(): name for name in loaded.files}
            name = names.get(wanted, loaded.files[0] if len(loaded.files) == 1 else None)
            if name is None:
                raise DataError(f"{path}: expected an array {wanted}, found {', '.join(loaded.files) or 'nothing'}")
            return loaded[name]
    except UNREADABLE as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path}: holds Python objects; refused, save numbers") from None
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None


def _table(path: Path) -> np.ndarray:
    """(N, D) float32 of a CSV file; a first line that is no numbers is its header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not CSV in UTF-8 ({one_line(error)})") from None
    if rows and not any(is_number(cell) for cell in rows[0]):
        header, rows = rows[0], rows[1:]
    else:
        header = []
    if not rows:
        raise DataError(f"{path}: has no rows")
    width = len(header) or len(rows[0])
    for number, row in enumerate(rows, 2 if header else 1):
        if len(row) != width:
            raise DataError(f"{path}: line {number} has {len(row)} columns, the first has {width}")
        if wrong := [i for i, cell in enumerate(row) if not is_number(cell)]:
            cell, column = row[wrong[0]], header[wrong[0]] if header else wrong[0] + 1
            what = f"'{cell[:30]}' is not a number" if cell.strip() else "is empty"
            hint = "; columns are separated by commas" if ";" in cell or "\t" in cell else ""
            raise DataError(f"{path}: line {number}, column {column}: {what}{hint}")
    return np.array(rows, dtype=np.float32)
