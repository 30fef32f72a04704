"""Disentanglement of codes, by the true factors of synthetic data: does each unit stand for one factor?

Codes are (N, K), factors (N, F) integers. Scores lie in [0, 1], and higher is better.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoenc.apps.codes.features import Representation
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.metrics import ACTIVE_VARIANCE

SEED = 0
BINS = 20  # of equal width, for the mutual information
VOTES, VOTERS = 800, 64  # of the FactorVAE score, on training and on test examples; examples for each vote
TREES, ROWS = 20, 5_000  # of the forests of DCI, and training examples
CATEGORICAL = 0  # column of the factor whose values have no order: the shape


def need_factors(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors of the training and test rows; UserError if they are not known."""
    if "factors_test" not in run.data.truth:
        raise UserError(f"{run.spec.name} has no known factors (data=shapes has them)")
    train, test = (run.data.truth[f"factors_{part}"].numpy() for part in ("train", "test"))
    return train, test


def of_factors(run: Run, codes: Mapping[str, Representation]) -> dict[str, dict[str, float]]:
    """Return `scores` of each representation; UserError without known factors.

    Units with a posterior that are not active are left out: their means vary by less than their noise.
    """
    train, test = need_factors(run)
    numbers = {}
    for name, rows in codes.items():
        least = ACTIVE_VARIANCE if name == "codes" and run.model.bottleneck.has_posterior else 0.0
        active = rows.train.var(0) > least
        numbers[name] = scores(Representation(rows.train[:, active], rows.test[:, active]), train, test)
    return numbers


def scores(codes: Representation, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return all scores on test examples; classifiers are trained on training examples. Factors that do not vary are
    left out.

    mig: mutual information gap (Chen et al. 2018), see `mig`. sap: see `sap`. factorvae_score: see `factorvae_score`.
    dci_disentanglement, dci_completeness, dci_informativeness: see `dci`.
    """
    varying = [f for f in range(train.shape[1]) if min(len(np.unique(rows[:, f])) for rows in (train, test)) > 1]
    names = ("mig", "sap", "factorvae_score", "dci_disentanglement", "dci_completeness", "dci_informativeness")
    if not varying or codes.train.shape[1] == 0:
        return dict.fromkeys(names, 0.0)
    train, test = train[:, varying], test[:, varying]
    categorical = [f == CATEGORICAL for f in varying]
    return {
        "mig": mig(codes.test, test),
        "sap": sap(codes.test, test, categorical),
        "factorvae_score": factorvae_score(codes, train, test),
        **dci(codes, train, test),
    }


def mig(codes: np.ndarray, factors: np.ndarray) -> float:
    """Return the mutual information gap (Chen et al. 2018, eq. 6): the mean over factors of the information of the most
    informative unit less that of the second, divided by the entropy of the factor. Codes are binned (Locatello et al.
    2019)."""
    from sklearn.metrics import mutual_info_score

    binned = [np.digitize(unit, np.histogram_bin_edges(unit, BINS)[1:-1]) for unit in codes.T]
    shared = np.array([[mutual_info_score(unit, factor) for factor in factors.T] for unit in binned])  # (K, F)
    entropy = np.array([mutual_info_score(factor, factor) for factor in factors.T])
    return float((_gap(shared) / entropy).mean())


def sap(codes: np.ndarray, factors: np.ndarray, categorical: list[bool]) -> float:
    """Return the separated attribute predictability (Kumar et al. 2018, sec. 3): the mean over factors of the score of
    the unit that predicts it best less that of the second.

    The score of an ordered factor is the squared correlation with the unit, that of a categorical one the balanced
    accuracy of thresholds on the unit, scaled so that chance is 0.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    score = np.zeros((codes.shape[1], factors.shape[1]))
    for f, factor in enumerate(factors.T):
        for k, unit in enumerate(codes.T[:, :, None]):
            if categorical[f]:
                tree = DecisionTreeClassifier(max_leaf_nodes=len(np.unique(factor)), class_weight="balanced")
                predicted = tree.fit(unit, factor).predict(unit)
                score[k, f] = max(0.0, balanced_accuracy_score(factor, predicted, adjusted=True))
            else:
                score[k, f] = np.corrcoef(unit[:, 0], factor)[0, 1] ** 2 if np.ptp(unit) > 0 else 0.0
    return float(_gap(score).mean())


def factorvae_score(codes: Representation, train: np.ndarray, test: np.ndarray) -> float:
    """Return the accuracy of the majority vote of Kim & Mnih 2018 (sec. 4).

    A vote: examples that share the value of one factor are drawn, and the unit that varies least among them, relative
    to its variance over all, is noted. For each unit, the factor with the most votes is its prediction.
    """
    random = np.random.default_rng(SEED)
    scale = codes.train.var(0)

    def votes(rows: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chosen = random.integers(factors.shape[1], size=VOTES)
        units = np.empty(VOTES, int)
        for i, factor in enumerate(chosen):
            same = np.flatnonzero(factors[:, factor] == factors[random.integers(len(factors)), factor])
            units[i] = (rows[random.choice(same, VOTERS)].var(0) / scale).argmin()
        return units, chosen

    units, chosen = votes(codes.train, train)
    table = np.zeros((codes.train.shape[1], train.shape[1]))
    np.add.at(table, (units, chosen), 1)
    units, chosen = votes(codes.test, test)
    return float((table.argmax(1)[units] == chosen).mean())


def dci(codes: Representation, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Return disentanglement, completeness and informativeness (Eastwood & Williams 2018, sec. 2).

    From the importance R (K, F) of units in random forests that predict each factor: a unit is disentangled if it is
    important for one factor (1 - entropy of its row, weighted by its importance), a factor completely represented if
    one unit is important for it (1 - entropy of its column). Informativeness is the accuracy of the forests.
    """
    from sklearn.ensemble import RandomForestClassifier

    some = np.random.default_rng(SEED).permutation(len(train))[:ROWS]
    columns, accuracy = [], []
    for factor, factor_test in zip(train[some].T, test.T, strict=True):
        # All units compete in each split: with a random part of them, useless units would seem important.
        forest = RandomForestClassifier(TREES, max_features=None, min_samples_leaf=4, random_state=SEED, n_jobs=-1)
        columns.append(forest.fit(codes.train[some], factor).feature_importances_)
        accuracy.append(forest.score(codes.test, factor_test))
    importance = np.stack(columns, 1)  # (K, F)
    weights = importance.sum(1) / max(importance.sum(), 1e-12)
    return {
        "dci_disentanglement": float(weights @ _concentration(importance)),
        "dci_completeness": float(_concentration(importance.T).mean()),
        "dci_informativeness": float(np.mean(accuracy)),
    }


def _gap(scores: np.ndarray) -> np.ndarray:
    """Return the largest less the second largest value of each column; the largest if there is one row."""
    ranked = np.sort(np.pad(scores, ((1, 0), (0, 0))), 0)
    return ranked[-1] - ranked[-2]


def _concentration(importance: np.ndarray) -> np.ndarray:
    """Return 1 - the entropy of each row, relative to that of equal values; 1 if there is one column."""
    p = importance / importance.sum(1, keepdims=True).clip(1e-12)
    entropy = -(p * np.log(p.clip(1e-12))).sum(1)
    concentration = 1 - entropy / np.log(p.shape[1]) if p.shape[1] > 1 else np.ones(len(p))
    return np.where(importance.sum(1) > 0, concentration, 0.0)
