"""A score learnt from a few labelled rows: a logistic combination of the scores of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoenc.apps.anomaly.labelled import quality
from autoenc.apps.anomaly.scores import Detector, rarity
from autoenc.data.readers.tables import Source
from autoenc.errors import DataError, UserError
from autoenc.files import read_json
from autoenc.loading import Run
from autoenc.metrics import auroc_exceeds

NAME = "feedback"  # of the score, the folder and the file
LABEL = "label"
FEWEST = 5  # anomalies and normal rows
FOLDS = 5
REPEATS = 2  # of the outer cross-validation
PENALTIES = (0.001, 0.01, 0.1, 1.0)
SEED = 0
SAME = 0.05  # nats: difference of scores that are the same up to the digits of detect.csv


@dataclass(frozen=True)
class Weights:
    """Weights of the scores, and how well they rank the labelled rows.

    Args:
        weights: name -> number, at least 0. intercept: of the log odds of an anomaly if both classes are as frequent.
        penalty: of the squared weights, chosen by cross-validation.
        anomalies, normal: numbers of labelled rows.
        auroc: score -> AUROC of the labelled rows; of `feedback` for rows that its weights were not fitted to.
        better: whether the AUROC of `feedback` exceeds that of the default score by more than its 95% interval.
    """

    weights: dict[str, float]
    intercept: float
    penalty: float
    anomalies: int
    normal: int
    auroc: dict[str, float]
    better: bool


class FeedbackDetector(Detector):
    """The scores of a run and `feedback`: log odds, the sum of weight times rarity over its scores."""

    def __init__(self, run: Run, weights: Weights):
        super().__init__(run)
        self.best, self.reason, self.weights = NAME, "learnt from labelled rows", weights

    @property
    def names(self) -> list[str]:
        return [*super().names, NAME]

    def of_table(self, table: np.ndarray) -> dict[str, np.ndarray]:
        found = super().of_table(table)
        weights = self.weights.weights
        x = features(self.training_scores, found, list(weights))
        return found | {NAME: x @ np.array(list(weights.values())) + self.weights.intercept}


def features(reference: Mapping[str, np.ndarray], scores: Mapping[str, np.ndarray], names: list[str]) -> np.ndarray:
    """Return the `rarity` of scores among those of the training rows: (N, F) nats, larger is more anomalous."""
    return np.column_stack([rarity(reference[name], scores[name]) for name in names])


def load(run: Run) -> FeedbackDetector:
    """Return the detector with the weights in RUN/feedback/feedback.json; UserError if there are none."""
    path = run.path / NAME / f"{NAME}.json"
    if not path.exists():
        raise UserError(
            f"--score {NAME}: {path} does not exist; scripts/detect.py {run.path} --feedback FILE writes it"
        )
    try:
        values = read_json(path)
        weights = Weights(**{name: values[name] for name in Weights.__dataclass_fields__})
        numbers = np.array([*weights.weights.values(), weights.intercept], np.float64)
        if not np.isfinite(numbers).all() or not set(weights.weights) <= set(Detector(run).names):
            raise ValueError("weights")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path}: damaged; delete it and write it again with --feedback FILE") from None
    return FeedbackDetector(run, weights)


def learn(detector: Detector, path: str | Path) -> Weights:
    """Fit the weights to the labelled rows of a file that `detect` wrote, with a column `label`: 1, 0 or empty.

    Raises:
        UserError: fewer than 5 anomalies or normal rows. DataError: no labels, or not scores of this run.
    """
    reference = detector.training_scores
    scores, labels = _read(detector, path)
    if min(anomalies := int(labels.sum()), normal := int((~labels).sum())) < FEWEST:
        raise UserError(
            f"--feedback {path}: has {anomalies} anomalies and {normal} normal rows; needs {FEWEST} of each or more"
        )
    names = list(reference)
    x = features(reference, scores, names)
    held_out = [_held_out(x, labels, SEED + repeat) for repeat in range(REPEATS)]
    auroc = {name: quality(labels, values)["auroc"] for name, values in scores.items()}
    auroc[NAME] = float(np.mean([quality(labels, values)["auroc"] for values in held_out]))
    better = auroc_exceeds(labels, np.mean(held_out, 0), scores[detector.best])
    penalty = _penalty(x, labels, SEED)
    *weights, intercept = fit(x, labels, penalty).tolist()
    return Weights(dict(zip(names, weights, strict=True)), intercept, penalty, anomalies, normal, auroc, better)


def _read(detector: Detector, path: str | Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the scores of the labelled rows, name -> (N,), and their labels, (N,) bool."""
    import pandas as pd

    reference = detector.training_scores
    frame = Source().read(Path(path))
    if lacking := [name for name in (*reference, LABEL) if name not in frame]:
        raise DataError(
            f"--feedback {path}: has no column {lacking[0]}; name a file that scripts/detect.py {detector.run.path} "
            f"--output NAME.csv wrote, with a column {LABEL}: 1 for anomalies, 0 for normal rows, empty if not known"
        )
    frame = frame[frame[LABEL].notna()]
    numbers = frame[[*reference, LABEL]].apply(pd.to_numeric, errors="coerce")
    if bad := [name for name in numbers if not np.isfinite(numbers[name]).all()]:
        row = numbers.index[~np.isfinite(numbers[bad[0]])][0]
        raise DataError(f"--feedback {path}: row {row}, column {bad[0]}: {frame[bad[0]][row]} is not a number")
    if len(wrong := numbers.index[~numbers[LABEL].isin((0, 1))]):
        raise DataError(f"--feedback {path}: row {wrong[0]}, column {LABEL}: must be 1, 0 or empty")
    scores = {name: numbers[name].to_numpy(np.float64) for name in reference}
    if (
        len(frame) and np.median(np.abs(detector.combine(scores) - scores["combined"])) > SAME
    ):  # combined follows from the training rows
        raise DataError(f"--feedback {path}: its scores are not those of {detector.run.path}, but of another run")
    return scores, numbers[LABEL].to_numpy() == 1


def fit(x: np.ndarray, labels: np.ndarray, penalty: float) -> np.ndarray:
    """Return weights and intercept of a logistic regression with both classes as frequent: (F,) + (1,).

    Weights are not negative: a row that is rarer by every score never has a lower score, however few the labels.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    share = _shares(labels)
    ones = np.column_stack([x, np.ones(len(x))])
    ridge = np.append(np.full(x.shape[1], penalty), 0)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = ones @ w
        loss = share @ np.logaddexp(0, np.where(labels, -logits, logits)) + 0.5 * (ridge * w * w).sum()
        return float(loss), ones.T @ (share * (expit(logits) - labels)) + ridge * w

    bounds = [(0, None)] * x.shape[1] + [(None, None)]
    return minimize(objective, np.zeros(ones.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds).x


def _shares(labels: np.ndarray) -> np.ndarray:
    """Return the weight of each row in the mean over rows, half of it for either class: (N,)."""
    return np.where(labels, 0.5 / labels.sum(), 0.5 / (~labels).sum())


def _folds(x: np.ndarray, labels: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    from sklearn.model_selection import StratifiedKFold

    count = min(FOLDS, int(labels.sum()), int((~labels).sum()))
    return list(StratifiedKFold(count, shuffle=True, random_state=seed).split(x, labels))


def _penalty(x: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Return the penalty with the lowest cross-validated loss."""

    def loss(penalty: float) -> float:
        total = 0.0
        for train, test in _folds(x, labels, seed):
            *w, b = fit(x[train], labels[train], penalty)
            logits = x[test] @ np.array(w) + b
            total += float(_shares(labels[test]) @ np.logaddexp(0, np.where(labels[test], -logits, logits)))
        return total

    return min(PENALTIES, key=loss)


def _held_out(x: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return the log odds of each row from weights and penalty that it had no part in: (N,)."""
    found = np.empty(len(x))
    for train, test in _folds(x, labels, seed):
        *w, b = fit(x[train], labels[train], _penalty(x[train], labels[train], seed))
        found[test] = x[test] @ np.array(w) + b
    return found
