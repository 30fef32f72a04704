"""FactorVAE (Kim & Mnih 2018): a critic estimates the total correlation of the code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict, weight_at
from autoenc.errors import ConfigError
from autoenc.objective import Objective
from autoenc.objectives.critic import Critic
from autoenc.verdict import of_critic


def permuted(z: Tensor) -> Tensor:
    """Permute each dimension of codes (B, *latent_shape) over the batch, independently: draws from prod_j q(z_j)."""
    rows = z.flatten(1)
    order = torch.rand_like(rows).argsort(0)
    return rows.gather(0, order).view_as(z)


class FactorVAE(Objective):
    """Two players, updated simultaneously:

        model    nll + regularizers + weight * E_q(z)[T(z)], T = log q(z) / prod_j q(z_j) as the critic estimates it:
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
        super().__init__(regularizers)
        self.weight = weight
        self.critic = Critic(latent_shape, hidden)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": model, "critic": self.critic}

    def check(self, model: Autoencoder) -> None:
        if not model.bottleneck.has_posterior:
            kind = type(model.bottleneck).__name__
            raise ConfigError("", None, f"needs a posterior; the bottleneck {kind} has none, Gaussian has one")

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        correlation = self.critic(out.code.z).mean()
        joint, rest = out.code.z.detach().tensor_split(2)
        critic = softplus(-self.critic(joint)).mean() + softplus(self.critic(permuted(rest))).mean()
        weighted = weight_at(self.weight, step) * correlation
        parts = {"total_correlation": correlation.detach(), "critic": critic.detach()}
        parts = loss.parts | {"loss": loss.parts["loss"] + weighted.detach()} | parts
        return Loss(total={"model": loss.total["model"] + weighted, "critic": critic}, parts=parts)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        won = "a larger model.objective.weight or a smaller model.players.critic.lr"
        return of_critic(numbers, won, "")  # where it cannot tell, the dimensions are independent
