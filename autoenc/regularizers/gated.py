"""Auxiliary term that trains the gate of a gated code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.errors import ConfigError


@dataclass(frozen=True)
class GateReconstruction(Regularizer):
    """nll of x given relu(gate) as the code, decoded by a frozen decoder (Rajamanoharan et al. 2024a, eq. 8).

    The step of the gate has no gradient; this term asks of the gate that its activations suffice for a reconstruction.
    It reaches neither the decoder nor the scale of the likelihood, which serve the code alone.
    """

    weight: float | Callable[[float], float] = 1.0

    auxiliary: ClassVar[bool] = True

    def check(self, model: Autoencoder) -> None:
        if "gate" not in model.bottleneck.offers:
            kind = type(model.bottleneck).__name__
            raise ConfigError("gate", None, f"needs a code with a gate (model=gated); the bottleneck is {kind}")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        with _frozen(model.decoder, model.likelihood):
            return model.nll(out.code.info["gate"], batch)  # (B,)


@contextmanager
def _frozen(*modules: nn.Module) -> Iterator[None]:
    """Compute without gradients for the parameters of the modules."""
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    for p in learning:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)
