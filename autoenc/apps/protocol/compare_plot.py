"""Plots of compared runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from autoenc.apps.protocol.compare import LATENT, Row, run_label, short
from autoenc.canvas import class_styles, legend_name, new_figure, verbatim
from autoenc.files import atomic
from autoenc.metric_table import HEADLINE
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import metric as metric_row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 5  # lines whose legend fits into a panel
LABELLED = 12  # points of a panel that have labels


def plot(rows: Sequence[Row], keys: Sequence[str], path: Path, also: Sequence[str] = ()) -> bool:
    """Draw test metrics against the latent dimension, a line for each combination of the other settings.

    If the latent dimension is the same in all runs, or unknown for one, each run is a bar. If two runs or more have a
    posterior, rate and distortion are drawn too: KL against nll (Alemi et al. 2018). False if no run has metrics.

    Args:
        also: metrics to draw besides mse (for text data, perplexity), KL and active units.
    """
    from matplotlib.lines import Line2D

    done = [row for row in rows if row.numbers]
    if not done:
        return False
    over_latent = LATENT in keys and all(isinstance(row.settings.get(LATENT), int) for row in done)
    others = [k for k in keys if k != LATENT or not over_latent]
    lines: dict[str, list[Row]] = {}
    for row in done:
        lines.setdefault(", ".join(short(row.settings.get(k, "-")) for k in others) or "all", []).append(row)
    metrics = [m for m in dict.fromkeys((*also, *HEADLINE, "kl", "active_units")) if any(m in r.numbers for r in done)]
    with_rate = sum("kl" in row.numbers and "nll" in row.numbers for row in done) > 1
    count = len(metrics) + with_rate
    across = count if count < 4 else math.ceil(count / math.ceil(count / 3))
    figure = new_figure(4.6 * across, 4 * math.ceil(count / across))
    panels = figure.subplots(math.ceil(count / across), across, squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_axis_off()
    for axes, metric in zip(panels, metrics, strict=False):
        axes.set(title=f"test {metric_row(metric).name}", ylabel=metric_label(metric))
        if over_latent:
            dims = sorted({row.settings[LATENT] for row in done})
            axes.set_xscale("log", base=2)
            axes.set_xticks(dims, [str(dim) for dim in dims])
            axes.set_xticks([], minor=True)
            axes.set_xlabel("latent dimension")
            points = {
                name: [
                    (r.settings[LATENT], r.numbers[metric], f"{r.numbers[metric]:.3g}")
                    for r in group
                    if metric in r.numbers
                ]
                for name, group in lines.items()
            }
            _draw_lines(axes, points)
        else:
            axes.set_xlabel(", ".join(others)[:60] or "run")
            _draw_bars(
                axes, {name: [r.numbers[metric] for r in group if metric in r.numbers] for name, group in lines.items()}
            )
    if with_rate:
        panels[count - 1].set(title="test rate and distortion", xlabel="KL [nats]", ylabel=metric_label("nll"))
        points = {
            name: [
                (
                    r.numbers.get("rate", r.numbers["kl"]),
                    r.numbers["nll"],
                    f"latent {r.settings[LATENT]}" if over_latent else run_label(r),
                )
                for r in group
                if "kl" in r.numbers and "nll" in r.numbers
            ]
            for name, group in lines.items()
        }
        _draw_lines(panels[count - 1], points)
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=color, label=fill(legend_name(name, 200), 30))
        for name, (color, marker) in zip(lines, class_styles(len(lines)), strict=True)
    ]
    title = fill(", ".join(others), 60) or None
    if len(lines) <= FEW:
        panels[0].legend(handles=handles, title=title, fontsize=8)
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, title=title, fontsize=8)
    with atomic(path) as file:
        verbatim(figure).savefig(file, format="png")
    return True


def _draw_lines(axes: Axes, lines: Mapping[str, Sequence[tuple[float, float, str]]]) -> None:
    """Draw points (x, y, text), joined along x."""
    texts = sum(map(len, lines.values())) <= LABELLED
    heights: dict[float, list[float]] = {}
    for x, y, _ in (point for points in lines.values() for point in points):
        heights.setdefault(x, []).append(y)
    for points, (color, marker) in zip(lines.values(), class_styles(len(lines)), strict=True):
        if points:
            path = sorted((x, y) for x, y, _ in points)
            axes.plot(*zip(*path, strict=True), marker=marker, color=color)
        for j, (x, y, text) in enumerate(sorted(points) if texts else ()):
            # The highest of several points has its text above; along a line, above and below in turn.
            up = y == max(heights[x]) if len(heights[x]) > 1 else j % 2 == 0
            axes.annotate(
                text, (x, y), xytext=(3, 4 if up else -10), textcoords="offset points", fontsize=7, color=color
            )
    axes.margins(0.2, 0.15)  # room for the texts
    axes.grid(alpha=0.3)


def _draw_bars(axes: Axes, groups: Mapping[str, Sequence[float]]) -> None:
    """Draw a bar for each value, side by side within a group."""
    texts = sum(map(len, groups.values())) <= LABELLED
    colors = [color for color, _ in class_styles(len(groups))]
    for i, values in enumerate(groups.values()):
        width = 0.8 / max(len(values), 1)
        for j, value in enumerate(values):
            bar = axes.bar(i - 0.4 + (j + 0.5) * width, value, width * 0.95, color=colors[i])
            axes.bar_label(bar, fmt="%.3g", fontsize=7) if texts else None
    axes.set_xticks(range(len(groups)), [fill(name[:60], 24) for name in groups], rotation=20, ha="right", fontsize=7)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    axes.grid(alpha=0.3)
