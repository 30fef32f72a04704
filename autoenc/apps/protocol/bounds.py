"""Bounds on the log-likelihood: the evidence lower bound, and the tighter bound by importance sampling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoenc.core import Batch
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run
from autoenc.regularizers.kl import kl_estimate

SAMPLES = 100
AT_ONCE = 2**23  # values of the decoder's output, or of codes, in memory at a time


@dataclass(frozen=True)
class Bounds:
    """Upper bounds (N,) on -log p(x) in nats, from the same draws of z; `nll` <= `elbo`.

    elbo: nll + KL, the negative evidence lower bound. nll: by importance sampling.
    """

    elbo: np.ndarray
    nll: np.ndarray


def bounded(run: Run) -> bool:
    """Return whether the model has a bound on log p(x): a posterior and a prior."""
    return run.model.bottleneck.has_posterior and run.model.bottleneck.prior is not None


def bounds(run: Run, split: Split, samples: int = SAMPLES) -> Bounds:
    """Return upper bounds on -log p(x) of each example.

    w_s = p(x|z_s) p(z_s) / q(z_s|x) with z_s ~ q(z|x) for clean x and evaluation's seed. elbo is the mean of -log w,
    nll is -log(mean of w), which converges to -log p(x) as `samples` grows (Burda et al. 2016, IWAE). Both are
    summed up part by part, so that memory does not grow with `samples`.

    A model that is given labels has bounds on -log p(x|y). Of one that infers them, y is latent as z is, with a uniform
    p(y): nll is minus the log of the mean over classes, elbo that of `SemiSupervised`; C times the cost.

    Raises:
        UserError: the code has no posterior.
    """
    require(samples >= 1, "samples", samples, "must be 1 or more")
    if not bounded(run):
        raise UserError(f"{run.path}: needs a posterior and a prior, such as the Gaussian codes of model=vae")
    kind = run.spec.kind
    lengths = kind.lengths(split)
    order = torch.arange(len(split)) if lengths is None else lengths.argsort().cpu()  # sorted by length: less padding
    width = max(kind.outputs, run.latent_dim)
    of_batch = run.over(
        split.subset(order), lambda batch: _of_batch(run, batch, samples, width), min(run.batch_size, fit(width))
    )
    elbo, nll = of_batch[order.argsort()].T.numpy()
    return Bounds(elbo, nll)


def fit(width: int) -> int:
    """Return how many rows of `width` values are in memory at a time."""
    return max(1, AT_ONCE // width)


def weighted(
    run: Run, batch: Batch, samples: int, at_once: int, y: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield z_s ~ q(z|x), (S, B, *latent_shape), with log w_s, (S, B) float64, at most `at_once` samples at a time.

    Args:
        y: (B,) labels of a conditional model; None: those that its condition has.
    """
    given = () if y is None else (y,)
    code = run.model.encode(batch, *given)
    assert code.posterior is not None
    for start in range(0, samples, at_once):
        z = code.posterior.sample(torch.Size([min(at_once, samples - start)]))
        yield z, -(run.model.nll(z, batch, *given) + kl_estimate(run.model, code, z)).double()


def _of_batch(run: Run, batch: Batch, samples: int, width: int) -> Tensor:
    """Return elbo and nll, (B, 2)."""
    condition = run.model.condition
    if condition is None or not condition.inferred:
        return _of_labels(run, batch, samples, width)
    log_q = condition.log_q(run.model.visible(batch)).double()  # (B, C)
    labels = torch.arange(condition.classes, device=log_q.device)[:, None].expand(-1, len(batch))
    elbo, nll = torch.stack([_of_labels(run, batch, samples, width, y) for y in labels], 1).unbind(2)  # (B, C) each
    prior = math.log(condition.classes)
    return torch.stack([(log_q.exp() * (elbo + prior + log_q)).sum(1), prior - (-nll).logsumexp(1)], 1)


def _of_labels(run: Run, batch: Batch, samples: int, width: int, y: Tensor | None = None) -> Tensor:
    """Return minus the mean of log w and minus the log of the mean of w, (B, 2), given labels."""
    total = torch.full((len(batch),), -torch.inf, dtype=torch.float64, device=batch.x.device)  # log of the sum of w
    sums = torch.zeros_like(total)  # of log w
    for _, log_w in weighted(run, batch, samples, fit(len(batch) * width), y):
        total, sums = torch.logaddexp(total, log_w.logsumexp(0)), sums + log_w.sum(0)
    return torch.stack([-sums / samples, math.log(samples) - total], 1)
