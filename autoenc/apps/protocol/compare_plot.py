"""Plots of compared runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from autoenc.apps.protocol.compare import LATENT, Row, run_label, short
from autoenc.apps.protocol.groups import Group, grouped
from autoenc.apps.protocol.statistics import half_width
from autoenc.canvas import class_styles, legend_name, new_figure, verbatim
from autoenc.files import atomic
from autoenc.metric_table import HEADLINE
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import metric as metric_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

WIDTH, LEGEND = 4.6, 2.6  # inches of a panel, and of a column of the legend
LABELLED = 12  # points of a panel that have labels
DASHES = ("-", "--", ":", "-.")
CELLS = 64  # of a map whose values are written into it
Lines = Mapping[str, Sequence["Group"]]


def plot(rows: Sequence[Row], keys: Sequence[str], path: Path, metric: str, also: Sequence[str] = ()) -> bool:
    """Draw test metrics against the latent dimension, a line for each combination of the other settings.

    Points are means over runs that differ only in their seeds, with the 95 % interval of the mean. If the latent
    dimension is the same in all runs, or unknown for one, each group is a bar. Further panels: the validation metric
    over the steps, each run a thin line; rate and distortion if two groups or more have a posterior, KL against nll
    (Alemi et al. 2018); a map of the metric if two settings were varied on a grid. False if there is nothing to draw.

    Args:
        metric: the validation metric that runs are ranked by.
        also: metrics to draw besides mse (for text data, perplexity), KL and active units.
    """
    from matplotlib.lines import Line2D

    groups, keys = grouped(rows, keys)
    done = [group for group in groups if group.numbers]
    if not done:
        return False
    over_latent = LATENT in keys and all(isinstance(row.settings.get(LATENT), int) for row in done)
    others = [k for k in keys if k != LATENT or not over_latent]
    lines: dict[str, list[Group]] = {}
    for group in done:
        lines.setdefault(group.label(others), []).append(group)
    metrics = [m for m in dict.fromkeys((*also, *HEADLINE, "kl", "active_units")) if any(m in r.numbers for r in done)]
    panels: list[Callable[[Axes], None]] = [partial(_test, lines, others, m, over_latent) for m in metrics]
    if sum("kl" in row.numbers and "nll" in row.numbers for row in done) > 1:
        panels.append(partial(_rate, lines, over_latent))
    if any(len(curve) > 1 for group in done for curve in group.curves(metric)):
        panels.append(partial(_curves, lines, metric, over_latent))
    if (grid := _grid(done, keys, metric)) is not None:
        panels.append(partial(_map, keys, metric, *grid))
    if not panels:
        return False
    across = len(panels) if len(panels) < 4 else math.ceil(len(panels) / math.ceil(len(panels) / 3))
    figure = new_figure(WIDTH * across, 4 * math.ceil(len(panels) / across))
    every = figure.subplots(math.ceil(len(panels) / across), across, squeeze=False).ravel()
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    for axes, draw in zip(every, panels, strict=False):
        draw(axes)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, label=fill(legend_name(name, 200), 30))
        for name, (color, marker) in zip(lines, class_styles(len(lines)), strict=True)
    ]
    title = fill(", ".join(others), 60) or None
    columns = min(len(lines), max(1, int(WIDTH * across / LEGEND)))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title, fontsize=8)
    without_overlaps(verbatim(figure))
    with atomic(path) as file:
        figure.savefig(file, format="png")
    return True


def without_overlaps(figure: Figure) -> None:
    """Remove texts of points and bars that overlap one that was written before, and keep the layout."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # once is enough
    for axes in figure.axes:
        kept: list[Bbox] = []
        for text in list(axes.texts):
            box = text.get_window_extent()
            if any(box.overlaps(other) for other in kept):
                text.remove()
            else:
                kept.append(box)


def _test(lines: Lines, others: Sequence[str], metric: str, over_latent: bool, axes: Axes) -> None:
    """Draw a test metric against the latent dimension, or as bars."""
    axes.set(title=f"test {metric_row(metric).name}", ylabel=metric_label(metric))
    if not over_latent:
        axes.set_xlabel(", ".join(others)[:60] or "run")
        _draw_bars(axes, {name: [g for g in groups if metric in g.numbers] for name, groups in lines.items()}, metric)
        return
    dims = sorted({group.settings[LATENT] for groups in lines.values() for group in groups})
    axes.set_xscale("log", base=2)
    axes.set_xticks(dims, [str(dim) for dim in dims])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("latent dimension")
    points = {
        name: [
            (g.settings[LATENT], g.numbers[metric], f"{g.numbers[metric]:.3g}", half_width(g.values(metric)) or 0.0)
            for g in groups
            if metric in g.numbers
        ]
        for name, groups in lines.items()
    }
    _draw_lines(axes, points)
    if metric == "mse":
        every = [group for groups in lines.values() for group in groups if "mse_pca" in group.numbers]
        if of_pca := dict(sorted((group.settings[LATENT], group.numbers["mse_pca"]) for group in every)):
            axes.plot(*zip(*of_pca.items(), strict=True), "--.", color="0.5", zorder=1, label="PCA")
            axes.legend(fontsize=8)


def _rate(lines: Lines, over_latent: bool, axes: Axes) -> None:
    axes.set(title="test rate and distortion", xlabel="KL [nats]", ylabel=metric_label("nll"))
    points = {
        name: [
            (
                g.numbers.get("rate", g.numbers["kl"]),
                g.numbers["nll"],
                f"latent {g.settings[LATENT]}" if over_latent else run_label(g),
                half_width(g.values("nll")) or 0.0,
            )
            for g in groups
            if "kl" in g.numbers and "nll" in g.numbers
        ]
        for name, groups in lines.items()
    }
    _draw_lines(axes, points)


def _curves(lines: Lines, metric: str, over_latent: bool, axes: Axes) -> None:
    """Draw the validation metric of each run over the steps, on a logarithmic axis where it spans a decade.

    Curves of one colour differ in the latent dimension, which is at the end of one of them and decides their dashes.
    """
    axes.set(title=f"validation {metric_row(metric).name}", xlabel="step", ylabel=metric_label(metric))
    sizes = sorted({group.settings[LATENT] for groups in lines.values() for group in groups}) if over_latent else []
    for groups, (color, _) in zip(lines.values(), class_styles(len(lines)), strict=True):
        for group in groups:
            dashes = DASHES[sizes.index(group.settings[LATENT]) % len(DASHES)] if over_latent else "-"
            curves = group.curves(metric)
            for curve in curves:
                axes.plot(*zip(*curve, strict=True), color=color, linewidth=0.8, linestyle=dashes)
            if curves and len(sizes) > 1:
                _write(axes, f"latent {group.settings[LATENT]}", curves[0][-1], (3, -2), color)
    if len(sizes) > 1:
        left, right = axes.get_xlim()
        axes.set_xlim(right=right + 0.2 * (right - left))  # room for the texts
    values = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata())]
    if 0 < 10 * min(values) < max(values):
        axes.set_yscale("log", subs=(2, 5))
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):  # powers would need mathtext
            axis("{x:g}")
    axes.grid(alpha=0.3)


def _grid(done: Sequence[Group], keys: Sequence[str], metric: str) -> tuple[list[str], list[str], np.ndarray] | None:
    """Return the values of two settings and the metric (second, first) where every pair of values was run once."""
    if len(keys) != 2:
        return None
    cells = {(short(g.settings.get(keys[0])), short(g.settings.get(keys[1]))): g for g in done}
    values = (sorted((g.settings.get(key) for g in done), key=_order) for key in keys)
    first, second = (list(dict.fromkeys(map(short, found))) for found in values)
    if min(len(first), len(second)) < 2 or not len(cells) == len(done) == len(first) * len(second):
        return None
    return first, second, np.array([[cells[a, b].numbers.get(metric, math.nan) for a in first] for b in second])


def _order(value: Any) -> tuple[bool, Any]:
    return (False, value) if isinstance(value, int | float) else (True, str(value))


def _map(
    keys: Sequence[str], metric: str, first: Sequence[str], second: Sequence[str], values: np.ndarray, axes: Axes
) -> None:
    """Draw the metric as a map of two settings, with its values."""
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="viridis")
    names = [key.rpartition(".")[2] for key in keys]
    axes.set(title=f"test {metric_row(metric).name} by {' and '.join(names)}", xlabel=keys[0], ylabel=keys[1])
    axes.set_xticks(range(len(first)), [v[:24] for v in first], rotation=20, ha="right", fontsize=7)
    axes.set_yticks(range(len(second)), [v[:24] for v in second], fontsize=7)
    assert axes.figure is not None
    axes.figure.colorbar(image, ax=axes, label=metric_label(metric))
    if values.size <= CELLS:
        for (row, column), value in np.ndenumerate(values):
            dark = float(value) < 0.4 * values.min() + 0.6 * values.max()
            axes.text(column, row, f"{value:.3g}", ha="center", va="center", fontsize=7, color="w" if dark else "k")


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[tuple[float, float, str, float]]]) -> None:
    """Draw points (x, y, text, half the width of an interval of y), joined along x."""
    texts = sum(map(len, lines.values())) <= LABELLED
    heights: dict[float, list[float]] = {}
    for x, y, *_ in (point for points in lines.values() for point in points):
        heights.setdefault(x, []).append(y)
    for points, (color, marker) in zip(lines.values(), class_styles(len(lines)), strict=True):
        if points:
            path = np.array(sorted((x, y, half) for x, y, _, half in points)).T
            axes.errorbar(path[0], path[1], path[2] if path[2].any() else None, marker=marker, color=color, capsize=3)
        for j, (x, y, text, _) in enumerate(sorted(points) if texts else ()):
            # The highest of several points has its text above; along a line, above and below in turn.
            up = y == max(heights[x]) if len(heights[x]) > 1 else j % 2 == 0
            _write(axes, text, (x, y), (3, 4 if up else -10), color)
    axes.margins(0.2, 0.15)  # room for the texts
    axes.grid(alpha=0.3)


def _write(axes: Axes, text: str, at: tuple[float, float], offset: tuple[int, int], color: Any) -> None:
    """Write a text beside a point, in front of lines that cross it."""
    from matplotlib.patheffects import withStroke

    edge = [withStroke(linewidth=2.5, foreground="w")]
    axes.annotate(text, at, offset, textcoords="offset points", fontsize=7, color=color, path_effects=edge, zorder=5)


def _draw_bars(axes: Axes, lines: Lines, metric: str) -> None:
    """Draw a bar for each group, side by side within a line."""
    texts = sum(map(len, lines.values())) <= LABELLED
    colors = [color for color, _ in class_styles(len(lines))]
    for i, groups in enumerate(lines.values()):
        width = 0.8 / max(len(groups), 1)
        for j, group in enumerate(groups):
            half = half_width(group.values(metric))
            x = i - 0.4 + (j + 0.5) * width
            bar = axes.bar(x, group.numbers[metric], width * 0.95, yerr=half, capsize=3, color=colors[i])
            axes.bar_label(bar, fmt="%.3g", fontsize=7) if texts else None
    axes.set_xticks(range(len(lines)), [fill(name[:60], 24) for name in lines], rotation=20, ha="right", fontsize=7)
    axes.set_xlim(-0.6, len(lines) - 0.4)
    axes.margins(y=0.1)  # room for the texts
    axes.grid(alpha=0.3)
