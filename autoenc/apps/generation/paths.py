"""Paths through the codes: between two examples, along one dimension at a time, and over a two-dimensional grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from autoenc.apps.generation.density import training_codes
from autoenc.apps.generation.generate import Decoded, decode, labels_of, labels_of_rows
from autoenc.apps.inputs import example
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.loading import Run

COLUMNS = 11  # of a traversal: odd, so that the middle one is the reconstruction
REACH = 3.0  # standard deviations to each side
ROWS = 10  # dimensions of the code in a traversal
SIDE = 20  # of a grid of codes
PARALLEL = 1e-6  # angle, in radians, below which two directions are one


def interpolate(run: Run, a: np.ndarray, b: np.ndarray, steps: int = 11, sphere: bool = False) -> Decoded:
    """Interpolate between the codes of two examples (*shape): z (steps, K), x (steps, *shape).

    The ends are the reconstructions of a and b.

    Args:
        sphere: along the sphere, see `slerp`, in place of the straight line.
    """
    check_path(run, steps)
    ends = run.codes(Split(torch.from_numpy(np.stack([a, b]))))
    way = "great circle" if sphere else "line"
    title = f"reconstructions of two examples, first and last, and {steps - 2} codes on the {way} between theirs"
    return decode(run, between(ends[0], ends[1], steps, sphere), title)


def check_path(run: Run, steps: int) -> None:
    """Raise UserError for a path of one step, or a conditional model: codes between those of two classes have none."""
    require(steps >= 2, "--steps", steps, "must be 2 or more")
    if run.conditional:
        why = "is conditional, and the codes between have no class; use scripts/restyle.py"
        raise UserError(f"--interpolate: {run.path} {why}")


def between(a: np.ndarray, b: np.ndarray, steps: int, sphere: bool = False) -> np.ndarray:
    """Return codes (steps, K) from a to b (K,), on the straight line or the sphere."""
    return slerp(a, b, steps) if sphere else np.linspace(a, b, steps)


def slerp(a: np.ndarray, b: np.ndarray, steps: int) -> np.ndarray:
    """Return codes (steps, K) from a to b (K,) along the great circle (White 2016, "Sampling generative networks").

        z(t) = r(t) (sin((1 - t) w) a / |a| + sin(t w) b / |b|) / sin w,  r(t) = (1 - t) |a| + t |b|,  t = 0 ... 1

    with the angle w between a and b: the direction turns at a constant speed, and the length changes at a constant
    rate. Of equal lengths, this is the formula of the paper. Codes on a straight line between two draws of N(0, I) are
    shorter than nearly all draws; these are not.

    Raises:
        UserError: a code of length 0, or opposite codes: the circle through them is not unique.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    if min(lengths) == 0:
        raise UserError("--sphere: the code of an example is 0 and has no direction; leave --sphere out")
    first, last = a / lengths[0], b / lengths[1]
    angle = 2 * np.arctan2(np.linalg.norm(first - last), np.linalg.norm(first + last))
    if np.pi - angle < PARALLEL:
        raise UserError("--sphere: the codes have opposite directions, and no circle is the shortest; leave it out")
    t = np.linspace(0, 1, steps)[:, None]
    weights = [1 - t, t] if angle < PARALLEL else [np.sin(s * angle) / np.sin(angle) for s in (1 - t, t)]
    radius = (1 - t) * lengths[0] + t * lengths[1]
    return radius * (weights[0] * first + weights[1] * last)


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
