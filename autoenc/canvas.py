"""Drawing primitives: grids of images, panels of lines, scatter plots. All return (H, W, 3) uint8 arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from autoenc.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SMALLEST_TILE = 56  # pixels: 8x8 digits are enlarged
LINE = 16  # pixels of a line of text
GREY = (60, 60, 60)
NAME = 40  # characters of a name in a legend
NAMED = 75  # classes in a legend
MARKERS = "osD^v<>P*"


def picture_grid(
    images: Tensor,
    columns: int,
    low: float,
    high: float,
    row_labels: Sequence[str] | None = None,
    tile_labels: Sequence[str] = (),
    frames: Sequence[str | None] = (),
) -> np.ndarray:
    """Draw images (N, C, H, W) with values in [low, high] in a grid; small images are enlarged, values are clipped.

    Args:
        tile_labels: texts below the images; rows without a text take no space for them.
        frames: colours of frames around the images; None for no frame.
    """
    from PIL import Image, ImageDraw

    images = images.detach().float().cpu()
    images = ((images - low) / max(high - low, 1e-12)).clamp(0, 1)
    zoom = max(1, round(SMALLEST_TILE / images.shape[-1]))
    images = images.repeat_interleave(zoom, -1).repeat_interleave(zoom, -2)
    images = as_rgb(images)
    n, _, h, w = images.shape
    rows, gap, font = math.ceil(n / columns), 4 if any(frames) else 2, _font()
    margin = max((math.ceil(font.getlength(printable(text))) + 12 for text in row_labels or ()), default=0)
    texts = [any(tile_labels[r * columns : (r + 1) * columns]) for r in range(rows)]
    tops = [gap + r * (h + gap) + LINE * sum(texts[:r]) for r in range(rows)]
    height, width = tops[-1] + h + gap + LINE * texts[-1], margin + columns * (w + gap) + gap
    image = Image.fromarray(np.full((height, width, 3), 255, np.uint8))
    draw = ImageDraw.Draw(image)
    tiles = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for i, tile in enumerate(tiles):
        r, c = divmod(i, columns)
        top, left = tops[r], margin + gap + c * (w + gap)
        if i < len(frames) and frames[i]:
            draw.rectangle((left - 3, top - 3, left + w + 2, top + h + 2), outline=frames[i], width=3)
        image.paste(Image.fromarray(tile), (left, top))
        if i < len(tile_labels):
            draw.text((left + w / 2, top + h + gap), printable(tile_labels[i]), fill=GREY, font=_font(9), anchor="ma")
    for top, text in zip(tops, row_labels or (), strict=False):
        draw.text((6, top + h / 2), printable(text), fill=GREY, font=font, anchor="lm")
    return np.asarray(image)


def titled(image: np.ndarray, title: str, bar: tuple[str, str, str] | None = None) -> np.ndarray:
    """Draw a title above an image (H, W, 3), which is widened if the title needs it.

    Args:
        bar: a colour bar in the next line: name of the colour map, texts of its two ends.
    """
    from PIL import Image, ImageDraw

    font, lines = _font(), [printable(line) for line in title.split("\n")]
    width = max(image.shape[1], *(math.ceil(font.getlength(line)) + 12 for line in lines))
    top = LINE * (len(lines) + (bar is not None)) + 6
    canvas = np.full((top + image.shape[0], width, 3), 255, np.uint8)
    canvas[top:, : image.shape[1]] = image
    drawn = Image.fromarray(canvas)
    draw = ImageDraw.Draw(drawn)
    for i, line in enumerate(lines):
        draw.text((6, 3 + i * LINE), line, fill=(0, 0, 0), font=font)
    if bar is not None:
        from matplotlib import colormaps

        name, low, high = bar
        colors = (colormaps[name](np.linspace(0, 1, 120))[None, :, :3] * 255).round().astype(np.uint8)
        left = 12 + math.ceil(font.getlength(low))
        draw.text((6, top - LINE), low, fill=(0, 0, 0), font=font)
        drawn.paste(Image.fromarray(colors.repeat(10, 0)), (left, top - LINE + 2))
        draw.text((left + 126, top - LINE), high, fill=(0, 0, 0), font=font)
    return np.asarray(drawn)


@functools.cache
def _font(size: int = 11) -> Any:
    """Return DejaVu Sans, which comes with matplotlib and has Greek, Cyrillic and arrows."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def as_rgb(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) with three channels: the first three, or the mean of fewer as grey."""
    if images.shape[1] < 3:
        return images.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    return images[:, :3]


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes are in inches."""
    from matplotlib.figure import Figure  # not pyplot: no global state, nothing to close

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def legend_name(name: object, most: int = NAME) -> str:
    """Return a name on one line, of at most `most` characters; matplotlib drops names with a leading _ from legends."""
    line = printable(" ".join(str(name).split()))[:most]
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
    present = [] if labels is None else labels.unique().tolist()  # -1 where a label is not known
    columns = math.ceil(min(len(present), NAMED) / 25)  # of the legend
    shown: list[object] = ["no label" if i < 0 else classes[i] if i < len(classes) else i for i in present]
    names = _shortened(shown, 24 if columns < 2 else 16)
    dim = points.shape[1]
    figure = new_figure(6.2 + columns * (0.5 + 0.07 * max(map(len, names), default=0)), 6)
    axes: Any = figure.add_subplot(projection="3d" if dim == 3 else None)
    if labels is None:
        axes.scatter(*points.T, s=6, alpha=0.7)
    for i, (label, (color, marker)) in enumerate(zip(present, class_styles(len(present)), strict=True)):
        name: str | None = legend_name(names[i])
        if i >= NAMED - 1 and len(present) > NAMED:
            name = f"{len(present) - NAMED + 1} more" if i == NAMED - 1 else None
        chosen = points[(labels == label).numpy()]
        axes.scatter(*chosen.T, s=6 if marker == "o" else 12, alpha=0.7, color=color, marker=marker, label=name)
    if present:
        figure.legend(
            markerscale=2, fontsize=8, loc="outside right center", ncols=columns, borderaxespad=2 if dim == 3 else 0.5
        )
    axes.set(xlabel=axes_names[0], ylabel=axes_names[1], title=title)
    if dim == 3:
        axes.set_zlabel(axes_names[2])
        axes.set_box_aspect(None, zoom=0.85)  # room for the label of the third axis
    return pixels(figure)


def _shortened(names: Sequence[object], most: int) -> list[str]:
    """Return names of at most `most` characters, cut where most of them stay different: at the end, middle or start."""
    texts = [str(name) for name in names]
    half = most // 2

    def cut(start: int) -> list[str]:
        return [t if len(t) <= most else f"{t[:start]}…{t[len(t) - most + start + 1 :]}" for t in texts]

    return max((cut(start) for start in (most - 1, half, 0)), key=lambda found: len(set(found)))


def class_styles(count: int) -> list[tuple[Any, str]]:
    """Return a colour and a marker for each of `count` classes, all different up to 180 classes."""
    from matplotlib import colormaps

    colors = colormaps["tab10" if count <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    if count > 10:  # dark ones first: neighbours in tab20 are shades of one colour
        colors = [*colors[::2], *colors[1::2]]
    return [(colors[i % len(colors)], MARKERS[i // len(colors) % len(MARKERS)]) for i in range(count)]


def line_panels(
    panels: Sequence[Mapping[str, np.ndarray]], titles: Sequence[str] = (), gradient: bool = False
) -> np.ndarray:
    """Draw vectors as lines, one panel for each mapping of name -> (D,).

    Panels whose first vector consists of zeros and ones, such as one-hot categories, have bars instead: there is
    nothing between one category and the next. The panels of a figure have one scale.

    Args:
        titles: of the panels.
        gradient: colour the lines of a panel by order, without a legend.
    """
    import matplotlib

    across = min(5 if gradient else 2, len(panels))
    down = math.ceil(len(panels) / across)
    width, height = (3.0, 2.2) if gradient else (4.5, 3.0)
    figure = new_figure(max(7, width * across), 3.2 if down == 1 else height * down)
    axes_of_panels = figure.subplots(down, across, squeeze=False, sharey=True).flat
    for i, axes in enumerate(axes_of_panels):
        if i >= len(panels):
            axes.set_axis_off()
            continue
        lines = panels[i]
        first = next(iter(lines.values()))
        bars = not gradient and len(first) <= 60 and bool(np.isin(first, (0, 1)).all())
        colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(lines))) if gradient else [None] * len(lines)
        for j, ((name, line), color) in enumerate(zip(lines.items(), colors, strict=True)):
            if bars:
                axes.bar(
                    np.arange(len(line)) + (j + 0.5) * 0.8 / len(lines) - 0.4,
                    line,
                    0.8 / len(lines),
                    label=legend_name(name),
                )
            else:
                marker = "." if len(line) <= 60 and not gradient else ""
                axes.plot(line, label=legend_name(name), linewidth=0.9, alpha=0.8, color=color, marker=marker)
        axes.set_title(titles[i] if i < len(titles) else "", fontsize=9)
        axes.set_xlabel("dimension" + ("; first line dark, last yellow" if gradient and i == 0 else ""), fontsize=8)
        axes.locator_params(axis="x", integer=True)
    if not gradient:
        figure.axes[0].legend(fontsize=8)
    return pixels(figure)
