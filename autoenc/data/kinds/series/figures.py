"""Figures of windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autoenc.canvas import legend_name, new_figure, pixels

CHANNELS = 6  # drawn of each window
ACROSS, MOST = 4, 24  # panels of an overview


def compared(versions: Mapping[str, np.ndarray], names: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """Draw the same windows in several versions, (n, C, W) each: a column for each window, a row for each channel.

    The first of more than two versions, such as a noisy one, is grey.
    """
    count, channels = len(titles), min(CHANNELS, len(names))
    figure = new_figure(max(6.5, 3.0 * count), 1.2 + 1.3 * channels)
    grid = figure.subplots(channels, count, squeeze=False, sharex=True, sharey="row")
    for c in range(channels):
        for i in range(count):
            for k, (name, x) in enumerate(versions.items()):
                color = "0.7" if k == 0 and len(versions) > 2 else f"C{k}"
                grid[c, i].plot(x[i, c], label=legend_name(name), linewidth=0.9, alpha=0.85, color=color)
            grid[c, i].tick_params(labelsize=7)
        grid[c, 0].set_ylabel(names[c], fontsize=8)
    for i, title in enumerate(titles):
        grid[0, i].set_title(title, fontsize=9)
        grid[-1, i].set_xlabel("step", fontsize=8)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), fontsize=7, loc="outside upper right", ncols=len(versions))
    return pixels(figure)


def overview(x: np.ndarray, names: Sequence[str], columns: int, titles: Sequence[str] = ()) -> np.ndarray:
    """Draw windows (N, C, W): a panel each with all channels; of many, a panel for `columns` of the first channel."""
    import matplotlib

    many = len(x) > MOST
    panels = [x[i : i + columns, 0] for i in range(0, len(x), columns)] if many else list(x[:, :CHANNELS])
    across = min(ACROSS if many else columns, ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    figure = new_figure(max(6.5, 2.6 * across), 0.8 + 1.5 * down)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
    for i, axes in enumerate(grid):
        if i >= len(panels):
            axes.set_axis_off()
            continue
        count = len(panels[i])
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, count)) if many else [None] * count
        for c, (line, color) in enumerate(zip(panels[i], colors, strict=True)):
            axes.plot(line, linewidth=0.9, color=color, label=None if many else names[c])
        axes.set_title(titles[i] if i < len(titles) else f"{names[0]}, row {i}" if many else "", fontsize=8)
        axes.tick_params(labelsize=7)
        if i % across == 0 and (many or len(names) == 1):
            axes.set_ylabel(names[0], fontsize=8)
        if i + across >= len(panels):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("step" + ("; first line dark, last yellow" if many else ""), fontsize=8)
    if len(names) > 1 and not many:
        figure.legend(*grid[0].get_legend_handles_labels(), fontsize=7, loc="outside upper right", ncols=CHANNELS)
    return pixels(figure)


def ranked(x: np.ndarray, names: Sequence[str], titles: Sequence[str], colors: Sequence[str | None]) -> np.ndarray:
    """Draw windows over each other: a column for each title, a row for each channel.

    Args:
        x: (N, C, W), as many windows for each title, the first of them bold; NaN where one is not known.
        colors: of the windows; None: grey.
    """
    count, channels, each = len(titles), min(CHANNELS, len(names)), len(x) // len(titles)
    figure = new_figure(max(6.5, 3.0 * count), 0.8 + 1.3 * channels)
    grid = figure.subplots(channels, count, squeeze=False, sharex=True, sharey="row")
    for i, title in enumerate(titles):
        for k in reversed(range(i * each, (i + 1) * each)):  # the query is on top
            first = k == i * each
            for c in range(channels):
                style = {"color": colors[k] or "0.6", "linewidth": 1.8 if first else 0.7}
                grid[c, i].plot(x[k, c], alpha=1.0 if first else 0.7, **style)
                grid[c, i].tick_params(labelsize=7)
        grid[0, i].set_title(title, fontsize=8)
        grid[-1, i].set_xlabel("step", fontsize=8)
    for c in range(channels):
        grid[c, 0].set_ylabel(names[c], fontsize=8)
    return pixels(figure)
