"""One training step, the same for every variant, and the reading of its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoenc.core import Autoencoder, Batch, Objective
from autoenc.errors import NotFinite


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
        optimizers[player].zero_grad(set_to_none=True)
        total.backward(inputs=parameters_of(optimizers[player]), retain_graph=i < len(loss.total))
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
    """Parts of the loss, kept on the device and read once in LOG_EVERY steps; means over examples of an epoch."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: list[float] = []  # over the examples of the epoch so far
        self.count = 0
        self._pending: list[tuple[int, int, Tensor]] = []

    def add(self, step: int, examples: int, parts: dict[str, Tensor]) -> None:
        if list(parts) != self.names:  # an objective may leave a player out of some steps, but not rename terms
            self.names = self.names or list(parts)
            self.sums = self.sums or [0.0] * len(self.names)
        self._pending.append((step, examples, torch.stack([parts[name] for name in self.names])))

    def read(self) -> dict[str, float]:
        """Means over the steps since the last reading; NotFinite where a term of one was not finite."""
        if not self._pending:
            return {}
        rows = torch.stack([row for _, _, row in self._pending]).double().tolist()
        window = [0.0] * len(self.names)
        for (step, examples, _), row in zip(self._pending, rows, strict=True):
            if broken := [name for name, value in zip(self.names, row, strict=True) if not math.isfinite(value)]:
                terms = [name for name in broken if name != "loss"] or broken
                raise NotFinite(f"step {step}: {', '.join(terms)} is not finite")
            self.sums = [s + examples * value for s, value in zip(self.sums, row, strict=True)]
            window = [w + value / len(rows) for w, value in zip(window, row, strict=True)]
            self.count += examples
        self._pending = []
        return dict(zip(self.names, window, strict=True))

    def epoch(self) -> dict[str, float]:
        """Means over the examples since the last call."""
        self.read()
        means = {name: s / max(1, self.count) for name, s in zip(self.names, self.sums, strict=True)}
        self.sums, self.count = [0.0] * len(self.names), 0
        return means

    def state_dict(self) -> dict[str, Any]:
        return {"names": self.names, "sums": self.sums, "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.names, self.sums, self.count = state["names"], state["sums"], state["count"]
