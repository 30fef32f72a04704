"""Reconstruction errors that a trained network should improve on."""

from __future__ import annotations

import torch
from torch import Tensor

from autoenc.core import Likelihood
from autoenc.data.split import Split
from autoenc.metrics import mse_per_example
from autoenc.seeds import seeded

ROWS, VALUES = 5_000, 10_000_000  # training rows that PCA is fitted on, and values in them
WIDE = 1_024  # values of a row above which components are approximated (Halko et al. 2011)


@torch.no_grad()
def baselines(train: Split, test: Split, likelihood: Likelihood, size: int, batch_size: int) -> dict[str, float]:
    """Return the test mse of what an untrained network reconstructs, the mean of the data, and of `size` components.

    Principal components are left out where they have no fewer numbers than the data.
    """
    rows = train.sample(max(1, min(ROWS, VALUES // train.take(slice(0, 1)).x.numel()))).take(slice(None)).x
    flat = rows.flatten(1).float().cpu()
    mean = flat.mean(0)
    centered = flat - mean
    projections = {"mse_mean": mean.new_zeros(len(mean), 0)}
    if size < min(flat.shape):
        projections["mse_pca"] = _components(centered, size)
    sums = dict.fromkeys(projections, 0.0)
    for batch in test.in_order(batch_size):
        apart, observed = batch.x.flatten(1).cpu() - mean, likelihood.observed(batch.x)
        for name, basis in projections.items():
            projected = (mean + apart @ basis @ basis.T).view_as(batch.x).to(batch.x)
            sums[name] += float(mse_per_example(batch.x, projected, observed).double().sum())
    return {name: total / len(test) for name, total in sums.items()}


def _components(centered: Tensor, size: int) -> Tensor:
    """Return the first principal components (D, size) of rows (N, D), which have mean zero."""
    if centered.shape[1] <= WIDE:
        return torch.linalg.eigh(centered.T @ centered)[1][:, -size:]
    with seeded(0, centered.device):
        return torch.pca_lowrank(centered, min(size + 10, *centered.shape), center=False)[2][:, :size]
