"""Objectives beyond nll and regularizers; see objective.Objective."""

from autoenc.objectives.adversarial import Adversarial
from autoenc.objectives.factor import FactorVAE
from autoenc.objectives.iwae import IWAE
from autoenc.objectives.semi_supervised import SemiSupervised

__all__ = ["IWAE", "Adversarial", "FactorVAE", "SemiSupervised"]
