"""Inspection: detection and localization of defects in images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from autoenc.apps.anomaly.conformal import NAMED, Calibration, Judged, Quantile, Rule, chose_the_checkpoint, p_values
from autoenc.apps.anomaly.pixels.metrics import image_score, pixel_numbers
from autoenc.apps.anomaly.pixels.scores import BEST, REASON, SCORES, Inspector
from autoenc.data.readers.folders import tree
from autoenc.data.readers.inspection_folders import GOOD, Layout, Part, layout, read_mask
from autoenc.data.sets.defects import read_image
from autoenc.errors import DataError, UserError
from autoenc.figures import new_figure, pixels
from autoenc.loading import Run
from autoenc.training.rundir import located

HELD_OUT = "held-out good images"
REMEDY = "more good images, or a larger data.val_fraction, give more"
SHOWN = 12  # images in the contact sheet
OPACITY = 0.7  # of the heat map over an image, at the threshold and above
ALL = "all"  # all kinds of defect


@dataclass(frozen=True)
class Inspected(Judged):
    """The scores of N images.

    Args:
        scores: name -> (N,), see `image_score`. calibration: the held-out good images.
        maps: (H, W) of each image, by the deciding score.
        numbers: score -> kind of defect, or `all` -> {image_auroc, pixel_auroc, pro}, of these and the good images,
            higher is better; empty if the kinds are not known.
    """

    noun: ClassVar[str] = "images"
    maps: list[np.ndarray] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the contents of detect.json."""
        return self.judgement({"images": len(self.alarms), "above_threshold": int(self.alarms.sum())})

    def table(self, parts: Sequence[Part]) -> tuple[list[str], list[list[str]]]:
        """Return header and rows for a CSV: image, kind, the scores, the p-value, and defective."""
        values, p = list(zip(*self.scores.values(), strict=True)), p_values(*self.compared)
        rows = [
            [part.name, part.kind, *(f"{v:.7g}" for v in values[i]), f"{p[i]:.4g}", str(int(self.alarms[i]))]
            for i, part in enumerate(parts)
        ]
        return ["image", "kind", *self.scores, "p_value", "defective"], rows


def layout_of(run: Run) -> Layout:
    """Return the files of the folder that a run was trained on, split as in training."""
    data = located(run.config["data"], run.path)
    names = {name: data.get(name) for name in ("good", "masks", "mask_suffix")}  # runs of version 0.2 have none
    return layout(Path(data["path"]).expanduser(), data["val_fraction"], data["split_seed"], **names)


def new_parts(path: str | Path) -> list[Part]:
    """Return new images, a file or those below a folder, of unknown kind; DataError if there are none."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [Part(path, "", name=path.name)]
    found = tree(path)
    return [Part(Path(file), "", name=name) for file, name in zip(found.files, found.names, strict=True)]


def inspect(
    run: Run,
    parts: Sequence[Part],
    files: Layout,
    score: str | None = None,
    rule: Rule = Quantile(),  # noqa: B008
    progress: Callable[[list[Path]], Iterable[Path]] = lambda files: files,
    inspector: Inspector | None = None,
) -> Inspected:
    """Score the pixels of images of any size.

    Args:
        parts: the images. The scores are measured if there are good and defective ones; for pixels, if there are masks.
        files: of the run (`layout_of`). Thresholds follow from the held-out images, by the rule.
        score: the deciding score; None: the best.
        progress: wraps the iteration over files.
        inspector: of the run, if it is fitted already.

    Raises:
        UserError: an unknown score, or too few held-out images.
        DataError: a file is not an image, smaller than a patch, or has a mask of another size.
    """
    chosen, score = NAMED if score else REASON, score or BEST
    if score not in SCORES:
        raise UserError(f"--score {score}: must be one of {', '.join(SCORES)}")
    rule.check_rows(len(files.held_out), HELD_OUT, REMEDY)
    inspector = inspector or Inspector(run, files.train)
    marked = files.masks and any(part.marked for part in parts)  # else the maps of other scores are not needed
    found: dict[str, list[np.ndarray]] = {name: [] for name in (SCORES if marked else (score,))}
    images: list[dict[str, float]] = []
    truth: list[np.ndarray | None] = []
    good: list[dict[str, float]] = []
    for i, file in enumerate(progress([*(part.file for part in parts), *files.held_out])):
        maps = inspector.maps(read_image(file, run.spec.kind), str(file))
        (images if i < len(parts) else good).append({name: image_score(values) for name, values in maps.items()})
        if i >= len(parts):
            continue
        for name, kept in found.items():
            kept.append(maps[name])
        if marked:
            truth.append(read_mask(parts[i], maps[score].shape) if parts[i].marked else None)
    held_out = {name: np.array([each[name] for each in good]) for name in SCORES}
    scores = {name: np.array([each[name] for each in images]) for name in SCORES}
    kinds = np.array([part.kind for part in parts])
    numbers = {name: measured(kinds, values, found.get(name, []), truth) for name, values in scores.items()}
    numbers = {name: each for name, each in numbers.items() if each}
    calibration = Calibration(held_out, HELD_OUT, chose_the_checkpoint(HELD_OUT), remedy=REMEDY)
    return Inspected(score, rule, scores, calibration, numbers, chosen, found[score])


def measured(
    kinds: np.ndarray, scores: np.ndarray, maps: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]
) -> dict[str, dict[str, float]]:
    """Return kind of defect, or `all` -> {image_auroc, pixel_auroc, pro}, of each kind and all good images.

    Images without a mask (None) do not count for pixels; without any masks (an empty sequence), return image_auroc
    only. Empty unless there are good and defective images.
    """
    from sklearn.metrics import roc_auc_score

    defects = sorted(set(kinds.tolist()) - {GOOD, ""})
    if not defects or GOOD not in kinds:
        return {}
    numbers = {}
    for name in [*defects, ALL] if len(defects) > 1 else [ALL]:
        rows = np.flatnonzero((kinds == GOOD) | (kinds == name) | (name == ALL)).tolist()
        numbers[name] = {"image_auroc": float(roc_auc_score(kinds[rows] != GOOD, scores[rows]))}
        marked = [(maps[i], mask) for i in rows if masks and (mask := masks[i]) is not None]
        if marked:
            numbers[name] |= pixel_numbers(*map(list, zip(*marked, strict=True)))
    return numbers


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
