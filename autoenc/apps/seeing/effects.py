"""What excites the units of a layer, in the words of the data: columns of a table, dimensions of a vector, words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from autoenc.apps.seeing import layers
from autoenc.apps.seeing.units import stored_rows
from autoenc.loading import Run
from autoenc.regularizers.jacobian import differentiable_twice

ROWS = 2_000  # training examples that gradients are averaged over
Changes = list[tuple[str, float]]


def effects(run: Run, layer: str, units: Sequence[int] | None, y: int | None = None) -> list[Changes]:
    """Return what changes of an example do to each unit, largest effect first: `Kind.changes`.

    Effects are the mean gradient over training examples, times the change. Single entries of one-hot or count vectors
    cannot be moved freely, so that an example found by gradient ascent would be no row, and no document.

    Args:
        units: numbers of units that exist; None: the squared norm of the layer.
        y: class that a conditional model is given; None: that of each example.
    """
    rows = stored_rows(run).sample(ROWS)
    count = 1 if units is None else len(units)
    gradients, examples = torch.zeros(count, *run.spec.shape), []
    for batch in replace(rows, device=run.device).in_order(run.batch_size):
        x = batch.x.float().requires_grad_()
        labels = batch.y if y is None else torch.full((len(x),), y, device=x.device)
        with differentiable_twice(run.model):
            activation = layers.activations(run.model, replace(batch, x=x, y=labels), [layer], wake=True)[layer]
            values = layers.value_of(layer, activation, units).sum(0)
            for i in range(count):
                (gradient,) = torch.autograd.grad(values[i], x, retain_graph=True)
                gradients[i] += gradient.sum(0).cpu() / len(rows)
        examples.append(x.detach().cpu())
    found = [run.spec.kind.changes(gradient, torch.cat(examples)) for gradient in gradients]
    return [sorted(changes, key=lambda change: -change[1]) for changes in found]


def text(changes: Changes, most: int = 8) -> str:
    """Return the largest effects of a unit as two lines: what raises it, and what lowers it."""

    def listed(each: Iterable[tuple[str, float]]) -> str:
        return ", ".join(f"{name} ({effect:+.2g})" for name, effect in each) or "nothing"

    raised = [change for change in changes[:most] if change[1] > 0]
    lowered = [change for change in changes[::-1][:most] if change[1] < 0]
    return f"raised by {listed(raised)}\nlowered by {listed(lowered)}"
