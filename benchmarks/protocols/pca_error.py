"""Compare a run with PCA of its training rows: error on test rows; for linear decoders, the angle of the subspaces."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from autoenc.apps.codes.recovery import decoder_atoms, largest_angle
from autoenc.figures.of_model import dictionary
from autoenc.loading import load_run


def main() -> None:
    """Write mse, pca, ratio = mse / pca, and angle_deg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    train, test = (split.rows().reshape(len(split), -1) for split in (run.data.train, run.data.test))
    pca = PCA(run.latent_dim, svd_solver="full").fit(train)
    error = np.square(test - pca.inverse_transform(pca.transform(test))).mean()
    mse = np.square(test - run.over(run.data.test, run.model.reconstruct).numpy().reshape(test.shape)).mean()
    numbers = {"ratio": float(mse / error), "mse": float(mse), "pca": float(error)}
    if dictionary(run.model) is not None:
        numbers["angle_deg"] = largest_angle(decoder_atoms(run), pca.components_.T)
    args.output.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
