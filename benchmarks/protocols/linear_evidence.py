"""Compare the bounds of a linear VAE with the exact evidence of its decoder, p(x) = N(b, W W^T + s^2 I)."""

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
    """Write -log p(x) of the test rows, and how far each bound lies above it: elbo, and iw_K for K samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    test, train = run.data.test.rows(), run.data.train.rows()
    w = decoder_atoms(run).astype(np.float64)
    b = run.model.decode(torch.zeros(1, run.latent_dim)).detach().numpy()[0]
    likelihood = run.model.likelihood
    assert isinstance(likelihood, Gaussian)
    scale = float(likelihood.log_scale.detach().exp())
    covariance = w @ w.T + scale**2 * np.eye(len(w))
    nll = -multivariate_normal(b, covariance).logpdf(test).mean()
    gaussian = -multivariate_normal(train.mean(0), np.cov(train.T)).logpdf(test).mean()
    numbers = {"nll": nll, "nll_gaussian": gaussian, "scale": scale}
    for samples in (1, 10, 100, 1000):
        found = bounds(run, run.data.test, samples)
        numbers[f"iw_{samples}"] = found.nll.mean() - nll
        numbers["elbo"] = found.elbo.mean() - nll
    args.output.write_text(json.dumps({name: float(value) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
