"""User-provided arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.vector import Vector
from autoenc.data.readers.arrays import ROLES, read_arrays, roles
from autoenc.data.split import Split, check_fractions, hold_out
from autoenc.errors import ConfigError, DataError, require


def arrays(
    path: str | None = None,
    test_path: str | None = None,
    array: str | None = None,
    label: str | None = "y",
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Data:
    """Load a `.npy` file, or a `.npz` archive or `.mat` file with `x` and optionally `y`, `x_val`, `x_test` ...

    Other common names are recognized: x_train, images, imgs, data, train_images, labels ... (readers.arrays.ROLES).

    The shape of x determines its interpretation:
        (N, D)        vectors
        (N, H, W)     grey images
        (N, C, H, W)  images, if C is 1 or 3; takes precedence over (N, H, W, C)
        (N, H, W, C)  images, if C is 1 or 3
    uint8 is scaled by 1/255 to [0, 1], unless it is 0 or 1; other types are converted to float32 without scaling.

    Args:
        path: the file.
        test_path: a second file with the test rows, if `path` has no `x_test`.
        array: name of x in a file with several arrays.
        label: name of the labels in a `.npz`, (N,) integers or strings; test labels are `<label>_test`. null: no
            labels. The default may be missing; another name must exist.
        val_fraction: fraction of the rows without the test rows that is held out for validation.
        test_fraction: fraction of all rows that is held out for testing, if the files have no test rows.
        split_seed: seed of both draws.

    Raises:
        ConfigError: no path, a fraction outside (0, 1).
        DataError: a file that is missing, unreadable or unsuitable for training. Object arrays are rejected: loading a
            pickle can run arbitrary code.
    """
    if path is None:
        raise ConfigError("path", None, "name a file: data.path=file.npy")
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    found = _load(Path(path).expanduser(), array, label)
    if label not in (None, "y") and "y" not in found:
        raise ConfigError("label", label, f"{path} has no array of this name")
    if test_path is not None:
        require("x_test" not in found, "test_path", test_path, f"{path} has test rows already (x_test)")
        other = _load(Path(test_path).expanduser(), array, label)
        found |= {f"{name}_test": other[name] for name in ("x", "y") if name in other}
    where = {key: path if test_path is None or not key.endswith("_test") else test_path for key in ROLES}

    given: dict[str, Tensor] = {
        key: _images_or_vectors(found[key], where[key]) for key in ("x", "x_val", "x_test") if key in found
    }
    x = given["x"]
    for key, name in (("x_val", "validation"), ("x_test", "test")):
        if (other_x := given.get(key)) is not None and (other_x.shape[1:] != x.shape[1:] or other_x.dtype != x.dtype):
            raise DataError(
                f"{where[key]}: {name} rows are {other_x.dtype} of shape {tuple(other_x.shape[1:])}, "
                f"training rows {x.dtype} of shape {tuple(x.shape[1:])}"
            )
    if len(x) < 4 - len(given):
        raise DataError(f"{path}: {len(x)} rows are too few for training, validation and test")
    labels, classes = _labels(found, where)

    scale = 1 / 255 if x.dtype == torch.uint8 and int(x.max()) > 1 else 1.0
    splits = {key: Split(each, labels.get(key.replace("x", "y")), scale) for key, each in given.items()}
    index = {key: Split(torch.arange(len(each))) for key, each in given.items()}  # rows of the file
    for key, fraction, option in (("x_test", test_fraction, "test_fraction"), ("x_val", val_fraction, "val_fraction")):
        if key not in given:
            for parts in (splits, index):
                parts["x"], parts[key] = hold_out(parts["x"], fraction, split_seed, option)
    train, val, test = splits["x"], splits["x_val"], splits["x_test"]
    low, high = (0.0, 1.0) if x.dtype == torch.uint8 else train.range()
    shape = tuple(x.shape[1:])
    kind = Image(shape, low, high) if len(shape) == 3 else Vector(shape, low, high)
    spec = DataSpec(Path(path).stem, kind, classes)
    names = {part: (index[key].tensor + 1).tolist() for part, key in (("train", "x"), ("test", "x_test"))}
    return Data(spec, train, val, test, names=names)


def _load(path: Path, array: str | None, label: str | None) -> dict[str, np.ndarray]:
    """Read the arrays of a file as x and, if present, y, x_val, y_val, x_test, y_test."""
    if not path.is_file():
        read_arrays(path)  # raises for missing files and folders
    chosen = roles(path, array, label)
    found = read_arrays(path, set(chosen.values()))
    return {role: found[name] for role, name in chosen.items()}


def _images_or_vectors(array: np.ndarray, path: str) -> Tensor:
    """Convert an array to (N, D) or (N, C, H, W), uint8 or float32, as described in `arrays`."""
    shape = array.shape
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: has dtype {array.dtype}; must be numbers")
    if not (len(shape) in (2, 3) or (len(shape) == 4 and {shape[1], shape[3]} & {1, 3})):
        raise DataError(
            f"{path}: has shape {shape}; must be (N, D) for vectors; (N, H, W), (N, C, H, W) or (N, H, W, C) "
            "with C 1 or 3 for images"
        )
    if array.size == 0:
        raise DataError(f"{path}: has shape {shape}: no {'rows' if len(array) == 0 else 'values'}")
    if array.dtype != np.uint8:
        with np.errstate(over="ignore"):  # overflow becomes infinite and is rejected below
            array = array.astype(np.float32)
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(i) for i in np.unravel_index(bad.argmax(), shape))
            raise DataError(f"{path}: {bad.sum()} values are NaN or infinite (in float32), the first at index {first}")
    if len(shape) == 3:
        array = array[:, None]
    elif len(shape) == 4 and shape[1] not in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(array))


def _labels(found: dict[str, np.ndarray], where: dict[str, str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return y, y_val and y_test as indices (N,) int64 into the classes, and the classes, sorted."""
    values: dict[str, np.ndarray] = {}
    for x, y in (("x", "y"), ("x_val", "y_val"), ("x_test", "y_test")):
        if x not in found or y not in found:
            continue
        array, rows = found[y], len(found[x])
        if array.shape not in ((rows,), (rows, 1), (1, rows)):
            raise DataError(
                f"{where[y]}: labels have shape {array.shape}, x has {rows} rows; must be ({rows},); "
                "data.label=null ignores them"
            )
        if array.dtype.kind == "f" and np.array_equal(array, np.round(array)):
            array = array.astype(np.int64)
        if array.dtype.kind not in "biuUS":
            raise DataError(
                f"{where[y]}: labels have dtype {array.dtype}; must be integers or strings; "
                "data.label=null ignores them"
            )
        values[y] = np.char.decode(array, "utf-8", "replace").ravel() if array.dtype.kind == "S" else array.ravel()
    if not values:
        return {}, ()
    classes, index = np.unique(np.concatenate(list(values.values())), return_inverse=True)
    y_index = torch.from_numpy(index.astype(np.int64)).split([len(array) for array in values.values()])
    return dict(zip(values, y_index, strict=True)), tuple(str(name) for name in classes)
