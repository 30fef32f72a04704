"""User-provided arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import Data, DataSpec, learnable_rows
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.vector import Vector
from autoenc.data.readers import path_of
from autoenc.data.readers.arrays import ROLES, read_arrays, roles, suggested_white
from autoenc.data.readers.images import ImageFormat
from autoenc.data.scaling import DARK
from autoenc.data.sets.arrays_on_disk import normalized, on_disk, stays_on_disk
from autoenc.data.split import CHUNK, Split, check_fractions, hold_out
from autoenc.data.storage.cache import FOLDER
from autoenc.data.storage.number_rows import number_rows
from autoenc.errors import ConfigError, DataError, counted, require

MOST_CHANNELS = 16  # of images whose shape tells the axis of the channels


def arrays(
    path: str | None = None,
    test_path: str | None = None,
    array: str | None = None,
    label: str | None = "y",
    layout: Literal["auto", "chw", "hwc", "rows"] = "auto",
    white: float | None = None,
    normalize: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    cache: str = FOLDER,
    kind: Kind | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Load a `.npy` file, or a `.npz` archive or `.mat` file with `x` and optionally `y`, `x_val`, `x_test` ...

    Vectors of a `.npy` file of more than 256 MB stay on disk, as do those of a `.parquet` file: the columns of numbers,
    or one column of lists. Memory does not grow with the file.

    Other common names are recognized: x_train, images, imgs, data, train_images, labels ... (readers.arrays.ROLES).

    The shape of x determines its interpretation:
        (N, D)        vectors
        (N, H, W)     grey images
        (N, C, H, W)  images, if C is 1 or 3, or at most 16 and less than H and W
        (N, H, W, C)  likewise, if the shape is not one of (N, C, H, W)
    uint8 becomes [0, 1]: 255 is 1, or 1 is 1 if no value exceeds it. So do uint16 images: 65535 is 1. Other types are
    converted to float32 without scaling.

    Args:
        path: the file.
        test_path: a second file with the test rows, if `path` has no `x_test`.
        array: name of x in a file with several arrays.
        label: name of the labels in a `.npz`, (N,) integers or strings; test labels are `<label>_test`. null: no
            labels. The default may be missing; another name must exist.
        layout: chw, hwc: the order of the axes of (N, _, _, _). rows: vectors, whatever the shape. auto: see above.
        white: value that becomes 1.0, for any type.
        normalize: multiply vectors by a number, so that the mean squared norm of the training rows is D, which is usual
            for the activations of a network.
        val_fraction: fraction of the rows without the test rows that is held out for validation.
        test_fraction: fraction of all rows that is held out for testing, if the files have no test rows.
        split_seed: seed of both draws.
        cache: folder for rows of Parquet, and of `.npy` files of other types than float32 and uint8.
        kind: kind of a finished run, used instead of the options. excluded: classes that nothing is learned from.

    Raises:
        ConfigError: no path, a fraction outside (0, 1).
        DataError: a file that is missing, unreadable or unsuitable for training. Object arrays are rejected: loading a
            pickle can run arbitrary code.
    """
    path = path_of("arrays", path)
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    if stays_on_disk(Path(path).expanduser(), layout):
        require(
            white is None, "white", white, f"{path} stays on disk, where uint8 is divided by 255, others by nothing"
        )
        files = [Path(name).expanduser() for name in (path, test_path) if name is not None]
        if test_path is not None:
            known = files[1].suffix.lower() in (".npy", ".parquet")
            require(known, "test_path", test_path, f"must be .npy or .parquet, as {path}")
        stored = [number_rows(file, array, label, cache) for file in files]
        return on_disk(files, stored, normalize, val_fraction, test_fraction, split_seed, kind, excluded)
    found = _load(Path(path).expanduser(), array, label)
    if label not in (None, "y") and "y" not in found:
        raise ConfigError("label", label, f"{path} has no array of this name")
    if test_path is not None:
        require("x_test" not in found, "test_path", test_path, f"{path} has test rows already (x_test)")
        other = _load(Path(test_path).expanduser(), array, label)
        found |= {f"{name}_test": other[name] for name in ("x", "y") if name in other}
    where = {key: path if test_path is None or not key.endswith("_test") else test_path for key in ROLES}

    require(white is None or 0 < white < np.inf, "white", white, "must be above 0: 255, 4095, ...")
    keys: list[str] = [key for key in ("x", "x_val", "x_test") if key in found]
    raw = {key: _laid_out(found[key], where[key], layout) for key in keys}
    shape = raw["x"].shape[1:]
    for key, name in (("x_val", "validation"), ("x_test", "test")):
        if key in raw and (raw[key].shape[1:] != shape or raw[key].dtype != raw["x"].dtype):
            raise DataError(
                f"{where[key]}: {name} rows are {raw[key].dtype} of shape {raw[key].shape[1:]}, "
                f"training rows {raw['x'].dtype} of shape {shape}"
            )
    if len(raw["x"]) < 4 - len(raw):
        raise DataError(f"{path}: has {counted(len(raw['x']), 'rows')}, too few for training, validation and test")
    labels, classes = _labels(found, where)
    rows = {key: Split(torch.arange(len(each)), labels.get(key.replace("x", "y"))) for key, each in raw.items()}
    for key, fraction, option in (("x_test", test_fraction, "test_fraction"), ("x_val", val_fraction, "val_fraction")):
        if key not in raw:
            rows["x"], rows[key] = hold_out(rows["x"], fraction, split_seed, option, path)
    name = Path(path).stem
    remark, scaled, fresh = None, True, kind is None
    if kind is None:
        dtype: np.dtype[Any] = raw["x"].dtype
        learnt = learnable_rows(rows["x"], classes, excluded, name).tensor
        parts = (raw["x"][part.numpy()] for part in learnt.split(CHUNK))  # indexing copies
        ends = [(part.min(), part.max()) for part in parts]
        low, high = float(np.min(ends)), float(np.max(ends))
        if white is None and dtype in (np.uint8, np.uint16) and high <= 1:
            white = 1.0
        if white is None:
            scaled, remark = _judged(dtype, low, high) if len(shape) == 3 else (dtype == np.uint8, None)
        channels_last = bool(_channels_last(found["x"].shape, layout))
        kind = _kind(shape, white, (0.0, 1.0) if scaled else (-np.inf, np.inf), channels_last)
    given = {key: kind.units(each, where[key]) for key, each in raw.items()}
    splits = {
        key: replace(given[key] if key in given and key != "x" else given["x"].subset(part.tensor), y=part.y)
        for key, part in rows.items()
    }
    train, val, test = splits["x"], splits["x_val"], splits["x_test"]
    if not scaled:
        lowest, highest = train.range()
        kind = replace(kind, low=lowest, high=highest)
    if normalize:
        require(isinstance(kind, Vector), "normalize", normalize, f"{path} has images; it is for vectors")
    if normalize and fresh:  # otherwise the kind has scaled the rows
        assert isinstance(kind, Vector)
        kind = normalized(kind, learnable_rows(train, classes, excluded, name))
        train, val, test = (replace(split, scale=split.scale * kind.factor) for split in (train, val, test))
    spec = DataSpec(name, kind, classes)
    names = {part: (rows[key].tensor + 1).tolist() for part, key in (("train", "x"), ("test", "x_test"))}
    return Data(spec, train, val, test, notes=() if remark is None else (f"Attention: {remark}",), names=names)


def _kind(
    shape: tuple[int, ...], white: float | None, ends: tuple[float, float], channels_last: bool
) -> Image | Vector:
    if len(shape) == 1:
        return Vector(shape, *ends, white)
    channels, height, width = shape
    image_format = None if white is None else ImageFormat(channels, height, width, "exact", white=white)
    return Image(shape, *ends, image_format, channels_last=channels_last)


def _judged(dtype: np.dtype[Any], low: float, high: float) -> tuple[bool, str | None]:
    """Return whether images become [0, 1] without data.white, and a remark on their range."""
    option = f"data.white={suggested_white(high):g}"
    if dtype == np.uint8 or (dtype.kind == "u" and dtype.itemsize == 2):
        full = 255 if dtype == np.uint8 else 65_535
        dark = high < (DARK * full if full == 255 else 4_096)
        return (
            True,
            f"{dtype} images have values up to {high:g} of {full}; {option} makes that the white" if dark else None,
        )
    if low >= 0 and high > 1:
        return False, f"images have values from {low:g} to {high:g} and are not scaled; {option} scales them to [0, 1]"
    return False, None


def _load(path: Path, array: str | None, label: str | None) -> dict[str, np.ndarray]:
    """Read the arrays of a file as x and, if present, y, x_val, y_val, x_test, y_test."""
    if not path.is_file():
        read_arrays(path)  # raises for missing files and folders
    chosen = roles(path, array, label)
    found = read_arrays(path, set(chosen.values()))
    return {role: found[name] for role, name in chosen.items()}


def _laid_out(array: np.ndarray, path: str, layout: str) -> np.ndarray:
    """Return an array as (N, D) or (N, C, H, W), of its own type, as described in `arrays`."""
    shape = array.shape
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: has dtype {array.dtype}; must be numbers")
    known = len(shape) in (2, 3, 4) and (
        layout != "auto" or len(shape) < 4 or _channels_last(shape, layout) is not None
    )
    if not known and not (layout == "rows" and len(shape) > 4):
        raise DataError(
            f"{path}: has shape {shape}; must be (N, D) for vectors; (N, H, W), (N, C, H, W) or (N, H, W, C) "
            "with C 1 or 3 for images; data.layout=chw, hwc or rows decides"
        )
    if array.size == 0:
        raise DataError(f"{path}: has shape {shape}: no {'rows' if len(array) == 0 else 'values'}")
    if array.dtype.kind == "u" and array.dtype.itemsize <= 2:
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    else:
        with np.errstate(over="ignore"):  # overflow becomes infinite
            array = array.astype(np.float32)
        bad = ~np.isfinite(array)
        if bad.any():
            first = tuple(int(i) for i in np.unravel_index(bad.argmax(), shape))
            found = f"{counted(int(bad.sum()), 'values are')} NaN or infinite (in float32)"
            raise DataError(f"{path}: {found}, the first at index {first}")
    if len(shape) == 2 and layout in ("chw", "hwc"):
        raise ConfigError("layout", layout, f"{path} has shape {shape}, vectors; layout=rows or auto")
    if layout == "rows" or len(shape) == 2:
        return array.reshape(len(array), -1)
    if len(shape) == 3:
        return array[:, None]
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if _channels_last(shape, layout) else array


def _channels_last(shape: tuple[int, ...], layout: str) -> bool | None:
    """Whether the last of four axes is that of the channels; None if the shape does not tell."""
    if len(shape) != 4 or layout != "auto":
        return layout == "hwc" and len(shape) == 4
    _, first, middle, last = shape
    if first in (1, 3) or last in (1, 3):
        return first not in (1, 3)
    if MOST_CHANNELS >= first < min(middle, last) or MOST_CHANNELS >= last < min(first, middle):
        return last < first
    return None


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
