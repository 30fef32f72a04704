"""Objectives beyond nll and regularizers; see objective.Objective."""

from autoenc.objectives.adversarial import Adversarial
from autoenc.objectives.factor import FactorVAE
from autoenc.objectives.iwae import IWAE
from autoenc.objectives.masked import Masked
from autoenc.objectives.one_class import DeepSAD, OneClass
from autoenc.objectives.semi_supervised import SemiSupervised
from autoenc.objectives.vaegan import VAEGAN
from autoenc.objectives.vqgan import VQGAN

__all__ = ["IWAE", "VAEGAN", "VQGAN", "Adversarial", "DeepSAD", "FactorVAE", "Masked", "OneClass", "SemiSupervised"]
