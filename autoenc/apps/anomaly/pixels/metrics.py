"""Scores of images from their defect maps, and metrics of maps against masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOP = 0.001  # fraction of pixels that determine the score of an image
FPR_LIMIT = 0.3  # of PRO


def image_score(values: np.ndarray) -> float:
    """Return the score of an image: the mean of the highest thousandth of the scores of its pixels.

    The maximum is often that of the noisiest position of a large texture.
    """
    count = max(1, round(TOP * values.size))
    return float(np.partition(values, -count, axis=None)[-count:].mean())


def pixel_numbers(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """Return pixel_auroc and pro of maps (H, W) of images with masks (H, W) bool, of any sizes; higher is better.

    pixel_auroc: the probability that a defective pixel has a higher score than a good one.
    pro: per-region overlap (Bergmann et al. 2020, "Uninformed students", section 4): the fraction of each connected
        (8 neighbours) defective region above a threshold, mean over regions, against the false positive rate of all
        good pixels; the area up to a rate of 0.3, divided by 0.3. Regions have equal weight.

    Exact: every score of a defective pixel is a threshold. Memory: these scores and one image. Empty if all pixels are
    good or all are defective.
    """
    from scipy import ndimage

    scores, weights = [], []  # of each defective pixel: score, and weight in the overlap, 1 / (pixels of its region)
    regions = 0
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        scores.append(values[mask])
        weights.append(1 / np.bincount(labels[mask], minlength=1)[labels[mask]])
        regions += count
    if not regions:
        return {}
    levels, level = np.unique(np.concatenate(scores), return_inverse=True)  # ascending thresholds
    between, equal = np.zeros(len(levels) + 1), np.zeros(len(levels) + 1)  # good pixels: above level i - 1; equal to it
    for values, mask in zip(maps, masks, strict=True):
        good = values[~mask]
        above = np.searchsorted(levels, good, side="right")
        between += np.bincount(above, minlength=len(between))
        equal += np.bincount(above[(above > 0) & (levels[above - 1] == good)], minlength=len(equal))
    if not between.sum():
        return {}

    def falling(counts: np.ndarray) -> np.ndarray:
        """Return cumulative fractions from the highest threshold down."""
        return np.cumsum(counts[::-1]) / counts.sum()

    # Two corners for each threshold, the highest first: scores above it, and scores equal to it as well.
    reached = falling(between)
    false = np.stack([reached[:-1] - (equal / between.sum())[:0:-1], reached[:-1]], 1).ravel()
    false = np.concatenate([[0.0], false, [1.0]])

    def curve(weight: np.ndarray) -> np.ndarray:
        taken = falling(np.bincount(level, weight, minlength=len(levels)))
        before = np.concatenate([[0.0], taken[:-1]])
        return np.concatenate([[0.0], np.stack([before, taken], 1).ravel(), [1.0]])

    true, overlap = curve(np.ones(len(level))), curve(np.concatenate(weights))
    end = int(np.searchsorted(false, FPR_LIMIT, side="right"))  # the last rate is 1, beyond the limit
    step = (FPR_LIMIT - false[end - 1]) / (false[end] - false[end - 1])
    height = overlap[end - 1] + step * (overlap[end] - overlap[end - 1])
    area = np.trapezoid(np.append(overlap[:end], height), np.append(false[:end], FPR_LIMIT)) / FPR_LIMIT
    return {"pixel_auroc": float(np.trapezoid(true, false)), "pro": float(area)}
