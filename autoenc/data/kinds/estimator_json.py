"""Conversion of fitted scikit-learn estimators to plain JSON values and back.

Loading a pickle can run arbitrary code. Here an estimator is stored as its class (one of KNOWN), its parameters and its
fitted attributes.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np

LARGEST = 2**28  # bytes of an array
KNOWN = {
    name: module
    for module, names in {
        "sklearn.compose": ("ColumnTransformer",),
        "sklearn.pipeline": ("Pipeline",),
        "sklearn.impute": ("SimpleImputer",),
        "sklearn.preprocessing": ("StandardScaler", "RobustScaler", "QuantileTransformer", "OneHotEncoder"),
        "autoenc.data.kinds.columns": ("SignedLog",),
    }.items()
    for name in names
}


def to_plain(value: Any) -> Any:
    """Convert estimators, arrays, containers and scalars to nested dicts and lists of plain values.

    Raises:
        TypeError: a value of an unsupported type.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}  # not representable in JSON
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.dtype):
        return {"dtype": value.str}
    if isinstance(value, type) and issubclass(value, np.generic):
        return {"type": np.dtype(value).str}
    if isinstance(value, np.ndarray):
        flat = [to_plain(v) for v in value.ravel().tolist()]
        return {"array": flat, "shape": list(value.shape), "of": value.dtype.str if value.dtype != object else "O"}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if isinstance(value, tuple):
        return {"tuple": [to_plain(v) for v in value]}
    if isinstance(value, list):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[to_plain(k), to_plain(v)] for k, v in value.items()]}
    if type(value).__name__ in KNOWN:
        return {"estimator": type(value).__name__, "state": {k: to_plain(v) for k, v in vars(value).items()}}
    raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(plain: Any) -> Any:
    """Invert `to_plain`.

    Raises:
        KeyError, ValueError, TypeError: not in that format, or an estimator that is not in KNOWN.
    """
    if isinstance(plain, list):
        return [from_plain(v) for v in plain]
    if not isinstance(plain, dict):
        return plain
    match plain:
        case {"float": text}:
            return float(text)
        case {"dtype": text}:
            return np.dtype(str(text))
        case {"type": text}:
            return np.dtype(str(text)).type
        case {"array": values, "shape": shape, "of": of}:
            dtype = np.dtype(str(of))
            if dtype.itemsize * len(values) > LARGEST:
                raise ValueError(f"an array of {len(values):,} {dtype} has more than {LARGEST:,} bytes")
            array = np.empty(len(values), dtype=object)
            array[:] = [from_plain(v) for v in values]
            return array.astype(dtype).reshape([int(n) for n in shape])
        case {"slice": [start, stop, step]}:
            return slice(start, stop, step)
        case {"tuple": values}:
            return tuple(from_plain(v) for v in values)
        case {"dict": pairs}:
            return {from_plain(k): from_plain(v) for k, v in pairs}
        case {"estimator": name, "state": state}:
            estimator = object.__new__(getattr(importlib.import_module(KNOWN[name]), name))
            estimator.__dict__.update({str(k): from_plain(v) for k, v in state.items()})
            if hasattr(estimator, "n_jobs"):
                estimator.n_jobs = None  # as many processes as the file asks for are not started
            return estimator
    raise ValueError(f"no plain value has the keys {', '.join(map(str, plain))}")
