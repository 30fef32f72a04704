"""Generation: new examples from codes that no example has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from autoenc.apps.generation import density as densities
from autoenc.apps.generation.density import Density, some, training_codes
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run

COLUMNS = 11  # of a traversal: odd, so that the middle one is the reconstruction
REACH = 3.0  # standard deviations to each side
ROWS = 10  # dimensions of the code that a traversal shows
SIDE = 20  # of a sheet
COMPONENTS = 32  # principal components that the Frechet distance is of
JUDGED, REFERENCE = 2_000, 10_000  # examples of each split, and training examples, that quality reads at most


@dataclass(frozen=True)
class Decoded:
    """Codes (..., K) and the means of p(x|z) for them (..., *shape), in data space; labels of the rows of a grid."""

    z: np.ndarray
    x: np.ndarray
    labels: list[str] = field(default_factory=list)


def samples(run: Run, n: int, density: str | Density | None = None, seed: int = 0, temperature: float = 1.0) -> Decoded:
    """n new examples: z (n, K), x (n, *shape).

    Args:
        density: prior, gaussian, mixture, or one that `density.of` made. Default: the prior, a mixture of 10 Gaussians
            fitted to the training codes where the bottleneck has none.
        temperature: what the standard deviations of the density are multiplied by.

    Raises:
        UserError: the model does not allow the density; the line names one that it does.
    """
    require(0 <= temperature < np.inf, "--temperature", temperature, "must be 0 or more")
    if density is None or isinstance(density, str):
        density = densities.of(run, density)
    return _decoded(run, density.sample(n, seed, temperature))


def interpolate(run: Run, a: np.ndarray, b: np.ndarray, steps: int = 11) -> Decoded:
    """From one example (*shape), as it is fed, to another on a line between codes: z (steps, K), x (steps, *shape).

    The ends are the reconstructions of a and b.
    """
    require(steps >= 2, "--steps", steps, "must be 2 or more")
    ends = run.codes(Split(torch.from_numpy(np.stack([a, b]))))
    return _decoded(run, np.linspace(ends[0], ends[1], steps))


def traverse(run: Run, index: int = 0) -> Decoded:
    """The code of a test example, one dimension of it at a time moved by -3 to 3 standard deviations of training codes.

    The up to 10 dimensions with the largest variance: z (R, 11, K), x (R, 11, *shape). The middle column is the
    reconstruction. Codes stay in the range that the bottleneck allows (ReLU: not below 0).
    """
    std = training_codes(run).std(0)
    order = std.argsort()[::-1][:ROWS]
    center = run.codes(Split(torch.from_numpy(example(run, index))[None]))[0]
    moves = np.linspace(-REACH, REACH, COLUMNS)
    z = np.tile(center, (len(order), COLUMNS, 1))
    for row, unit in enumerate(order):
        z[row, :, unit] += moves * std[unit]
    return _decoded(run, z, [f"z[{unit}] sd {std[unit]:.2g}" for unit in order])


def sheet(run: Run, side: int = SIDE) -> Decoded:
    """What a 2-dimensional code stands for everywhere: z (side, side, 2), x (side, side, *shape).

    The grid is of the quantiles (i + 0.5) / side: of the prior where they are known, else of each unit's training
    codes. z[0] grows to the right, z[1] upwards.

    Raises:
        UserError: the code has another number of dimensions.
    """
    if run.latent_dim != 2:
        raise UserError(
            f"--sheet: is for codes of two numbers, model.latent_dim=2; {run.path} has {run.latent_dim}; "
            "--traverse moves one at a time"
        )
    levels = (torch.arange(side) + 0.5) / side
    prior = run.model.bottleneck.prior
    quantiles = None if prior is None else prior.quantiles(levels.to(run.device))
    if quantiles is not None:
        first, second = quantiles.flatten(1).T.cpu().numpy()
    else:
        first, second = np.quantile(training_codes(run), levels.numpy(), axis=0).T
    return _decoded(run, np.stack(np.meshgrid(first, second[::-1]), -1))


def example(run: Run, index: int) -> np.ndarray:
    """Return the example (*shape) of `Run.examples` with a number.

    Raises:
        UserError: there is none.
    """
    size = len(run.examples)
    if not 0 <= index < size:
        raise UserError(f"{index}: {run.spec.name} has the examples 0 to {size - 1}")
    return run.examples.take(slice(index, index + 1)).x[0].cpu().numpy()


def quality(run: Run, density: Density, seed: int = 0, temperature: float = 1.0) -> dict[str, dict[str, float]]:
    """How near samples are to real data, beside what validation examples get: {samples, validation} -> numbers.

    All sets have the same size n, that of the smaller of validation and test split, at most 2,000: so the bias of the
    estimates is the same in both rows, and the numbers of two models on the same data can be compared. Bags of words
    are taken as shares of the words, which is what a model says of them: each example sums up to 1.

    frechet_pca: |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)) of means and covariances of the first 32 principal components
        (of training data) of the set and of test examples. Squared units of the data. Not FID: no classifier is asked.
    nearest: mean distance to the nearest training example, as a ratio to that of validation examples. Near 0: training
        data is repeated; below 1 is usual, since means of p(x|z) are smoother than data.
    """
    from sklearn.decomposition import PCA
    from sklearn.neighbors import NearestNeighbors

    data = run.data
    n = min(len(data.val), len(data.test), JUDGED)
    splits = (some(data.train, REFERENCE), some(data.val, n), some(data.test, n))
    made = samples(run, n, density, seed, temperature).x.reshape(n, -1)
    train, val, test, made = (run.spec.kind.comparable(x) for x in (*(split.rows() for split in splits), made))
    if min(n, len(train)) < 2:
        return {}
    sets = {"samples": made, "validation": val}
    pca = PCA(min(COMPONENTS, *train.shape), random_state=0).fit(train)
    near = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train)
    distances = {name: float(near.kneighbors(x)[0].mean()) for name, x in sets.items()}
    return {
        name: {
            "frechet_pca": frechet(pca.transform(x), pca.transform(test)),
            "nearest": distances[name] / max(distances["validation"], 1e-12),
        }
        for name, x in sets.items()
    }


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet distance of the Gaussians with the moments of a (N, D) and b (M, D) (Dowson & Landau 1982)."""
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False, dtype=np.float64)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    means = np.square(a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)).sum()
    return float(max(means + np.trace(cov_a) + np.trace(cov_b) - 2 * cross, 0.0))


def listed(run: Run, decoded: Decoded, steps: int | None = None) -> tuple[list[str], list[list[Any]]] | None:
    """The examples as the header and the rows of a CSV file (`Kind.listing`); None for images.

    Args:
        steps: where the codes lie on paths of so many steps, row and step come first.
    """
    found = run.spec.kind.listing(torch.from_numpy(decoded.x.reshape(-1, *run.spec.shape)))
    if found is None or steps is None:
        return found
    names, rows = found
    return ["row", "step", *names], [[*divmod(i, steps), *row] for i, row in enumerate(rows)]


def picture(run: Run, decoded: Decoded, columns: int) -> np.ndarray | None:
    """The examples in rows of so many columns; None for data that people read (`listed`)."""
    x = torch.from_numpy(decoded.x.reshape(-1, *run.spec.shape))
    return run.spec.kind.sheet(x, columns if decoded.x.ndim > 2 or run.spec.kind.images else len(x), decoded.labels)


def _decoded(run: Run, z: np.ndarray, labels: list[str] | None = None) -> Decoded:
    codes = run.project(z.reshape(-1, run.latent_dim))
    x = run.decode(codes)
    return Decoded(codes.reshape(z.shape), x.reshape(*z.shape[:-1], *run.spec.shape), labels or [])
