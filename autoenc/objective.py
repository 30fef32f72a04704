"""What is minimised: the objective, its terms, one training step that holds for every variant, and its numbers."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, weight_at
from autoenc.errors import NotFinite


class Objective(nn.Module):
    """Mean nll + the bottleneck's own losses + sum of weight(step) * regularizer.

    `loss` is this sum without auxiliary regularizers, which help training and say nothing of the model.

    `step` is the number of the training step, or `math.inf` in evaluation: schedules then stand at their end,
    so that the losses of two evaluations can be compared while a weight is still warming up.

    An objective that adds terms or players overrides `losses`. Constructors ask for sizes by name: latent_shape,
    latent_dim, input_shape, total_steps, regularizers.
    """

    def __init__(self, regularizers: Mapping[str, Regularizer]):
        super().__init__()
        self.regularizers = dict(regularizers)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        """The parameters that each player's loss is minimised over: name -> module. They share none."""
        return {"model": model}

    def check(self, model: Autoencoder) -> None:
        """ConfigError where the objective cannot work with the model."""

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        """The loss of each player and the terms that are logged.

        Args:
            batch: corrupted already, in training. out: what the model returns for it.
        """
        parts = {"nll": out.nll.mean()} | {name: term.mean() for name, term in out.code.losses.items()}
        loss = functools.reduce(torch.add, parts.values())
        auxiliary: list[Tensor] = []
        for name, regularizer in self.regularizers.items():
            parts[name] = regularizer(model, batch, out, step).mean()
            weighted = weight_at(regularizer.weight, step) * parts[name]
            if regularizer.auxiliary:
                auxiliary.append(weighted)
            else:
                loss = loss + weighted
        total = functools.reduce(torch.add, auxiliary, loss)
        parts = {"loss": loss} | parts
        return Loss(total={"model": total}, parts={name: term.detach() for name, term in parts.items()})

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        """Corrupt the batch (in training mode), run the model once, return `losses`."""
        if model.training and batch.corrupted is None:
            batch = model.corrupt(batch)  # here, so that the regularizers see the input that the code came from
        return self.losses(model, batch, model(batch), step)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """The parameters that an optimizer updates."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def train_step(
    model: Autoencoder,
    objective: Objective,
    batch: Batch,
    step: int,
    optimizers: Mapping[str, Optimizer],
    clip: float | None = None,
) -> dict[str, Tensor]:
    """One update of every player in the loss; its parts, detached.

    `backward(inputs=...)` is the point: one player's loss cannot reach another player's parameters, even where
    an author forgets a detach. The updates are simultaneous.
    """
    loss = objective(model, batch, step)
    for i, (player, total) in enumerate(loss.total.items(), 1):
        parameters = parameters_of(optimizers[player])
        for p in parameters:
            p.grad = None  # zero_grad() does this, and as much again for the profiler
        # A single player owns all that learns (build.py asserts it): nothing to keep apart, and a tenth faster.
        total.backward(inputs=parameters if len(optimizers) > 1 else None, retain_graph=i < len(loss.total))
    for player in loss.total:
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters_of(optimizers[player]), clip)
        optimizers[player].step()
    return loss.parts


def gradient_norm(optimizers: Mapping[str, Optimizer]) -> float:
    """The Euclidean norm of all gradients of the last step (after clipping, where there is clipping)."""
    grads = [p.grad for o in optimizers.values() for p in parameters_of(o) if p.grad is not None]
    return float(nn.utils.get_total_norm(grads)) if grads else 0.0


class Meter:
    """Parts of the loss, kept on the device and read now and then; means over the examples of an epoch.

    A term may be missing from some steps (an objective may leave a player out): it is averaged over the others.
    """

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}  # name -> sum over the examples of the epoch so far, their number
        self._pending: list[tuple[int, int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, examples: int, parts: dict[str, Tensor]) -> None:
        """Keep the parts of a step without waiting for the device."""
        self._pending.append((step, examples, tuple(parts), torch.stack(list(parts.values()))))

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading; NotFinite where a term of one was not finite."""
        if not self._pending:
            return {}
        values = torch.cat([row for *_, row in self._pending]).double().tolist()  # one synchronisation for all
        window: dict[str, list[float]] = {}
        position = 0
        for step, examples, names, _ in self._pending:
            row = dict(zip(names, values[position : position + len(names)], strict=True))
            position += len(names)
            if broken := [name for name, value in row.items() if not math.isfinite(value)]:
                terms = [name for name in broken if name != "loss"] or broken
                raise NotFinite(f"step {step}: {', '.join(terms)} is not finite")
            for name, value in row.items():
                for sums in (window, self.sums):
                    total, count = sums.get(name, (0.0, 0))
                    sums[name] = [total + examples * value, count + examples]
        self._pending = []
        return {name: total / count for name, (total, count) in window.items()}

    def epoch(self) -> dict[str, float]:
        """Means over the examples since the last call."""
        self.read()
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """What was summed up so far."""
        return {"sums": {name: list(value) for name, value in self.sums.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on summing from there."""
        self.sums = {name: list(value) for name, value in state["sums"].items()}
