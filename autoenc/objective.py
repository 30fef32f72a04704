"""The objective, the training step of all models, and means of the logged terms."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoenc import parallel
from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict, weight_at
from autoenc.data.kinds.kind import Kind
from autoenc.data.split import Split
from autoenc.errors import NotFinite


class Objective(nn.Module):
    """Mean nll + the bottleneck's own losses + sum of weight(step) * regularizer.

    `loss` is this sum without what only helps training: auxiliary regularizers, the losses of the bottleneck, such as
    commitment to a codebook, and terms of critics.

    `step` is the number of the training step, or `math.inf` in evaluation: schedules then have their final value, and
    losses are comparable while a weight is still warming up.

    An objective that adds terms or players overrides `losses`. Constructors ask for sizes by name: latent_shape,
    latent_dim, input_shape, total_steps, num_train, regularizers; one that reads parts of the model, for `model`.
    """

    smallest_batch: ClassVar[int] = 1  # examples that the losses need
    score: ClassVar[str | None] = None  # the anomaly score that it trains; None: that of the kind of data
    judges_code: ClassVar[bool] = False  # whether `diagnosis` is all there is to say about the code
    reads_prior: ClassVar[str] = ""  # density or samples, where the objective reads the prior itself; see `Regularizer`
    infers_labels: ClassVar[bool] = False  # whether it trains a condition that infers labels
    units: ClassVar[Mapping[str, str]] = {}  # of its terms, where they are not those of metric_table
    meaningless: ClassVar[tuple[str, ...]] = ()  # metrics of the code that say nothing where it is trained so
    anomalies: tuple[str, ...] = ()  # names of classes that it trains as anomalies

    def __init__(self, regularizers: Mapping[str, Regularizer]):
        super().__init__()
        self.regularizers = dict(regularizers)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        """Return the module whose parameters minimize the loss of each player; players share no parameters."""
        return {"model": model}

    def networks(self) -> list[nn.Module]:
        """Return modules of its own that treat examples one by one, for processes to divide; see parallel.py."""
        return []

    def check(self, model: Autoencoder) -> None:
        """Raise ConfigError if the objective does not support the model."""

    @classmethod
    def needed(cls, kind: Kind) -> str:
        """Return what examples the objective needs, if it does not support those of a kind of data."""
        return ""

    def start(self, train: Split, say: Callable[[str], None]) -> None:
        """Train what the objective needs beforehand, once, before the first step.

        Args:
            train: the training split. say: prints a line.
        """

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        """Return the loss of each player and the terms that are logged.

        Args:
            batch: corrupted, in training. out: the output of the model for it.
        """
        loss, own = out.nll.mean(), {name: term.mean() for name, term in out.code.losses.items()}
        parts, auxiliary = {"nll": loss} | own, list(own.values())
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

    def show(self, model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
        """Return versions (B, *shape) of examples that show what the objective does, by name; empty for no figure."""
        return {}

    def of_all(self, means: dict[str, float]) -> dict[str, float]:
        """Return metrics of all examples, given the means over them of the terms in evaluation mode: ratios and
        standard deviations are no means of those of batches."""
        return means

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict | None:
        """Return what the metrics of a trained model say about its players and terms; None: nothing."""
        return None

    def corrupted(self, model: Autoencoder, batch: Batch) -> Batch:
        """Return the batch as `losses` is given it: corrupted, in training mode."""
        return model.corrupt(batch) if model.training and batch.corrupted is None else batch

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        """Corrupt the batch (in training mode), run the model once, return `losses`."""
        batch = self.corrupted(model, batch)  # here, so that the regularizers see the input that the code came from
        return self.losses(model, batch, model(batch), step)


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """Return the parameters that an optimizer updates."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def train_step(
    model: Autoencoder,
    objective: Objective,
    batch: Batch,
    step: int,
    optimizers: Mapping[str, Optimizer],
    clip: float | None = None,
) -> dict[str, Tensor]:
    """Update every player in the loss, and return the parts of the loss, detached.

    With `backward(inputs=...)`, the loss of one player cannot reach the parameters of another, even if a detach is
    missing. The updates are simultaneous.
    """
    loss = objective(model, batch, step)
    for i, (player, total) in enumerate(loss.total.items(), 1):
        parameters = parameters_of(optimizers[player])
        for p in parameters:
            p.grad = None  # as zero_grad(), without its overhead for the profiler
        # A single player has all parameters (build.py asserts it); without `inputs`, steps are a tenth faster.
        total.backward(inputs=parameters if len(optimizers) > 1 else None, retain_graph=i < len(loss.total))
        parallel.average(p.grad for p in parameters)
    apply_gradients({player: optimizers[player] for player in loss.total}, clip)
    return loss.parts


def apply_gradients(optimizers: Mapping[str, Optimizer], clip: float | None) -> None:
    """Update the parameters of every player, whose gradients are clipped to the norm `clip`."""
    for optimizer in optimizers.values():
        if clip is not None:
            nn.utils.clip_grad_norm_(parameters_of(optimizer), clip)
        optimizer.step()


def gradient_norm(optimizers: Mapping[str, Optimizer]) -> float:
    """Return the Euclidean norm of all gradients of the last step, after clipping."""
    grads = [p.grad for o in optimizers.values() for p in parameters_of(o) if p.grad is not None]
    return float(nn.utils.get_total_norm(grads)) if grads else 0.0


class Meter:
    """Means of the parts of the loss; values stay on the device until they are read.

    A term that is missing in some steps is averaged over the others.
    """

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = {}  # name -> sum over the examples of the epoch so far, their number
        self._pending: list[tuple[int, int, tuple[str, ...], Tensor]] = []

    def add(self, step: int, examples: int, parts: dict[str, Tensor]) -> None:
        """Add the parts of a step without synchronizing with the device."""
        self._pending.append((step, examples, tuple(parts), torch.stack(list(parts.values()))))

    def read(self) -> dict[str, float]:
        """Return means over the steps since the last call; NotFinite if a term was not finite."""
        window: dict[str, list[float]] = {}
        for _, examples, row in self._settled():
            for name, value in row.items():
                for sums in (window, self.sums):
                    total, count = sums.get(name, (0.0, 0))
                    sums[name] = [total + examples * value, count + examples]
        self._pending = []
        return {name: total / count for name, (total, count) in window.items()}

    def _settled(self) -> list[tuple[int, int, dict[str, float]]]:
        """Step, examples and parts of each step since the last reading, with one synchronisation for all."""
        if not self._pending:
            return []
        device = self._pending[-1][-1].device  # those of a checkpoint are on the CPU
        values = iter(torch.cat([row.to(device) for *_, row in self._pending]).double().tolist())
        settled = [(step, count, {name: next(values) for name in names}) for step, count, names, _ in self._pending]
        for step, _, row in settled:
            if broken := [name for name, value in row.items() if not math.isfinite(value)]:
                terms = [name for name in broken if name != "loss"] or broken
                raise NotFinite(f"step {step}: {', '.join(terms)} is not finite")
        return settled

    def epoch(self) -> dict[str, float]:
        """Return means over the examples since the last call."""
        self.read()
        means = {name: total / count for name, (total, count) in self.sums.items()}
        self.sums = {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return the sums of the epoch and the steps since the last call of `read`; NotFinite as in `read`."""
        return {"sums": {name: list(value) for name, value in self.sums.items()}, "pending": self._settled()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums."""
        self.sums = {name: list(value) for name, value in state["sums"].items()}
        for step, examples, row in state.get("pending", []):
            self.add(step, examples, {name: torch.tensor(value) for name, value in row.items()})
