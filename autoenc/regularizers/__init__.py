"""Regularizers: frozen dataclasses, (model, batch, out, step) -> (B,) or (); see core.Regularizer."""

from autoenc.regularizers.auxk import AuxK
from autoenc.regularizers.jacobian import Jacobian
from autoenc.regularizers.kl import KL
from autoenc.regularizers.sparsity import L1, KLSparsity

__all__ = ["KL", "L1", "AuxK", "Jacobian", "KLSparsity"]
