"""Agreement of clusters of codes with classes, compared with an untrained network, PCA and the raw input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from autoenc.apps.codes.features import Representation, many_labels, said
from autoenc.loading import Run

SEED = 0
RESTARTS = 10  # of k-means, of which the one with the least inertia counts


def cluster(run: Run, found: Mapping[str, Representation], y: np.ndarray, y_test: np.ndarray) -> dict[str, Any]:
    """Return cluster_accuracy, nmi and ari of clusters of the test rows, and a `remark` on the untrained network.

    Each representation is clustered by k-means, fitted to up to 20,000 training rows, with as many clusters as classes.
    prior: the likeliest component of a prior that has clusters (`Prior.responsibilities`), however many it has.
    """
    some, k = many_labels(np.zeros_like(y)), len(np.unique(y_test))
    clusters = {name: k_means(rows.train[some], rows.test, k) for name, rows in found.items()}
    if (own := components(run, found["codes"].test)) is not None:
        clusters["prior"] = own
    hits = {name: {"cluster_accuracy": matched(y_test, labels)} for name, labels in clusters.items()}
    numbers = {
        name: {
            "cluster_accuracy": float(hits[name]["cluster_accuracy"].mean()),
            "nmi": float(normalized_mutual_info_score(y_test, labels)),
            "ari": float(adjusted_rand_score(y_test, labels)),
        }
        for name, labels in clusters.items()
    }
    return numbers | said(hits)


def k_means(train: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """Return the clusters (M,) of rows (M, K), by k-means fitted to others (N, K).

    Equal rows, frequent for discrete codes, are of one cluster: fewer different codes than clusters have centers at one
    place, and rounding, which depends on the place of a row in the file, would choose between them.
    """
    different, which = np.unique(test, axis=0, return_inverse=True)
    return KMeans(k, n_init=RESTARTS, random_state=SEED).fit(train).predict(different)[which.reshape(-1)]


def components(run: Run, codes: np.ndarray) -> np.ndarray | None:
    """Return the likeliest component of the prior for each code (N, K); None if the prior has no clusters."""
    prior, shape = run.model.bottleneck.prior, run.model.bottleneck.latent_shape
    if prior is None or prior.responsibilities(torch.zeros(1, *shape, device=run.device)) is None:
        return None

    def likeliest(z: Tensor) -> Tensor:
        p = prior.responsibilities(z)
        assert p is not None, "see above"
        return p.argmax(1)

    return run.over_codes(codes, likeliest).numpy()


def matched(y: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return whether the class of each row is that of its cluster (N,), whose mean is the clustering accuracy.

    Clusters and classes are matched one to one, so that the accuracy is largest (Kuhn 1955; Xie et al. 2016, eq. 10).
    """
    table = contingency_matrix(y, clusters)
    matches = np.zeros(table.shape, bool)
    matches[linear_sum_assignment(table, maximize=True)] = True
    classes, labels = (np.unique(values, return_inverse=True)[1] for values in (y, clusters))
    return matches[classes, labels]
