"""What the units of a code stand for: the training examples that excite each most, beside its column of the decoder."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.errors import UserError
from autoenc.figures import dictionary, picture_grid, titled
from autoenc.loading import Run

STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin:.3em 0 1.5em}"
    "td,th{border:1px solid #ccc;padding:2px 8px;text-align:left;max-width:60em}td.n{text-align:right}"
)


@dataclass(frozen=True)
class Unit:
    """A unit of the code and the training examples that excite it most.

    Args:
        number: its position in the code; a channel if the code is a feature map.
        frequency: fraction of the training examples for which it is not zero.
        positions: (n,) of the examples among the stored rows of the reference, most excited first.
        activations: (n,) of those examples; for a feature map the largest over positions.
        atom: (*shape) its column of a linear decoder; None for other decoders.
    """

    number: int
    frequency: float
    positions: np.ndarray
    activations: np.ndarray
    atom: Tensor | None


def units(run: Run, chosen: Sequence[int] | None = None, most: int = 16, examples: int = 10) -> list[Unit]:
    """Return units of a run; the examples are the rows of reference.npz, so that no training file is needed.

    Args:
        chosen: numbers of units; None: the `most` units whose activation has the largest variance, without dead ones.
        examples: number of examples for each unit.

    Raises:
        UserError: a unit that does not exist, or a run without stored rows.
    """
    reference = run.reference
    if not len(reference.rows):
        raise UserError(f"{run.path}: reference.npz has no rows to show; delete it to have it computed again")
    size = run.model.bottleneck.latent_shape[0]
    codes = reference.codes.reshape(len(reference), size, -1).max(2)  # (N, K), over the positions of a feature map
    if chosen is None:
        variance = codes.var(0)
        chosen = [k for k in np.argsort(-variance, kind="stable")[:most].tolist() if variance[k] > 0]
    if beyond := [k for k in chosen if not 0 <= k < size]:
        raise UserError(f"--units {beyond[0]}: the code has units 0 to {size - 1}")
    atoms = dictionary(run.model)
    if atoms is not None and atoms.shape != (np.prod(run.spec.shape), size):
        atoms = None
    found = []
    for k in chosen:
        values = codes[reference.row_index, k]
        order = np.argsort(-values, kind="stable")[:examples]
        order = order[values[order] != 0]
        atom = None if atoms is None else atoms[:, k].reshape(run.spec.shape).float().cpu()
        found.append(Unit(k, float((codes[:, k] != 0).mean()), order, values[order], atom))
    return found


def names(run: Run, unit: Unit) -> list[str]:
    """Return the names of the examples in the user's files, or the row numbers in the training split, from 1."""
    reference = run.reference
    index = reference.row_index[unit.positions]
    return [str(reference.names[i]) if len(reference.names) else str(reference.index[i] + 1) for i in index.tolist()]


def sheet(run: Run, found: Sequence[Unit], examples: int) -> np.ndarray | None:
    """Draw a row of images for each unit, its column of the decoder first; None for data other than images."""
    if not run.spec.kind.images:
        return None
    low, high = run.spec.low, run.spec.high
    drawn = any(unit.atom is not None for unit in found)
    tiles, texts = [], []
    for unit in found:
        x = torch.full((drawn + examples, *run.spec.shape), high)
        if unit.atom is not None:
            scaled = unit.atom / unit.atom.abs().max().clamp(min=1e-12)  # grey is 0
            x[0] = low + (high - low) * (scaled + 1) / 2
        stored = run.reference.rows.take(torch.from_numpy(unit.positions)).x
        x[drawn : drawn + len(stored)] = stored
        tiles.append(x)
        values = [f"{value:.3g}" for value in unit.activations]
        texts += ["atom"] * drawn + values + [""] * (examples - len(values))
    captions = [f"unit {unit.number}, active {unit.frequency:.2%}" for unit in found]
    image = picture_grid(torch.cat(tiles), drawn + examples, low, high, captions, texts)
    title = (
        f"the training examples that excite each unit most, and its activation, of {len(run.reference.rows):,} examples"
    )
    return titled(image, title + ("; atom: its column of the decoder, grey is 0" if drawn else ""))


def table(run: Run, found: Sequence[Unit]) -> Iterator[list[Any]]:
    """Yield a row for each unit and example: unit, frequency, rank, activation, name."""
    for unit in found:
        for rank, (value, name) in enumerate(zip(unit.activations.tolist(), names(run, unit), strict=True), 1):
            yield [unit.number, unit.frequency, rank, value, name]


def page(run: Run, found: Sequence[Unit]) -> str:
    """Return an HTML page with a section for each unit: what its atom writes, and a table of examples."""
    kind, reference = run.spec.kind, run.reference
    title = f"Units of {run.name} on {run.spec.name}"
    parts = [f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"]
    parts.append(f"<h1>{html.escape(title)}</h1><p>Training examples that excite each unit most.</p>")
    for unit in found:
        parts.append(f"<h2 id=u{unit.number}>unit {unit.number}</h2><p>active for {unit.frequency:.2%} of the examples")
        if unit.atom is not None and (words := kind.direction(unit.atom)):
            parts.append(f"<br>its column of the decoder: {html.escape(words)}")
        header, rows = ["text"], [[text] for text in _captions(reference.captions, reference.row_index[unit.positions])]
        if not rows:
            header, rows = kind.listing(reference.rows.take(torch.from_numpy(unit.positions)).x) or ([], [])
        parts.append(f"</p><table><tr>{_cells('th', ['activation', 'example', *header])}</tr>")
        for value, name, row in zip(unit.activations, names(run, unit), rows, strict=True):
            parts.append(f"<tr><td class=n>{value:.4g}</td>{_cells('td', [name, *row])}</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def _captions(captions: np.ndarray, index: np.ndarray) -> list[str]:
    return captions[index].tolist() if len(captions) else []


def _cells(tag: str, values: Sequence[Any]) -> str:
    texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
    return "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts)
