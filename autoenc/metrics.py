"""Definitions of metrics."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016: a unit is active where the variance of its posterior mean is above
ZERO = 1e-3  # a unit of a sparse code counts as zero below
PAIRS = 2_000  # examples that mutual information is estimated from: at most log PAIRS


def mse_per_example(x: Tensor, x_hat: Tensor, observed: Tensor | None = None) -> Tensor:
    """Return the squared error in data space, mean over the observed dimensions (None: all): (B, *shape) -> (B,)."""
    square = (x - x_hat).square().flatten(1)
    if observed is None:
        return square.mean(-1)
    seen = observed.flatten(1)
    return torch.where(seen, square, 0).sum(-1) / seen.sum(-1).clamp(min=1)


def psnr(mse: Tensor, data_range: float) -> Tensor:
    """Return the peak signal-to-noise ratio in dB of each example, 10 log10(range^2 / mse): (B,) -> (B,).

    At most 120 dB, so that a perfect reconstruction does not make an average infinite.
    """
    return 10 * torch.log10(data_range**2 / mse.clamp(min=1e-12 * data_range**2))


def has_ssim(shape: tuple[int, ...]) -> bool:
    """Return whether images (C, H, W) are large enough for windows of 3x3 pixels."""
    return min(shape[1:]) >= 3


def ssim(x: np.ndarray, x_hat: np.ndarray, data_range: float) -> float:
    """Return the structural similarity of two images (C, H, W), mean over windows and channels (Wang et al. 2004).

    Windows have 7x7 pixels, or fewer for smaller images.
    """
    from skimage.metrics import structural_similarity

    window = min(7, *x.shape[1:])
    return float(
        structural_similarity(x, x_hat, data_range=data_range, channel_axis=0, win_size=window - (window + 1) % 2)
    )


def sharpness(images: np.ndarray) -> float:
    """Return the mean gradient magnitude of images (N, C, H, W): of differences to the right and downwards, over pixels
    and channels."""
    right, down = np.diff(images, axis=-1)[..., :-1, :], np.diff(images, axis=-2)[..., :-1]
    return float(np.hypot(right, down).mean(dtype=np.float64))


class LatentStatistics:
    """Moments and activity of each unit of the code, accumulated over batches."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, Tensor] = {}  # each (K,) over examples

    def update(self, mean: Tensor, kl: Tensor | None) -> None:
        """Add a batch: deterministic codes (B, K), and KL per dimension (B, K) if there is a posterior."""
        mean = mean.flatten(1).double()
        batch = {"mean": mean.sum(0), "square": mean.square().sum(0), "used": (mean.abs() > ZERO).double().sum(0)}
        if kl is not None:
            batch["kl"] = kl.flatten(1).double().sum(0)
        self._sums = {name: value + self._sums.get(name, 0.0) for name, value in batch.items()}
        self.count += len(mean)

    def _average(self, name: str) -> Tensor:
        return (self._sums[name] / self.count).cpu()

    @property
    def variance(self) -> Tensor:
        """Variance (K,) of each unit of the deterministic code over the data."""
        return (self._average("square") - self._average("mean").square()).clamp(min=0)

    @property
    def usage(self) -> Tensor:
        """Fraction (K,) of the examples in which each unit is not zero."""
        return self._average("used")

    @property
    def kl(self) -> Tensor | None:
        """Mean KL (K,) of each unit in nats; None without a posterior."""
        return self._average("kl") if "kl" in self._sums else None

    def numbers(self) -> dict[str, float]:
        """Return metrics of the code.

        dim: units of the code. active_units: units with a variance above 0.01. zeros: fraction of the code that
        is zero (below 1e-3), mean over examples. mean_active: units that are not zero, mean over examples.
        dead_units: units that are zero for every example. kl: nats per example.
        """
        numbers = {
            "dim": float(len(self.variance)),
            "active_units": float((self.variance > ACTIVE_VARIANCE).sum()),
            "zeros": float(1 - self.usage.mean()),
            "mean_active": float(self.usage.sum()),
            "dead_units": float((self.usage == 0).sum()),
        }
        if self.kl is not None:
            numbers["kl"] = float(self.kl.sum())
        return numbers


def auroc_interval(auroc: float, anomalies: int, normal: int) -> tuple[float, float]:
    """Return the 95% interval of an AUROC, from its standard error (Hanley & McNeil 1982), within [0, 1].

    AUROCs of 0 and 1, whose standard error would be 0, count as half a pair of rows from them.
    """
    half = 0.5 / (anomalies * normal)
    a = min(max(auroc, half), 1 - half)
    above, below = a / (2 - a), 2 * a * a / (1 + a)  # P(two anomalies exceed a normal row), P(one exceeds two)
    variance = a * (1 - a) + (anomalies - 1) * (above - a * a) + (normal - 1) * (below - a * a)
    error = 1.959964 * math.sqrt(variance / (anomalies * normal))
    return max(0.0, a - error), min(1.0, a + error)


def exceeds(a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether the mean of a is above that of b by more than the 95% interval of their paired difference.

    Args:
        a, b: (N,) values of the same examples or draws, of which higher is better (Student's t).
    """
    from scipy.stats import t

    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    n = len(difference)
    return n > 1 and bool(difference.mean() > t.ppf(0.975, n - 1) * difference.std(ddof=1) / math.sqrt(n))


def auroc_exceeds(labels: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Return whether the AUROC of scores a is above that of b by more than the 95% interval of the difference.

    Its variance is that of DeLong et al. 1988, for scores of the same rows.

    Args:
        labels: (N,) bool, True for anomalies. a, b: (N,).
    """
    difference = [x - y for x, y in zip(_placements(labels, a), _placements(labels, b), strict=True)]
    if min(map(len, difference)) < 2:
        return False
    variance = sum(values.var(ddof=1) / len(values) for values in difference)
    return bool(difference[0].mean() > 1.959964 * math.sqrt(variance))


def _placements(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the fraction of normal rows below each anomaly, and of anomalies above each normal row; ties are 1/2.

    The mean of either is the AUROC.
    """
    from scipy.stats import rankdata

    anomalies, normal = scores[labels], scores[~labels]
    ranks = rankdata(np.concatenate([anomalies, normal]))
    below = (ranks[: len(anomalies)] - rankdata(anomalies)) / len(normal)
    above = 1 - (ranks[len(anomalies) :] - rankdata(normal)) / len(anomalies)
    return below, above


def mmd(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of two samples, (N, *shape) and (M, *shape), of 2 or more each.

    0 for equal distributions. Unbiased (Gretton et al. 2012), and therefore possibly negative, with the inverse
    multiquadric kernels C / (C + |x - y|^2), C = 2 K s, summed over s = 0.1, 0.2, 0.5, 1, 2, 5, 10 (Tolstikhin et al.
    2018: for a standard normal prior, 2 K is the mean squared distance of two draws).
    """

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        square = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        scales = (2 * a.shape[1] * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))
        return functools.reduce(torch.add, (c / (c + square) for c in scales))  # one at a time: each is N x M

    x, y = x.flatten(1).double(), y.flatten(1).double()
    n, m = len(x), len(y)
    within_x, within_y = kernel(x, x), kernel(y, y)
    within = (within_x.sum() - within_x.trace()) / (n * (n - 1)) + (within_y.sum() - within_y.trace()) / (m * (m - 1))
    return within - 2 * kernel(x, y).mean()
