"""How unusual an example is to a model: by what the model makes of it, and by where its code lies."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.reference import bound, row_table

NAMES = ("error", "nll", "elbo", "mahalanobis", "knn", "local", "forest", "combined")
COMBINED = ("error", "knn", "forest")
NEIGHBOURS = 10
FLOOR = 1e-3  # of the mean distance between neighbours: beside exact copies, everything would be infinitely far
SEED = 0


class Detector:
    """The scores of one run; higher is more unusual. What they refer to is fitted once, on training rows.

    error        mean squared error of the reconstruction from the deterministic code; of texts, nll for each word
    nll          -log p(x|z) at the deterministic code, nats
    elbo         the negative evidence lower bound, nats; where the code has a posterior
    mahalanobis  distance of the code from the mean of the training codes, in the metric of their covariance,
                 shrunk as by Ledoit & Wolf (2004)
    knn          mean distance of the code to the 10 nearest of (at most 20,000) training codes
    local        knn, divided by the mean knn of these 10 among the training codes: near 1 where the code lies as
                 densely as its neighbours do (in the manner of the local outlier factor, Breunig et al. 2000)
    forest       how few splits set the code and the log of the error apart from those of the training rows (isolation
                 forest, Liu, Ting & Zhou 2008)
    combined     how rare error, knn and forest together are: the sum of -log p, p the part of the training rows that
                 score as high (Fisher's method of combining tests)

    The score of a row depends on that row alone, not on its neighbours in the file or the size of batches.
    Training rows, when scored, count themselves among their neighbours.

    Attributes:
        best: the score that decides unless another is asked for. `local` for images: the highest mean AUROC where one
            digit of MNIST is the anomaly, over all ten. `combined` for the rest: the steadiest over three models on the
            six ADBench tables, on splits that no figure is quoted of.
    """

    def __init__(self, run: Run):
        self.run = run
        self._bounded = len(run.reference.val_bound) > 0
        self.best = run.spec.kind.score

    @property
    def names(self) -> list[str]:
        """The scores that this run has."""
        return [name for name in NAMES if name != "elbo" or self._bounded]

    def check(self, name: str) -> None:
        """UserError unless the run has the score."""
        if name not in self.names:
            why = "elbo is for codes with a posterior; " if name == "elbo" else ""
            raise UserError(f"--score {name}: {why}{self.run.path} has {', '.join(self.names)}")

    def scores(self, split: Split) -> dict[str, np.ndarray]:
        """Each score of each row of a split: name -> (N,) float64."""
        model, kind = self.run.model, self.run.spec.kind
        found = self._scored(self.run.over(split, lambda batch: row_table(model, kind, batch)).double().numpy())
        if self._bounded:
            found["elbo"] = self.run.over(split, lambda batch: bound(model, batch)).double().numpy()
        return {name: found[name] for name in self.names}

    def _scored(self, table: np.ndarray) -> dict[str, np.ndarray]:
        """The scores that follow from error, nll and code: (N, 2 + K) -> name -> (N,)."""
        z = table[:, 2:]
        found = {"error": table[:, 0], "nll": table[:, 1], "mahalanobis": np.sqrt(self._cloud.mahalanobis(z))}
        distances, neighbours = self._training.kneighbors(z)
        found["knn"] = distances.mean(1)
        found["local"] = found["knn"] / self._spacing[neighbours].mean(1)
        found["forest"] = -self._forest.score_samples(_trees_see(table))
        found["combined"] = np.sum([rarity(self._combined[name], found[name]) for name in COMBINED], axis=0)
        return found

    @cached_property
    def _table(self) -> np.ndarray:
        """(N, 2 + K) float64 of the reference rows."""
        return self.run.reference.train_table.astype(np.float64)

    @cached_property
    def _combined(self) -> dict[str, np.ndarray]:
        """What `combined` is made of, of the reference rows; none is its own neighbour."""
        return {
            "error": self._table[:, 0],
            "knn": self._training.kneighbors()[0].mean(1),
            "forest": -self._forest.score_samples(_trees_see(self._table)),
        }

    @cached_property
    def _forest(self) -> Any:
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=SEED).fit(_trees_see(self._table))

    @cached_property
    def validation(self) -> dict[str, np.ndarray]:
        """The scores of the validation rows, which thresholds are quantiles of."""
        reference = self.run.reference
        found = self._scored(reference.val_table.astype(np.float64))
        return found | ({"elbo": reference.val_bound.astype(np.float64)} if self._bounded else {})

    def threshold(self, name: str, quantile: float = 0.99) -> float:
        """Above it, a row is an anomaly: `threshold` of the validation scores."""
        self.check(name)
        return threshold(self.validation[name], quantile)

    @cached_property
    def _cloud(self) -> Any:
        from sklearn.covariance import LedoitWolf

        return LedoitWolf().fit(self._table[:, 2:])

    @cached_property
    def _training(self) -> Any:
        from sklearn.neighbors import NearestNeighbors

        codes = self._table[:, 2:]
        if len(codes) < 2:
            raise UserError(f"{self.run.path}: one training row has no neighbours")
        return NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(codes) - 1)).fit(codes)

    @cached_property
    def _spacing(self) -> np.ndarray:
        """knn of each training code among the others, away from 0."""
        knn = self._training.kneighbors()[0].mean(1)
        return np.maximum(knn, max(FLOOR * knn.mean(), np.finfo(np.float64).tiny))


def rarity(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """-log of the part of the reference that is as large: (N,) nats. Beyond its largest value, log(value / largest)
    is added, so that the order goes on."""
    ordered = np.sort(reference)
    as_large = len(ordered) - np.searchsorted(ordered, values) + 1
    tiny = np.finfo(np.float64).tiny
    beyond = np.log(np.maximum(values, tiny) / max(ordered[-1], tiny))
    return -np.log(as_large / (len(ordered) + 1)) + np.maximum(beyond, 0)


def scores(run: Run, split: Split) -> dict[str, np.ndarray]:
    """Each score that the run has of each row of a split: name -> (N,) float64. See Detector."""
    return Detector(run).scores(split)


def threshold(values: np.ndarray, quantile: float) -> float:
    """The smallest of these scores that at least this part of them does not exceed."""
    require(0 < quantile < 1, "--quantile", quantile, "must lie between 0 and 1")
    return float(np.quantile(values, quantile, method="inverted_cdf"))


def _trees_see(table: np.ndarray) -> np.ndarray:
    """(N, K + 1) the code and the log of the error, which spans orders of magnitude."""
    return np.column_stack([table[:, 2:], np.log(np.maximum(table[:, 0], np.finfo(np.float32).tiny))])
