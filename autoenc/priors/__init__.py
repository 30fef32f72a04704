"""Priors p(z) of codes."""

from autoenc.priors.categorical import Categorical
from autoenc.priors.normal import StandardNormal

__all__ = ["Categorical", "StandardNormal"]
