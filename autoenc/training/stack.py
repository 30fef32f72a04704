"""Several models of the same shapes as one: stacked parameters, and their gradients by one call of `torch.vmap`.

`torch.vmap` cannot draw for each model what it draws alone. What is random is drawn outside of it: the noise of
the batches, and the numbers that the losses draw, whose calls are recorded once for each shape of a batch.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from autoenc.core import Autoencoder, Batch, Loss, weight_at
from autoenc.objective import Objective
from autoenc.seeds import seeded
from autoenc.training import checkpoint

# Functions that draw numbers which do not depend on values of their arguments.
RANDOM: tuple[Callable[..., Any], ...] = (
    *(torch.rand, torch.randn, torch.randint, torch.randperm),
    *(torch.rand_like, torch.randn_like, torch.randint_like),
    *(torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.exponential_),
)


class Random:
    """The random numbers of a model: a context in which the generators of torch are its own. It leaves them so."""

    def __init__(self, device: torch.device, seed: int = 0):
        self.device = device
        with seeded(seed, device):
            self.state = checkpoint.rng_state(device)

    def __enter__(self) -> None:
        checkpoint.set_rng_state(self.state, self.device)

    def __exit__(self, *exc: object) -> None:
        self.state = checkpoint.rng_state(self.device)


class _Changed(Exception):
    """The model draws other numbers than before."""


@dataclasses.dataclass(frozen=True)
class _Draw:
    """A call of a random function."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __call__(self) -> Tensor:
        args, kwargs = tree_map_only(Tensor, torch.empty_like, (self.args, self.kwargs))
        return self.function(*args, **kwargs)


class _Recorder(TorchFunctionMode):
    """Notes the calls of random functions."""

    def __init__(self) -> None:
        super().__init__()
        self.draws: list[_Draw] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in RANDOM:
            self.draws.append(_Draw(func, *tree_map_only(Tensor, Tensor.detach, (args, kwargs or {}))))
        return func(*args, **(kwargs or {}))


class _Player(TorchFunctionMode):
    """Returns numbers that were drawn before instead of calling random functions."""

    def __init__(self, draws: Sequence[_Draw], values: Sequence[Tensor]):
        super().__init__()
        self.left = list(zip(draws, values, strict=True))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in RANDOM:
            return func(*args, **(kwargs or {}))
        if not self.left or self.left[0][0].function is not func:
            raise _Changed("draws other random numbers at once than alone")
        return self.left.pop(0)[1]


class _Losses(nn.Module):
    """Model and objective as one module: a corrupted batch to the loss."""

    def __init__(self, model: Autoencoder, objective: Objective):
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Batch, step: int, weights: Mapping[str, Tensor]) -> Loss:
        terms = self.objective.regularizers
        given = {name: dataclasses.replace(terms[name], weight=_constant(value)) for name, value in weights.items()}  # type: ignore[type-var]
        self.objective.regularizers = terms | given
        try:
            return self.objective(self.model, batch, step)
        finally:
            self.objective.regularizers = terms


def _constant(value: Tensor) -> Callable[[float], Any]:
    return lambda step: value


class Stack:
    """Models and objectives of the same shapes whose parameters and buffers are views of stacked ones.

    Args:
        parts: model and objective of each run.
    """

    def __init__(self, parts: Sequence[tuple[Autoencoder, Objective]]):
        modules = [_Losses(*each) for each in parts]
        self.parts, self.first = parts, modules[0]
        self.draws: dict[torch.Size, list[_Draw]] = {}  # by the shape of a batch
        self.weights: dict[str, tuple[list[float], Tensor]] = {}  # the last weights of regularizers, and on the device
        self.parameters = {name: _stacked(each) for name, each in _named(nn.Module.named_parameters, modules)}
        self.buffers = {name: _stacked(each) for name, each in _named(nn.Module.named_buffers, modules)}
        self.own = [[p for p in module.parameters() if p.requires_grad] for module in modules]
        self.learning = [p for p in self.parameters.values() if p.requires_grad]

    def backward(
        self, batches: Sequence[Batch], step: int, randoms: Sequence[Random], precision: AbstractContextManager[Any]
    ) -> list[dict[str, Tensor]]:
        """Compute the gradients of all runs, and return the parts of the loss of each.

        Args:
            batches: uncorrupted, of the same shape. randoms: the generators of the runs.
        """
        before = [random.state for random in randoms]
        for again in (False, True):
            try:
                with precision:
                    totals, parts = self._losses(batches, step, randoms)
                break
            except _Changed:  # the model draws other numbers at this step than before
                if again:
                    raise
                del self.draws[batches[0].x.shape]
                for random, state in zip(randoms, before, strict=True):
                    random.state = state
        (total,) = totals.values()
        for p in self.learning:
            p.grad = None
        total.sum().backward()
        grads = [[None] * len(self.parts) if p.grad is None else p.grad.unbind() for p in self.learning]
        for own, of_run in zip(self.own, zip(*grads, strict=True), strict=True):
            for p, grad in zip(own, of_run, strict=True):
                p.grad = grad
        rows = torch.stack([part.detach() for part in parts.values()], 1).unbind()  # (P,) each
        return [dict(zip(parts, row.unbind(), strict=True)) for row in rows]

    def _losses(
        self, batches: Sequence[Batch], step: int, randoms: Sequence[Random]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the losses of the players and the parts, (R,) each."""
        shape, corrupted, drawn = batches[0].x.shape, [], []
        for (model, objective), batch, random in zip(self.parts, batches, randoms, strict=True):
            with random:
                corrupted.append(objective.corrupted(model, batch))
                if shape not in self.draws:
                    self.draws[shape] = self._record(corrupted[0], step)
                drawn.append([draw() for draw in self.draws[shape]])
        draws, values = self.draws[shape], [torch.stack(each) for each in zip(*drawn, strict=True)]

        def one(parameters: Any, buffers: Any, inputs: Any, values: Any, weights: Any) -> Any:
            with _Player(draws, values) as player:
                loss = functional_call(self.first, (parameters, buffers), (Batch(**inputs), step, weights))
            if player.left:
                raise _Changed("draws fewer random numbers at once than alone")
            return loss.total, loss.parts

        weights = self._weights(step, batches[0].x.device)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")  # of operations without a rule
            return torch.vmap(one)(self.parameters, self.buffers, _joined(corrupted), values, weights)

    def _weights(self, step: int, device: torch.device) -> dict[str, Tensor]:
        """Return the weights of the regularizers that are not the same in all runs, (R,) each."""
        found = {}
        for name in self.first.objective.regularizers:
            values = [weight_at(objective.regularizers[name].weight, step) for _, objective in self.parts]
            if len(set(values)) > 1:
                if self.weights.get(name, ([], None))[0] != values:
                    self.weights[name] = values, torch.tensor(values, device=device)
                found[name] = self.weights[name][1]
        return found

    def _record(self, batch: Batch, step: int) -> list[_Draw]:
        """Return the random numbers that the loss of a corrupted batch draws."""
        first = {name: p.detach()[0] for name, p in self.parameters.items()}
        buffers = {name: buffer[0].clone() for name, buffer in self.buffers.items()}
        devices = [batch.x.device] if batch.x.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.enable_grad(), _Recorder() as recorder:
            functional_call(self.first, (first, buffers), (batch, step, {}))
        return recorder.draws


def _named(names: Callable[[nn.Module], Iterator[tuple[str, Any]]], modules: Sequence[nn.Module]) -> Iterator[Any]:
    """Yield the name and the tensors of all modules."""
    for each in zip(*map(names, modules), strict=True):
        yield each[0][0], [tensor for _, tensor in each]


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors stacked, and make them views of the result."""
    whole = torch.stack([tensor.detach() for tensor in tensors])
    for tensor, view in zip(tensors, whole.unbind(), strict=True):
        tensor.data = view
    return whole.requires_grad_(tensors[0].requires_grad)


def _joined(batches: Sequence[Batch]) -> dict[str, Tensor]:
    """Return the tensors of batches, stacked."""
    clean = all(batch.corrupted is batch.x for batch in batches)  # no noise: one tensor for both
    joined = {"x": torch.stack([batch.x for batch in batches])}
    if batches[0].y is not None:
        joined["y"] = torch.stack([batch.y for batch in batches if batch.y is not None])
    if batches[0].corrupted is not None:
        inputs = [batch.corrupted for batch in batches if batch.corrupted is not None]
        joined["corrupted"] = joined["x"] if clean else torch.stack(inputs)
    return joined
