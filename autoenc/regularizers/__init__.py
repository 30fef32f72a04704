"""Regularizers: frozen dataclasses, (model, batch, out, step) -> (B,) or (); see core.Regularizer."""

from autoenc.regularizers.auxk import AuxK
from autoenc.regularizers.gated import GateReconstruction
from autoenc.regularizers.jacobian import Jacobian
from autoenc.regularizers.kl import KL
from autoenc.regularizers.matryoshka import Matryoshka
from autoenc.regularizers.sparsity import L0, L1, KLSparsity

__all__ = ["KL", "L0", "L1", "AuxK", "GateReconstruction", "Jacobian", "KLSparsity", "Matryoshka"]
