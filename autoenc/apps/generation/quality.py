"""Quality of samples: their distance from real data, and what part of it they cover."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from autoenc import metrics
from autoenc.apps.generation import classifier as classifiers
from autoenc.apps.generation import generate
from autoenc.apps.generation.classifier import Classifier, inputs
from autoenc.apps.generation.density import Density
from autoenc.apps.generation.neighbours import training
from autoenc.data.split import Split
from autoenc.loading import Run

COMPONENTS = 32  # principal components for the Frechet distance
COMPARED, REFERENCE = 5_000, 10_000  # samples and examples of each split, and training examples
NEIGHBOURS = 3


def size(run: Run) -> int:
    """Return the number of samples to compare: that of the smaller of validation and test split, at most 5,000.

    Test examples of classes that were left out of training do not count, here and below.
    """
    return min(len(run.data.val), len(run.normal_test()), COMPARED)


def of_density(
    run: Run, source: Density, seed: int = 0, temperature: float = 1.0, mean: bool | None = None
) -> dict[str, dict[str, float]]:
    """Return the `quality` of `size` samples of a density; see `generate.samples` for the arguments."""
    drawn = generate.samples(run, size(run), source, seed, temperature, mean)
    return quality(run, {"samples": drawn.x}, classifiers.load(run))


def quality(
    run: Run, samples: Mapping[str, np.ndarray], classifier: Classifier | None = None
) -> dict[str, dict[str, float]]:
    """Return distances of sets of samples, and of validation examples, to test examples: set -> numbers.

    All sets have the same size. The bias of the estimates is therefore the same in all rows, and models on the same
    data are comparable. Bags of words are compared as frequencies of words, which sum to 1.

    frechet_pca: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of means and covariances of the set and of test examples, in
        32 principal components of training data. Squared units of the data, lower is better.
    nearest, memorized, memorized_features: distances to the nearest training examples; see `Training.memorization`.
    sharpness, sharpness_gap: mean gradient magnitude of images (`metrics.sharpness`), and its difference from that of
        validation images, as a fraction of it.
    frechet_features, sample_precision, sample_recall: with a classifier, in its features. They are not comparable with
        the FID of the literature, whose features are those of another network.

    Args:
        samples: name -> (N, *shape), N = `size`.
    """
    from sklearn.decomposition import PCA

    n, kind = size(run), run.spec.kind
    splits = (run.data.train.sample(REFERENCE), run.data.val.sample(n), run.normal_test().sample(n))
    real_train, val, test = (split.rows() for split in splits)
    if min(n, len(real_train)) < 2:
        return {}
    sets = {name: x.reshape(len(x), -1) for name, x in samples.items()} | {"validation": val}
    train = kind.comparable(real_train)
    pca = PCA(min(COMPONENTS, *train.shape), random_state=0).fit(train)
    as_splits = {name: Split(torch.from_numpy(x)) for name, x in sets.items()}
    memorization = training(run, classifier).memorization(as_splits)
    numbers: dict[str, dict[str, float]] = {}
    for name, x in sets.items():
        projected, real = (pca.transform(kind.comparable(rows)) for rows in (x, test))
        numbers[name] = {"frechet_pca": frechet(projected, real), **memorization[name]}
        if kind.images:
            sharpness, goal = (metrics.sharpness(rows.reshape(-1, *run.spec.shape)) for rows in (x, val))
            numbers[name] |= {"sharpness": sharpness, "sharpness_gap": abs(sharpness - goal) / max(goal, 1e-12)}
        if classifier is not None:
            found, real = (classifier.features(inputs(run, rows)) for rows in (x, test))
            precision, recall = precision_recall(found, real)
            numbers[name] |= {"frechet_features": frechet(found, real)}
            numbers[name] |= {"sample_precision": precision, "sample_recall": recall}
    return numbers


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Frechet distance of Gaussians fitted to a (N, D) and b (M, D) (Dowson & Landau 1982)."""
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False, dtype=np.float64)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    means = np.square(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)).sum()
    return float(max(means + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))


def precision_recall(samples: np.ndarray, real: np.ndarray, k: int = NEIGHBOURS) -> tuple[float, float]:
    """Return precision and recall of samples (N, D) against real examples (M, D) (Kynkaanniemi et al. 2019, eq. 1).

    The manifold of a set is the union of balls around its points, each of the radius of its k-th nearest neighbour in
    the set. Precision is the fraction of the samples in the manifold of the real examples, recall the fraction of the
    real examples in that of the samples.
    """
    return _covered(samples, real, k), _covered(real, samples, k)


def _covered(points: np.ndarray, others: np.ndarray, k: int) -> float:
    """Return the fraction of points in the manifold of the others."""
    from sklearn.metrics import pairwise_distances_chunked
    from sklearn.neighbors import NearestNeighbors

    points, others = points.astype(np.float64), others.astype(np.float64)
    radii = NearestNeighbors(n_neighbors=min(k, len(others) - 1)).fit(others).kneighbors()[0][:, -1]
    chunks = pairwise_distances_chunked(points, others, working_memory=64)
    return float(np.mean(np.concatenate([(distances <= radii).any(1) for distances in chunks])))
