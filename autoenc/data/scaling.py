"""Numbers as users hand them over, in the units of the model: scaling by the white value, and checks of the range."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.data.readers.arrays import to_unit
from autoenc.data.split import Split
from autoenc.errors import DataError, counted

DARK = 0.25  # uint8 data with a maximum below this fraction of 255 most likely have another range
OUTSIDE = 0.01  # fraction of values outside the range of the training data above which a warning is given


def as_tensor(raw: Any, what: str) -> Tensor:
    """Convert an array, a tensor or nested lists of numbers to a tensor on the CPU; DataError for anything else."""
    if isinstance(raw, Tensor):
        return raw.detach().cpu()
    array = np.asarray(raw)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what}: expected numbers, found {array.dtype}")
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        array = array.astype(np.float32)  # torch does not compute with other unsigned types
    return torch.from_numpy(np.ascontiguousarray(array))


def is_numeric(raw: Any) -> bool:
    """Whether raw data are a tensor or a numeric array."""
    return isinstance(raw, Tensor) or (isinstance(raw, np.ndarray) and raw.dtype.kind in "biuf")


def in_units(
    raw: Any, what: str, ends: tuple[float, float], white: float | None, deep_white: float | None, noisy: bool
) -> Split:
    """Return numbers of any shape in the units of the model; see `Kind.units`.

    Args:
        ends: range of the data. white: see `Kind.white_value`. deep_white: default white of uint16.
    """
    tensor = as_tensor(raw, what)
    dtype = str(getattr(raw, "dtype", tensor.dtype)).removeprefix("torch.").lstrip("<>=|")
    if ends[0] < 0 or ends[1] > 1 or dtype == "bool" or tensor.numel() == 0:
        return Split(tensor.float())
    if dtype == "uint8":
        white = 255.0 if white is None else min(white, 255.0)
    elif white is None and dtype in ("uint16", "u2"):
        white = deep_white
    elif tensor.is_floating_point() and dtype not in ("uint16", "u2") and not bool((tensor > 1).any()):
        white = None
    if white is None or noisy:
        return Split(tensor.float() / (white or 1.0))
    try:
        if dtype != "uint8":
            return Split(torch.from_numpy(to_unit(tensor.numpy(), white)).float())
        if white < 255:
            to_unit(tensor.numpy(), white)
        return Split(tensor, scale=1 / white)
    except ValueError as error:
        raise DataError(f"{what}: {error}") from None


def check_values(
    split: Split, what: str, ends: tuple[float, float], support: tuple[float, float], bounded: bool, noisy: bool
) -> None:
    """Reject values that are not finite or outside `support`; warn of values outside the range of the training data.

    Args:
        ends: range of the training data. bounded: values outside it are rejected. noisy: values may lie outside it.
    """
    x = split.tensor
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).nonzero()
        raise DataError(
            f"{what}: {counted(len(bad), 'values are')} NaN or infinite, the first at {tuple(bad[0].tolist())}"
        )
    lowest, highest = split.range()
    width = ends[1] - ends[0]
    if noisy and ends[0] - 10 * width <= lowest and highest <= ends[1] + 10 * width:
        return
    low, high = ends if bounded else support
    if lowest < low - 1e-6 or highest > high + 1e-6:
        hint = ""
        if (low, high) == (0.0, 1.0) and lowest >= 0:
            hint = "; divide by 255" if 64 < highest <= 255 else "; divide by the largest possible value"
        raise DataError(f"{what}: expected values in [{low:g}, {high:g}], found {lowest:.4g} to {highest:.4g}{hint}")
    if x.dtype == torch.uint8 and ends[1] == 1 and highest < DARK:
        warnings.warn(
            f"{what}: uint8 is read as 0 to 255, but the largest value is {x.max()}: if the values have another "
            "range, scale them to [0, 1] as floats",
            stacklevel=6,
        )
    part = float(((x * split.scale < ends[0]) | (x * split.scale > ends[1])).float().mean())
    if part > OUTSIDE:
        warnings.warn(
            f"{what}: {part:.0%} of the values ({lowest:.4g} to {highest:.4g}) lie outside the range of the "
            f"training data, {ends[0]:.4g} to {ends[1]:.4g}; was it scaled in the same way?",
            stacklevel=6,
        )
