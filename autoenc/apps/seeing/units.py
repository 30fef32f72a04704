"""What the units of a layer stand for: the training examples that excite each most, and its column of the decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc import page as html
from autoenc.apps.seeing import layers
from autoenc.core import Batch
from autoenc.data.split import Split, drawn
from autoenc.errors import UserError
from autoenc.figures import dictionary, picture_grid, titled
from autoenc.loading import Run

Pool = Literal["max", "mean"]  # over the positions of a unit
Tiles = tuple[Tensor, Sequence[str]]  # images (U, *shape), and the text below each
WIDE = 60  # columns of a table, above which the values of examples are left out


@dataclass(frozen=True)
class Unit:
    """A unit of a layer and the training examples that excite it most.

    Args:
        number: its position in the layer; a channel if the layer is a feature map.
        frequency: fraction of the training examples for which it is not zero.
        positions: (n,) of the examples among the stored rows of the reference, most excited first.
        activations: (n,) of those examples.
        atom: (*shape) its column of a linear decoder; None for other decoders and layers.
    """

    number: int
    frequency: float
    positions: np.ndarray
    activations: np.ndarray
    atom: Tensor | None


def units(
    run: Run,
    chosen: Sequence[int] | None = None,
    most: int = 16,
    examples: int = 10,
    layer: str = layers.CODE,
    pool: Pool = "max",
) -> list[Unit]:
    """Return units of a layer; the examples are the rows of reference.npz, so that no training file is needed.

    Args:
        chosen: numbers of units; None: the `most` units whose activation has the largest variance, without dead ones.
        examples: number of examples for each unit.
        layer: see layers.py.
        pool: the activation of a unit that has many positions, such as a channel of a feature map.

    Raises:
        UserError: a layer or a unit that does not exist, or a run without stored rows.
    """
    reference, rows = run.reference, stored_rows(run)
    size = layers.check_units(run, layer, chosen or [], "--units")
    if layer == layers.CODE:
        codes = torch.from_numpy(reference.codes).unflatten(1, run.model.bottleneck.latent_shape)
        table = layers.unit_values(layer, codes, pool).numpy()  # (N, U)
        stored = table[reference.row_index]
    else:
        table = stored = run.over(
            rows, lambda batch: layers.unit_values(layer, layers.activations(run.model, batch, [layer])[layer], pool)
        ).numpy()
    if chosen is None:
        variance = table.var(0)
        chosen = [k for k in np.argsort(-variance, kind="stable")[:most].tolist() if variance[k] > 0]
    atoms = dictionary(run.model) if layer == layers.CODE else None
    if atoms is not None and atoms.shape != (np.prod(run.spec.shape), size):
        atoms = None
    found = []
    for k in chosen:
        atom = None if atoms is None else atoms[:, k].reshape(run.spec.shape).float().cpu()
        found.append(Unit(k, float((table[:, k] != 0).mean()), *_excited(stored[:, k], examples), atom))
    return found


def whole(run: Run, layer: str, examples: int = 10) -> Unit:
    """Return a layer as if it were a unit, whose activation is the squared norm of the layer."""

    def norm(batch: Batch) -> Tensor:
        return layers.value_of(layer, layers.activations(run.model, batch, [layer])[layer], None)[:, 0]

    values = run.over(stored_rows(run), norm).numpy()
    return Unit(0, float((values != 0).mean()), *_excited(values, examples), None)


def stored_rows(run: Run) -> Split:
    """Return the training rows of reference.npz; UserError if there are none."""
    if not len(run.reference.rows):
        raise UserError(f"{run.path}: reference.npz has no rows to show; delete it to have it computed again")
    return run.reference.rows


def _excited(values: np.ndarray, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of the largest of some values (R,), and these; zeros are left out.

    Equal values, of bits and of entries of a codebook, are drawn at random: rows may be sorted by class.
    """
    shuffled = drawn(len(values), len(values)).numpy()
    order = shuffled[np.argsort(-values[shuffled], kind="stable")][:examples]
    order = order[values[order] != 0]
    return order, values[order]


def names(run: Run, unit: Unit) -> list[str]:
    """Return the names of the examples in the user's files, or the row numbers in the training split, from 1."""
    reference = run.reference
    index = reference.row_index[unit.positions]
    return [str(reference.names[i]) if len(reference.names) else str(reference.index[i] + 1) for i in index.tolist()]


def sheet(run: Run, found: Sequence[Unit], examples: int) -> np.ndarray | None:
    """Draw a row of images for each unit, its column of the decoder first, or a panel of windows; None for the rest."""
    kind = run.spec.kind
    if not (kind.images or kind.timed):
        return None
    captions = [f"unit {unit.number}, active {unit.frequency:.2%}" for unit in found]
    if not kind.images:
        stored = [run.reference.rows.take(torch.from_numpy(unit.positions)).x.cpu() for unit in found]
        padded = [torch.cat([x, x.new_full((examples - len(x), *x.shape[1:]), torch.nan)]) for x in stored]
        image = kind.sheet(torch.cat(padded), examples, captions)
        return None if image is None else titled(image, "the training windows that excite each unit most")
    atoms = [_grey(run, unit.atom) for unit in found if unit.atom is not None]
    first = [(torch.stack(atoms), ["atom"] * len(atoms))] if atoms else []
    image = rows_of_images(run, found, examples, captions, first)
    title = (
        f"the training examples that excite each unit most, and its activation, of {len(run.reference.rows):,} examples"
    )
    return titled(image, title + ("; atom: its column of the decoder, grey is 0" if atoms else ""))


def _grey(run: Run, atom: Tensor) -> Tensor:
    """Return an atom scaled to the range of the data, with 0 in the middle."""
    return run.spec.low + (run.spec.high - run.spec.low) * (atom / atom.abs().max().clamp(min=1e-12) + 1) / 2


def rows_of_images(
    run: Run, found: Sequence[Unit], examples: int, captions: Sequence[str], first: Sequence[Tiles] = ()
) -> np.ndarray:
    """Draw a row for each unit: images (U, *shape) with a text each, then its examples with their activations."""
    stored = [run.reference.rows.take(torch.from_numpy(unit.positions)).x.cpu() for unit in found]
    x = torch.full((len(found), len(first) + examples, *run.spec.shape), run.spec.high)
    texts = []
    for row, unit in enumerate(found):
        x[row, : len(first)] = torch.stack([images[row] for images, _ in first]) if first else 0
        x[row, len(first) : len(first) + len(stored[row])] = stored[row]
        values = [f"{value:.3g}" for value in unit.activations]
        texts += [*(t[row] for _, t in first), *values, *[""] * (examples - len(values))]
    columns = len(first) + examples
    return picture_grid(x.flatten(0, 1), columns, run.spec.low, run.spec.high, captions, texts)


def table(run: Run, found: Sequence[Unit]) -> Iterator[list[Any]]:
    """Yield a row for each unit and example: unit, frequency, rank, activation, name."""
    for unit in found:
        for rank, (value, name) in enumerate(zip(unit.activations.tolist(), names(run, unit), strict=True), 1):
            yield [unit.number, unit.frequency, rank, value, name]


def page(run: Run, found: Sequence[Unit], notes: Sequence[str] = ()) -> str:
    """Return an HTML page with a section for each unit: a note or what its atom writes, and a table of examples."""
    kind, reference = run.spec.kind, run.reference
    parts = [html.lines(["Training examples that excite each unit most."])]
    for i, unit in enumerate(found):
        about = [f"active for {unit.frequency:.2%} of the examples", *(notes[i].splitlines() if notes else [])]
        if unit.atom is not None and (words := kind.direction(unit.atom)):
            about.append(f"its column of the decoder: {words}")
        header, rows = ["text"], [[text] for text in _captions(reference.captions, reference.row_index[unit.positions])]
        if not rows:
            header, rows = kind.listing(reference.rows.take(torch.from_numpy(unit.positions)).x) or ([], [])
        if len(header) > WIDE:
            header, rows = [], [[] for _ in rows]
        examples = zip(unit.activations.tolist(), names(run, unit), rows, strict=True)
        listed = html.table(["activation", "example", *header], ([value, name, *row] for value, name, row in examples))
        parts += [html.heading(f"unit {unit.number}"), html.lines(about), listed]
    return html.document(f"Units of {run.name} on {run.spec.name}", parts)


def _captions(captions: np.ndarray, index: np.ndarray) -> list[str]:
    return captions[index].tolist() if len(captions) else []
