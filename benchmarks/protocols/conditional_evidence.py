"""Compare the bound of a linear conditional VAE with the exact evidence, p(x|y) = N(b_y, W W^T + s^2 I)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.stats import multivariate_normal

from autoenc.apps.codes.recovery import decoder_atoms
from autoenc.apps.protocol.bounds import bounds
from autoenc.likelihoods import Gaussian
from autoenc.loading import load_run


def main() -> None:
    """Write -log p(x|y) of the test rows, and how far minus the ELBO lies above it; -log p(x) of all classes together
    less that is the mutual information of x and y."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    test, y = run.data.test.rows(), run.data.test.y
    assert y is not None
    w = decoder_atoms(run).astype(np.float64)[:, : run.latent_dim]
    count = len(run.spec.classes)
    means = run.model.decode(torch.zeros(count, run.latent_dim), y=torch.arange(count)).detach().double().numpy()
    likelihood = run.model.likelihood
    assert isinstance(likelihood, Gaussian)
    scale = float(likelihood.log_scale.detach().exp())
    covariance = w @ w.T + scale**2 * np.eye(len(w))
    log_p = np.stack([multivariate_normal(mean, covariance).logpdf(test) for mean in means], 1)  # (N, C)
    nll = -log_p[np.arange(len(test)), y.numpy()].mean()
    numbers = {
        "nll": nll,
        "elbo": bounds(run, run.data.test).elbo.mean() - nll,
        "nll_without_y": np.log(count) - np.logaddexp.reduce(log_p, 1).mean(),
    }
    args.output.write_text(json.dumps({name: float(value) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
