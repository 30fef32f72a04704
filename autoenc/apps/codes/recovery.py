"""Has the model found what its data were made from? For generated data, whose truth is known (data/synthetic.py)."""

from __future__ import annotations

import warnings

import numpy as np

from autoenc.errors import UserError
from autoenc.figures import dictionary
from autoenc.loading import Run

SEED = 0
FOUND = 0.9  # cosine from which on an atom counts as recovered
NEGATIVE = 0.01  # of the codes that are not 0: with fewer, a code counts as non-negative
ROWS, ALPHA = 10_000, 1.0  # of dictionary learning: training rows in a pass, and the L1 weight of model=sparse
LARGEST = 512  # atoms: with more of them, dictionary learning takes minutes

Row = dict[str, float]


def of_dictionary(run: Run) -> dict[str, str | Row]:
    """How much of the true dictionary the decoder has, beside dictionary learning and random atoms; see `matched`.

    Where the true amplitudes are positive and the codes are too, an atom of the wrong sign is none: the cosine is
    signed. Else the sign of an atom is a matter of convention, and the cosine's absolute value counts. All rows of the
    table are measured in the same way. Dictionary learning is told the true number of atoms, the model is not.
    """
    truth, atoms = run.data.truth["dictionary"].numpy(), decoder_atoms(run)  # (D, A), (D, K)
    codes = run.codes(run.data.test)
    signed = not run.data.truth["signed"] and (codes < 0).sum() <= NEGATIVE * (codes != 0).sum()
    chance = np.random.default_rng(SEED).normal(size=atoms.shape)
    rows: dict[str, str | Row] = {"cosine": "signed" if signed else "absolute"}
    rows["decoder"] = matched(atoms, truth, signed)
    if truth.shape[1] <= LARGEST:
        learnt = learn_dictionary(run.data.train.rows(), truth.shape[1], positive=not run.data.truth["signed"])
        rows["dictionary learning"] = matched(learnt, truth, signed)
    return rows | {"random atoms": matched(chance, truth, signed)}


def of_subspace(run: Run) -> dict[str, Row]:
    """How near the decoder's column span is to the true subspace, beside PCA of as many dimensions, and chance.

    angle_deg: the largest principal angle in degrees (Bjorck & Golub 1973), 0 where one span contains the other, 90
    where a direction of one is orthogonal to all of the other. mse: of the reconstruction of test rows; mse_to_pca:
    divided by PCA's. The row `truth` projects onto the true subspace.
    """
    truth, atoms = run.data.truth["subspace"].numpy(), decoder_atoms(run)  # (D, R), (D, K)
    train, test = run.data.train.rows(), run.data.test.rows()
    size, mean = min(atoms.shape), train.mean(0)
    components = np.linalg.svd(train - mean, full_matrices=False)[2][:size].T
    chance = np.linalg.qr(np.random.default_rng(SEED).normal(size=(len(truth), size)))[0]

    def projected(basis: np.ndarray, centre: np.ndarray) -> float:
        rest = test - centre
        return _mse(rest, rest @ basis @ basis.T)

    found = {
        "decoder": (atoms, _mse(test, run.reconstruct(test))),
        f"PCA-{components.shape[1]}": (components, projected(components, mean)),
        "truth": (truth, projected(truth, run.data.truth["mean"].numpy())),
        "random subspace": (chance, projected(chance, mean)),
    }
    pca = found[f"PCA-{components.shape[1]}"][1]
    # Without noise PCA is exact, but for rounding; the ratio of two roundings says nothing.
    ratio = pca > 1e-9 * float(test.var())
    return {
        name: {"angle_deg": largest_angle(basis, truth), "mse": mse} | ({"mse_to_pca": mse / pca} if ratio else {})
        for name, (basis, mse) in found.items()
    }


def decoder_atoms(run: Run) -> np.ndarray:
    """(D, K): what each unit of the code adds to the reconstruction; UserError where the decoder is not linear."""
    atoms = dictionary(run.model)
    if atoms is None:
        raise UserError("needs a linear decoder (network=linear or network=dictionary)")
    return atoms.float().cpu().numpy()


def matched(atoms: np.ndarray, truth: np.ndarray, signed: bool) -> Row:
    """Recovery of a true dictionary (D, A) by atoms (D, K), of any length.

    mmcs: the mean over true atoms of the largest cosine with any of the atoms (Sharkey et al. 2022). recovered: the
    part of the true atoms for which it is above 0.9.
    """
    cosine = _normalized(truth).T @ _normalized(atoms)  # (A, K)
    best = (cosine if signed else np.abs(cosine)).max(1)
    return {"mmcs": float(best.mean()), "recovered": float((best > FOUND).mean())}


def largest_angle(basis: np.ndarray, truth: np.ndarray) -> float:
    """The largest principal angle between the column spans, in degrees: that of the smaller span with the larger."""
    from scipy.linalg import subspace_angles

    return float(np.degrees(subspace_angles(basis.astype(np.float64), truth.astype(np.float64)).max()))


def learn_dictionary(rows: np.ndarray, atoms: int, positive: bool) -> np.ndarray:
    """(D, A): scikit-learn's online dictionary learning (Mairal et al. 2009), one pass over 10,000 rows of (N, D)."""
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    learner = MiniBatchDictionaryLearning(
        atoms, alpha=ALPHA, max_iter=1, fit_algorithm="cd", positive_code=positive, random_state=SEED
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of codes that are not exact to the last digit
        return learner.fit(rows[:ROWS] - rows[:ROWS].mean(0)).components_.T


def _normalized(atoms: np.ndarray) -> np.ndarray:
    return atoms / np.linalg.norm(atoms, axis=0).clip(1e-12)


def _mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())
