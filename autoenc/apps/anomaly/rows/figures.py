"""Figures of anomaly scores of rows: ROC curves, and heat maps of images."""

from __future__ import annotations

import numpy as np
import torch

from autoenc.apps.anomaly.labelled import known_rows
from autoenc.apps.anomaly.rows.detect import Detected
from autoenc.canvas import as_rgb
from autoenc.data.split import Split
from autoenc.figures import new_figure, picture_grid, pixels, titled
from autoenc.loading import Run
from autoenc.metric_table import label as metric_label


def roc(result: Detected) -> np.ndarray:
    """Draw the ROC curves of the scores (the deciding one bold) and of the baselines (dashed)."""
    from sklearn.metrics import roc_curve

    assert result.labels is not None
    known, _ = known_rows(result.labels, result.labels)
    figure = new_figure(6.5, 5.5)
    axes = figure.subplots()
    for name, values in (result.scores | result.baselines).items():
        false, true, _ = roc_curve(*known_rows(result.labels, values))
        style = "--" if name in result.baselines else "-"
        label = f"{name}: {result.numbers[name]['auroc']:.3f}"
        axes.plot(false, true, style, label=label, linewidth=2.5 if name == result.score else 1.2)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.set(
        xlabel="false positive rate",
        ylabel="true positive rate",
        title=f"ROC curves: {len(known):,} labelled examples, {int(known.sum()):,} anomalies",
    )
    axes.legend(fontsize=8, loc="lower right", title=metric_label("auroc"), title_fontsize=8)
    return pixels(figure)


def heatmap(run: Run, split: Split, rows: np.ndarray) -> np.ndarray:
    """Draw input, reconstruction and squared error (mean over channels, bright is large) of some images."""
    from matplotlib import colormaps

    chosen = split.subset(torch.from_numpy(rows))
    x, x_hat = chosen.take(slice(None)).x.cpu(), run.over(chosen, run.model.reconstruct)
    error = (x - x_hat).square().mean(1).numpy()  # (n, H, W)
    low, high = run.spec.low, run.spec.high
    errors = [f"{value:.2g}" for value in error.mean((1, 2))]
    heat = colormaps["inferno"](error / max(error.max(), 1e-12))[..., :3]
    colour = torch.from_numpy(heat).float().permute(0, 3, 1, 2) * (high - low) + low  # to the range of the data
    images = torch.cat([as_rgb(x), as_rgb(x_hat), colour])
    texts = [""] * (2 * len(rows)) + errors
    grid = picture_grid(images, len(rows), low, high, ["input", "output", "error, mse"], texts)
    title = f"the {len(rows)} highest scores of {len(split):,} images, and the squared error of each pixel"
    return titled(grid, title, ("inferno", "0", f"{error.max():.2g}"))
