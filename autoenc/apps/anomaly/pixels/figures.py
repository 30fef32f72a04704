"""Figures of defect maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoenc.apps.anomaly.pixels.inspection import Inspected
from autoenc.data.readers.inspection_folders import Part, read_mask
from autoenc.data.sets.defects import read_image
from autoenc.figures import new_figure, pixels
from autoenc.loading import Run

SHOWN = 12  # images in the contact sheet
OPACITY = 0.7  # of the heat map over an image, at the threshold and above


def overlay(run: Run, part: Part, values: np.ndarray, limit: float) -> np.ndarray:
    """Draw a map (H, W) over its image, brightest from the threshold `limit` on: (H, W, 3) uint8."""
    from matplotlib import colormaps

    level = (values / max(limit, 1e-12)).clip(0, 1)[..., None]
    heat = colormaps["inferno"](level[..., 0])[..., :3]
    grey = read_image(part.file, run.spec.kind).mean(0)[..., None] / 255
    return ((OPACITY * level * heat + (1 - OPACITY * level) * grey) * 255).round().astype(np.uint8)


def contact_sheet(run: Run, result: Inspected, parts: Sequence[Part]) -> np.ndarray:
    """Draw the most defective images above their heat maps, with kind, score and the outline of the mask."""
    rows = result.order()[:SHOWN]
    tallest = max(result.maps[i].shape[0] / result.maps[i].shape[1] for i in rows)
    figure = new_figure(1.5 * len(rows), 2 * 1.5 * min(max(tallest, 0.5), 2.5) + 0.6)
    limit = result.thresholds[result.score]
    for column, i in enumerate(rows):
        image = read_image(parts[i].file, run.spec.kind)
        mask = read_mask(parts[i], image.shape[1:])
        for row, drawn in enumerate((image.transpose(1, 2, 0), overlay(run, parts[i], result.maps[i], limit))):
            axes = figure.add_subplot(2, len(rows), row * len(rows) + column + 1)
            axes.imshow(drawn, cmap="gray", vmin=0, vmax=255)
            axes.axis("off")
            if row and mask.any():
                axes.contour(mask, levels=[0.5], colors="cyan", linewidths=0.6)
            if not row:
                axes.set_title(
                    f"{parts[i].kind or parts[i].file.stem[:12]}\n{result.scores[result.score][i]:.3g}", fontsize=8
                )
    figure.suptitle(
        f"the {len(rows)} highest scores of {len(parts):,} images: kind and {result.score} score", fontsize=10
    )
    return pixels(figure)
