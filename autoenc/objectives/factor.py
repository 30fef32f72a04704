"""FactorVAE (Kim & Mnih 2018): a critic estimates the total correlation of the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict
from autoenc.objectives.critic import Critic, WithCritic, cross_entropy, watched
from autoenc.regularizers.kl import require_posterior


def permuted(z: Tensor) -> Tensor:
    """Permute each dimension of codes (B, *latent_shape) over the batch, independently: draws from prod_j q(z_j)."""
    rows = z.flatten(1)
    order = torch.rand_like(rows).argsort(0)
    return rows.gather(0, order).view_as(z)


class FactorVAE(WithCritic):
    """Two players, updated simultaneously:

        model    nll + regularizers + weight * E_q(z)[T(z)], T = log [q(z) / prod_j q(z_j)] as the critic estimates it:
                 the total correlation (eq. 2 and 3)
        critic   -E_q(z)[log D(z)] - E_{prod_j q(z_j)}[log(1 - D(z))], with D = sigmoid(T)

    The critic's codes z are those of the first half of the batch; the permuted ones are of the second half, as in the
    paper (algorithm 2), since permutations of the same codes are not independent of them. Where the critic cannot tell,
    T = 0, and its loss is 1.386 nats.

    Args:
        weight: of the total correlation, gamma in the paper; a number or a schedule.
        hidden: widths of the critic's hidden layers.
    """

    smallest_batch: ClassVar[int] = 4

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        latent_shape: tuple[int, ...],
        weight: float | Callable[[float], float] = 35.0,
        hidden: Sequence[int] = (256, 256, 256),
    ):
        super().__init__(regularizers, Critic(latent_shape, hidden), weight)

    def check(self, model: Autoencoder) -> None:
        require_posterior(model, "")

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        seen, gradient = watched(out.code.z)
        correlation = self.critic(seen).mean()
        joint, rest = out.code.z.detach().tensor_split(2)
        dependent, permutations = self.critic(joint), self.critic(permuted(rest))
        critic = cross_entropy(dependent, permutations)
        if len(out.code.z) < self.smallest_batch:  # the last of an epoch: a single code, permuted, is itself
            return self.joined(loss, "total_correlation", correlation, 0 * critic, gradient, step)
        parts = self.health(critic, dependent, permutations) | gradient
        return self.joined(loss, "total_correlation", correlation, critic, parts, step)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        won = "a larger model.objective.weight or a smaller model.players.critic.lr"
        return self.judged(numbers, "codes and permuted ones", won)  # where it cannot tell, dimensions are independent
