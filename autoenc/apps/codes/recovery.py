"""Recovery of the ground truth of synthetic data (data/sets/synthetic.py) by the decoder."""

from __future__ import annotations

import warnings

import numpy as np

from autoenc.data.split import drawn
from autoenc.errors import UserError
from autoenc.figures import dictionary
from autoenc.loading import Run

SEED = 0
RECOVERED = 0.9  # cosine above which an atom counts as recovered
NEGATIVE = 0.01  # fraction of nonzero values; with fewer negative ones, codes count as non-negative
ROWS, ALPHA = 10_000, 1.0  # dictionary learning: training rows in its pass, and the L1 weight of model=sparse
LARGEST = 512  # atoms; with more, dictionary learning takes minutes

Row = dict[str, float]


def of_dictionary(run: Run) -> dict[str, str | Row]:
    """Return the recovery of the true dictionary by the decoder, dictionary learning and random atoms; see `matched`.

    The row of the decoder also has f1, of the activity of its units (`activity_f1`); explained_variance, the fraction
    of the variance of the test rows that the reconstruction explains; and l0, the mean number of active units.

    If the true amplitudes and the codes are positive, the cosine is signed: an atom of the wrong sign is not recovered.
    Otherwise the sign is arbitrary, and the absolute value counts. All rows of the table are measured in the same way.
    Dictionary learning is run with the true number of atoms and with that of the model: more atoms find more.
    """
    truth, atoms = run.data.truth["dictionary"].numpy(), decoder_atoms(run)  # (D, A), (D, K)
    codes = run.codes(run.data.test)
    signed = not run.data.truth["signed"] and (codes < 0).sum() <= NEGATIVE * (codes != 0).sum()
    chance = np.random.default_rng(SEED).normal(size=atoms.shape)
    rows: dict[str, str | Row] = {"cosine": "signed" if signed else "absolute"}
    x = run.data.test.rows()
    rest, total = _mse(x, run.reconstruct(x)), float(x.var(0).mean())
    rows["decoder"] = matched(atoms, truth, signed) | {
        "f1": activity_f1(codes != 0, run.data.truth["active_test"].numpy(), _cosine(atoms, truth, signed)),
        "explained_variance": 1 - rest / total,
        "l0": float((codes != 0).sum(1).mean()),
    }
    for count in sorted({truth.shape[1], atoms.shape[1]}):
        if count <= LARGEST:
            learnt = learn_dictionary(run.data.train.rows(), count, positive=not run.data.truth["signed"])
            rows[f"dictionary learning, {count} atoms"] = matched(learnt, truth, signed)
    return rows | {"random atoms": matched(chance, truth, signed)}


def of_subspace(run: Run) -> dict[str, Row]:
    """Compare the column span of the decoder with the true subspace, beside PCA of as many dimensions and chance.

    angle_deg: largest principal angle in degrees (Bjorck & Golub 1973), 0 if one span contains the other, 90 if a
    direction of one is orthogonal to the other. mse: of the reconstruction of test rows. mse_to_pca: divided by that of
    PCA. The row `truth` projects onto the true subspace. Lower is better for all.
    """
    truth, atoms = run.data.truth["subspace"].numpy(), decoder_atoms(run)  # (D, R), (D, K)
    train, test = run.data.train.rows(), run.data.test.rows()
    size, mean = min(atoms.shape), train.mean(0)
    components = np.linalg.svd(train - mean, full_matrices=False)[2][:size].T
    chance = np.linalg.qr(np.random.default_rng(SEED).normal(size=(len(truth), size)))[0]

    def projected(basis: np.ndarray, centre: np.ndarray) -> float:
        rest = test - centre
        return _mse(rest, rest @ basis @ basis.T)

    bases = {
        "decoder": (atoms, _mse(test, run.reconstruct(test))),
        f"PCA-{components.shape[1]}": (components, projected(components, mean)),
        "truth": (truth, projected(truth, run.data.truth["mean"].numpy())),
        "random subspace": (chance, projected(chance, mean)),
    }
    pca = bases[f"PCA-{components.shape[1]}"][1]
    # Without noise, the error of PCA is only rounding, and the ratio is meaningless.
    ratio = pca > 1e-9 * float(test.var())
    return {
        name: {"angle_deg": largest_angle(basis, truth), "mse": mse} | ({"mse_to_pca": mse / pca} if ratio else {})
        for name, (basis, mse) in bases.items()
    }


def decoder_atoms(run: Run) -> np.ndarray:
    """Return the weights (D, K) of a linear decoder; UserError for other decoders."""
    atoms = dictionary(run.model)
    if atoms is None:
        raise UserError("needs a linear decoder (network=linear or network=dictionary)")
    return atoms.float().cpu().numpy()


def matched(atoms: np.ndarray, truth: np.ndarray, signed: bool) -> Row:
    """Return the recovery of a true dictionary (D, A) by atoms (D, K) of any length; higher is better.

    mmcs: mean over true atoms of the largest cosine with any atom (Sharkey et al. 2022). recovered: fraction of true
    atoms for which it is above 0.9. mcc: mean cosine of min(A, K) pairs, the one-to-one assignment with the largest
    (O'Neill et al. 2024).
    """
    from scipy.optimize import linear_sum_assignment

    cosine = _cosine(atoms, truth, signed)
    best, pairs = cosine.max(1), linear_sum_assignment(cosine, maximize=True)
    return {
        "mmcs": float(best.mean()),
        "recovered": float((best > RECOVERED).mean()),
        "mcc": float(cosine[pairs].mean()),
    }


def activity_f1(active: np.ndarray, true: np.ndarray, cosine: np.ndarray) -> float:
    """Return the mean over units of the F1 score of a unit as a classifier of the activity of its nearest true atom
    (Chanin & Garriga-Alonso 2026); 0 for dead units.

    Args:
        active: (N, K) bool, of the units. true: (N, A) bool, of the atoms. cosine: (A, K).
    """
    target = true[:, cosine.argmax(0)]  # (N, K)
    both, either = (active & target).sum(0), active.sum(0) + target.sum(0)
    return float((2 * both / either.clip(min=1)).mean())


def largest_angle(basis: np.ndarray, truth: np.ndarray) -> float:
    """Return the largest principal angle between the column spans in degrees."""
    from scipy.linalg import subspace_angles

    return float(np.degrees(subspace_angles(basis.astype(np.float64), truth.astype(np.float64)).max()))


def learn_dictionary(rows: np.ndarray, atoms: int, positive: bool) -> np.ndarray:
    """Return atoms (D, A) of online dictionary learning (Mairal et al. 2009), one pass over 10,000 rows."""
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    learner = MiniBatchDictionaryLearning(
        atoms, alpha=ALPHA, max_iter=1, fit_algorithm="cd", positive_code=positive, random_state=SEED
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # codes are not exact to the last digit
        rows = rows[drawn(len(rows), ROWS).numpy()]
        return learner.fit(rows - rows.mean(0)).components_.T


def _cosine(atoms: np.ndarray, truth: np.ndarray, signed: bool) -> np.ndarray:
    """Return cosines (A, K) of true atoms (D, A) and atoms (D, K), absolute unless signed."""
    cosine = _normalized(truth).T @ _normalized(atoms)
    return cosine if signed else np.abs(cosine)


def _normalized(atoms: np.ndarray) -> np.ndarray:
    return atoms / np.linalg.norm(atoms, axis=0).clip(1e-12)


def _mse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a - b).mean())
