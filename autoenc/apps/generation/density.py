"""Densities of codes: the prior of the bottleneck, or a density fitted to training codes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from autoenc.apps.generation import index_prior
from autoenc.data.split import drawn
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.networks.causal import CausalTransformer
from autoenc.seeds import seeded

KINDS = ("autoregressive", "prior", "gaussian", "mixture", "independent")
FITTED = 20_000  # training codes that a density is fitted to
SEED = 0


class Density(Protocol):
    """A distribution of codes."""

    @property
    def text(self) -> str:
        """Name for messages."""

    @property
    def tempered(self) -> bool:
        """Whether a temperature changes its draws."""

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        """Draw codes (n, K) float32.

        Args:
            temperature: factor of the standard deviations of Gaussians, of a mixture those of its components, of a flow
                those of its base; the logits of indices are divided by it.
        """


@dataclass(frozen=True)
class Prior:
    """The prior p(z) of the bottleneck. At temperature 1, the draws are those of `Run.sample`."""

    run: Run
    text = "the prior"

    @property
    def tempered(self) -> bool:
        """Whether a temperature changes the draws."""
        prior = self.run.model.bottleneck.prior
        return prior is None or prior.tempered

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        z = self.run.prior_sample(n, seed, temperature)
        assert z is not None
        return z.flatten(1).cpu().float().numpy()


@dataclass(frozen=True)
class Autoregressive:
    """The prior over the indices of discrete codes that scripts/fit_prior.py has fitted."""

    run: Run
    model: CausalTransformer
    text = "the autoregressive prior"
    tempered = True

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        bottleneck = self.run.model.bottleneck
        with seeded(seed, self.run.device):
            index = torch.cat(list(index_prior.sample(self.model, n, temperature)))
        z = bottleneck.from_indices(index.view(n, *bottleneck.index_shape))
        return z.flatten(1).cpu().float().numpy()


@dataclass(frozen=True)
class Mixture:
    """A mixture of M Gaussians. Samples are projected to valid codes before they are decoded.

    Args:
        weights: (M,). means: (M, K). factors: (M, K, K) lower Cholesky factors of the covariances.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    tempered = True

    @property
    def text(self) -> str:
        """Name for messages."""
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


@dataclass(frozen=True)
class Independent:
    """Each unit of the code independent of the others, with the values that it has in training codes (N, K).

    The density of sparse codes: a unit is as often zero as in training.
    """

    codes: np.ndarray
    text = "the values of each unit in the training codes, independent of each other"
    tempered = False

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> np.ndarray:
        rows = np.random.default_rng(seed).integers(len(self.codes), size=(n, self.codes.shape[1]))
        return np.take_along_axis(self.codes, rows, 0)


def training_codes(run: Run) -> np.ndarray:
    """Return codes of the reference rows (at most 20,000 training rows), or of `FITTED` of them: (N, K)."""
    return run.reference.codes[drawn(len(run.reference), FITTED).sort().values.numpy()]


def of(run: Run, kind: str | None = None, components: int = 10) -> Density:
    """Return the density to sample codes from.

    Args:
        kind: prior; autoregressive, the prior of fit_prior; gaussian, mixture or independent, fitted to training codes.
            Default: the autoregressive prior if it was fitted, else the prior; without a prior that codes resemble, a
            mixture, of sparse codes independent units.
        components: of the mixture.

    Raises:
        UserError: not possible for the model, or fewer training examples than components.
    """
    bottleneck = run.model.bottleneck
    has_prior = run.prior_sample(1) is not None
    fitted = index_prior.load(run) if kind in (None, "autoregressive") else None
    prior = run.model.bottleneck.prior
    draws = has_prior and (prior is None or prior.generates)
    smooth = "mixture" if bottleneck.no_density is None else "independent"
    kind = kind or ("autoregressive" if fitted else "prior" if draws else smooth)
    require(kind in KINDS, "--density", kind, f"must be one of {', '.join(KINDS)}")
    if fitted is not None:
        return Autoregressive(run, fitted)
    if kind == "autoregressive":
        why = f"fit it first: python scripts/fit_prior.py {run.path}" if bottleneck.symbols else "is for discrete codes"
        raise UserError(f"--density autoregressive: {run.path} has no such prior; {why}")
    if kind == "prior" and not has_prior:
        raise UserError(
            f"--density prior: the code of a {type(bottleneck).__name__} bottleneck has no prior ({run.path}); "
            f"--density {smooth} fits one to the training codes"
        )
    if kind == "prior":
        return Prior(run)
    if kind == "independent" and bottleneck.symbols == 0:
        return Independent(training_codes(run))
    check_smooth(run, f"--density {'prior' if has_prior else 'independent'} samples them")
    return fit(training_codes(run), 1 if kind == "gaussian" else components)


def check_smooth(run: Run, remedy: str) -> None:
    """Raise UserError if no smooth density fits the codes: the decoder was not trained on such samples."""
    bottleneck = run.model.bottleneck
    if bottleneck.no_density is not None:
        kind = type(bottleneck).__name__
        why = f"no smooth density fits the codes of a {kind} bottleneck, {bottleneck.no_density}"
        raise UserError(f"{run.path}: {why}; {remedy}")


def check_temperature(density: Density, temperature: float) -> None:
    """Raise UserError for a temperature that is negative, or that would change nothing."""
    require(0 <= temperature < np.inf, "--temperature", temperature, "must be 0 or more")
    if temperature != 1 and not density.tempered:
        raise UserError(f"--temperature={temperature:g}: has no effect on {density.text}; leave it out")


def fit(codes: np.ndarray, components: int) -> Mixture:
    """Fit Gaussians with full covariances to codes (N, K) by expectation-maximization.

    One component is the maximum likelihood Gaussian. 1e-6 of the mean variance of the codes is added to the variances,
    so that constant units are allowed.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    wide = codes.astype(np.float64)
    if len(wide) < max(2, components):
        raise UserError(f"--components {components}: the training split has {len(wide)} examples; use fewer")
    mixture = GaussianMixture(components, reg_covar=1e-6 * max(float(wide.var(0).mean()), 1e-12), random_state=SEED)
    with warnings.catch_warnings():  # after 100 iterations the density hardly changes
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(wide)
    return Mixture(mixture.weights_, mixture.means_, np.linalg.cholesky(mixture.covariances_))
