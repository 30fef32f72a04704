"""Reading files of new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from autoenc.data.dataset import class_numbers
from autoenc.data.readers.arrays import array_of_file, read_number_table
from autoenc.data.readers.cells.class_names import class_name, known_class
from autoenc.data.readers.images import SUFFIXES, Header, read_headers
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError, UserError, counted
from autoenc.loading import Run


def read(run: Run, path: str | Path, resize: bool = False, noisy: bool = False) -> Examples:
    """Read the examples of a file or folder, checked against the training data; see `Kind.read`.

    They have the classes that the file has, if the model is conditioned on them.

    Args:
        resize: scale images to the size that the run was trained on; otherwise another size is rejected.
        noisy: values may lie outside the range of clean data.

    Raises:
        DataError: the file is missing or unreadable, or the data differ from the training data.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    found = run.spec.kind.read(path, resize, noisy, run.model.likelihood.support())
    if not run.given_labels:
        return found
    options = run.config["data"]
    normal = None if options.get("normal") is None else class_name(options["normal"])
    names = run.spec.kind.class_names(path, options.get("label") or "y", normal)
    if names is None or None in names:
        return found  # of which the condition reports it, if it is needed
    if len(names) != len(found.split):
        raise DataError(f"{path}: {len(names):,} classes for {counted(len(found.split), 'rows')}")
    known = [known_class(name, run.spec.classes) for name in names if name is not None]
    return replace(found, split=replace(found.split, y=torch.tensor(class_numbers(run.spec, known, f"{path}: y"))))


def examples(run: Run, numbers: Sequence[int]) -> Split:
    """Return the examples of `Run.examples` with these numbers, as a split.

    Raises:
        UserError: there is none with one of the numbers.
    """
    size = len(run.examples)
    for number in numbers:
        if not 0 <= number < size:
            raise UserError(f"{number}: {run.spec.name} has the examples 0 to {size - 1}")
    return run.examples.subset(torch.tensor(numbers))


def example(run: Run, number: int) -> Split:
    """Return one of `examples`, as a split of one."""
    return examples(run, [number])


def one(run: Run, text: str, option: str, resize: bool = False) -> Split:
    """Return one example, given its number in `Run.examples` or a file that has no other.

    Raises:
        UserError: there is no such example. DataError: the file cannot be read, or has several.
    """
    if text.lstrip("-").isdigit():
        return example(run, int(text))
    split = read(run, text, resize).split
    if len(split) != 1:
        raise DataError(f"{option} {text}: expected one example, found {len(split)}")
    return split


def one_image(run: Run, text: str, option: str, resize: bool = False) -> Split:
    """Return `one` image; files of another size or mode than the training images are rejected unless `resize`."""
    header = read_headers([text])[0] if Path(text).suffix.lower() in SUFFIXES and Path(text).is_file() else None
    if isinstance(header, Header) and not resize:
        channels, height, width = run.spec.shape
        found, wanted = (
            f"{w}x{h} pixels, {'grey' if grey else 'colour'}"
            for w, h, grey in ((header.width, header.height, header.grey), (width, height, channels == 1))
        )
        if found != wanted:
            raise DataError(f"{option} {text}: {found}; the run was trained on {wanted}; --resize converts it")
    return one(run, text, option, resize)


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
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array.reshape(rows)))[0]) + 1
        raise DataError(f"{path}: row {row} has no label; leave such rows out of both files")
    return array.reshape(rows)
