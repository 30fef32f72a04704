"""Regularizers: frozen dataclasses, (model, batch, out, step) -> (B,) or (); see core.Regularizer."""

from autoenc.regularizers.auxk import AuxK
from autoenc.regularizers.gated import GateReconstruction
from autoenc.regularizers.jacobian import Jacobian
from autoenc.regularizers.kl import KL
from autoenc.regularizers.matryoshka import Matryoshka
from autoenc.regularizers.mmd import MMD
from autoenc.regularizers.rae import CodeL2, DecoderJacobian, DecoderL2
from autoenc.regularizers.sparsity import L0, L1, KLSparsity
from autoenc.regularizers.total_correlation import TotalCorrelation

__all__ = [
    "KL",
    "L0",
    "L1",
    "MMD",
    "AuxK",
    "CodeL2",
    "DecoderJacobian",
    "DecoderL2",
    "GateReconstruction",
    "Jacobian",
    "KLSparsity",
    "Matryoshka",
    "TotalCorrelation",
]
