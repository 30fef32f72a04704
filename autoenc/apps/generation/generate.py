"""Generation of new examples: samples, interpolations, traversals and grids of codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.generation import density as densities
from autoenc.apps.generation.density import Density, training_codes
from autoenc.apps.inputs import example
from autoenc.apps.outputs import Outputs
from autoenc.data.dataset import class_numbers
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.figures import titled
from autoenc.loading import Run, batches

COLUMNS = 11  # of a traversal: odd, so that the middle one is the reconstruction
REACH = 3.0  # standard deviations to each side
ROWS = 10  # dimensions of the code in a traversal
SIDE = 20  # of a grid of codes
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
        density: prior, gaussian, mixture, or a result of `density.of`. Default: the prior, or a mixture of 10 Gaussians
            fitted to the training codes if the bottleneck has no prior.
        temperature: factor of the standard deviations of the density and of p(x|z).
        mean: return means of p(x|z) in place of draws. Means of numbers have less spread than data, and rare categories
            vanish. Default: means for kinds of data that are shown without noise (`Kind.drawn`).
        classes: names of classes, of which as many are generated of each, for conditional models; default: classes
            drawn as in the training data.

    Raises:
        UserError: the density is not possible for the model; an unknown class, or classes for another model.
    """
    require(0 <= temperature < np.inf, "--temperature", temperature, "must be 0 or more")
    if density is None or isinstance(density, str):
        density = densities.of(run, density)
    means = mean or (mean is None and not run.spec.kind.drawn)
    title = f"{n:,} samples from {density.text}; {'means of' if means else 'draws from'} p(x|z)"
    y = labels_of(run, classes, n, seed)
    decoded = decode(run, density.sample(n, seed, temperature), title, y=y)
    if means:
        return decoded
    return replace(decoded, x=_draws(run, decoded.z, seed, temperature, y))


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


def residual(run: Run) -> Tensor:
    """Return the root mean squared error (*shape) of the reconstruction of the stored training rows.

    It is the scale of draws from likelihoods that learn none.
    """
    rows = run.reference.rows
    if len(rows) == 0:
        rows = run.reference_rows(1)
    square = run.over(rows, lambda batch: (batch.x - run.model.reconstruct(batch)).square().double())
    return square.mean(0).sqrt().float().to(run.device)


@torch.no_grad()
def _draws(run: Run, z: np.ndarray, seed: int, temperature: float, y: Tensor | None) -> np.ndarray:
    """Draw x from p(x|z) for valid codes (N, K), and labels of a conditional model: (N, *shape)."""
    error = residual(run)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts = [
            run.model.likelihood.sample(run.decoded(*part).float(), error, temperature).cpu()
            for part in batches(torch.from_numpy(z), y, run.batch_size)
        ]
    return torch.cat(parts).numpy()


def interpolate(run: Run, a: np.ndarray, b: np.ndarray, steps: int = 11) -> Decoded:
    """Interpolate linearly between the codes of two examples (*shape): z (steps, K), x (steps, *shape).

    The ends are the reconstructions of a and b.
    """
    require(steps >= 2, "--steps", steps, "must be 2 or more")
    check_unconditional(run)
    ends = run.codes(Split(torch.from_numpy(np.stack([a, b]))))
    title = f"reconstructions of two examples, left and right, and {steps - 2} codes on the line between theirs"
    return decode(run, np.linspace(ends[0], ends[1], steps), title)


def check_unconditional(run: Run) -> None:
    """Raise UserError for a conditional model: codes between those of two classes have none."""
    if run.conditional:
        raise UserError(
            f"--interpolate: {run.path} is conditional, and the codes between have no class; scripts/restyle.py"
        )


def traverse(run: Run, index: int = 0) -> Decoded:
    """Vary each dimension of the code of a test example by -3 to 3 standard deviations of the training codes.

    Return z (R, 11, K), x (R, 11, *shape) for up to 10 dimensions with the largest variance. The middle column is the
    reconstruction. Codes are projected to valid ones.
    """
    std = training_codes(run).std(0)
    order = std.argsort()[::-1][:ROWS]
    one = example(run, index)
    center, y = run.codes(one)[0], labels_of_rows(run, one)
    moves = np.linspace(-REACH, REACH, COLUMNS)
    z = np.tile(center, (len(order), COLUMNS, 1))
    for row, unit in enumerate(order):
        z[row, :, unit] += moves * std[unit]
    title = (
        f"example {index}; one unit at a time, moved by {-REACH:g} to {REACH:g} standard deviations (sd) of its codes"
    )
    labels = [f"z[{unit}] sd {std[unit]:.2g}" for unit in order]
    return decode(run, z, title, labels, None if y is None else y.expand(z[..., 0].size))


def sheet(run: Run, side: int = SIDE, classes: Sequence[str] = ()) -> Decoded:
    """Decode a grid of 2-dimensional codes: z (side, side, 2), x (side, side, *shape).

    The grid consists of the quantiles (i + 0.5) / side of the prior if they are known, else of the training codes. z[0]
    increases to the right, z[1] upwards.

    Args:
        classes: name of the class that all codes of a conditional model are decoded with.

    Raises:
        UserError: the code has another number of dimensions, or a conditional model without a class.
    """
    if run.latent_dim != 2:
        raise UserError(
            f"--sheet: is for codes of two values, model.latent_dim=2; {run.path} has {run.latent_dim}; "
            "--traverse moves one at a time"
        )
    levels = (torch.arange(side) + 0.5) / side
    prior = run.model.bottleneck.prior
    quantiles = None if prior is None else prior.quantiles(levels.to(run.device))
    if quantiles is not None:
        first, second = quantiles.flatten(1).T.cpu().numpy()
    else:
        first, second = np.quantile(training_codes(run), levels.numpy(), axis=0).T
    title = f"{side} x {side} codes at equal steps of probability: z[0] to the right, z[1] upwards"
    y = labels_of(run, classes, side**2) if classes else None
    return decode(run, np.stack(np.meshgrid(first, second[::-1]), -1), title, y=y)


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


def keep(run: Run, out: Outputs, examples: Decoded, steps: int | None = None) -> None:
    """Write arrays, and a figure or a table; without a figure, print the first lines.

    Args:
        steps: length of the paths that the examples are on; None: they are samples.
    """
    name = "samples" if steps is None else out.name
    out.npz(name, x=examples.x, z=examples.z, **({} if examples.y is None else {"y": examples.y}))
    if (image := figure(run, examples, steps or math.ceil(math.sqrt(len(examples.x))))) is not None:
        out.figure(name, image)
    if (table := listing(run, examples, steps)) is not None:
        out.csv(name, *table)
    if image is None:
        first = torch.from_numpy(examples.x.reshape(-1, *run.spec.shape)[:PRINTED])
        for line in run.spec.kind.show({name.removesuffix("s"): first}):
            out.say(str(line))


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
