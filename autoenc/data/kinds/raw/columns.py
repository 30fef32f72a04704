"""Rows of a table as a model is fed them: the fitted scikit-learn transformer as tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.data.kinds.observed import Column
from autoenc.data.kinds.raw.inputs import GONE, OTHER, Raw, RawInput
from autoenc.data.kinds.raw.normal import normal_quantile

DAY = 86_400  # seconds
THURSDAY = 3  # the weekday of 1970-01-01
BOUND = 1e-7  # of probabilities in QuantileTransformer


@dataclass(frozen=True)
class Category:
    """Dimensions of a column of categories.

    Args:
        width: their number. other, gone: the dimension that is 1 for values not seen in training, and for missing
            cells; -1: none.
    """

    width: int
    other: int
    gone: int


class RawColumns(Raw):
    """Numbers (N, n) float64, NaN where missing, and numbers of categories (N, c) int64 -> (N, D) float32.

    Args:
        first: column of dates -> seconds since 1970 of the first training date, and ends of the names of its numbers.
        numeric: (steps of the pipeline, names of its columns) of the transformer. categories: of each column of texts.
        columns: dimensions. indicated: columns with an indicator. most_missing: see `Columns`.
        infinite: whether infinite numbers are missing cells.
    """

    def __init__(
        self, inputs: Sequence[RawInput], first: Mapping[str, tuple[float, tuple[str, ...]]],
        numeric: Sequence[tuple[Sequence[Any], Sequence[str]]], categories: Sequence[Category],
        columns: Sequence[Column], indicated: Sequence[str], most_missing: int | None, infinite: bool,
    ):  # fmt: skip
        super().__init__(*inputs)
        self.first = {name: (torch.tensor(start, dtype=torch.float64), ends) for name, (start, ends) in first.items()}
        self.categories, self.most_missing, self.infinite = categories, most_missing, infinite
        self.names = [list(names) for _, names in numeric]
        self.pipelines = nn.ModuleList([nn.Sequential(*map(_module, steps)) for steps, _ in numeric])
        self.user = [name for each in inputs if not each.codes for name in each.columns]
        self.indicated = [self.user.index(name) for name in indicated]
        scaled = [name for names in self.names for name in names]
        known = [next(column for column in columns if column.name == name) for name in scaled]
        fills = [torch.nan if column.fill is None else column.fill for column in known]
        self.fill: Tensor
        self.always: Tensor
        self.register_buffer("fill", torch.tensor(fills, dtype=torch.float64))
        self.register_buffer("always", torch.tensor([column.indicator is None for column in known]))

    def forward(self, *tensors: Tensor) -> Tensor:
        numbers = tensors[0] if self.user else None
        codes = tensors[-1] if self.categories else None
        gone, parts = [], []
        if numbers is not None:
            numbers = torch.where(numbers.isinf(), torch.nan, numbers) if self.infinite else numbers
            gone.append(numbers.isnan())
        if codes is not None:
            gone.append(codes == GONE)
        missing = torch.cat(gone, 1)
        beyond = None
        if self.most_missing is not None:
            beyond = missing.long().sum(1, keepdim=True) > self.most_missing
        if numbers is not None:
            parts = [self._scaled(numbers, beyond), missing[:, self.indicated].double()]
        if codes is not None:
            parts += [_one_hot(codes[:, i : i + 1], each, beyond) for i, each in enumerate(self.categories)]
        return torch.cat(parts, 1).float()

    def _scaled(self, numbers: Tensor, beyond: Tensor | None) -> Tensor:
        cells: dict[str, Tensor] = {}
        for name, values in zip(self.user, numbers.unbind(1), strict=True):
            cells |= self._dated(name, values) if name in self.first else {name: values}
        blocks = [torch.stack([cells[name] for name in names], 1) for names in self.names]
        scaled = torch.cat([pipeline(x) for pipeline, x in zip(self.pipelines, blocks, strict=True)], 1)
        if beyond is None:
            return scaled
        filled = torch.cat(blocks, 1).isnan() & (beyond | self.always) & ~self.fill.isnan()
        return torch.where(filled, self.fill, scaled)

    def _dated(self, name: str, seconds: Tensor) -> dict[str, Tensor]:
        """Return the numbers of a date, as `Dated.numbers` does."""
        first, ends = self.first[name]
        day = (seconds / DAY).floor()
        hour = ((seconds - day * DAY) / 60).floor() / 60
        numbers = ((seconds - first) / DAY, _modulo(day + THURSDAY, 7), hour)
        return {name + end: values for end, values in zip(ends, numbers, strict=False)}


def _modulo(x: Tensor, n: int) -> Tensor:
    return x - (x / n).floor() * n


def _one_hot(codes: Tensor, category: Category, beyond: Tensor | None) -> Tensor:
    """Return (N, 1) codes as (N, width) of zeros and ones; zeros for missing cells beyond those of training."""
    gone = torch.where(beyond, -1, category.gone) if beyond is not None else category.gone
    codes = torch.where(codes == GONE, gone, torch.where(codes == OTHER, category.other, codes))
    return (codes == torch.arange(category.width)).double()


class _Affine(nn.Module):
    """(x - center) / scale."""

    def __init__(self, center: np.ndarray, scale: np.ndarray):
        super().__init__()
        self.center: Tensor
        self.scale: Tensor
        self.register_buffer("center", torch.from_numpy(np.asarray(center, np.float64)))
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale, np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.center) / self.scale


class _Imputed(nn.Module):
    def __init__(self, values: np.ndarray):
        super().__init__()
        self.values: Tensor
        self.register_buffer("values", torch.from_numpy(np.asarray(values, np.float64)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x.isnan(), self.values, x)


class _SignedLog(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sign() * x.abs().log1p()


class _Quantiles(nn.Module):
    """scikit-learn's QuantileTransformer to a normal distribution: (N, D) float64 -> (N, D)."""

    def __init__(self, quantiles: np.ndarray, levels: np.ndarray):
        super().__init__()
        self.quantiles: Tensor
        self.levels: Tensor
        self.edge = torch.tensor(BOUND - np.spacing(1), dtype=torch.float64)
        self.register_buffer("quantiles", torch.from_numpy(quantiles.T.copy()))  # (D, Q)
        self.register_buffer("levels", torch.from_numpy(levels.copy()))

    def forward(self, x: Tensor) -> Tensor:
        # The mean of two interpolations, from below and from above, which differ where quantiles are equal.
        below = _interpolated(x, self.quantiles, self.levels)
        above = -_interpolated(-x, -self.quantiles.flip(1), -self.levels.flip(0))
        p = (below + above) / 2
        p = torch.where(x < self.quantiles[:, 0] + BOUND, 0, p)
        p = torch.where(x > self.quantiles[:, -1] - BOUND, 1, p)
        return normal_quantile(p.maximum(self.edge).minimum(1 - self.edge))


def _interpolated(x: Tensor, knots: Tensor, levels: Tensor) -> Tensor:
    """Return np.interp for each column: (N, D), (D, Q), (Q,) -> (N, D)."""
    last = knots.shape[1] - 1
    index = ((knots <= x[..., None]).long().sum(-1) - 1).clamp(0, last - 1)  # (N, D)
    offset = torch.arange(len(knots)) * knots.shape[1]
    low, high = (knots.flatten()[(index + k + offset).flatten()].view_as(x) for k in (0, 1))
    start, stop = (levels[(index + k).flatten()].view_as(x) for k in (0, 1))
    share = ((x - low) / torch.where(high > low, high - low, 1)).clamp(0, 1)
    return start + share * (stop - start)


def _module(step: Any) -> nn.Module:
    """Return a fitted step of a pipeline of scikit-learn as a module."""
    match type(step).__name__:
        case "SimpleImputer":
            return _Imputed(step.statistics_)
        case "SignedLog":
            return _SignedLog()
        case "StandardScaler":
            return _Affine(step.mean_, step.scale_)
        case "RobustScaler":
            return _Affine(step.center_, step.scale_)
        case "QuantileTransformer":
            return _Quantiles(step.quantiles_, step.references_)
    raise AssertionError(type(step).__name__)
