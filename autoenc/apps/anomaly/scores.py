"""Anomaly scores from reconstructions and codes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.reference import bound, row_table

NAMES = ("error", "nll", "elbo", "prior", "mahalanobis", "knn", "local", "forest", "combined")
COMBINED = ("error", "knn", "forest")
REASONS = {
    "local": "the default for images: highest mean AUROC with each class of data=digits as the anomaly",
    "combined": "the default for data other than images: most consistent over three models on six tables of ADBench",
}
TRAINED = "the score that the objective trains"
NEIGHBOURS = 10
FLOOR = 1e-3  # of the mean distance between neighbours: relative to exact copies, all distances would be infinite
SEED = 0


class Detector:
    """The anomaly scores of one run, fitted to its reference rows; higher is more anomalous.

    error        mean squared error of the reconstruction from the deterministic code; for text data, nll per word
    nll          -log p(x|z) at the deterministic code, nats
    elbo         negative evidence lower bound, nats; if the code has a posterior
    prior        -log p(z) of the code, nats; if its prior is a density. For model=deep_svdd the squared distance from
                 the center
    mahalanobis  Mahalanobis distance of the code from the mean of the training codes, shrunk covariance (Ledoit &
                 Wolf 2004)
    knn          mean distance of the code to the 10 nearest training codes
    local        knn, divided by the mean knn of these 10 among the training codes: near 1 if the density at the code is
                 that at its neighbours (similar to the local outlier factor, Breunig et al. 2000)
    forest       isolation forest (Liu, Ting & Zhou 2008) on the code and the log of the error
    combined     sum of -log p over error, knn and forest, p the fraction of training rows that score as high (Fisher's
                 method of combining tests)

    The score of a row does not depend on other rows or the batch size. Training rows are their own neighbours.

    Attributes:
        prior: the density of `prior`, or None.
        best: the default score: that of an objective which trains one, else that of the kind of data. No label of the
            data at hand has a part in it. reason: how it was chosen, in words; digits are images that no published
            result is of (`benchmarks/bench_apps.py --only choice`), the splits of the tables those without any.
    """

    def __init__(self, run: Run):
        self.run = run
        self._bounded = len(run.reference.val_bound) > 0
        bottleneck, objective = run.model.bottleneck, run.objective
        self.prior = None if bottleneck.symbols or bottleneck.no_density is not None else bottleneck.prior
        trained = objective.score if objective is not None else None
        self.best = trained or run.spec.kind.score
        self.reason = TRAINED if trained else REASONS[self.best]

    @property
    def names(self) -> list[str]:
        """The scores of this run."""
        there = {"elbo": self._bounded, "prior": self.prior is not None}
        return [name for name in NAMES if there.get(name, True)]

    def check(self, name: str) -> None:
        """Raise UserError unless the run has the score."""
        if name not in self.names:
            why = {"elbo": "elbo is for codes with a posterior; ", "prior": "its code has no prior density; "}.get(
                name, ""
            )
            raise UserError(f"--score {name}: {why}{self.run.path} has {', '.join(self.names)}")

    def scores(self, split: Split) -> dict[str, np.ndarray]:
        """Return the scores of the rows of a split: name -> (N,) float64."""
        model, kind = self.run.model, self.run.spec.kind
        scores = self.of_table(self.run.over(split, lambda batch: row_table(model, kind, batch)).double().numpy())
        if self._bounded:
            scores["elbo"] = self.run.over(split, lambda batch: bound(model, batch)).double().numpy()
        return {name: scores[name] for name in self.names}

    def of_table(self, table: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores computed from error, nll and code: (N, 2 + K) -> name -> (N,)."""
        z = table[:, 2:]
        scores = {"error": table[:, 0], "nll": table[:, 1], "mahalanobis": np.sqrt(self.cloud.mahalanobis(z))}
        distances, neighbours = self.neighbours.kneighbors(z)
        scores["knn"] = distances.mean(1)
        scores["local"] = scores["knn"] / self.spacing[neighbours].mean(1)
        scores["forest"] = -self.forest.score_samples(_forest_features(table))
        if self.prior is not None:
            scores["prior"] = self.run.over_codes(z, self.prior.energy).double().numpy()
        scores["combined"] = self.combine(scores)
        return scores

    def combine(self, scores: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return `combined` of rows, given the other scores: (N,)."""
        return np.sum([rarity(self.components[name], scores[name]) for name in COMBINED], axis=0)

    @cached_property
    def training_scores(self) -> dict[str, np.ndarray]:
        """The scores of the reference rows but `elbo`, name -> (N,); no row is its own neighbour."""
        return Detector.of_table(self, self.table) | self.components

    @cached_property
    def table(self) -> np.ndarray:
        """(N, 2 + K) float64 of the reference rows."""
        return self.run.reference.train_table.astype(np.float64)

    @cached_property
    def components(self) -> dict[str, np.ndarray]:
        """The components of `combined`, and `local`, for the reference rows; no row is its own neighbour."""
        distances, neighbours = self.neighbours.kneighbors()
        return {
            "error": self.table[:, 0],
            "knn": distances.mean(1),
            "local": distances.mean(1) / self.spacing[neighbours].mean(1),
            "forest": -self.forest.score_samples(_forest_features(self.table)),
        }

    @cached_property
    def forest(self) -> Any:
        """The isolation forest."""
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=SEED).fit(_forest_features(self.table))

    @cached_property
    def validation(self) -> dict[str, np.ndarray]:
        """The scores of at most 20,000 validation rows (2,000 for elbo), whose quantiles are the thresholds."""
        reference = self.run.reference
        scores = self.of_table(reference.val_table.astype(np.float64))
        return scores | ({"elbo": reference.val_bound.astype(np.float64)} if self._bounded else {})

    def threshold(self, name: str, quantile: float = 0.99) -> float:
        """Return the threshold of a score: the quantile of the validation scores."""
        self.check(name)
        return threshold(self.validation[name], quantile)

    @cached_property
    def cloud(self) -> Any:
        """Mean and covariance of the training codes."""
        from sklearn.covariance import LedoitWolf

        return LedoitWolf().fit(self.table[:, 2:])

    @cached_property
    def neighbours(self) -> Any:
        """The search among the training codes."""
        from sklearn.neighbors import NearestNeighbors

        codes = self.table[:, 2:]
        if len(codes) < 2:
            raise UserError(f"{self.run.path}: needs two training rows or more")
        return NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(codes) - 1)).fit(codes)

    @cached_property
    def spacing(self) -> np.ndarray:
        """knn of each training code among the others, bounded away from 0."""
        knn = self.neighbours.kneighbors()[0].mean(1)
        return np.maximum(knn, max(FLOOR * knn.mean(), np.finfo(np.float64).tiny))


def rarity(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return -log of the fraction of the reference that is as large: (N,) nats.

    Beyond the largest value, log(value / largest) is added to preserve the order; where scores may be negative,
    log(1 + (value - largest) / (largest - smallest)).
    """
    ordered = np.sort(reference)
    as_large = len(ordered) - np.searchsorted(ordered, values) + 1
    tiny, smallest, largest = np.finfo(np.float64).tiny, ordered[0], ordered[-1]
    if smallest < 0:
        beyond = np.log1p(np.maximum(values - largest, 0) / max(largest - smallest, tiny))
    else:
        beyond = np.log(np.maximum(values, tiny) / max(largest, tiny))
    return -np.log(as_large / (len(ordered) + 1)) + np.maximum(beyond, 0)


def threshold(values: np.ndarray, quantile: float) -> float:
    """Return the smallest of the scores that at least a fraction `quantile` of them does not exceed."""
    require(0 < quantile < 1, "--quantile", quantile, "must lie between 0 and 1")
    return float(np.quantile(values, quantile, method="inverted_cdf"))


def _forest_features(table: np.ndarray) -> np.ndarray:
    """Return the code and the log of the error, which spans orders of magnitude: (N, K + 1)."""
    return np.column_stack([table[:, 2:], np.log(np.maximum(table[:, 0], np.finfo(np.float32).tiny))])
