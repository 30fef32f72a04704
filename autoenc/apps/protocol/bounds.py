"""Bounds on the log-likelihood: the evidence lower bound, and the tighter bound by importance sampling."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from autoenc.core import Batch
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run

SAMPLES = 100
AT_ONCE = 2**23  # values of the decoder output in memory at a time


@dataclass(frozen=True)
class Bounds:
    """Upper bounds (N,) on -log p(x) in nats, from the same draws of z; `nll` <= `elbo`.

    elbo: nll + KL, the negative evidence lower bound. nll: by importance sampling.
    """

    elbo: np.ndarray
    nll: np.ndarray


def bounds(run: Run, split: Split, samples: int = SAMPLES) -> Bounds:
    """Return upper bounds on -log p(x) of each example.

    w_s = p(x|z_s) p(z_s) / q(z_s|x) with z_s ~ q(z|x) for clean x and evaluation's seed. elbo is the mean of -log w,
    nll is -log(mean of w), which converges to -log p(x) as `samples` grows (Burda et al. 2016, IWAE).

    Raises:
        UserError: the code is not Gaussian.
    """
    require(samples >= 1, "samples", samples, "must be 1 or more")
    if not isinstance(run.model.encode(split.on(run.device).take(slice(0, 1))).posterior, Normal):
        raise UserError(f"{run.path}: needs Gaussian codes, such as those of model=vae")
    kind = run.spec.kind
    lengths = kind.lengths(split)
    order = torch.arange(len(split)) if lengths is None else lengths.argsort().cpu()  # sorted by length: less padding
    at_once = max(1, min(run.batch_size, AT_ONCE // (samples * kind.outputs)))
    log_w = run.over(split.subset(order), lambda batch: log_weights(run, batch, samples), at_once).double()
    elbo, nll = -log_w.mean(1), math.log(samples) - log_w.logsumexp(1)
    back = order.argsort()
    return Bounds(elbo[back].numpy(), nll[back].numpy())


def log_weights(run: Run, batch: Batch, samples: int) -> Tensor:
    """Return log p(x|z_s) + log p(z_s) - log q(z_s|x), (B, S), computed in parts that fit in memory."""
    model = run.model
    code = model.encode(batch)
    prior = model.bottleneck.prior
    assert code.posterior is not None
    assert prior is not None
    part = max(1, AT_ONCE // (len(batch) * run.spec.kind.outputs))
    parts = []
    for start in range(0, samples, part):
        z = code.posterior.sample(torch.Size([min(part, samples - start)]))  # (s, B, *latent_shape)
        ratio = prior.log_prob(z) - code.posterior.log_prob(z).flatten(2).sum(-1)
        parts.append(ratio - model.nll(z, batch))
    return torch.cat(parts).T
