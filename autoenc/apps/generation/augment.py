"""Augmentation of a few labelled examples with examples generated from their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from autoenc.apps.generation import density as densities
from autoenc.apps.generation.density import Mixture, check_smooth
from autoenc.apps.seeing.restyle import by_class
from autoenc.core import UNLABELLED
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.figures import picture_grid, titled
from autoenc.files import atomic
from autoenc.loading import Run
from autoenc.screen import track

METHODS = ("smote", "gaussian")
CONDITIONAL = ("class", "style")  # methods of conditional models
NEIGHBOURS = 5
SEEDS = 5  # draws of the labelled examples in a comparison
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # C of the classifiers
FOLDS = 3  # of the cross-validation that chooses C
TESTED = 5_000  # test examples at most: a kernel machine evaluates every pair


@dataclass(frozen=True)
class Augmented:
    """x (N, *shape) in data space, labels y (N,), generated (N,): False for the real examples, which come first."""

    x: np.ndarray
    y: np.ndarray
    generated: np.ndarray


def augment(run: Run, labels: int = 100, per_class: int = 100, method: str = "smote", seed: int = 0) -> Augmented:
    """Return `labels` training examples, balanced over classes, and `per_class` generated ones of each class.

    The encoder was trained on all training examples without labels: this is semi-supervised.

        smote     z = z_i + u (z_j - z_i) for an example i, one of its 5 nearest neighbours j of the same class, and u
                  uniform (Chawla et al. 2002); x = decode(z) + x_i - decode(z_i) restores the residual of x_i
        gaussian  z from a Gaussian with the mean and the shrunk covariance (Ledoit & Wolf 2004) of the class

        class     of a conditional model: z from its prior, decoded with the class
        style     of a conditional model: the codes of the labelled examples, of any class, decoded with the class, see
                  `restyle.by_class`

    smote is the default: classifiers trained on its sets were more accurate on digits and MNIST.

    Raises:
        UserError: data without labels, fewer than two labels for each class, too few examples; gaussian on TopK; class
            or style of a model that is not conditional.
    """
    check_method(run, method)
    return _augmented(run, _labelled(run, labels, seed), per_class, method, seed)


@dataclass(frozen=True)
class _Labelled:
    """Real examples x (N, *shape) with labels, their codes (N, K), and the residual x - decode(codes)."""

    x: np.ndarray
    y: np.ndarray
    codes: np.ndarray
    residual: np.ndarray

    def subset(self, index: np.ndarray) -> _Labelled:
        return _Labelled(self.x[index], self.y[index], self.codes[index], self.residual[index])


def check_method(run: Run, method: str) -> None:
    """Raise UserError for a method that there is not, or not for the model."""
    require(method in METHODS + CONDITIONAL, "--method", method, f"must be one of {', '.join(METHODS + CONDITIONAL)}")
    if method in CONDITIONAL and not run.conditional:
        raise UserError(f"--method {method}: {run.path} is not conditional; model=cvae and model=m2 are")
    if method == "gaussian":
        check_smooth(run, "--method smote")


def _labelled(run: Run, labels: int, seed: int) -> _Labelled:
    chosen = run.data.train.subset(torch.from_numpy(_stratified(run, labels, np.random.default_rng(seed))))
    real = chosen.take(slice(None))
    assert real.y is not None
    x, codes = real.x.cpu().numpy(), run.codes(chosen)
    return _Labelled(x, real.y.cpu().numpy(), codes, x - run.decode(codes, _given(run, real.y)))


def _augmented(run: Run, real: _Labelled, per_class: int, method: str, seed: int) -> Augmented:
    random, classes = np.random.default_rng((seed, 1)), np.unique(real.y)
    decoded = []
    styles = by_class(run, Split(torch.from_numpy(real.x), torch.from_numpy(real.y))).x if method == "style" else None
    for label in classes:
        rows = np.flatnonzero(real.y == label)
        if method == "smote":
            parents, z = _between(real.codes[rows], per_class, random)
            decoded.append(run.decode(z, _given(run, label, len(z))) + real.residual[rows[parents]])
        elif styles is not None:
            decoded.append(styles[np.resize(random.permutation(len(styles)), per_class), 1 + label])
        else:
            density = densities.of(run) if method == "class" else _class_gaussian(run, real.codes[rows])
            z = density.sample(per_class, int(random.integers(2**32)))
            decoded.append(run.decode(z, _given(run, label, len(z))))
    new = run.spec.kind.clip(np.concatenate(decoded))
    generated = np.arange(len(real.x) + len(new)) >= len(real.x)
    y = np.concatenate([real.y, np.repeat(classes, per_class)])
    return Augmented(np.concatenate([real.x, new]), y, generated)


def _given(run: Run, label: Any, n: int | None = None) -> Any:
    """Return labels, or one label n times, for a conditional model; None for others."""
    return None if not run.conditional else label if n is None else np.full(n, label)


def labels_of_model(run: Run) -> int:
    """Return the number of labels that the model was trained with."""
    return 0 if not run.conditional or run.data.train.y is None else int((run.data.train.y != UNLABELLED).sum())


def compare(
    run: Run, labels: int = 100, per_class: int = 100, methods: Sequence[str] = ("smote",), seed: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Return the test accuracy of classifiers of raw data, trained without and with generated examples.

    classifier -> {real, *methods} -> a value for each of 5 draws of the labelled examples, with seeds from `seed`. The
    penalty C is chosen for each of these by cross-validation on the labelled examples; in each fold, examples are
    generated from those that are trained on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    test = run.known_test().sample(TESTED).take(slice(None))
    assert test.y is not None
    x_test, y_test = test.x.flatten(1).cpu().numpy(), test.y.cpu().numpy()
    scale = [] if run.spec.kind.one_unit else [StandardScaler()]
    models = {"logistic regression": LogisticRegression(max_iter=300), "RBF SVM": SVC()}
    arms = ("real", *methods)
    accuracy: dict[str, dict[str, list[float]]] = {name: {arm: [] for arm in arms} for name in models}

    def score(name: str, c: float, trained: tuple[np.ndarray, np.ndarray], x: np.ndarray, y: np.ndarray) -> float:
        model = make_pipeline(*scale, clone(models[name]).set_params(C=c))
        return float(model.fit(*trained).score(x, y))

    for s in track(range(seed * SEEDS, (seed + 1) * SEEDS), "classifiers"):
        real = _labelled(run, labels, s)
        count = min(FOLDS, int(np.bincount(real.y)[np.unique(real.y)].min()) // 2)  # two of each class to generate from
        folds = [] if count < 2 else list(StratifiedKFold(count, shuffle=True, random_state=s).split(real.y, real.y))
        sets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {arm: [] for arm in arms}
        for index in [*(train for train, _ in folds), np.arange(len(real.y))]:
            some = real.subset(index)
            sets["real"].append((some.x.reshape(len(index), -1), some.y))
            for method in methods:
                part = _augmented(run, some, per_class, method, s)
                sets[method].append((part.x.reshape(len(part.x), -1), part.y))
        held = [(real.x[rows].reshape(len(rows), -1), real.y[rows]) for _, rows in folds]
        for name in models:
            for kind, (*parts, whole) in sets.items():
                means = [
                    sum(score(name, c, trained, *rest) for trained, rest in zip(parts, held, strict=True))
                    for c in PENALTIES
                ]
                c = PENALTIES[int(np.argmax(means))] if folds else 1.0
                accuracy[name][kind].append(score(name, c, whole, x_test, y_test))
    return accuracy


def save(run: Run, examples: Augmented, path: Path) -> None:
    """Write a .npz for `data=arrays data.path=...`, with the real test examples of the run."""
    test = run.data.test.take(slice(None))
    arrays: dict[str, Any] = {
        "x": examples.x,
        "y": examples.y,
        "generated": examples.generated,
        "classes": np.array(run.spec.classes, dtype=str),
        "x_test": test.x.cpu().numpy(),
    }
    if test.y is not None:
        arrays["y_test"] = test.y.cpu().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as file:
        np.savez_compressed(file, **arrays)


def figure(run: Run, examples: Augmented, columns: int = 6) -> np.ndarray | None:
    """Draw a row for each of up to 12 classes, real examples left and generated ones right; None for vectors."""
    if not run.spec.kind.images:
        return None
    tiles, labels = [], []
    for label in np.unique(examples.y)[:12]:
        for kind in (False, True):
            rows = np.flatnonzero((examples.y == label) & (examples.generated == kind))
            tiles.append(examples.x[np.resize(rows, columns)])
        labels.append(run.spec.classes[label] if label < len(run.spec.classes) else str(label))
    low, high = run.spec.low, run.spec.high
    grid = picture_grid(torch.from_numpy(np.concatenate(tiles)), 2 * columns, low, high, [name[:24] for name in labels])
    shown = f"{len(labels)} of {len(np.unique(examples.y))} classes"
    return titled(grid, f"{shown}: left {columns} training examples, right {columns} generated ones")


def _stratified(run: Run, labels: int, random: np.random.Generator) -> np.ndarray:
    """Return positions of `labels` training examples, balanced over the classes."""
    split = run.data.train
    if split.y is None:
        raise UserError(f"--augment: {run.spec.name} has no labels, and examples are generated class by class")
    y = split.y.cpu().numpy()
    classes = np.unique(y[y != UNLABELLED])
    least = 2 * len(classes)
    require(labels >= least, "--labels", labels, f"must be {least} or more: two for each of {len(classes)} classes")
    known = int((y != UNLABELLED).sum())
    require(labels <= known, "--labels", labels, f"must be at most {known}, the labelled training examples")
    shuffled = random.permutation(len(y))
    rank = np.full(len(y), len(y))  # rank within its class, in the shuffled order
    for label in classes:
        rows = shuffled[y[shuffled] == label]
        if len(rows) < 2:
            raise UserError(f"--augment: class {label} of {run.spec.name} has {len(rows)} training example; needs 2")
        rank[rows] = np.arange(len(rows))
    return np.sort(shuffled[np.argsort(rank[shuffled], kind="stable")][:labels])


def _between(codes: np.ndarray, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the parents (n,) and the new codes (n, K) of SMOTE among codes (N, K)."""
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
