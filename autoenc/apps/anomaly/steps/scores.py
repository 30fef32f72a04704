"""Anomaly scores of time steps: means over the windows that a step is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.anomaly.scores import TRAINED, Detector, threshold
from autoenc.data.split import Split
from autoenc.data.storage.windows import StepMeans, Windows
from autoenc.errors import DataError, UserError
from autoenc.loading import Run
from autoenc.reference import errors

CHUNK = 2**19  # steps of windows
OWN = ("residual", "error")
REASON = "the default for recordings: highest mean AUROC over the anomalies of data=oscillations, model=ae and vae"


@dataclass(frozen=True)
class StepScores:
    """Scores of S steps of an axis.

    Args:
        steps: (S,) their numbers on the axis. scores: name -> (S,).
        channels: (S, C) the part of each channel in `error`, with a sum of 1.
        x, x_hat: (S, C) the numbers that are drawn of the steps, and of their reconstructions.
    """

    steps: np.ndarray
    scores: dict[str, np.ndarray]
    channels: np.ndarray
    x: np.ndarray
    x_hat: np.ndarray


class StepDetector:
    """The anomaly scores of time steps; higher is more anomalous. Each is a mean over the windows of a step.

    residual  Mahalanobis distance of the errors of the channels from those of the training windows, shrunk covariance
              (Ledoit & Wolf 2004)
    error     squared error of each channel, relative to its mean over the training windows; mean over channels

    and the scores of whole windows, see `Detector`: nll, elbo, prior, mahalanobis, knn, local, forest, combined.
    """

    def __init__(self, run: Run):
        kind: Any = run.spec.kind
        self.run, self.windows, self.kind, self.window = run, Detector(run), kind, int(kind.window)

    @property
    def names(self) -> list[str]:
        """The scores of this run."""
        return [*OWN, *(name for name in self.windows.names if name != "error")]

    @property
    def best(self) -> str:
        """The default score: that of an objective which trains one, else `residual`."""
        return self.windows.best if self.windows.reason == TRAINED else OWN[0]

    @property
    def reason(self) -> str:
        """How it was chosen, in words."""
        return TRAINED if self.windows.reason == TRAINED else REASON

    def check(self, name: str) -> None:
        """Raise UserError unless the run has the score."""
        if name not in self.names:
            raise UserError(f"--score {name}: {self.run.path} has {', '.join(self.names)}")

    @cached_property
    def _training(self) -> np.ndarray:
        """Errors of the steps of training windows (n, C) float64."""
        rows = self.run.reference_rows(1)
        found = self.run.over(rows, lambda batch: self.kind.step_errors(errors(self.run.model, batch)))
        return found.transpose(1, 2).flatten(0, 1).double().numpy()

    @cached_property
    def scale(self) -> np.ndarray:
        """Mean squared error of each channel over training windows (C,)."""
        return np.maximum(np.square(self._training).mean(0), np.finfo(np.float32).tiny)

    @cached_property
    def precision(self) -> np.ndarray:
        from sklearn.covariance import LedoitWolf

        return LedoitWolf(assume_centered=True).fit(self._training).precision_

    def own(self, mean: np.ndarray, square: np.ndarray) -> dict[str, np.ndarray]:
        """Return the scores of steps with these errors of the channels and mean squares, (S, C) each."""
        return {
            "residual": np.sqrt(np.einsum("sc,cd,sd->s", mean, self.precision, mean).clip(min=0)),
            "error": (square / self.scale).mean(1),
        }

    def shares(self, square: np.ndarray) -> np.ndarray:
        """Return the part of each channel in `error`, (S, C) with sums of 1, given mean squares (S, C)."""
        parts = square / self.scale
        return parts / parts.sum(1, keepdims=True).clip(min=1e-300)

    def scores(self, split: Split) -> StepScores:
        """Return the scores of the steps of windows."""
        x, kind = split.x, self.kind
        assert isinstance(x, Windows), "windows of recordings"
        whole = self.windows.scores(split)
        names = [name for name in self.names if name not in OWN]
        table = torch.from_numpy(np.stack([whole[name] for name in names], 1))[:, :, None]  # (N, names, 1)
        channels = x.shape[1]
        means = StepMeans(int(x.places.min()), int(x.places.max()) + x.length, 4 * channels + len(names))
        for part in torch.arange(len(split)).split(max(1, CHUNK // x.length)):
            difference, values = self.run.over(split.subset(part), lambda batch: errors(self.run.model, batch)), x[part]
            error, whole_windows = kind.step_errors(difference), table[part].float().expand(-1, -1, x.length)
            drawn = kind.step_values(values), kind.step_values(values - difference)
            means.add(x.places[part], torch.cat([error, error.square(), *drawn, whole_windows], 1))
        steps, found = (each.numpy() for each in means.means())
        mean, square, x_drawn, x_hat, of_windows = np.split(found, channels * np.arange(1, 5), axis=1)
        mean, square = mean.astype(np.float64), square.astype(np.float64)
        scores = self.own(mean, square) | dict(zip(names, of_windows.T.astype(np.float64), strict=True))
        return StepScores(steps, scores, self.shares(square), x_drawn, x_hat)

    @cached_property
    def validation(self) -> dict[str, np.ndarray]:
        """The scores of steps of validation recordings, whose quantiles are the thresholds.

        Those of whole windows are means over the windows of a step, too; without `elbo` if it is known of some windows
        only.
        """
        reference = self.run.reference
        if not reference.val_steps.size:
            raise DataError(
                f"{self.run.path}: reference.npz has no errors of time steps; delete it, and it is written again"
            )
        channels = reference.val_steps.shape[1] // 2
        values = reference.val_steps.astype(np.float64)
        found = self.own(values[:, :channels], values[:, channels:])
        places, length = torch.from_numpy(reference.val_places), self.window
        for name, each in self.windows.validation.items():
            if name not in found and len(each) == len(places):
                found[name] = spread(places, each, length)
        return found

    @cached_property
    def validation_last(self) -> dict[str, np.ndarray]:
        """`residual` and `error` of the last step of validation windows (M,): all that is known when it is read."""
        last = self.run.reference.val_last.astype(np.float64)
        return self.own(last, np.square(last))

    def threshold(self, name: str, quantile: float) -> float:
        """Return the quantile of the scores of the validation steps."""
        self.check(name)
        if name not in self.validation:
            raise UserError(f"--score {name}: is stored of some validation windows only")
        return threshold(self.validation[name], quantile)


def spread(places: Tensor, values: np.ndarray, length: int) -> np.ndarray:
    """Return scores of windows (N,) at these places as scores of their steps (S,)."""
    wide = torch.from_numpy(values).float()[:, None, None].expand(-1, 1, length)
    return StepMeans.of(places, wide)[1][:, 0].double().numpy()
