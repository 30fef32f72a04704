"""The training examples nearest to generated ones, and how many of these are nearer than training examples are to each
other: memorization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch

from autoenc.apps.generation.classifier import Classifier, inputs
from autoenc.data.split import Split, drawn
from autoenc.errors import UserError
from autoenc.loading import Run

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

SEARCHED = 100_000  # training rows at most
VALUES = 2**28  # of these rows together
COMPARED = 1_000  # examples of each set, and training rows whose neighbours give the scale
INPUT, FEATURES = "nearest", "nearest in features"  # names of the two nearest training examples in figures


@dataclass(frozen=True)
class Nearest:
    """The nearest training examples: their positions in `Training.rows` (N,), and the distances (N,)."""

    index: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True)
class Training:
    """The training rows to search, at most 100,000, and their numbers (R,) in the training split."""

    run: Run
    rows: Split
    numbers: np.ndarray
    classifier: Classifier | None = None

    @cached_property
    def _features(self) -> np.ndarray:
        assert self.classifier is not None
        return self.classifier.features(inputs(self.run, self.rows.rows()))

    def nearest(self, queries: Split, features: bool = False, among_others: np.ndarray | None = None) -> Nearest:
        """Find the nearest training row of each query by the Euclidean distance.

        Distances are between examples as they are compared (`Kind.comparable`: pixels, columns, relative frequencies
        of words), for texts between TF-IDF rows of length 1.

        Args:
            features: compare features of the classifier.
            among_others: the queries are the training rows at these places, and none is its own neighbour.
        """
        from sklearn.neighbors import NearestNeighbors

        kind = self.run.spec.kind
        one: Any
        two: Any
        if features:
            assert self.classifier is not None
            one, two = self._features, self.classifier.features(inputs(self.run, queries.rows()))
        elif kind.continuous:
            one, two = (kind.comparable(split.rows()) for split in (self.rows, queries))
        else:
            one, two = kind.lexical(self.rows, queries) or _no_distance(self.run)
        search = NearestNeighbors(n_neighbors=1 if among_others is None else 2, algorithm="brute").fit(one)
        index = search.kneighbors(two, return_distance=False)
        if among_others is not None:  # duplicates may come before the row itself
            index = np.where(index[:, :1] == among_others[:, None], index[:, 1:], index[:, :1])
        return Nearest(index[:, 0], _lengths(two - one[index[:, 0]]))

    @cached_property
    def scale(self) -> float:
        """The median distance of 1,000 training rows to the nearest other one."""
        return self._scale(False)

    @cached_property
    def scale_of_features(self) -> float:
        """The same in the features of the classifier."""
        return self._scale(True)

    def _scale(self, features: bool) -> float:
        places = drawn(len(self.rows), COMPARED)
        found = self.nearest(self.rows.subset(places), features, among_others=places.numpy())
        return float(np.median(found.distance))

    def memorization(self, sets: Mapping[str, Split]) -> dict[str, dict[str, float]]:
        """Compare the first 1,000 examples of each set with training rows: set -> numbers.

        nearest: mean distance to the nearest training row, relative to that of the set `validation`.
        memorized: fraction of the examples whose distance to the nearest training row is at most the median distance
        of training rows to the nearest other one. New draws from the distribution of the data have about 0.5; copies of
        training rows have 1. Means of p(x|z) are smoother than data and nearer to everything: compare with
        reconstructions of validation rows, which are as smooth.
        memorized_features: the same in the features of the classifier, if there is one.

        A number is left out where its unit is 0: every validation row, or half of the training rows, is in the training
        set once more.
        """
        some = {name: split.subset(slice(0, COMPARED)) for name, split in sets.items()}
        near = {name: self.nearest(split).distance for name, split in some.items()}
        unit = float(near["validation"].mean())
        numbers: dict[str, dict[str, float]] = {name: {} for name in near}
        for name, distance in near.items():
            if unit > 0:
                numbers[name]["nearest"] = float(distance.mean()) / unit
            if self.scale > 0:
                numbers[name]["memorized"] = float((distance <= self.scale).mean())
            if self.classifier is not None and self.scale_of_features > 0:
                found = self.nearest(some[name], features=True).distance <= self.scale_of_features
                numbers[name]["memorized_features"] = float(found.mean())
        return numbers


def training(run: Run, classifier: Classifier | None = None) -> Training:
    """Return the training rows to search: drawn from the training split, or the rows that the run has stored."""
    most = min(SEARCHED, max(COMPARED, VALUES // math.prod(run.spec.shape)))
    try:
        train = run.data.train
    except UserError:
        rows, stored = run.reference_rows(), run.reference
        numbers = stored.index if len(rows) == len(stored) else stored.index[stored.row_index]
        order = np.argsort(numbers)  # of rows that are equal, the first is the nearest, wherever they are read from
        return Training(run, rows.subset(torch.from_numpy(order)), numbers[order], classifier)
    index = drawn(len(train), most).sort().values
    return Training(run, train.subset(index), index.numpy(), classifier)


def beside(found: Training, samples: Split) -> tuple[dict[str, torch.Tensor], dict[str, Nearest]]:
    """Return samples and the training rows nearest to them, as `Kind.show` takes them, and where these rows are."""
    near = {INPUT: found.nearest(samples)}
    if found.classifier is not None:
        near[FEATURES] = found.nearest(samples, features=True)
    of = {name: found.rows.subset(torch.from_numpy(each.index)).take(slice(None)).x for name, each in near.items()}
    shown = {"sample": samples.take(slice(None)).x, **of}
    width = max(x.shape[-1] for x in shown.values())  # texts are padded to the longest
    return {name: torch.nn.functional.pad(x, (0, width - x.shape[-1])) for name, x in shown.items()}, near


def _no_distance(run: Run) -> NoReturn:
    raise UserError(f"{run.path}: the ids of {run.spec.name} stand for no words, by which examples could be compared")


def _lengths(rows: np.ndarray | csr_matrix) -> np.ndarray:
    """Return the Euclidean lengths (N,) of dense or sparse rows."""
    from scipy.sparse import issparse
    from scipy.sparse.linalg import norm

    return np.asarray(norm(rows, axis=1) if issparse(rows) else np.linalg.norm(rows, axis=1))
