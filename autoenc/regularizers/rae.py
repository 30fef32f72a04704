"""Penalties of regularized autoencoders (Ghosh et al. 2020), which have no noise and no prior."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder, Autoregressive, Batch, Output, Regularizer
from autoenc.errors import ConfigError
from autoenc.regularizers.jacobian import differentiable_twice, refuse_batch_statistics


@dataclass(frozen=True)
class CodeL2(Regularizer):
    """||z||^2 / 2, which keeps the code bounded, as the KL of a VAE does (Ghosh et al. 2020, eq. 10)."""

    weight: float | Callable[[float], float] = 1.0

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        return 0.5 * out.code.z.float().flatten(1).square().sum(-1)  # (B,)


@dataclass(frozen=True)
class DecoderL2(Regularizer):
    """||theta||^2 of the weights of the decoder, for a smooth decoder (Ghosh et al. 2020, sec. 3.1).

    Without biases, which start at the mean of the data, and embeddings of tokens, neither of which bears on smoothness.
    """

    weight: float | Callable[[float], float] = 1e-3

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        modules = [m for m in model.decoder.modules() if not isinstance(m, nn.Embedding)]
        weights = [p for m in modules for p in m.parameters(recurse=False) if p.dim() > 1]
        return torch.stack([p.float().square().sum() for p in weights]).sum()


@dataclass(frozen=True)
class DecoderJacobian(Regularizer):
    """||dx/dz||_F^2 / 2 of the reconstruction at the code of x, the gradient penalty of Ghosh et al. 2020 (sec. 3.1).

    Estimated without bias by one random projection v ~ N(0, I) for each example, E||J^T v||^2 = ||J||_F^2. The gradient
    reaches the decoder only.
    """

    double_backward: ClassVar[bool] = True

    weight: float | Callable[[float], float] = 0.1

    def check(self, model: Autoencoder) -> None:
        if isinstance(model.decoder, Autoregressive):
            raise ConfigError("decoder_jacobian", None, "needs numbers as output; use decoder_l2")
        refuse_batch_statistics("decoder_jacobian", model.decoder, "a decoder")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        with differentiable_twice(model.decoder):
            z = out.code.z.detach().requires_grad_()
            x = model.likelihood.mean(model.decode(z, batch).float())
            (row,) = torch.autograd.grad((x * torch.randn_like(x)).sum(), z, create_graph=True)
        return 0.5 * row.flatten(1).square().sum(-1)  # (B,)
