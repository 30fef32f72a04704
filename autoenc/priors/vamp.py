"""VampPrior: a mixture of the posteriors of learnt pseudo-inputs (Tomczak & Welling 2018)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc.core import Autoencoder, Batch
from autoenc.errors import ConfigError, require
from autoenc.priors.mixture import GaussianParts


class Vamp(GaussianParts):
    """p(z) = 1/C sum_c q(z|u_c), q the encoder of the model and u_c learnt pseudo-inputs (eq. 9).

    The KL trains the pseudo-inputs, and through them the encoder. They start at training examples and stay in the range
    of the data.

    Args:
        components: pseudo-inputs.
    """

    def __init__(
        self,
        latent_shape: tuple[int, ...],
        input_shape: tuple[int, ...],
        low: float,
        high: float,
        kind: Any,
        components: int = 100,
    ):
        super().__init__(latent_shape, components)
        require(kind.continuous, "", None, "learns pseudo-inputs, which are numbers, not tokens; prior=mixture")
        self.low, self.high = low, high
        self.pseudo_inputs = nn.Parameter(low + (high - low) * torch.rand(components, *input_shape))

    def bind(self, model: Autoencoder) -> None:
        if model.condition is not None:
            raise ConfigError("", None, "encodes pseudo-inputs, which have no labels; prior=mixture or realnvp")
        if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.encoder.modules()):
            why = "encodes pseudo-inputs, which would enter the statistics of network.norm=batch; network.norm=layer"
            raise ConfigError("", None, why)
        self._model = [model]  # in a list: the encoder is not registered a second time

    def start(self, rows: Callable[[int], Tensor], codes: Callable[[int], Tensor], say: Callable[[str], None]) -> None:
        x = rows(self.components)  # fewer where training files are gone (apps/untrained.py)
        with torch.no_grad():
            self.pseudo_inputs[: len(x)] = x

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self._model[0].encode(Batch(self.pseudo_inputs.clamp(self.low, self.high))).posterior
        assert isinstance(posterior, Normal)
        weights = torch.full((self.components,), -math.log(self.components), device=posterior.mean.device)
        return weights, posterior.mean.flatten(1), posterior.stddev.flatten(1)
