"""Impute breast cancer data with half of the cells missing completely at random (Mattei & Frellsen 2019, section 4.4).

Two steps: `holes` writes the table with holes, which a run is trained on; `score` compares its imputations of all rows,
and those of the mean, PCA and missForest, with the true cells: the mean squared error in units of the variance of each
column.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer

MISSING = 0.5
TREES, ROUNDS = 100, 10  # of missForest: random forests that predict each column from the others, in turn
COMPONENTS = (1, 2, 3, 4, 5, 7, 10)  # of PCA; the best on a tenth of the observed cells is used


def rows() -> np.ndarray:
    """Return the 569 rows of 30 columns, each with mean 0 and variance 1."""
    x = load_breast_cancer().data
    return (x - x.mean(0)) / x.std(0)


def with_holes(seed: int) -> np.ndarray:
    """Return the rows with half of the cells replaced by NaN."""
    x = rows()
    return np.where(np.random.default_rng(seed).random(x.shape) < MISSING, np.nan, x)


def pca(holes: np.ndarray, components: int, rounds: int = 100) -> np.ndarray:
    """Impute by iterated projection onto principal components (Josse & Husson 2012, without regularization)."""
    missing = np.isnan(holes)
    x = np.where(missing, np.nanmean(holes, 0), holes)
    for _ in range(rounds):
        mean = x.mean(0)
        u, s, v = np.linalg.svd(x - mean, full_matrices=False)
        x = np.where(missing, mean + (u[:, :components] * s[:components]) @ v[:components], holes)
    return x


def chosen(holes: np.ndarray, seed: int) -> int:
    """Return the number of components with the smallest error on a tenth of the observed cells."""
    held = ~np.isnan(holes) & (np.random.default_rng(seed + 1).random(holes.shape) < 0.1)
    rest = np.where(held, np.nan, holes)
    errors = {k: np.square(pca(rest, k) - holes)[held].mean() for k in COMPONENTS}
    return min(errors, key=errors.__getitem__)


def main() -> None:
    """Write a table, or the errors of methods by name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("holes", "score"))
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--imputed", type=Path, help="CSV file of scripts/impute.py, for `score`")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    holes, names = with_holes(args.seed), [f"x{i}" for i in range(30)]
    if args.step == "holes":
        pd.DataFrame(holes, columns=names).to_csv(args.output, index=False)
        return
    warnings.simplefilter("ignore", ConvergenceWarning)  # missForest stops after its rounds
    forest = RandomForestRegressor(TREES, max_features="sqrt", n_jobs=-1, random_state=args.seed)
    imputed = {
        "miwae": pd.read_csv(args.imputed)[names].to_numpy(),
        "mean": np.where(np.isnan(holes), np.nanmean(holes, 0), holes),
        "pca": pca(holes, chosen(holes, args.seed)),
        "missforest": IterativeImputer(forest, max_iter=ROUNDS, random_state=args.seed).fit_transform(holes),
    }
    errors = {name: float(np.square(x - rows())[np.isnan(holes)].mean()) for name, x in imputed.items()}
    args.output.write_text(json.dumps(errors))


if __name__ == "__main__":
    main()
