"""Priors p(z) of codes."""

from autoenc.priors.bernoulli import Bernoulli
from autoenc.priors.categorical import Categorical
from autoenc.priors.center import Center
from autoenc.priors.mixture import Mixture
from autoenc.priors.normal import StandardNormal
from autoenc.priors.realnvp import RealNVP
from autoenc.priors.vamp import Vamp

__all__ = ["Bernoulli", "Categorical", "Center", "Mixture", "RealNVP", "StandardNormal", "Vamp"]
