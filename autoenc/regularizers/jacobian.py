"""Contractive penalty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from autoenc.core import Autoencoder, Autoregressive, Batch, Output, Regularizer
from autoenc.errors import ConfigError, require
from autoenc.parallel import BATCH_STATISTICS


def refuse_batch_statistics(term: str, network: nn.Module, noun: str) -> None:
    """Raise ConfigError if derivatives of a network are of other examples of the batch, too."""
    for name, module in network.named_modules():
        if isinstance(module, BATCH_STATISTICS):
            why = f"needs {noun} without batch statistics; its layer {name} has them: network.norm=none"
            raise ConfigError(term, None, why)


@contextmanager
def differentiable_twice(model: nn.Module) -> Iterator[None]:
    """Record gradients with kernels that have a second derivative.

    Fused attention and the recurrent layers of cuDNN have none; the latter have no first one in eval mode either.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fused = torch.backends.cudnn.enabled and not recurrent
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=fused):
        yield


def jacobian_norm(model: Autoencoder, batch: Batch, projections: int | None, create_graph: bool = True) -> Tensor:
    """Return ||dz/dx||_F^2, (B,), of the deterministic code with respect to the input of the encoder.

    Without batch statistics, one backward pass of a sum over the batch gives one row of the Jacobian of each example.
    Exact if `projections` is None: one pass for each latent dimension. Otherwise one pass for each of `projections`
    draws v ~ N(0, I), with E||J^T v||^2 = ||J||_F^2.
    """
    x = batch.input.detach().requires_grad_()
    training = model.bottleneck.training
    with differentiable_twice(model):
        model.bottleneck.eval()  # the batch has been counted already, for example as activity of units
        z = model.encode(replace(batch, corrupted=x)).mean.flatten(1)  # (B, K)
        model.bottleneck.train(training)
        if projections is None:
            vectors = torch.eye(z.shape[1], device=z.device, dtype=z.dtype)[:, None].expand(-1, len(z), -1)  # (K, B, K)
        else:
            vectors = torch.randn(projections, *z.shape, device=z.device, dtype=z.dtype)
        norm = x.new_zeros(len(x))
        for v in vectors:
            (row,) = torch.autograd.grad(z, x, grad_outputs=v, create_graph=create_graph, retain_graph=True)
            norm = norm + row.flatten(1).square().sum(-1)  # (B,)
    return norm if projections is None else norm / projections


@dataclass(frozen=True)
class Jacobian(Regularizer):
    """Squared Frobenius norm of dz/dx (Rifai et al. 2011): codes that are insensitive to small changes of x.

    Args:
        exact_up_to: largest code with an exact norm, a backward pass for each dimension; the norm of larger codes is
            estimated by random projections, without bias.
        projections: number of random vectors for each estimate.
    """

    double_backward: ClassVar[bool] = True

    weight: float | Callable[[float], float] = 0.1
    exact_up_to: int = 8
    projections: int = 1

    def __post_init__(self) -> None:
        require(self.exact_up_to >= 0, "exact_up_to", self.exact_up_to, "must be 0 or more")
        require(self.projections >= 1, "projections", self.projections, "must be 1 or more")

    def check(self, model: Autoencoder) -> None:
        if isinstance(model.decoder, Autoregressive):
            why = "needs numbers as input: token ids have no derivative; try noise=token_mask"
            raise ConfigError("jacobian", None, why)
        refuse_batch_statistics("jacobian", model.encoder, "an encoder")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        latent_dim = out.code.mean[0].numel()
        return jacobian_norm(model, batch, None if latent_dim <= self.exact_up_to else self.projections)
