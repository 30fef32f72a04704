"""Pictures of a model: (H, W, 3) uint8 arrays. What TensorBoard shows and figures/*.png keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder
from autoenc.data.spec import DataSpec, Split
from autoenc.evaluation import Evaluation, judging
from autoenc.metrics import ACTIVE_VARIANCE
from autoenc.noise import Identity

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 12
SMALLEST_TILE = 56  # pixels: 8x8 digits are enlarged


def picture_grid(
    images: Tensor, columns: int, low: float, high: float, row_labels: list[str] | None = None
) -> np.ndarray:
    """Images (N, C, H, W) with values in [low, high] in a grid, enlarged where they are small.

    Values outside are cut off, not wrapped around.
    """
    images = images.detach().float().cpu()
    images = ((images - low) / max(high - low, 1e-12)).clamp(0, 1)
    zoom = max(1, round(SMALLEST_TILE / images.shape[-1]))
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    n, _, h, w = images.shape
    rows, gap = math.ceil(n / columns), 2
    margin = 88 if row_labels else 0
    canvas = np.full((rows * (h + gap) + gap, margin + columns * (w + gap) + gap, 3), 255, np.uint8)
    tiles = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i, tile in enumerate(tiles):
        r, c = divmod(i, columns)
        top, left = gap + r * (h + gap), margin + gap + c * (w + gap)
        canvas[top : top + h, left : left + w] = tile
    if row_labels:
        from PIL import Image, ImageDraw

        picture = Image.fromarray(canvas)
        draw = ImageDraw.Draw(picture)
        for r, text in enumerate(row_labels):
            draw.text((6, gap + r * (h + gap) + h // 2 - 6), text, fill=(60, 60, 60))
        canvas = np.asarray(picture)
    return canvas


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, nothing to close

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def pixels(figure: Figure) -> np.ndarray:
    """(H, W, 3) uint8: what a figure looks like."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@torch.no_grad()
def reconstruction(model: Autoencoder, split: Split, spec: DataSpec) -> np.ndarray | None:
    """Rows: input, corrupted input where the model has noise, reconstruction. The first examples of the split."""
    if spec.kind == "tokens":
        return None  # see `texts`
    batch = split.take(slice(0, EXAMPLES))
    noisy = not isinstance(model.noise, Identity)
    if noisy:
        with judging(model, batch.x.device):
            batch = model.corrupt(batch)
    rows = {"input": batch.x} | ({"corrupted": batch.input} if noisy else {}) | {"output": model.reconstruct(batch)}
    if spec.kind == "image":
        return picture_grid(torch.cat(list(rows.values())), len(batch), spec.low, spec.high, list(rows))
    figure = new_figure(9, 6)
    for i, axes in enumerate(figure.subplots(2, 2).flat):
        if i < len(batch):
            for name, x in rows.items():
                axes.plot(x[i].cpu().numpy(), label=name, linewidth=1, alpha=0.8)
            axes.set_title(f"example {i}", fontsize=9)
            axes.set_xlabel("dimension", fontsize=8)
    figure.axes[0].legend(fontsize=8)
    return pixels(figure)


@torch.no_grad()
def samples(model: Autoencoder, spec: DataSpec, columns: int = 12) -> np.ndarray | None:
    """Means of p(x|z) for draws from the prior, always the same draws; None where there is no prior."""
    if spec.kind == "tokens":
        return None
    with judging(model, _device(model)):
        z = model.bottleneck.prior_sample(columns * (8 if spec.kind == "image" else 2))
    if z is None:
        return None
    x = model.expected(z.to(_device(model)))
    if spec.kind == "image":
        return picture_grid(x, columns, spec.low, spec.high)
    figure = new_figure(8, 4)
    axes = figure.subplots()
    axes.plot(x.cpu().numpy().T, linewidth=0.8, alpha=0.6)
    axes.set_xlabel("dimension")
    axes.set_title("samples from the prior")
    return pixels(figure)


@torch.no_grad()
def traversal(model: Autoencoder, split: Split, spec: DataSpec, evaluation: Evaluation) -> np.ndarray | None:
    """Each row moves one dimension of one example's code from -3 to 3; the dimensions with the largest KL first."""
    if evaluation.stats.kl is None or spec.kind != "image":
        return None
    z = model.encode(split.take(slice(0, 1))).mean
    if z.dim() != 2:
        return None
    order = evaluation.stats.kl.argsort(descending=True)[:10]
    values = torch.linspace(-3, 3, 11, device=z.device)
    grid = z.repeat(len(order) * len(values), 1)
    for row, dimension in enumerate(order.tolist()):
        grid[row * len(values) : (row + 1) * len(values), dimension] = values
    x = model.expected(grid)
    labels = [f"z[{d}] {evaluation.stats.kl[d]:.2f} nats" for d in order.tolist()]
    return picture_grid(x, len(values), spec.low, spec.high, labels)


def _weights(model: Autoencoder) -> Iterator[Tensor]:
    """Weights on the way from the input to the code, first layer first."""
    for module in (*model.encoder.modules(), *model.bottleneck.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d):
            yield module.weight.detach()


def filters(model: Autoencoder, spec: DataSpec, most: int = 144) -> np.ndarray | None:
    """The first layer's weights as images, each scaled by itself, grey for 0; None for vectors."""
    first = next(_weights(model), None)
    if spec.kind != "image" or first is None:
        return None
    images = first if first.dim() == 4 else first.unflatten(-1, spec.shape)
    return _signed_grid(images, most)


def dictionary(model: Autoencoder) -> Tensor | None:
    """(D, K): what each unit of the code adds to the output, for a linear decoder; None for others."""
    if sum(isinstance(m, nn.Linear | nn.ConvTranspose2d) for m in model.decoder.modules()) != 1:
        return None
    layer = next(m for m in model.decoder.modules() if isinstance(m, nn.Linear))
    return getattr(layer, "atoms", layer.weight).detach()


def atoms(model: Autoencoder, spec: DataSpec, most: int = 144) -> np.ndarray | None:
    """The atoms of a linear decoder as images; None for others."""
    weight = dictionary(model)
    if spec.kind != "image" or weight is None:
        return None
    return _signed_grid(weight.T.unflatten(-1, spec.shape), most)


def _signed_grid(images: Tensor, most: int) -> np.ndarray:
    images = images[:most].float()
    if images.shape[1] not in (1, 3):  # a convolution over features: one image for each of its input channels
        images = images[:, :1]
    images = images / images.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return picture_grid(images, math.ceil(math.sqrt(len(images))), -1, 1)


def latent_space(evaluation: Evaluation, classes: tuple[str, ...]) -> np.ndarray | None:
    """Validation codes in two dimensions, coloured by label: as they are, or their first principal components."""
    codes, labels = evaluation.codes.numpy(), evaluation.labels
    if len(codes) < 3 or not np.isfinite(codes).all():
        return None
    names = ["z[0]", "z[1]"]
    if codes.shape[1] == 1:
        codes, names = np.concatenate([codes, np.zeros_like(codes)], 1), ["z[0]", ""]
    elif codes.shape[1] > 2:
        from sklearn.decomposition import PCA

        pca = PCA(2, svd_solver="full").fit(codes)
        codes = pca.transform(codes)
        shares = pca.explained_variance_ratio_
        names = [f"principal component {i + 1} ({share:.0%} of the variance)" for i, share in enumerate(shares)]
    return scatter(codes, labels, classes, tuple(names), f"codes of {len(codes)} validation examples")


def scatter(
    points: np.ndarray, labels: Tensor | None, classes: tuple[str, ...], axes_names: tuple[str, ...], title: str
) -> np.ndarray:
    """Points (N, 2) or (N, 3), coloured by label (N,) where there are labels."""
    figure = new_figure(7, 6)
    dim = points.shape[1]
    axes: Any = figure.add_subplot(projection="3d" if dim == 3 else None)
    groups: list[tuple[str | None, str, np.ndarray]] = [(None, "C0", np.ones(len(points), bool))]
    if labels is not None:
        groups = [
            (classes[label] if label < len(classes) else str(label), f"C{i % 10}", (labels == label).numpy())
            for i, label in enumerate(labels.unique().tolist())
        ]
    for name, color, rows in groups:
        axes.scatter(*points[rows].T, s=6, alpha=0.7, color=color, label=name)
    if labels is not None:
        axes.legend(markerscale=2, fontsize=8, loc="center left", bbox_to_anchor=(1.05 if dim == 3 else 1, 0.5))
    axes.set(xlabel=axes_names[0], ylabel=axes_names[1], title=title)
    if dim == 3:
        axes.set_zlabel(axes_names[2])
    return pixels(figure)


def units(evaluation: Evaluation) -> np.ndarray:
    """Each unit of the code: its KL where there is a posterior, else its variance and how often it is not zero."""
    stats = evaluation.stats
    figure = new_figure(8, 3.6)
    if stats.kl is not None:
        axes = figure.subplots()
        order = stats.kl.argsort(descending=True)
        colors = ["C0" if v > ACTIVE_VARIANCE else "C3" for v in stats.variance[order].tolist()]
        axes.bar(range(len(order)), stats.kl[order].numpy(), color=colors)
        axes.set_ylabel("KL [nats]")
        axes.set_xlabel(f"latent dimensions, sorted (red: not active, variance of the mean below {ACTIVE_VARIANCE})")
        axes.locator_params(axis="x", integer=True)
        axes.set_title(f"KL per dimension, {float(stats.kl.sum()):.2f} nats in all")
        return pixels(figure)
    left, right = figure.subplots(1, 2)
    left.plot(stats.variance.sort(descending=True).values.numpy())
    left.set(xlabel="units, sorted", ylabel="variance of the code", title="variance")
    right.plot(stats.usage.sort(descending=True).values.numpy())
    right.set(
        xlabel="units, sorted", ylabel="fraction of examples", title="how often a unit is not zero", ylim=(-0.02, 1.02)
    )
    return pixels(figure)


def curves(lines: list[dict[str, float]]) -> np.ndarray:
    """The loss of training and validation against steps, from the lines of metrics.jsonl."""
    figure = new_figure(7, 4)
    axes = figure.subplots()
    for split, color in (("train", "C0"), ("val", "C1")):
        points = [(line["step"], line["loss"]) for line in lines if line["split"] == split and line["loss"] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=split, color=color, marker="." if len(points) < 40 else "")
    axes.set(xlabel="step", ylabel="loss [nats per example]", title="loss")
    axes.legend()
    axes.grid(alpha=0.3)
    return pixels(figure)


def sprites(split: Split, spec: DataSpec, n: int) -> Tensor | None:
    """(n, 3, H, W) thumbnails in [0, 1] for the embedding projector; None for vectors."""
    if spec.kind != "image":
        return None
    x = (split.take(slice(0, n)).x.cpu() - spec.low) / max(spec.high - spec.low, 1e-12)
    x = x.clamp(0, 1).expand(-1, 3, -1, -1) if x.shape[1] == 1 else x.clamp(0, 1)
    side = max(x.shape[2:])
    if side > 32:  # the page holds one sprite sheet of at most 8192 pixels a side
        x = nn.functional.interpolate(x, size=(32, 32), mode="area")
    elif x.shape[2] != x.shape[3]:
        x = nn.functional.interpolate(x, size=(side, side), mode="nearest")
    return x


def all_pictures(model: Autoencoder, split: Split, spec: DataSpec, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Every picture that the model and its data allow, by name."""
    with judging(model, _device(model)):
        drawn = _drawn(model, split, spec, evaluation)
    return {name: image for name, image in drawn.items() if image is not None}


@torch.no_grad()
def texts(model: Autoencoder, split: Split, said: Callable[[Tensor], list[str]]) -> dict[str, list[str]]:
    """What stands for pictures where the data are token ids, by name: lines of text.

    Args:
        said: ids (N, T) as people read them.
    """
    with judging(model, _device(model)):
        batch = split.take(slice(0, EXAMPLES))
        noisy = not isinstance(model.noise, Identity)
        batch = model.corrupt(batch) if noisy else batch
        rows = {"input": batch.x} | ({"corrupted": batch.input} if noisy else {}) | {"output": model.reconstruct(batch)}
        z = model.bottleneck.prior_sample(EXAMPLES)
        made = [] if z is None else said(model.expected(z).cpu())
    groups = zip(*(said(ids.cpu()) for ids in rows.values()), strict=True)
    width = max(map(len, rows)) + 2
    lines = [f"{name + ':':{width}}{text}" for group in groups for name, text in zip(rows, group, strict=True)]
    return {"reconstruction": lines} | ({"samples": made} if made else {})


def _drawn(model: Autoencoder, split: Split, spec: DataSpec, evaluation: Evaluation) -> dict[str, np.ndarray | None]:
    return {
        "reconstruction": reconstruction(model, split, spec),
        "samples": samples(model, spec),
        "traversal": traversal(model, split, spec, evaluation),
        "filters": filters(model, spec),
        "atoms": atoms(model, spec),
        "latent_space": latent_space(evaluation, spec.classes),
        "latent_units": units(evaluation),
    }


def _device(model: Autoencoder) -> torch.device:
    return next(model.parameters()).device
