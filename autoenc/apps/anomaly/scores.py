"""How unusual an example is to a model: by what the model makes of it, and by where its code lies."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch, Code
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.regularizers.kl import kl_estimate, kl_per_dim

NAMES = ("error", "nll", "elbo", "mahalanobis", "knn", "local", "forest", "combined")
COMBINED = ("error", "knn", "forest")
NEIGHBOURS = 10
REFERENCE = 20_000  # training rows, at most, that neighbours and baselines are taken from
LARGEST = 200_000  # training rows, at most, that a covariance is taken from
DRAWS = 16  # of z for the bound
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
        first = run.data.train.subset(slice(0, 1))
        self._bounded = run.over(first, self._pass).shape[1] > 2 + run.latent_dim
        self.best = best(run)

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
        table = self._table(split)
        z = self._code(table)
        found = {"error": table[:, 0], "nll": table[:, 1]} | ({"elbo": table[:, -1]} if self._bounded else {})
        found["mahalanobis"] = np.sqrt(self._cloud.mahalanobis(z))
        distances, neighbours = self._training.kneighbors(z)
        found["knn"] = distances.mean(1)
        found["local"] = found["knn"] / self._spacing[neighbours].mean(1)
        found["forest"] = -self._forest.score_samples(self._trees_see(table))
        found["combined"] = np.sum([rarity(self._reference[name], found[name]) for name in COMBINED], axis=0)
        return found

    @cached_property
    def _reference(self) -> dict[str, np.ndarray]:
        """What `combined` is made of, of (at most 20,000) training rows; none is its own neighbour."""
        table = self._trained
        return {
            "error": table[:, 0],
            "knn": self._training.kneighbors()[0].mean(1),
            "forest": -self._forest.score_samples(self._trees_see(table)),
        }

    @cached_property
    def _trained(self) -> np.ndarray:
        """`_table` of (at most 20,000) training rows."""
        rows = reference_rows(len(self.run.data.train))
        return self._table(self.run.data.train.subset(torch.from_numpy(rows)))

    @cached_property
    def _forest(self) -> Any:
        from sklearn.ensemble import IsolationForest

        return IsolationForest(random_state=SEED).fit(self._trees_see(self._trained))

    def _trees_see(self, table: np.ndarray) -> np.ndarray:
        """(N, K + 1) the code and the log of the error, which spans orders of magnitude."""
        return np.column_stack([self._code(table), np.log(np.maximum(table[:, 0], np.finfo(np.float32).tiny))])

    def _table(self, split: Split) -> np.ndarray:
        """(N, 2 + K) or (N, 2 + K + 1) float64: `_pass` of every row."""
        return self.run.over(split, self._pass).double().numpy()

    def _code(self, table: np.ndarray) -> np.ndarray:
        return table[:, 2 : 2 + self.run.latent_dim]

    @cached_property
    def validation(self) -> dict[str, np.ndarray]:
        """The scores of the validation rows, which thresholds are quantiles of."""
        return self.scores(self.run.data.val)

    def threshold(self, name: str, quantile: float = 0.99) -> float:
        """Above it, a row is an anomaly: `threshold` of the validation scores."""
        self.check(name)
        return threshold(self.validation[name], quantile)

    def _pass(self, batch: Batch) -> Tensor:
        """error, nll, the code and, where there is a posterior, the bound: (B, 2 + K) or (B, 2 + K + 1)."""
        model = self.run.model
        code = model.encode(batch)
        params = model.decode(code.mean, batch).float()
        nll = model.likelihood.nll(params, batch.x)
        error = self.run.spec.kind.error(params, batch.x, model.likelihood)
        columns = [error[:, None], nll[:, None], code.mean.flatten(1).float()]
        if code.posterior is not None and model.bottleneck.prior is not None:
            columns.append(self._bound(code, batch)[:, None])
        return torch.cat(columns, 1)

    def _bound(self, code: Code, batch: Batch) -> Tensor:
        """(B,) E_q[-log p(x|z)] + KL(q || p): 16 draws for the expectation, and for the KL where it has no closed form.

        The draws are the same quantiles of every row's posterior, a sample that depends on the row alone: a Latin
        hypercube, one in each sixteenth of every dimension (McKay, Beckman & Conover 1979).
        """
        model, posterior = self.run.model, code.posterior
        assert posterior is not None
        generator, shape = torch.Generator().manual_seed(SEED), (DRAWS, *code.mean.shape[1:])
        strata = torch.rand(shape, generator=generator).argsort(0)
        u = ((strata + torch.rand(shape, generator=generator)) / DRAWS).clamp(1e-6, 1 - 1e-6).to(code.mean.device)
        draws = [posterior.icdf(quantiles.expand_as(code.mean)) for quantiles in u]
        nll = torch.stack([model.nll(z, batch) for z in draws]).mean(0)
        kl = kl_per_dim(model, code)
        if kl is None:
            return nll + torch.stack([kl_estimate(model, code, z) for z in draws]).mean(0)
        return nll + kl.flatten(1).sum(-1)

    @cached_property
    def _codes(self) -> np.ndarray:
        """(N, K) float64, of (at most 200,000) training rows."""
        train = self.run.data.train
        if len(train) > LARGEST:
            train = train.subset(torch.from_numpy(reference_rows(len(train), LARGEST)))
        return self.run.codes(train).astype(np.float64)

    @cached_property
    def _cloud(self) -> Any:
        from sklearn.covariance import LedoitWolf

        return LedoitWolf().fit(self._codes)

    @cached_property
    def _training(self) -> Any:
        from sklearn.neighbors import NearestNeighbors

        codes = self._codes[reference_rows(len(self._codes))]
        if len(codes) < 2:
            raise UserError(f"{self.run.path}: one training row has no neighbours")
        return NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(codes) - 1)).fit(codes)

    @cached_property
    def _spacing(self) -> np.ndarray:
        """knn of each training code among the others, away from 0."""
        knn = self._training.kneighbors()[0].mean(1)
        return np.maximum(knn, max(FLOOR * knn.mean(), np.finfo(np.float64).tiny))


def best(run: Run) -> str:
    """The name of the score that decides unless another is asked for; see Detector."""
    return run.spec.kind.score


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


def reference_rows(n: int, most: int = REFERENCE) -> np.ndarray:
    """At most 20,000 of n training rows, always the same ones, in order."""
    return np.sort(np.random.default_rng(SEED).permutation(n)[:most])
