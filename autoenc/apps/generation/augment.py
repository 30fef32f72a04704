"""Augmentation: a few labelled examples become many, by way of their codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from autoenc.apps.generation.density import Mixture, check_smooth, some
from autoenc.errors import UserError, require
from autoenc.figures import picture_grid
from autoenc.files import atomic
from autoenc.loading import Run
from autoenc.training.tracking import track

METHODS = ("smote", "gaussian")
NEIGHBOURS = 5
SEEDS = 5  # draws of the labelled examples that a comparison is over
TESTED = 5_000  # test examples at most: a kernel machine reads every pair


@dataclass(frozen=True)
class Augmented:
    """x (N, *shape) in data space, y (N,) labels, generated (N,): False for the real examples, which come first."""

    x: np.ndarray
    y: np.ndarray
    generated: np.ndarray


def augment(run: Run, labels: int = 100, per_class: int = 100, method: str = "smote", seed: int = 0) -> Augmented:
    """`labels` labelled training examples, as many of each class as there are, and `per_class` new ones of each class.

    The encoder has seen all training examples, without their labels: this is semi-supervised.

        smote     a code z = z_i + u (z_j - z_i) between that of an example and one of its 5 nearest of the same class,
                  u uniform (Chawla et al. 2002); decoded, with what the code of x_i lost put back:
                  x = decode(z) + x_i - decode(z_i)
        gaussian  a code from a Gaussian with the class's mean and its covariance as Ledoit & Wolf (2004) shrink it

    smote is the default because classifiers on its sets were better, on digits and on MNIST.

    Raises:
        UserError: data without labels, fewer than two labels for each class, more than there are; gaussian on TopK.
    """
    require(method in METHODS, "--method", method, f"must be one of {', '.join(METHODS)}")
    random = np.random.default_rng(seed)
    chosen = run.data.train.subset(torch.from_numpy(_stratified(run, labels, random)))
    real = chosen.take(slice(None))
    assert real.y is not None
    x, y = real.x.cpu().numpy(), real.y.cpu().numpy()
    codes = run.codes(chosen)
    lost = x - run.decode(codes)
    if method == "gaussian":
        check_smooth(run)
    made = []
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        if method == "smote":
            parents, z = _between(codes[rows], per_class, random)
            made.append(run.decode(z) + lost[rows[parents]])
        else:
            made.append(run.decode(_class_gaussian(run, codes[rows]).sample(per_class, int(random.integers(2**32)))))
    new = np.concatenate(made)
    new = run.spec.kind.clip(new)
    generated = np.arange(len(x) + len(new)) >= len(x)
    return Augmented(np.concatenate([x, new]), np.concatenate([y, np.repeat(np.unique(y), per_class)]), generated)


def compare(
    run: Run, labels: int = 100, per_class: int = 100, method: str = "smote", seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Test accuracy of classifiers of raw data, trained on real and on real and generated examples.

    classifier -> {real, augmented} -> one number for each of 5 draws of the labelled examples, seeds `seed` and on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    test = some(run.data.test, TESTED).take(slice(None))
    assert test.y is not None
    x_test, y_test = test.x.flatten(1).cpu().numpy(), test.y.cpu().numpy()
    scale = [] if run.spec.kind.one_unit else [StandardScaler()]
    models = {"logistic regression": LogisticRegression(max_iter=300), "RBF SVM": SVC()}
    found: dict[str, dict[str, list[float]]] = {name: {"real": [], "augmented": []} for name in models}
    for s in track(range(seed, seed + SEEDS), "classifiers"):
        made = augment(run, labels, per_class, method, s)
        x, real = made.x.reshape(len(made.x), -1), ~made.generated
        for name, model in models.items():
            for kind, rows in (("real", real), ("augmented", np.ones_like(real))):
                fitted = make_pipeline(*scale, model).fit(x[rows], made.y[rows])
                found[name][kind].append(float(fitted.score(x_test, y_test)))
    return found


def save(run: Run, made: Augmented, path: Path) -> None:
    """x, y, generated and classes as a `.npz` that `data=arrays data.path=...` trains on; x_test and y_test are the
    run's own test split, so that what is trained on it is judged by real examples."""
    test = run.data.test.take(slice(None))
    arrays: dict[str, Any] = {
        "x": made.x,
        "y": made.y,
        "generated": made.generated,
        "classes": np.array(run.spec.classes, dtype=str),
        "x_test": test.x.cpu().numpy(),
    }
    if test.y is not None:
        arrays["y_test"] = test.y.cpu().numpy()
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def picture(run: Run, made: Augmented, columns: int = 6) -> np.ndarray | None:
    """A row for each class, up to 12: real examples on the left, generated ones on the right; None for vectors."""
    if not run.spec.kind.images:
        return None
    tiles, labels = [], []
    for label in np.unique(made.y)[:12]:
        for kind in (False, True):
            rows = np.flatnonzero((made.y == label) & (made.generated == kind))
            tiles.append(made.x[np.resize(rows, columns)])
        labels.append(run.spec.classes[label] if label < len(run.spec.classes) else str(label))
    return picture_grid(torch.from_numpy(np.concatenate(tiles)), 2 * columns, run.spec.low, run.spec.high, labels)


def _stratified(run: Run, labels: int, random: np.random.Generator) -> np.ndarray:
    """Places of `labels` training examples, as evenly over the classes as they allow."""
    split = run.data.train
    if split.y is None:
        raise UserError(f"--augment: {run.spec.name} has no labels, and examples are generated class by class")
    y = split.y.cpu().numpy()
    classes = np.unique(y)
    least = 2 * len(classes)
    require(labels >= least, "--labels", labels, f"must be {least} or more: two for each of {len(classes)} classes")
    require(labels <= len(y), "--labels", labels, f"must be at most {len(y)}, the labelled training examples")
    shuffled = random.permutation(len(y))
    turn = np.empty(len(y), int)  # the how-manieth of its class an example is, in the shuffled order
    for label in classes:
        rows = shuffled[y[shuffled] == label]
        if len(rows) < 2:
            raise UserError(f"--augment: class {label} of {run.spec.name} has {len(rows)} training example; needs 2")
        turn[rows] = np.arange(len(rows))
    return np.sort(shuffled[np.argsort(turn[shuffled], kind="stable")][:labels])


def _between(codes: np.ndarray, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """SMOTE among codes (N, K): the parents (n,) and the new codes (n, K)."""
    from sklearn.neighbors import NearestNeighbors

    count = min(NEIGHBOURS, len(codes) - 1)
    near = NearestNeighbors(n_neighbors=count).fit(codes).kneighbors(return_distance=False)  # not itself
    parents = random.integers(len(codes), size=n)
    others = near[parents, random.integers(count, size=n)]
    share = random.random((n, 1))
    return parents, (codes[parents] + share * (codes[others] - codes[parents])).astype(np.float32)


def _class_gaussian(run: Run, codes: np.ndarray) -> Mixture:
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(codes.astype(np.float64))
    covariance = fitted.covariance_ + 1e-12 * np.eye(codes.shape[1])
    return Mixture(np.ones(1), fitted.location_[None], np.linalg.cholesky(covariance)[None])
