"""The layers of a trained model by name, and their activations for a batch, with gradients.

`encoder.0`, `encoder.1`, ... are the modules of the encoder, `code` is the deterministic code. A unit of a layer is a
channel of a feature map (C, H, W), an entry of a vector (F,), or of each position of a sequence (T, F).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder, Batch
from autoenc.errors import UserError
from autoenc.loading import Run

CODE = "code"


def modules(encoder: nn.Module, prefix: str = "encoder") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of an encoder that are layers, by name; those of a list of modules one by one."""
    for name, module in encoder.named_children():
        path = f"{prefix}.{name}"
        if isinstance(module, nn.ModuleList):
            yield from modules(module, path)
        else:
            yield path, module


def activations(
    model: Autoencoder, batch: Batch, names: Sequence[str] | None = None, wake: bool = False
) -> dict[str, Tensor]:
    """Return the activations of layers for a batch, with gradients: name -> (B, *shape), in the order of computation.

    Args:
        batch: with labels if the model is conditional and the code is asked for.
        names: of layers that exist, see `check_layer`; None: all.
        wake: pass the gradient of a unit that is off, 0 at all positions, to its input, since a ReLU there has none.
    """
    found: dict[str, Tensor] = {}

    def keep(name: str, before: Any, after: Any) -> None:
        value = after[0] if isinstance(after, tuple) else after  # recurrent layers also return a state
        if isinstance(value, Tensor):
            units = axis(name, tuple(value.shape[1:])) + 1
            found[name] = woken(value, before[0], units) if wake and isinstance(before, tuple) else value

    def hook(name: str) -> Any:
        return lambda _, before, after: keep(name, before, after)

    hooks = [
        module.register_forward_hook(hook(name))
        for name, module in modules(model.encoder)
        if names is None or name in names
    ]
    try:
        if names is None or CODE in names:
            code = model.encode(batch)
            found[CODE] = woken(code.mean, code.info["pre"]) if wake and "pre" in code.info else code.mean
        else:
            model.encoder(model.visible(batch).input)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def woken(after: Tensor, before: Tensor, units: int = 1) -> Tensor:
    """Return activations (B, *shape) unchanged; where a unit is off, with the gradient of its input.

    Args:
        units: dimension of the units; the others but the first are positions.
    """
    if after.shape != before.shape:
        return after
    off = after == 0
    for position in range(1, after.dim()):
        if position != units:
            off = off.all(position, keepdim=True)
    return after + (before - before.detach()).where(off, 0)


def shapes(run: Run) -> dict[str, tuple[int, ...]]:
    """Return the layers of a run in the order of computation: name -> shape of the activation of one example."""
    x = torch.zeros(1, *run.spec.shape, device=run.device)
    x = x if run.spec.kind.continuous else x.long()
    y = torch.zeros(1, dtype=torch.long, device=run.device) if run.given_labels else None
    with torch.no_grad():
        found = activations(run.model, Batch(x, y))
    return {name: tuple(value.shape[1:]) for name, value in found.items()}


def axis(name: str, shape: tuple[int, ...]) -> int:
    """Return the dimension of a layer's shape that numbers its units: the last one of sequences, else the first."""
    return 1 if len(shape) == 2 and name != CODE else 0


def unit_values(name: str, activation: Tensor, pool: Literal["mean", "max"] = "mean") -> Tensor:
    """Return the activation of each unit of a layer, the mean or the largest over positions: (B, *shape) -> (B, U)."""
    if activation.dim() == 2:
        return activation
    rows = activation.movedim(axis(name, tuple(activation.shape[1:])) + 1, 1).flatten(2)
    return rows.mean(-1) if pool == "mean" else rows.amax(-1)


def value_of(name: str, activation: Tensor, units: Sequence[int] | None) -> Tensor:
    """Return the activations of units, or the squared norm of a layer: (B, *shape) -> (B, U) or (B, 1)."""
    if units is None:
        return activation.float().flatten(1).square().sum(1, keepdim=True)
    return unit_values(name, activation.float())[:, list(units)]


def check_layer(run: Run, name: str) -> tuple[int, ...]:
    """Return the shape of a layer.

    Raises:
        UserError: there is no layer of that name; the message lists those there are.
    """
    found = shapes(run)
    if name not in found:
        listed = ", ".join(f"{layer} ({'x'.join(map(str, shape))})" for layer, shape in found.items())
        raise UserError(f"--layer {name}: the model has no such layer, but {listed}")
    return found[name]


def check_units(run: Run, name: str, units: Sequence[int], key: str = "--unit") -> int:
    """Return the number of units of a layer.

    Raises:
        UserError: there is no such layer, or one of the units does not exist.
    """
    shape = check_layer(run, name)
    size = shape[axis(name, shape)]
    if beyond := [unit for unit in units if not 0 <= unit < size]:
        raise UserError(f"{key} {beyond[0]}: {name} has units 0 to {size - 1}")
    return size
