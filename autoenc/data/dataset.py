"""A data set: three splits and a description."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.core import UNLABELLED
from autoenc.data.kinds.kind import Kind
from autoenc.data.split import Split
from autoenc.errors import ConfigError, DataError


@dataclass(frozen=True)
class DataSpec:
    """Description of a data set, shared by all splits and saved with a run."""

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()  # names of the labels 0, 1, ...; empty if there are none
    anomalies: tuple[str, ...] = ()  # classes excluded from training and validation

    def class_name(self, label: int) -> str:
        """Return the name of a label; an empty text where it is not known."""
        return "" if label == UNLABELLED else self.classes[label] if label < len(self.classes) else str(label)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example as the model is fed it."""
        return self.kind.shape

    @property
    def low(self) -> float:
        """Lower end of the range of the values as the model is fed them."""
        return self.kind.low

    @property
    def high(self) -> float:
        """Upper end of that range."""
        return self.kind.high


@dataclass(frozen=True)
class Data:
    """A data set: a training, a validation and a test split.

    Args:
        notes: remarks on how the files were read, a line each, printed when training starts.
        truth: ground truth of synthetic data, by name, for `scripts/evaluate.py`. Arrays with names that end in _train,
            _val or _test have one row for each row of that split.
        names: split (train, test) -> names of its examples in the user's files: file names, row numbers.
    """

    spec: DataSpec
    train: Split
    val: Split
    test: Split
    notes: tuple[str, ...] = ()
    truth: Mapping[str, Tensor] = field(default_factory=dict)
    names: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def example_names(self, split: str) -> list[str]:
        """Return the names of the examples of a split (train or test), or their numbers."""
        return [str(name) for name in self.names.get(split, range(len(getattr(self, split))))]

    def checksums(self) -> dict[str, int]:
        """Return checksums of what a run is measured on: the validation rows, the test rows, and the labels of all."""
        rows = {"validation rows": self.val.fingerprint(), "test rows": self.test.fingerprint()}
        y = [split.y.cpu().numpy() for split in (self.train, self.val, self.test) if split.y is not None]
        return rows | {"labels": zlib.crc32(np.concatenate(y).data) if y else 0}

    def mean(self) -> Tensor | None:
        """Return the mean (*shape) of the training examples (of at most 10,000), on the CPU; None for token ids."""
        return self.train.mean().cpu() if self.spec.kind.continuous else None


def class_numbers(spec: DataSpec, classes: Sequence[str], name: str) -> list[int]:
    """Return the labels of classes given by name; DataError if the data has no labels or no such class."""
    if not spec.classes:
        raise DataError(f"{name}={','.join(classes)}: {spec.name} has no labels")
    for wanted in classes:
        if wanted not in spec.classes:
            raise DataError(f"{name}={wanted}: {spec.name} has no such class; it has {', '.join(spec.classes)}")
    return [spec.classes.index(wanted) for wanted in classes]


def learnable(labels: Sequence[str] | None, excluded: Sequence[str], name: str) -> list[int] | slice:
    """Return the index of the training examples that a kind learns from: those that `without` leaves.

    Args:
        labels: class of each training example. excluded: names of classes. name: of the data set, for errors.
    """
    if not excluded or labels is None:
        return slice(None)
    kept = [i for i, label in enumerate(labels) if label not in excluded]
    if not kept:
        raise DataError(f"anomaly_classes={','.join(excluded)}: leaves no rows of {name} to train and validate on")
    return kept


def learnable_rows(train: Split, classes: Sequence[str], excluded: Sequence[str], name: str) -> Split:
    """Return the part of a training split that a kind learns from; see `learnable`."""
    if train.y is None or not excluded:
        return train
    return train.subset(torch.tensor(learnable([classes[i] for i in train.y.tolist()], excluded, name)))


def without(data: Data, classes: Sequence[str], name: str = "classes") -> Data:
    """Exclude classes from training and validation; in the test split they are the anomalies.

    The other rows keep their split and order; those without a label are left out, too. An observed range is computed
    again from the remaining rows.

    Args:
        classes: names of the classes. name: name of the option, for errors.

    Raises:
        DataError: data without labels, an unknown class, or no rows left to train on.
    """
    if not classes:
        return data
    out = torch.tensor([UNLABELLED, *class_numbers(data.spec, classes, name)])

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
        names["train"] = np.asarray(data.names["train"])[rows["train"].numpy()]
    return replace(data, spec=spec, train=train, val=data.val.subset(rows["val"]), truth=truth, names=names)


def few_labels(data: Data, count: int, seed: int) -> Data:
    """Keep the labels of `count` training rows, drawn in equal numbers from the classes; others become UNLABELLED.

    So do all of the validation split, on which settings are chosen; the test split keeps its labels.

    Raises:
        ConfigError: data without labels, or fewer or more labels than there can be.
    """
    y = data.train.y
    if y is None or not data.spec.classes:
        raise ConfigError("labels", count, f"{data.spec.name} has no labels; labels=null")
    present, known = y[y != UNLABELLED].unique(), int((y != UNLABELLED).sum())
    if not len(present) <= count <= known:
        found = f"{len(present)} classes and {known} {'' if known == len(y) else 'labelled '}rows"
        why = f"must lie in {len(present)} to {known}: {data.spec.name} has {found}"
        raise ConfigError("labels", count, why)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    rank = torch.full_like(y, len(y))  # of each row among those of its class, in the order of the draw
    for label in present:
        rows = order[(y == label)[order]]
        rank[rows] = torch.arange(len(rows))
    kept = order[rank[order].argsort(stable=True)][:count]
    few = torch.full_like(y, UNLABELLED)
    few[kept] = y[kept]
    val = data.val if data.val.y is None else replace(data.val, y=torch.full_like(data.val.y, UNLABELLED))
    return replace(data, train=replace(data.train, y=few), val=val)
