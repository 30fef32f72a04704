"""Generation of new examples: samples from a density of codes, and their files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.generation import density as densities
from autoenc.apps.generation.density import Density
from autoenc.apps.outputs import Outputs
from autoenc.data.dataset import class_numbers
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.figures import titled
from autoenc.loading import Run, batches
from autoenc.seeds import derived, seeded

PRINTED = 20  # lines


@dataclass(frozen=True)
class Decoded:
    """Codes (..., K), examples in data space (..., *shape), labels of the rows of a grid, and the title of the figure.

    The examples are means of p(x|z), or draws from it (`samples`); y (N,) are their classes if the model has any.
    """

    z: np.ndarray
    x: np.ndarray
    labels: list[str] = field(default_factory=list)
    title: str = ""
    y: np.ndarray | None = None


def samples(
    run: Run,
    n: int,
    density: str | Density | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    mean: bool | None = None,
    classes: Sequence[str] = (),
) -> Decoded:
    """Sample n examples: z (n, K) from a density of codes, x (n, *shape) from p(x|z), or p(x|z, y).

    Args:
        density: a name, or a result of `density.of`, which has the default.
        temperature: of the density, see `Density.sample`, and factor of the scale of draws from p(x|z).
        mean: return means of p(x|z) in place of draws. Means of numbers have less spread than data, and rare categories
            vanish. Default: means for kinds of data that are shown without noise (`Kind.drawn`).
        classes: names of classes, of which as many are generated of each, for conditional models; default: classes
            drawn as in the training data.

    Raises:
        UserError: the density is not possible for the model; an unknown class, or classes for another model.
    """
    if density is None or isinstance(density, str):
        density = densities.of(run, density)
    densities.check_temperature(density, temperature)
    means = mean or (mean is None and not run.spec.kind.drawn)
    of = f" of class {', '.join(classes)}" if classes else ""
    title = f"{n:,} samples{of} from {density.text}; {'means of' if means else 'draws from'} p(x|z)"
    y = labels_of(run, classes, n, seed)
    found = decode(run, density.sample(n, seed, temperature), title, y=y)
    return found if means else replace(found, x=_draws(run, found.z, seed, temperature, y))


def labels_of(run: Run, classes: Sequence[str], n: int, seed: int = 0) -> Tensor | None:
    """Return labels (n,) for generated examples: equal numbers of the classes, or drawn ones; None without a condition.

    Raises:
        UserError: an unknown class, or classes for a model that is not conditional.
    """
    if not classes:
        return run.draw_labels(n, seed)
    if not run.conditional:
        raise UserError(f"--class: {run.path} is not conditional; model=cvae is, and --augment generates by class")
    return torch.tensor(class_numbers(run.spec, classes, "--class"))[torch.arange(n) * len(classes) // n]


@torch.no_grad()
def _draws(run: Run, z: np.ndarray, seed: int, temperature: float, y: Tensor | None) -> np.ndarray:
    """Draw x from p(x|z) for valid codes (N, K), and labels of a conditional model: (N, *shape)."""
    error = run.residual
    with seeded(derived(seed), run.device):  # not the numbers that z was drawn with
        parts = [
            run.model.likelihood.sample(run.decoded(*part).float(), error, temperature).cpu()
            for part in batches(torch.from_numpy(z), y, run.batch_size)
        ]
    return torch.cat(parts).numpy()


def labels_of_rows(run: Run, split: Split) -> Tensor | None:
    """Return the labels (N,) that the model is conditioned on for examples; None without a condition."""
    return run.over(split, lambda batch: cast(Tensor, run.model.labels(batch))) if run.conditional else None


def listing(run: Run, decoded: Decoded, steps: int | None = None) -> tuple[list[str], list[list[Any]]] | None:
    """Return the examples as the header and the rows of a CSV file (`Kind.listing`); None for images.

    Args:
        steps: length of the paths that the codes are on; adds the columns row and step.
    """
    table = run.spec.kind.listing(torch.from_numpy(decoded.x.reshape(-1, *run.spec.shape)))
    if table is None or steps is None:
        return table
    names, rows = table
    return ["row", "step", *names], [[*divmod(i, steps), *row] for i, row in enumerate(rows)]


def figure(run: Run, decoded: Decoded, columns: int) -> np.ndarray | None:
    """Draw the examples in rows of `columns`; None for data shown as text (`listing`)."""
    x = torch.from_numpy(decoded.x.reshape(-1, *run.spec.shape))
    wide = columns if decoded.x.ndim > 2 or run.spec.kind.images else len(x)
    drawn = run.spec.kind.sheet(x, wide, decoded.labels)
    return None if drawn is None else titled(drawn, decoded.title)


def keep(run: Run, out: Outputs, examples: Decoded, steps: int | None = None) -> Path | None:
    """Write arrays, and a figure or a table; without a figure, print the first lines. Return where the figure will be.

    Args:
        steps: length of the paths that the examples are on; None: they are samples.
    """
    name = "samples" if steps is None else out.name
    out.npz(name, x=examples.x, z=examples.z, **({} if examples.y is None else {"y": examples.y}))
    if (table := listing(run, examples, steps)) is not None:
        out.csv(name, *table)
    if (image := figure(run, examples, steps or math.ceil(math.sqrt(len(examples.x))))) is not None:
        out.figure(name, image)
        return out.folder / f"{name}.png"
    first = torch.from_numpy(examples.x.reshape(-1, *run.spec.shape)[:PRINTED])
    for line in run.spec.kind.show({name.removesuffix("s"): first}):
        out.say(str(line))
    return None


def decode(run: Run, z: np.ndarray, title: str, labels: list[str] | None = None, y: Tensor | None = None) -> Decoded:
    """Decode the nearest valid codes (..., K), with labels (N,) of all of them for a conditional model."""
    codes = run.project(z.reshape(-1, run.latent_dim))
    x = run.decode(codes, y)
    return Decoded(
        codes.reshape(z.shape),
        x.reshape(*z.shape[:-1], *run.spec.shape),
        labels or [],
        title,
        None if y is None else y.numpy(),
    )
