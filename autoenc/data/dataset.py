"""What a data set is to the rest of the package: three splits and a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from autoenc.data.kinds.kind import Kind
from autoenc.data.split import Split
from autoenc.errors import DataError


@dataclass(frozen=True)
class DataSpec:
    """A description of a data set, the same for all splits; what a finished run keeps of its data."""

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ...; empty where there are none
    anomalies: tuple[str, ...] = ()  # classes that are left out of training and validation

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example as it is fed."""
        return self.kind.shape

    @property
    def low(self) -> float:
        """The lower end of the range of the values as they are fed."""
        return self.kind.low

    @property
    def high(self) -> float:
        """The upper end of that range."""
        return self.kind.high


@dataclass(frozen=True)
class Data:
    """A data set: the training rows, a validation split cut from them, and a test split for the end alone.

    Args:
        notes: what a person should know of how the files were read, a line each; said when training starts.
        truth: what generated data were made from, by name: arrays that `scripts/evaluate.py` compares with.
            Names that end in _train, _val or _test are of that split, row by row.
        names: split (train, test) -> what its examples are called in the user's files: a file name, a row number.
    """

    spec: DataSpec
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    names: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def told(self, split: str) -> list[str]:
        """What each example of the split (train or test) can be told by: its name, else its number."""
        return [str(name) for name in self.names.get(split, range(len(getattr(self, split))))]

    def mean(self) -> Tensor | None:
        """(*shape) the mean of the first 10,000 training examples, on the CPU; None of token ids, which have none."""
        return self.train.mean().cpu() if self.spec.kind.continuous else None


def class_numbers(spec: DataSpec, classes: Sequence[str], name: str) -> list[int]:
    """The labels of classes given by name; DataError where the data has no labels or no such class."""
    if not spec.classes:
        raise DataError(f"{name}={','.join(classes)}: {spec.name} has no labels")
    for wanted in classes:
        if wanted not in spec.classes:
            raise DataError(f"{name}={wanted}: {spec.name} has no such class; it has {', '.join(spec.classes)}")
    return [spec.classes.index(wanted) for wanted in classes]


def without(data: Data, classes: Sequence[str], name: str = "classes") -> Data:
    """Training and validation lose the rows of these classes, the test split keeps them: they are the anomalies.

    The other rows stay in the split and the order that they had. A range that was observed, and is not 0 to 1 by
    definition, is that of the rows that are left.

    Args:
        classes: by name. name: of the option that they are from, for errors.

    Raises:
        DataError: data without labels, an unknown class, or none left to train on.
    """
    if not classes:
        return data
    out = torch.tensor(class_numbers(data.spec, classes, name))

    def kept(split: Split) -> Tensor:
        if split.y is None:
            raise DataError(f"{name}={','.join(classes)}: the training rows of {data.spec.name} have no labels")
        rest = (~torch.isin(split.y, out)).nonzero().squeeze(1)
        if len(rest) == 0:
            raise DataError(f"{name}={','.join(classes)}: leaves no rows of {data.spec.name} to train and validate on")
        return rest

    rows = {"train": kept(data.train), "val": kept(data.val)}
    truth = {key: v[rows[part]] if (part := key.rpartition("_")[2]) in rows else v for key, v in data.truth.items()}
    train, spec = data.train.subset(rows["train"]), replace(data.spec, anomalies=(*data.spec.anomalies, *classes))
    if not spec.kind.bounded:
        low, high = train.range()
        spec = replace(spec, kind=replace(spec.kind, low=low, high=high))
    names = {**data.names}
    if "train" in names:
        names["train"] = [data.names["train"][i] for i in rows["train"].tolist()]
    return replace(data, spec=spec, train=train, val=data.val.subset(rows["val"]), truth=truth, names=names)
