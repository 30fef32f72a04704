"""Total correlation of codes, estimated in batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from autoenc.core import Autoencoder, Batch, Output, Regularizer
from autoenc.regularizers.kl import require_posterior

AT_ONCE = 2**23  # values of log q(z_ij|x_m) that are kept in memory at a time


def stratified_log_weights(size: int, num_train: int) -> Tensor:
    """Return the logarithms of weights (B, B) with E[sum_m w[i, m] q(z_i|x_m)] = q(z_i), z_i drawn from q(z|x_i).

    q(z) is the mean of q(z|x_n) over the N training examples. The example of z_i is always in the batch, which a plain
    mean over the batch counts N / B times too often. It represents itself alone: weight 1 / N. The M = B - 1 others
    represent the other N - 1: weight (N - 1) / (N M) each. Chen et al. 2018 (minibatch stratified sampling, appendix
    C.2) give M - 1 of them 1 / M and an arbitrary one the rest, (N - M) / (N M); these weights are the mean over which
    one that is, and therefore unbiased too, with less variance.
    """
    if size == 1:
        return torch.zeros(1, 1)
    weights = torch.full((size, size), (num_train - 1) / (num_train * (size - 1)))
    return weights.fill_diagonal_(1 / num_train).log()


def log_aggregate(posterior: Distribution, z: Tensor, num_train: int) -> tuple[Tensor, Tensor]:
    """Return estimates of log q(z) and of log q(z_j) of each dimension: z (B, *latent_shape) -> (B,), (B, K)."""

    def rows(z: Tensor, log_w: Tensor) -> tuple[Tensor, Tensor]:
        pairs = posterior.log_prob(z.unsqueeze(1)).flatten(2)  # (R, B, K): log q(z_i|x_m)
        return (log_w + pairs.sum(-1)).logsumexp(1), (log_w.unsqueeze(-1) + pairs).logsumexp(1)

    at_once = max(1, AT_ONCE // z.numel())
    parts = list(zip(z.split(at_once), stratified_log_weights(len(z), num_train).to(z).split(at_once), strict=True))
    if len(parts) == 1 or not torch.is_grad_enabled():
        found = [rows(*part) for part in parts]
    else:  # pairs are computed again in the backward pass, some rows at a time
        found = [checkpoint(rows, *part, use_reentrant=False) for part in parts]
    return torch.cat([joint for joint, _ in found]), torch.cat([single for _, single in found])


@dataclass(frozen=True)
class TotalCorrelation(Regularizer):
    """KL(q(z) || prod_j q(z_j)) of the aggregate posterior, 0 for independent dimensions (Chen et al. 2018).

    The mean KL of a VAE is the sum of I(x; z), the total correlation and sum_j KL(q(z_j) || p(z_j)) (eq. 2). Beside
    the KL with weight 1, a weight of beta - 1 gives the objective of beta-TCVAE (eq. 4, alpha = gamma = 1).

    The estimates of q have no bias, and their logarithms are therefore too low, more so for q(z) than for q(z_j): the
    term is below the total correlation, and negative for codes that are nearly independent; less so in larger batches.

    Args:
        num_train: number of training examples.
    """

    smallest_batch: ClassVar[int] = 2

    num_train: int
    weight: float | Callable[[float], float] = 5.0

    def check(self, model: Autoencoder) -> None:
        require_posterior(model, "total_correlation")

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        assert out.code.posterior is not None, "see check"
        log_q, log_q_j = log_aggregate(out.code.posterior, out.code.z, self.num_train)
        return log_q - log_q_j.sum(-1)  # (B,)
