"""Figures of a model: reconstructions, samples, filters; lines of text for text data and tables."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.canvas import legend_name, new_figure, picture_grid, pixels, titled
from autoenc.core import Autoencoder
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.kind import Shown
from autoenc.data.kinds.observed import Column
from autoenc.data.split import Split
from autoenc.errors import UserError, one_line
from autoenc.figures.of_codes import latent_space, units
from autoenc.noise import Identity
from autoenc.objective import Objective
from autoenc.training.evaluation import Evaluation, evaluation_mode

log = logging.getLogger("autoenc")
EXAMPLES = 12
MOST = 144  # filters or atoms
BAR = ("gray", "-1", "1")  # of weights
MOST_ROWS, MOST_COLUMNS = 2_000, 60  # of a table


@torch.no_grad()
def reconstruction(model: Autoencoder, split: Split, spec: DataSpec) -> Shown:
    """Show a few validation examples and their reconstructions, with the error of each."""
    versions = _versions(model, split)
    shown = spec.kind.show(versions)
    if isinstance(shown, list):
        return shown
    return titled(shown, f"some of the {len(split):,} validation examples: {', '.join(versions)}")


@torch.no_grad()
def of_objective(objective: Objective | None, model: Autoencoder, split: Split, spec: DataSpec) -> Shown | None:
    """Show a few validation examples as `Objective.show` has them; None without any."""
    found = {} if objective is None else objective.show(model, split.sample(EXAMPLES).take(slice(None)))
    if not found:
        return None
    shown = spec.kind.show({name: x.cpu() for name, x in found.items()})
    return shown if isinstance(shown, list) else titled(shown, f"some validation examples: {', '.join(found)}")


@torch.no_grad()
def samples(model: Autoencoder, spec: DataSpec, columns: int = 12) -> Shown | None:
    """Show means of p(x|z) for a fixed sample from the prior; None without a prior."""
    with evaluation_mode(model):
        z = model.bottleneck.sample(columns * (8 if spec.kind.images else 1))
    if z is None:
        return None
    y = None
    if model.condition is not None:  # one class after another
        y = torch.arange(len(z), device=_device(model)) % model.condition.classes
    x = model.expected(z.to(_device(model)), y).cpu()
    drawn = spec.kind.sheet(x, columns)
    if drawn is None:
        return spec.kind.show({"sample": x})
    return titled(drawn, f"{len(x)} samples: means of p(x|z) for z from the prior")


@torch.no_grad()
def traversal(model: Autoencoder, split: Split, spec: DataSpec, evaluation: Evaluation) -> np.ndarray | None:
    """Vary one dimension of a code from -3 to 3 in each row; dimensions with the largest KL come first."""
    if evaluation.stats.kl is None or not spec.kind.images:
        return None
    one = split.sample(1).take(slice(None))
    z, y = model.encode(one).mean.flatten(1), model.labels(one)
    order = evaluation.stats.kl.argsort(descending=True)[:10]
    values = torch.linspace(-3, 3, 11, device=z.device)
    grid = z.repeat(len(order) * len(values), 1)
    for row, dimension in enumerate(order.tolist()):
        grid[row * len(values) : (row + 1) * len(values), dimension] = values
    bottleneck = model.bottleneck
    x = model.expected(
        bottleneck.project(grid.unflatten(1, bottleneck.latent_shape)), None if y is None else y.expand(len(grid))
    )
    labels = [f"z[{d}] {evaluation.stats.kl[d]:.2f} nats" for d in order.tolist()]
    title = "one validation example, one latent dimension per row from -3 to 3; largest KL first"
    return titled(picture_grid(x.cpu(), len(values), spec.kind.low, spec.kind.high, labels), title)


def _weights(model: Autoencoder) -> Iterator[Tensor]:
    """Yield the weights of the layers from input to code."""
    for module in (*model.encoder.modules(), *model.bottleneck.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield module.weight.detach()


def filters(model: Autoencoder, spec: DataSpec) -> np.ndarray | None:
    """Draw the first layer's weights as images, each scaled separately, with grey for 0; None for vectors."""
    first = next(_weights(model), None)
    if not spec.kind.images or first is None:
        return None
    if first.dim() == 2 and first.shape[1] != math.prod(spec.shape):
        return None  # a layer that does not read whole images
    images = first if first.dim() == 4 else first.unflatten(-1, spec.shape)
    title = f"weights of the first layer, {min(MOST, len(images))} of {len(images)} units"
    return titled(_signed_grid(images), f"{title}; each scaled to its largest", BAR)


def dictionary(model: Autoencoder) -> Tensor | None:
    """Return the atoms (D, K) of a linear decoder; None for other decoders."""
    layers = [m for m in model.decoder.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    if len(layers) != 1 or not isinstance(layers[0], nn.Linear):
        return None
    layer = layers[0]
    return getattr(layer, "atoms", layer.weight).detach()


def atoms(model: Autoencoder, spec: DataSpec) -> np.ndarray | None:
    """Draw the atoms of a linear decoder as images; None for other decoders and data."""
    weight = dictionary(model)
    if not spec.kind.images or weight is None:
        return None
    title = f"atoms of the decoder, {min(MOST, weight.shape[1])} of {weight.shape[1]} units"
    return titled(_signed_grid(weight.T.unflatten(-1, spec.shape)), f"{title}; each scaled to its largest", BAR)


def _signed_grid(images: Tensor) -> np.ndarray:
    images = images[:MOST].float()
    if images.shape[1] not in (1, 3):  # a convolution over features: show the first channel
        images = images[:, :1]
    images = images / images.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return picture_grid(images, math.ceil(math.sqrt(len(images))), -1, 1)


def column_fit(x: Tensor, x_hat: Tensor, columns: Sequence[Column]) -> list[tuple[Column, float, float | None]]:
    """Return the quality of the reconstruction (N, D) of each column of a table: (column, score, baseline).

    For numbers, the score is R^2, clipped at 0; constant columns are left out. For categories, it is the accuracy, and
    the baseline is the accuracy of the most frequent value.
    """
    scores: list[tuple[Column, float, float | None]] = []
    for column in columns:
        true, guess = (rows[:, column.start : column.stop].double() for rows in (x, x_hat))
        if column.kind == "category":
            right = float((true.argmax(1) == guess.argmax(1)).double().mean())
            scores.append((column, right, float(true.mean(0).max())))
        elif float(variance := true.var(correction=0)) > 0:
            scores.append((column, max(0.0, 1 - float((true - guess).square().mean() / variance)), None))
    return scores


@torch.no_grad()
def columns(model: Autoencoder, split: Split, spec: DataSpec) -> np.ndarray | None:
    """Draw `column_fit` of 2,000 rows for the 60 worst columns of a table; None for other data."""
    if not spec.kind.columns:
        return None
    batch = split.sample(MOST_ROWS).take(slice(None))
    fit = column_fit(batch.x.cpu(), model.reconstruct(batch).cpu(), spec.kind.columns)
    fit = sorted(fit, key=lambda each: each[1])[:MOST_COLUMNS][::-1]
    if not fit:
        return None
    figure = new_figure(7, 1.2 + 0.19 * len(fit))
    axes = figure.subplots()
    colors = ["C1" if column.kind == "category" else "C0" for column, *_ in fit]
    axes.barh(range(len(fit)), [value for _, value, _ in fit], color=colors)
    for row, (*_, chance) in enumerate(fit):
        if chance is not None:
            axes.plot([chance, chance], [row - 0.4, row + 0.4], color="black", linewidth=1)
    axes.set_yticks(range(len(fit)), [legend_name(column.name) for column, *_ in fit], fontsize=7)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(fit) - 0.4))
    meanings = {
        "C0": "numbers (blue): explained variance ↑",
        "C1": "categories (orange): accuracy ↑; line: of the most frequent value",
    }
    axes.set_xlabel("\n".join(text for color, text in meanings.items() if color in colors), fontsize=8)
    left = len(spec.kind.columns) - len(fit)
    title = f"columns of {len(batch):,} validation rows, reconstructed"
    axes.set_title(f"{title}\n(not shown: {left} constant or better columns)" if left else title, fontsize=10)
    return pixels(figure)


def of_run(
    model: Autoencoder, split: Split, spec: DataSpec, evaluation: Evaluation, objective: Objective | None = None
) -> dict[str, Shown]:
    """Return all figures and texts that apply to the model and its data, by name.

    A figure that cannot be drawn is a warning in the log: it must not cost the run.
    """
    figures: dict[str, Callable[[], Shown | None]] = {
        "reconstruction": lambda: reconstruction(model, split, spec),
        "objective": lambda: of_objective(objective, model, split, spec),
        "columns": lambda: columns(model, split, spec),
        "samples": lambda: samples(model, spec),
        "traversal": lambda: traversal(model, split, spec, evaluation),
        "filters": lambda: filters(model, spec),
        "atoms": lambda: atoms(model, spec),
        "latent_space": lambda: latent_space(evaluation, spec.classes),
        "latent_units": lambda: units(evaluation),
    }
    found: dict[str, Shown] = {}
    with evaluation_mode(model), torch.no_grad():
        for name, draw in figures.items():
            with tried(name):
                if (shown := draw()) is not None:
                    found[name] = shown
    return found


@contextlib.contextmanager
def tried(name: str) -> Iterator[None]:
    """Log a figure that cannot be drawn; errors of files and of the user are raised."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:  # whatever a drawing library raises
        log.warning("figure %s cannot be drawn: %s: %s", name, type(error).__name__, one_line(error))


def _device(model: Autoencoder) -> torch.device:
    return next(model.parameters()).device


def _versions(model: Autoencoder, split: Split) -> dict[str, Tensor]:
    """Return a few examples, corrupted if the model has noise, and their reconstructions, on the CPU."""
    batch = split.sample(EXAMPLES).take(slice(None))
    noisy = not isinstance(model.noise, Identity)
    batch = model.corrupt(batch) if noisy else batch
    rows = {"input": batch.x} | ({"corrupted": batch.input} if noisy else {}) | {"output": model.reconstruct(batch)}
    return {name: x.cpu() for name, x in rows.items()}
