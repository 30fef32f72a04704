"""Projection of codes to two or three dimensions, and measures of preserved neighbourhoods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.neighbors import NearestNeighbors

from autoenc.data.dataset import DataSpec
from autoenc.data.split import Split
from autoenc.errors import UserError, counted
from autoenc.figures import scatter
from autoenc.loading import Run

Method = Literal["direct", "pca", "tsne", "umap"]
NEIGHBOURS = 10
SEED = 0


@dataclass(frozen=True)
class Projection:
    """Points (N, 2 or 3) of N codes.

    Numbers, all in [0, 1] and higher is better:
        trustworthiness: whether neighbours of points are neighbours of codes (Venna & Kaski 2001), k = 10.
        trustworthiness_input: the same for neighbours in the input, to compare codes of different models.
        neighbour_agreement: fraction of the 10 nearest points with the same label, if there are labels.
        neighbour_agreement_code: the same for the nearest codes.
    """

    points: np.ndarray
    axes: tuple[str, ...]
    numbers: dict[str, float]


def project(run: Run, split: Split, method: Method = "tsne", dim: int = 2, seed: int = SEED) -> Projection:
    """Project the codes of a split to `dim` dimensions.

    direct: the code itself, for codes of 2 (3) values. pca: principal components. tsne: van der Maaten & Hinton 2008,
    initialized by PCA. umap: McInnes et al. 2018.

    Raises:
        UserError: direct for a code of another size; umap is not installed; too few rows.
    """
    codes = run.codes(split)
    if len(codes) < 4 * NEIGHBOURS:
        raise UserError(f"{counted(len(codes), 'rows are')} too few to project; {4 * NEIGHBOURS} are needed")
    points, axes = reduce(codes, method, dim, seed)
    numbers = {"trustworthiness": float(trustworthiness(codes, points, n_neighbors=NEIGHBOURS))}
    if (features := run.spec.kind.features(split, split)) is not None:
        numbers["trustworthiness_input"] = float(trustworthiness(features[0], points, n_neighbors=NEIGHBOURS))
    if split.y is not None and not run.given_labels:
        y = split.y.cpu().numpy()
        numbers["neighbour_agreement"] = agreement(points, y)
        numbers["neighbour_agreement_code"] = agreement(codes, y)
    return Projection(points, axes, numbers)


def reduce(codes: np.ndarray, method: Method, dim: int, seed: int = SEED) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return points (N, dim) float32 and the names of the axes."""
    if method == "direct":
        if codes.shape[1] != dim:
            raise UserError(f"--method direct: the code has {codes.shape[1]} values, not {dim}; use pca or tsne")
        return codes, tuple(f"z[{i}]" for i in range(dim))
    if codes.shape[1] < dim:
        raise UserError(f"--dim {dim}: the code has only {codes.shape[1]} values")
    if method == "pca":
        pca = PCA(dim, svd_solver="full").fit(codes)
        shares = pca.explained_variance_ratio_
        return pca.transform(codes), tuple(f"component {i + 1} ({s:.0%} of the variance)" for i, s in enumerate(shares))
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError:
            raise UserError("--method umap: needs umap-learn: pip install 'umap-learn'") from None
        points = UMAP(n_components=dim, random_state=seed, n_jobs=1).fit_transform(codes)
    else:
        perplexity = min(30.0, (len(codes) - 1) / 3)
        points = TSNE(dim, perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)
    return np.asarray(points, np.float32), tuple(f"{method} {i + 1}" for i in range(dim))


def agreement(points: np.ndarray, y: np.ndarray, k: int = NEIGHBOURS) -> float:
    """Return the mean fraction of the k nearest other points that have the same label."""
    nearest = NearestNeighbors(n_neighbors=k).fit(points).kneighbors(return_distance=False)  # without the point itself
    return float((y[nearest] == y[:, None]).mean())


def figure(spec: DataSpec, split: Split, projection: Projection, title: str) -> np.ndarray:
    """Draw the points, coloured by label if there are labels."""
    return scatter(projection.points, None if split.y is None else split.y.cpu(), spec.classes, projection.axes, title)
