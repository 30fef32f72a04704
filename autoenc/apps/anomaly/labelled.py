"""Rows that are known to be anomalies, and how well scores tell them from normal rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoenc.data.dataset import class_numbers
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.text import printable


def anomalies_of(run: Run) -> list[str]:
    """Return the names of the classes that a run was trained without, or trained as anomalies."""
    left_out = list(run.spec.anomalies) or run.config["anomaly_classes"]  # run.json of old runs does not have them
    return [*left_out, *(() if run.objective is None else run.objective.anomalies)]


def known_anomalies(run: Run, classes: Sequence[str] = ()) -> np.ndarray | None:
    """Return which test rows are of the anomaly classes (N,) bool; None if there are no such classes.

    Args:
        classes: names of the anomaly classes; default: `anomalies_of` the run.

    Raises:
        UserError: no labels, an unknown class.
    """
    known = anomalies_of(run)
    wanted = list(classes) or known
    if not wanted:
        return None
    numbers = class_numbers(run.spec, wanted, "--anomaly")
    if run.data.test.y is None:
        raise UserError(f"--anomaly {','.join(wanted)}: the test rows of {run.spec.name} have no labels")
    if trained_on := [name for name in wanted if name not in known]:
        warnings.warn(
            f"{run.path}: was trained on {', '.join(trained_on)} too; to leave them "
            f"out: python train.py ... anomaly_classes=[{','.join(wanted)}]",
            stacklevel=2,
        )
    return np.isin(run.data.test.y.cpu().numpy(), numbers)


def labels_in(run: Run, path: str | Path) -> np.ndarray | None:
    """Return which rows of a file are labelled as anomalies, (N,) bool; None without labels or if they are equal."""
    labels = run.spec.kind.anomalies(Path(path), run.config["data"])
    return None if labels is None else of_both_kinds(labels, str(path))


def of_both_kinds(labels: np.ndarray, source: str) -> np.ndarray | None:
    """Return labels of anomalies and of normal rows; None, with a remark, if all are equal."""
    known, _ = known_rows(labels, labels)
    if known.any() and not known.all():
        return labels
    what = "no row is an anomaly" if not known.any() else f"all {len(known):,} rows are anomalies"
    print(printable(f"{source}: {what}: scores without AUROC"))
    return None


def check_labels(labels: np.ndarray) -> None:
    """Raise UserError unless there are anomalies and normal rows."""
    if labels.all() or not labels.any():
        kind = "anomalies" if labels.all() else "normal"
        raise UserError(f"labels: all {len(labels):,} rows are {kind}; AUROC needs anomalies and normal rows")


def known_rows(labels: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and values of the rows whose label is not masked."""
    known = ~np.ma.getmaskarray(labels)
    return np.asarray(labels)[known], values[known]


def quality(labels: np.ndarray, values: np.ndarray) -> dict[str, float]:
    """Return AUROC, the probability that an anomaly scores higher than a normal row, and average precision.

    Masked labels are ignored.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    labels, values = known_rows(labels, values)
    return {
        "auroc": float(roc_auc_score(labels, values)),
        "average_precision": float(average_precision_score(labels, values)),
    }


def mean_numbers(numbers: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Return the mean over runs of the scores that all of them have."""
    return {
        name: {key: float(np.mean([each[name][key] for each in numbers])) for key in numbers[0][name]}
        for name in numbers[0]
        if all(name in each for each in numbers)
    }
