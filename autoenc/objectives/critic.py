"""Critic of codes, and what objectives with a critic share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from autoenc.core import Autoencoder, Loss, Regularizer, Verdict, weight_at
from autoenc.errors import require
from autoenc.objective import Objective
from autoenc.verdict import LOST, WON, of_critic

MEMORY = 50  # steps of the moving average of the critic's accuracy


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


def cross_entropy(real: Tensor, made: Tensor) -> Tensor:
    """Return the loss of a critic from its logits of real and of made-up examples: 2 log 2 where it cannot tell."""
    return softplus(-real).mean() + softplus(made).mean()


@torch.no_grad()
def accuracy(real: Tensor, made: Tensor) -> Tensor:
    """Return the fraction of two sets that logits tell apart, each set with half the weight; 0 is half right."""
    return 0.5 + (real.sign().mean() - made.sign().mean()) / 4


def watched(made: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return made-up examples (B, ...) for the generator's term, and a part of the loss that its gradient fills in.

    generator_gradient: norm of the gradient of that term, with its weight, with respect to one example; the mean over
    the batch. A view of the examples, which only this term reads, receives it without a backward pass of its own.
    """
    if not made.requires_grad:
        return made, {}
    seen, norm = made.view_as(made), torch.zeros((), device=made.device)

    def keep(gradient: Tensor) -> None:  # of a mean over the batch: the sum over examples is the mean of their norms
        norm.copy_(gradient.detach().flatten(1).float().norm(dim=1).sum())

    seen.register_hook(keep)
    return seen, {"generator_gradient": norm}


class WithCritic(Objective):
    """An objective in which the generator minimizes a term that a critic gives, and the critic a loss of its own.

    A record of training steps, for `diagnosis`, is saved with the objective: `recent`, a moving average of the critic's
    accuracy, and `won` and `lost`, the number of steps for which it has been above 0.95 or below 0.55.

    Args:
        weight: of the term of the generator; a number or a schedule.
    """

    recent: Tensor
    won: Tensor
    lost: Tensor

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        critic: nn.Module,
        weight: float | Callable[[float], float] = 1.0,
    ):
        super().__init__(regularizers)
        self.weight = weight
        self.critic = critic
        self.register_buffer("recent", torch.tensor(0.5))
        self.register_buffer("won", torch.tensor(0))
        self.register_buffer("lost", torch.tensor(0))
        self.register_load_state_dict_pre_hook(_without_record)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": model, "critic": self.critic}

    def health(self, loss: Tensor, real: Tensor, made: Tensor) -> dict[str, Tensor]:
        """Return `critic` and `critic_accuracy`, parts of the loss, from logits; in training, keep the record."""
        share = accuracy(real, made)
        if self.training:
            self.recent += (share - self.recent) / MEMORY
            self.won.copy_((self.won + 1) * (self.recent > WON))
            self.lost.copy_((self.lost + 1) * (self.recent < LOST))
        return {"critic": loss.detach(), "critic_accuracy": share}

    def joined(
        self, loss: Loss, name: str, term: Tensor, critic: Tensor, parts: dict[str, Tensor], step: float
    ) -> Loss:
        """Add the weighted term to the loss of the model, and the loss of the critic, both scalars.

        `loss`, which chooses the weights that are kept, is without the term: the critic changes from step to step.

        Args:
            parts: further ones.
        """
        weighted = weight_at(self.weight, step) * term
        parts = loss.parts | {name: term.detach()} | parts
        return Loss(total={"model": loss.total["model"] + weighted, "critic": critic}, parts=parts)

    def judged(self, numbers: Mapping[str, float], sets: str, won: str, lost: str = "", differ: str = "") -> Verdict:
        """Return whether the critic has won or lost outright for many steps; see `of_critic`."""
        steps = int(self.won), int(self.lost)
        return of_critic(numbers["critic_accuracy"], steps, sets, won, lost, differ)


def _without_record(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let runs load that were trained before there was a record."""
    for name in ("recent", "won", "lost"):
        state.setdefault(prefix + name, getattr(module, name))
