"""Figures of codes and metrics: the latent space, statistics of units, loss curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor, nn

from autoenc.canvas import as_rgb, new_figure, pixels, scatter
from autoenc.data.dataset import DataSpec
from autoenc.data.split import Split
from autoenc.metric_table import label
from autoenc.metrics import ACTIVE_VARIANCE
from autoenc.training.evaluation import Evaluation


def latent_space(evaluation: Evaluation, classes: tuple[str, ...]) -> np.ndarray | None:
    """Draw validation codes, or their first two principal components, coloured by label."""
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


def units(evaluation: Evaluation) -> np.ndarray:
    """Draw the KL of each unit if there is a posterior, else its variance and the fraction of nonzero values."""
    stats, of = evaluation.stats, "of the validation split"
    figure = new_figure(8, 3.6)
    if stats.kl is not None:
        axes = figure.subplots()
        order = stats.kl.argsort(descending=True)
        colors = ["C0" if v > ACTIVE_VARIANCE else "C3" for v in stats.variance[order].tolist()]
        axes.bar(range(len(order)), stats.kl[order].numpy(), color=colors)
        axes.set_ylabel("KL [nats]")
        inactive = f" (red: inactive, variance of the mean below {ACTIVE_VARIANCE})" if "C3" in colors else ""
        axes.set_xlabel(f"latent dimensions, sorted{inactive}")
        axes.locator_params(axis="x", integer=True)
        axes.set_title(f"KL per latent dimension {of}, {float(stats.kl.sum()):.2f} nats in total")
        return pixels(figure)
    figure.suptitle(f"codes {of}")
    left, right = figure.subplots(1, 2)
    left.plot(stats.variance.sort(descending=True).values.numpy())
    left.set(xlabel="units, sorted", ylabel="variance of the code", ylim=(0, None))
    right.plot(stats.usage.sort(descending=True).values.numpy())
    right.set(xlabel="units, sorted", ylabel="fraction of nonzero values", ylim=(-0.02, 1.02))
    for axes in (left, right):
        axes.locator_params(axis="x", integer=True)
    return pixels(figure)


def curves(
    lines: list[dict[str, Any]],
    kept: int | None = None,
    units: Mapping[str, str] | None = None,
    monitor: str = "loss",
) -> np.ndarray:
    """Draw training and validation loss against steps, from the lines of metrics.jsonl.

    Values of the first tenth of the evaluations that are far outside the range of all others are left out of the axis.

    Args:
        kept: step of the weights that the run keeps, the best by the metric `monitor`.
        units: of losses that are not in nats.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7, 4)
    axes = figure.subplots()
    first, later = [], []
    for split, name, color in (("train", "training, mean over the epoch", "C0"), ("val", "validation", "C1")):
        points = [(line["step"], line["loss"]) for line in lines if line["split"] == split and line["loss"] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, color=color, marker="." if len(points) < 40 else "")
        start = max(1, len(points) // 10)
        first += [loss for _, loss in points[:start]]
        later += [loss for _, loss in points[start:]]
    if kept is not None:
        axes.axvline(
            kept, color="0.4", linestyle="--", linewidth=1, label=f"weights kept: step {kept:,}, best {monitor}"
        )
    if len(later) > 2 and (span := max(later) - min(later)) > 0 and max(first) > max(later) + 4 * span:
        axes.set_ylim(min(later) - 0.05 * span, max(later) + 0.5 * span)
        axes.annotate(f"first: {max(first):.4g}", (0.02, 0.97), xycoords="axes fraction", va="top", fontsize=8)
    axes.set(xlabel="step", ylabel=f"{label('loss', units)} per example", title="training and validation loss")
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.set_xlim(left=0)
    if axes.lines:
        axes.legend(loc="best", fontsize=8)
    axes.grid(alpha=0.3)
    return pixels(figure)


def sprites(split: Split, spec: DataSpec, n: int) -> Tensor | None:
    """Return thumbnails (n, 3, H, W) in [0, 1] of `split.sample(n)` for the embedding projector; None for vectors."""
    x = spec.kind.tiles(split.sample(n).take(slice(None)).x.cpu())
    if x is None:
        return None
    x = as_rgb(x)
    side = max(x.shape[2:])
    if side > 32:  # the projector accepts sprite sheets of up to 8192 pixels per side
        x = nn.functional.interpolate(x, size=(32, 32), mode="area")
    elif x.shape[2] != x.shape[3]:
        x = nn.functional.interpolate(x, size=(side, side), mode="nearest")
    return x
