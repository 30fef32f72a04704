"""Critic of codes, and what objectives with a critic share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from autoenc.core import Autoencoder, Loss, Regularizer, weight_at
from autoenc.errors import require
from autoenc.objective import Objective


class Critic(nn.Module):
    """Codes (B, *latent_shape) -> (B,) logits; see the objectives for the two classes.

    Args:
        hidden: widths of the hidden layers, with leaky ReLUs between.
    """

    def __init__(self, latent_shape: tuple[int, ...], hidden: Sequence[int] = (128, 128)):
        super().__init__()
        require(len(hidden) > 0 and min(hidden) >= 1, "hidden", hidden, "must be a list of widths, each 1 or more")
        widths = [math.prod(latent_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).squeeze(1).float()


class WithCritic(Objective):
    """Two players: the model minimizes a further term that the critic gives, and the critic minimizes its own loss.

    Args:
        weight: of the term of the model; a number or a schedule.
        hidden: widths of the critic's hidden layers.
    """

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        latent_shape: tuple[int, ...],
        weight: float | Callable[[float], float],
        hidden: Sequence[int],
    ):
        super().__init__(regularizers)
        self.weight = weight
        self.critic = Critic(latent_shape, hidden)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": model, "critic": self.critic}

    def joined(self, loss: Loss, name: str, term: Tensor, critic: Tensor, step: float) -> Loss:
        """Add the weighted term to the loss of the model, and the loss of the critic, both scalars."""
        weighted = weight_at(self.weight, step) * term
        parts = {name: term.detach(), "critic": critic.detach()}
        parts = loss.parts | {"loss": loss.parts["loss"] + weighted.detach()} | parts
        return Loss(total={"model": loss.total["model"] + weighted, "critic": critic}, parts=parts)
