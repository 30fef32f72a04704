"""Importance weighted autoencoder (Burda et al. 2016)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.utils.checkpoint import checkpoint

from autoenc.core import Autoencoder, Batch, Code, Loss, Output, Regularizer
from autoenc.errors import ConfigError, require
from autoenc.objective import Objective
from autoenc.regularizers.kl import KL, kl_estimate, kl_per_example

MOST = 10_000  # samples
AT_ONCE = 2**23  # values of the decoder's output that are kept in memory at a time


class IWAE(Objective):
    """Minus the importance weighted bound, in place of nll + KL, plus other regularizers:

        L_k = E[log 1/k sum_s w_s],   w_s = p(x|z_s) p(z_s) / q(z_s|x),   z_1, ..., z_k ~ q(z|x)

    L_1 is the evidence lower bound, and L_k grows with k towards log p(x) (Burda et al. 2016, theorem 1). The gradient
    weighs samples by v_s = w_s / sum_r w_r. That of the parameters of the posterior has two forms with one mean:

        standard   sum_s v_s d log w_s
        dreg       sum_s v_s^2 (d log w_s / d z_s) d z_s, doubly reparametrized (Tucker et al. 2019): its
                   signal-to-noise ratio does not fall as k grows

    `nll` and `kl` are logged of single samples, as for a VAE; they are not summands of `loss`.

    Args:
        k: samples per example, in training and evaluation.
        gradient: standard or dreg; decoder and prior have the standard gradient in both.
    """

    reads_prior = "density"

    def __init__(
        self, regularizers: Mapping[str, Regularizer], k: int = 5, gradient: Literal["standard", "dreg"] = "standard"
    ):
        super().__init__(regularizers)
        require(1 <= k <= MOST, "k", k, f"must be a number of samples from 1 to {MOST:,}")
        require(gradient in ("standard", "dreg"), "gradient", gradient, "must be standard or dreg")
        self.k, self.gradient = k, gradient

    def check(self, model: Autoencoder) -> None:
        kind = type(model.bottleneck).__name__
        if not model.bottleneck.has_posterior or model.bottleneck.prior is None:
            why = f"IWAE needs a posterior and a prior; the bottleneck {kind} has none, Gaussian has both"
            raise ConfigError("", None, why)
        if model.bottleneck.symbols:
            raise ConfigError("", None, f"IWAE needs samples with a gradient; the codes of {kind} are discrete")
        for name, regularizer in self.regularizers.items():
            if isinstance(regularizer, KL):
                why = f"the importance weighted bound contains the KL already; leave out regularizer=[{name}]"
                raise ConfigError("", None, why)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, replace(out, nll=self.bound(model, batch, out)), step)
        terms = {"nll": out.nll.mean().detach(), "kl": kl_per_example(model, out.code).mean().detach()}
        return Loss(total=loss.total, parts=loss.parts | terms)

    def bound(self, model: Autoencoder, batch: Batch, out: Output) -> Tensor:
        """Return -log 1/k sum_s w_s, in nats, (B,); with the standard gradient, one of the samples is that of `out`."""
        at_once = max(1, AT_ONCE // out.params.numel())
        code, posterior = out.code, out.code.posterior
        assert posterior is not None, "see check"
        if self.gradient == "standard":  # the model has run for one of the samples
            log_w = (-out.nll - kl_estimate(model, code, code.z)).unsqueeze(0)
            if self.k > 1:
                others = posterior.rsample(torch.Size([self.k - 1]))
                log_w = torch.cat([log_w, self._log_weights(model, batch, code, others, at_once)])
            return math.log(self.k) - log_w.logsumexp(0)
        z = posterior.rsample(torch.Size([self.k]))  # (k, B, *latent_shape)
        # Through z only. The derivative of log q(z|x) by the parameters of q, of the score function, becomes
        # (v^2 - v) times that through z when it is reparametrized once more; with v of the path: v^2.
        code = replace(code, posterior=Normal(posterior.mean.detach(), posterior.stddev.detach()))
        log_w = self._log_weights(model, batch, code, z, at_once)
        if z.requires_grad:
            v = log_w.detach().softmax(0).reshape(*log_w.shape, *[1] * (z.dim() - 2))
            z.register_hook(lambda gradient: v * gradient)  # it has the factor v once, from logsumexp
        return math.log(self.k) - log_w.logsumexp(0)

    @staticmethod
    def _log_weights(model: Autoencoder, batch: Batch, code: Code, z: Tensor, at_once: int) -> Tensor:
        """Return log w (k, B) of z (k, B, *latent_shape), `at_once` samples at a time."""

        def part(z: Tensor) -> Tensor:
            return -model.nll(z, batch) - kl_estimate(model, code, z)

        parts = z.split(at_once)
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([part(each) for each in parts])
        # Activations are computed again in the backward pass, one part at a time.
        return torch.cat([checkpoint(part, each, use_reentrant=False) for each in parts])
