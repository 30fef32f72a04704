"""Mixtures of Gaussians, learnt with the model: clusters for free (VaDE, Jiang et al. 2017)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from autoenc.core import Prior, Verdict
from autoenc.errors import require

AT_ONCE = 2**22  # differences of a code and a mean in memory at a time
COLLAPSED = 1.5  # clusters in use
FITTED = 50_000  # training codes of up to NARROW units that the first components are fitted to
FITTED_WIDER = 20_000  # of more units: a fit of full covariances takes time by their square, before the first step
NARROW = 20
WIDE = 64  # units above which clusters are looked for along the axes only
STARTS = 10  # of expectation-maximization, of which the best counts: single ones miss clusters


class GaussianParts(Prior):
    """p(z) = sum_c pi_c N(z; mu_c, diag(sigma_c^2)); subclasses define `parts`.

    Args:
        components: their number C.
    """

    def __init__(self, latent_shape: tuple[int, ...], components: int):
        super().__init__()
        require(components >= 1, "components", components, "must be 1 or more")
        self.latent_shape, self.components = latent_shape, components

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return log pi (C,), mu (C, K) and sigma (C, K), with K values in a code."""
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        return self._log_joint(z).logsumexp(-1)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        log_weights, mean, std = self.parts()
        chosen = torch.multinomial(log_weights.exp(), n, replacement=True)
        z = mean[chosen] + temperature * std[chosen] * torch.randn(n, mean.shape[1], device=mean.device)
        return z.unflatten(1, self.latent_shape)

    def check(self, examples: int) -> None:
        why = f"more components than the training split has examples, {examples:,}"
        require(self.components <= examples, "components", self.components, why)

    def _log_joint(self, z: Tensor) -> Tensor:
        """Return log pi_c + log N(z; mu_c, sigma_c^2): (*S, *latent_shape) -> (*S, C)."""
        log_weights, mean, std = self.parts()
        rows = z.reshape(-1, mean.shape[1]).float()
        constant = log_weights - std.log().sum(1) - 0.5 * mean.shape[1] * math.log(2 * math.pi)  # (C,)
        at_once = max(1, AT_ONCE // mean.numel())
        parts = [rows] if torch.compiler.is_exporting() else rows.split(at_once)  # exported for any number of rows
        squares = [((part[:, None] - mean) / std).square().sum(-1) for part in parts]
        return (constant - 0.5 * torch.cat(squares)).reshape(*z.shape[: z.dim() - len(self.latent_shape)], -1)


class Mixture(GaussianParts):
    """The prior of VaDE, with learnt pi, mu and sigma (Jiang et al. 2017, eq. 1 to 4).

    The cluster of a code is the component of the largest p(c|z) = pi_c N(z; mu_c, sigma_c^2) / p(z) (eq. 16). Training
    starts from components that are fitted to the codes of training examples by expectation-maximization, as in section
    3.2 of the paper, where an autoencoder is trained first: init_from=RUN of model=ae. Unlike the paper's, the fit has
    full covariances, whose diagonals are kept.

    Args:
        components: clusters.
        rate: factor of the learning rate of the components; 1 in runs whose config does not name it. They are stored
            divided by it, so that a step of Adam moves them that much less. Clusters found in the codes are lost where
            components move to a better fit along the axes before the encoder turns the codes.
    """

    remark = "the clusters start from the codes of new weights; init_from=RUN starts from those of a trained model=ae"

    def __init__(self, latent_shape: tuple[int, ...], components: int = 10, rate: float = 1.0):
        super().__init__(latent_shape, components)
        require(0 < rate <= 1, "rate", rate, "must be above 0 and at most 1")
        size, self.rate = math.prod(latent_shape), rate
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, size) / rate)
        self.log_std = nn.Parameter(torch.zeros(components, size))

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        logits, mean, log_std = (self.rate * values for values in (self.logits, self.mean, self.log_std))
        return logits.log_softmax(0), mean, log_std.exp()

    def responsibilities(self, z: Tensor) -> Tensor:
        return self._log_joint(z).softmax(-1)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        weights = self.parts()[0].detach().exp()
        used = float(torch.special.entr(weights).sum().exp())
        level = f"weights of perplexity {used:.1f}, {self.components} clusters"
        if used < COLLAPSED < self.components:
            remedy = "init_from=RUN of a trained model=ae or a smaller optimizer.lr"
            return Verdict(False, f"The clusters have collapsed: {level}; try {remedy}")
        return Verdict(True, f"The clusters are in use: {level}")

    @torch.no_grad()
    def start(self, rows: Callable[[int], Tensor], codes: Callable[[int], Tensor], say: Callable[[str], None]) -> None:
        """Fit the components to deterministic codes; the mean variance of the posterior adds to theirs.

        The clusters of an autoencoder lie across the axes of its code: covariances are fitted, and their diagonals
        kept. Of several fits, that of the largest likelihood less the entropy of the clusters counts, which are
        further apart than those of the likeliest (integrated classification likelihood, Biernacki et al. 2000).
        """
        from scipy.special import entr
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        most = FITTED if math.prod(self.latent_shape) <= NARROW else FITTED_WIDER
        mean, drawn = codes(most).flatten(2).double().cpu().unbind(1)
        if len(mean) < self.components:  # where training files are gone (apps/untrained.py)
            return
        say(f"mixture: fitting {self.components} components to {len(mean):,} codes, {STARTS} times")
        z, within = mean.numpy(), (drawn - mean).square().mean(0)
        floor = 1e-4 * max(float(z.var(0).mean()), 1e-8)  # of the variances: constant units are allowed
        full = z.shape[1] <= WIDE
        shape = {"covariance_type": "full" if full else "diag", "reg_covar": floor}
        with warnings.catch_warnings():  # fewer different codes than components
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits = [GaussianMixture(self.components, random_state=i, **shape).fit(z) for i in range(STARTS)]
        fitted = max(fits, key=lambda each: each.score(z) - entr(each.predict_proba(z)).sum(1).mean())
        fit = torch.from_numpy(fitted.covariances_)
        variances = fit.diagonal(dim1=1, dim2=2) if full else fit
        self.logits.copy_(torch.from_numpy(fitted.weights_).clamp(min=1e-6).log() / self.rate)
        self.mean.copy_(torch.from_numpy(fitted.means_) / self.rate)
        self.log_std.copy_((variances + within).log() / 2 / self.rate)
