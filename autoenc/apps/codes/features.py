"""Quality of codes as features, measured by probes and compared with an untrained network, PCA and the raw input."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from autoenc.apps.codes.retrieve import Metric, metric_of
from autoenc.apps.untrained import NAME, remark, untrained
from autoenc.core import UNLABELLED
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.metrics import exceeds

MOST = 20_000  # labels of the large probe
FEW, DRAWS = 100, 5  # labels of the small probe, and number of draws
NEIGHBOURS = 5
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)  # C of the logistic regression
CHOSEN, FOLDS = 2_000, 3  # labels and folds that a penalty is chosen on
SEED = 0


@dataclass(frozen=True)
class Representation:
    """Features of the training and test rows: (N, D) float32, and how their neighbours are found."""

    train: np.ndarray
    test: np.ndarray
    metric: Metric = "cosine"


def representations(run: Run, rows: Split | None = None) -> dict[str, Representation]:
    """Return the codes, those of the untrained network, as many principal components, and the raw input.

    PCA is fitted on training rows. For texts it is replaced by latent semantic analysis, a truncated singular value
    decomposition of their TF-IDF (Deerwester et al. 1990), and there is no raw input.

    Args:
        rows: those to measure on; None: the test rows of classes known from training.
    """
    rows = run.known_test() if rows is None else rows
    networks = {"codes": run, NAME: untrained(run)}
    train = run.data.train
    codes = {n: Representation(net.codes(train), net.codes(rows), metric_of(net)) for n, net in networks.items()}
    if (features := run.spec.kind.features(train, rows)) is None:
        return codes
    components = principal_components(*features, run.latent_dim)
    size = components.train.shape[1]
    if issparse(features[0]):
        return codes | {f"LSA-{size}": components}
    return codes | {f"PCA-{size}": components, "raw": Representation(*features)}


def principal_components(train: Any, test: Any, size: int) -> Representation:
    """Return the first `size` principal components of rows (N, D) and (M, D), or as many as there are.

    Sparse rows are projected on singular vectors, without being centred.
    """
    if issparse(train):
        lsa = TruncatedSVD(min(size, *(n - 1 for n in train.shape)), random_state=SEED)
        return Representation(lsa.fit_transform(train), lsa.transform(test))
    solver = "covariance_eigh" if train.shape[1] <= 2_000 else "auto"
    pca = PCA(min(size, *train.shape), svd_solver=solver, random_state=SEED)
    return Representation(pca.fit_transform(train), pca.transform(test))


def need_labels(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return `known_labels` to measure codes by; UserError also if the codes are computed from them."""
    if run.given_labels:
        raise UserError(f"{run.path}: its codes are computed from the labels, and would predict them")
    return known_labels(run)


def known_labels(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of the training rows and of the test rows of their classes, see `RunData.known_test`;
    UserError without labels or with one class."""
    train, test = run.data.train.y, run.known_test().y
    if train is None or test is None:
        raise UserError(f"{run.path}: {run.spec.name} has no labels")
    if len(train[train != UNLABELLED].unique()) < 2:
        raise UserError(f"{run.path}: {run.spec.name} has one class only")
    return train.cpu().numpy(), test.cpu().numpy()


def probe(features: Mapping[str, Representation], y: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Return the test accuracy of classifiers on each representation, and a `remark` on the untrained network.

    logistic, 5-nn: trained on up to 20,000 labels. logistic_100, logistic_100_std: mean and standard deviation over 5
    stratified draws of 100 labels, if there are enough. All representations are trained on the same rows and divided
    by their standard deviation; the penalty of the logistic regression is chosen for each by cross-validation on the
    training labels (`chosen_penalty`), since one penalty is too weak for few numbers and too strong for many.
    """
    outcomes = {name: _outcomes(rows, y, y_test) for name, rows in features.items()}
    numbers: dict[str, Any] = {}
    for name, values in outcomes.items():
        numbers[name] = {probed: float(value.mean()) for probed, value in values.items()}
        if (few := f"logistic_{FEW}") in values:
            numbers[name][f"{few}_std"] = float(values[few].std(ddof=1))
    return numbers | said(outcomes)


def said(outcomes: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, str]:
    """Return the remark on the codes and the untrained network; nothing without the latter.

    Args:
        outcomes: representation -> number -> the values (N,) that it is the mean of, paired; higher is better.
    """
    if NAME not in outcomes:
        return {}
    ours, theirs = outcomes["codes"], outcomes[NAME]
    return {"remark": remark({name: exceeds(values, theirs[name]) for name, values in ours.items()})}


def _outcomes(rows: Representation, y: np.ndarray, y_test: np.ndarray) -> dict[str, np.ndarray]:
    """Return the hits of the large probes on each test row, and the accuracies of the small one for each draw."""
    many = many_labels(y)
    scale = np.sqrt(np.square(rows.train - rows.train.mean(0)).mean()) + 1e-12
    x, x_test = rows.train / scale, rows.test / scale
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(many))).fit(x[many], y[many])
    logistic = _logistic(x[many], y[many])
    outcomes = {"logistic": logistic.predict(x_test) == y_test, "5-nn": neighbours.predict(x_test) == y_test}
    if few := [_logistic(x[index], y[index]).score(x_test, y_test) for index in few_labels(y)]:
        outcomes[f"logistic_{FEW}"] = np.array(few)
    return outcomes


def many_labels(y: np.ndarray) -> np.ndarray:
    """Return the positions of up to 20,000 labels, drawn at random."""
    known = np.flatnonzero(y != UNLABELLED)
    return known[np.random.default_rng(SEED).permutation(len(known))[:MOST]]


def few_labels(y: np.ndarray, size: int = FEW, draws: int = DRAWS, most: float = 0.5) -> list[np.ndarray]:
    """Return positions of `size` labels, stratified by class, for each draw; [] if that is more than `most` of them."""
    known = np.flatnonzero(y != UNLABELLED)
    y = y[known]
    classes = len(np.unique(y))
    if size > min(most * len(y), len(y) - classes) or np.bincount(y)[np.unique(y)].min() < 2 or classes > size:
        return []
    splitter = StratifiedShuffleSplit(draws, train_size=size, random_state=SEED)
    return [known[index] for index, _ in splitter.split(np.zeros(len(y)), y)]


def chosen_penalty(model: Any, grid: Sequence[float], x: np.ndarray, y: np.ndarray) -> float:
    """Return the C of a classifier with the best mean accuracy over stratified folds; the smallest of equal ones.

    Chosen on 2,000 labels, stratified by class, if there are more. 1 if a class has a single one of them.
    """
    if len(grid) == 1:
        return grid[0]
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() > 1 and len(classes) <= CHOSEN <= len(y) - len(classes):
        index, _ = next(StratifiedShuffleSplit(1, train_size=CHOSEN, random_state=SEED).split(x, y))
        x, y = x[index], y[index]
    folds = min(FOLDS, int(np.unique(y, return_counts=True)[1].min()))
    if folds < 2:
        return 1.0
    splitter = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    scores = [cross_val_score(clone(model).set_params(C=c), x, y, cv=splitter).mean() for c in grid]
    return grid[int(np.argmax(scores))]


def _logistic(x: np.ndarray, y: np.ndarray) -> LogisticRegression:
    """Return a fitted logistic regression; of few rows in many dimensions it is fitted in the space of the rows.

    An L2 penalty does not see rotations, and weights orthogonal to all rows are 0 at its minimum.
    """
    basis = np.linalg.qr(x.T)[0] if x.shape[1] > len(x) else None  # (D, N), orthonormal
    rows = x if basis is None else x @ basis
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # raw pixels; the accuracy converges long before
        model = LogisticRegression(max_iter=300)
        model.set_params(C=chosen_penalty(model, PENALTIES, rows, y))
        model.fit(rows, y)
    if basis is not None:
        model.coef_, model.n_features_in_ = model.coef_ @ basis.T, x.shape[1]
    return model
