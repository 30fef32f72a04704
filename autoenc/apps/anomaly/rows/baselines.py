"""Scores of classical methods, to compare with: no network is trained for them."""

from __future__ import annotations

import numpy as np
from scipy.sparse import issparse

from autoenc.apps.anomaly.scores import NEIGHBOURS, SEED
from autoenc.apps.codes.neighbours import Index
from autoenc.data.split import Split
from autoenc.loading import Run


def baselines(run: Run, split: Split) -> dict[str, np.ndarray]:
    """Return scores of methods that are fitted to the reference rows (at most 20,000 training rows): name -> (N,).

    pca: mean squared error of the reconstruction from as many components as the code has values, or from those with 95%
    of the variance if the code has as many as the data; for texts lsa, of TF-IDF (Deerwester et al. 1990).
    isolation_forest: Liu, Ting & Zhou 2008. raw_knn: mean distance to the 10 nearest rows. ecod: see `ecod`, not for
    texts. Empty where `Kind.features` has nothing.
    """
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    features = run.spec.kind.features(run.reference_rows(), split)
    if features is None:
        return {}
    train, x = features
    scores = {"isolation_forest": -IsolationForest(random_state=SEED).fit(train).score_samples(x)}
    near = min(NEIGHBOURS, train.shape[0])
    if issparse(train):
        scores["raw_knn"] = NearestNeighbors(n_neighbors=near, algorithm="brute").fit(train).kneighbors(x)[0].mean(1)
        if min(train.shape) > 1:
            lsa = TruncatedSVD(min(run.latent_dim, min(train.shape) - 1), random_state=SEED).fit(train)
            left = np.asarray(x.multiply(x).sum(1)).ravel() - np.square(lsa.transform(x)).sum(1)  # of orthonormal rows
            scores["lsa"] = left / train.shape[1]
        return scores
    components = min(run.latent_dim, len(train)) if run.latent_dim < train.shape[1] else 0.95
    pca = PCA(components, random_state=SEED).fit(train)
    scores["pca"] = np.square(x - pca.inverse_transform(pca.transform(x))).mean(1)
    scores["raw_knn"] = Index(train, "euclidean").search(x, near).scores.mean(1).astype(np.float64)
    return scores | {"ecod": ecod(train, x)}


def ecod(train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the scores of rows (N, D) by empirical tail probabilities (Li et al. 2022): (N,) nats.

    For each column -log of the smaller tail, the fraction of the n training rows and the row itself that are as low or
    as high; the sum over columns, as in PyOD. The paper takes the largest of three sums: of left tails, of right tails,
    and of those on the side of the skewness.
    """
    found = np.zeros(len(x))
    for known, values in zip(train.T, x.T, strict=True):
        ordered = np.sort(known)
        low = np.searchsorted(ordered, values, side="right")
        high = len(known) - np.searchsorted(ordered, values)
        found -= np.log((1 + np.minimum(low, high)) / (len(known) + 1))
    return found
