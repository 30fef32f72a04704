"""Drawing primitives: grids of images, panels of lines, scatter plots. All return (H, W, 3) uint8 arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_TILE = 56  # pixels: 8x8 digits are enlarged
NAME = 40  # characters of a name in a legend


def picture_grid(
    images: Tensor, columns: int, low: float, high: float, row_labels: list[str] | None = None
) -> np.ndarray:
    """Draw images (N, C, H, W) with values in [low, high] in a grid; small images are enlarged, values are clipped."""
    images = images.detach().float().cpu()
    images = ((images - low) / max(high - low, 1e-12)).clamp(0, 1)
    zoom = max(1, round(SMALLEST_TILE / images.shape[-1]))
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    images = as_rgb(images)
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

        image = Image.fromarray(canvas)
        draw = ImageDraw.Draw(image)
        for r, text in enumerate(row_labels):
            draw.text((6, gap + r * (h + gap) + h // 2 - 6), text, fill=(60, 60, 60))
        canvas = np.asarray(image)
    return canvas


def as_rgb(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) with three channels: the first three, or the mean of fewer as grey."""
    if images.shape[1] < 3:
        return images.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return images[:, :3]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, nothing to close

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def legend_name(name: object) -> str:
    """Return a name on one line, of at most 40 characters; matplotlib drops names with a leading _ from legends."""
    line = " ".join(str(name).split())[:NAME]
    return f" {line}" if line.startswith("_") else line


def verbatim(figure: Figure) -> Figure:
    """Draw `$` in all texts of a figure as it is: names of users are no formulas."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_parse_math(False)  # type: ignore[attr-defined]
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """Render a figure to (H, W, 3) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    verbatim(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def scatter(
    points: np.ndarray, labels: Tensor | None, classes: tuple[str, ...], axes_names: tuple[str, ...], title: str
) -> np.ndarray:
    """Draw points (N, 2) or (N, 3), coloured by label (N,) if there are labels."""
    figure = new_figure(7, 6)
    dim = points.shape[1]
    axes: Any = figure.add_subplot(projection="3d" if dim == 3 else None)
    groups: list[tuple[str | None, str, np.ndarray]] = [(None, "C0", np.ones(len(points), bool))]
    if labels is not None:
        groups = [
            (legend_name(classes[label] if label < len(classes) else label), f"C{i % 10}", (labels == label).numpy())
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


def line_panels(
    panels: Sequence[Mapping[str, np.ndarray]], titles: Sequence[str] = (), gradient: bool = False
) -> np.ndarray:
    """Draw vectors as lines, one panel for each mapping of name -> (D,).

    Args:
        titles: of the panels.
        gradient: colour the lines of a panel by order, without a legend.
    """
    import matplotlib

    across = min(5 if gradient else 2, len(panels))
    down = math.ceil(len(panels) / across)
    width, height = (3.0, 2.2) if gradient else (4.5, 3.0)
    figure = new_figure(max(7, width * across), 3.2 if down == 1 else height * down)
    axes_of_panels = figure.subplots(down, across, squeeze=False, sharey=gradient).flat
    for i, axes in enumerate(axes_of_panels):
        if i >= len(panels):
            axes.set_axis_off()
            continue
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(panels[i]))) if gradient else [None] * 99
        for (name, line), color in zip(panels[i].items(), colors, strict=False):
            axes.plot(line, label=legend_name(name), linewidth=0.9, alpha=0.8, color=color)
        axes.set_title(titles[i] if i < len(titles) else "", fontsize=9)
        axes.set_xlabel("dimension", fontsize=8)
    if not gradient:
        figure.axes[0].legend(fontsize=8)
    return pixels(figure)
