"""Figures of windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autoenc.canvas import legend_name, new_figure, pixels
from autoenc.data.kinds.series.spectra import Spectra

SHOWN = 4  # windows in a figure
CHANNELS = 6  # drawn of each window
TICKS = 6  # of the axis of frequencies
NOISY = ("noisy", "corrupted")  # names of versions
ACROSS, MOST = 4, 24  # panels of an overview


def compared(versions: Mapping[str, np.ndarray], names: Sequence[str], titles: Sequence[str]) -> np.ndarray:
    """Draw the same windows in several versions, (n, C, W) each: a column for each window, a row for each channel.

    The version with noise is grey, and below the others.
    """
    count, channels = len(titles), min(CHANNELS, len(names))
    figure = new_figure(max(6.5, 3.0 * count), 1.2 + 1.3 * channels)
    grid = figure.subplots(channels, count, squeeze=False, sharex=True, sharey="row")
    for c in range(channels):
        for i in range(count):
            for k, (name, x) in enumerate(versions.items()):
                style = {"color": "0.7", "zorder": 1} if name in NOISY else {"color": f"C{k}"}
                grid[c, i].plot(x[i, c], label=legend_name(name), linewidth=0.9, alpha=0.85, **style)
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
            axes.set_ylabel(names[0] + (f"\nfirst of {len(names)} channels" if len(names) > 1 else ""), fontsize=8)
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


def spectrograms(
    versions: Mapping[str, np.ndarray], titles: Sequence[str], spectra: Spectra, low: float, high: float
) -> np.ndarray:
    """Draw the same spectrograms in several versions, (n, F, T) in dB each: a column for each, a row for each version.

    Args:
        low, high: range of the colours in dB.
    """
    count, (_, rows, columns) = len(titles), next(iter(versions.values())).shape
    figure = new_figure(max(6.5, 0.9 + 2.4 * count), 0.8 + 1.9 * len(versions))
    grid = figure.subplots(len(versions), count, squeeze=False, sharex=True, sharey=True)
    seconds = 1 / (spectra.rate or 1.0)
    ends = [spectra.fft / 2 * seconds, (spectra.fft / 2 + (columns - 1) * spectra.hop) * seconds]
    half = spectra.hop * seconds / 2
    ticks = np.unique(np.linspace(0, rows - 1, min(TICKS, rows)).round().astype(int))
    digits = ",.0f" if spectra.frequencies.max() >= 100 else ".3g"
    for line, (name, levels) in zip(grid, versions.items(), strict=True):
        for axes, level in zip(line, levels, strict=True):
            extent = (ends[0] - half, ends[1] + half, rows - 0.5, -0.5)
            image = axes.imshow(level, cmap="magma", vmin=low, vmax=high, aspect="auto", extent=extent)
            axes.set_yticks(ticks, [f"{spectra.frequencies[i]:{digits}}" for i in ticks])
            axes.tick_params(labelsize=7)
        line[0].set_ylabel(f"{name}\n{'cycles per step' if spectra.rate is None else 'Hz'}", fontsize=8)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("step" if spectra.rate is None else "time [s]", fontsize=8)
    bar = figure.colorbar(image, ax=grid, fraction=0.04, pad=0.01)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("level [dB]", fontsize=8)
    return pixels(figure)
