"""Densities of codes: the bottleneck's own prior, or one that is fitted to the codes of the training split."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.reference import drawn

KINDS = ("prior", "gaussian", "mixture")
FITTED = 20_000  # training codes, drawn at random, that a density is fitted to
SEED = 0


class Density(Protocol):
    """What codes are drawn from."""

    @property
    def text(self) -> str:
        """In words, for the person at the screen."""

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """(n, K) float32 codes. Standard deviations are multiplied by the temperature: at 0, all are means."""


@dataclass(frozen=True)
class Prior:
    """The bottleneck's own p(z). At temperature 1 the draws are those of `Run.sample`."""

    run: Run
    text = "the prior"

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        z = self.run.prior_sample(n, seed, temperature)
        assert z is not None
        return z.flatten(1).cpu().float().numpy()


@dataclass(frozen=True)
class Mixture:
    """M Gaussians over codes. Their samples are projected to valid codes before they are decoded.

    weights (M,), means (M, K), factors (M, K, K): lower Cholesky factors of the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    @property
    def text(self) -> str:
        """In words, for the person at the screen."""
        kind = "a Gaussian" if len(self.weights) == 1 else f"a mixture of {len(self.weights)} Gaussians"
        return f"{kind} fitted to the training codes"

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        random = np.random.default_rng(seed)
        chosen = random.choice(len(self.weights), n, p=self.weights)
        noise = random.standard_normal((n, self.means.shape[1]))
        z = self.means[chosen]
        for m in np.unique(chosen):
            z[chosen == m] += temperature * noise[chosen == m] @ self.factors[m].T
        return z.astype(np.float32)


def training_codes(run: Run, most: int = FITTED) -> np.ndarray:
    """(N, K) codes of the reference rows: all, or `most` of them drawn from a fixed seed."""
    return run.reference.codes[drawn(len(run.reference), most)]


def some(split: Split, most: int) -> Split:
    """A split, or `most` of its examples drawn from a fixed seed: its rows may be in the order of their classes."""
    if len(split) <= most:
        return split
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(SEED))
    return split.subset(order[:most].sort().values)


def of(run: Run, kind: str | None = None, components: int = 10) -> Density:
    """The density to sample codes from.

    Args:
        kind: prior; gaussian or mixture, fitted to training codes. Default: the prior, a mixture where there is none.
        components: of the mixture.

    Raises:
        UserError: the model does not allow it (names what it does), or fewer training examples than components.
    """
    bottleneck = run.model.bottleneck
    has_prior = run.prior_sample(1) is not None
    kind = kind or ("prior" if has_prior else "mixture")
    require(kind in KINDS, "--density", kind, f"must be one of {', '.join(KINDS)}")
    if kind == "prior" and not has_prior:
        raise UserError(
            f"--density prior: the code of a {type(bottleneck).__name__} bottleneck has no prior ({run.path}); "
            "--density mixture or gaussian fits one to the training codes"
        )
    if kind == "prior":
        return Prior(run)
    check_smooth(run)
    return fit(training_codes(run), 1 if kind == "gaussian" else components)


def check_smooth(run: Run) -> None:
    """UserError where no smooth density fits the codes: samples would be no codes that the decoder was trained on."""
    bottleneck = run.model.bottleneck
    if bottleneck.no_density is not None:
        kind = type(bottleneck).__name__
        raise UserError(
            f"{run.path}: no density fits the codes of a {kind} bottleneck, {bottleneck.no_density}; "
            "generate from a vae or ae run, or use --interpolate"
        )


def fit(codes: np.ndarray, components: int) -> Mixture:
    """Gaussians with full covariances for codes (N, K), fitted by expectation-maximization (scikit-learn).

    One component is the maximum likelihood Gaussian. Every covariance is widened by 1e-6 of the mean variance of the
    codes, so that units which never vary are no obstacle.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    wide = codes.astype(np.float64)
    if len(wide) < max(2, components):
        raise UserError(f"--components {components}: the training split has {len(wide)} examples; use fewer")
    mixture = GaussianMixture(components, reg_covar=1e-6 * max(float(wide.var(0).mean()), 1e-12), random_state=SEED)
    with warnings.catch_warnings():  # where 100 rounds do not converge, the next ones hardly change the density
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(wide)
    return Mixture(mixture.weights_, mixture.means_, np.linalg.cholesky(mixture.covariances_))
