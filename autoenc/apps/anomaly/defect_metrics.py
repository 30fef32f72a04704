"""What maps of defects are worth: a picture by its map, and maps against masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOP = 0.001  # of the pixels of a picture: what it counts by
FPR_LIMIT = 0.3  # of PRO


def image_score(values: np.ndarray) -> float:
    """What a picture counts by: the mean of the thousandth of its pixels with the highest scores.

    The highest alone is that of the noisiest place of a large texture more often than that of a defect.
    """
    count = max(1, round(TOP * values.size))
    return float(np.partition(values, -count, axis=None)[-count:].mean())


def pixel_numbers(maps: Sequence[np.ndarray], masks: Sequence[np.ndarray]) -> dict[str, float]:
    """pixel_auroc and pro of maps (H, W) of pictures with masks (H, W) bool, of any sizes.

    pixel_auroc: the chance that a defective pixel has a higher score than a good one.
    pro: per-region overlap (Bergmann et al. 2020, "Uninformed students", section 4): the part of each connected
        (8 neighbours) defective region that is above a threshold, mean over regions, against the false positive rate of
        all good pixels; the area up to a rate of 0.3, divided by 0.3. Regions weigh equally, large or small.

    Exact: every score of a defective pixel is a threshold. Takes memory for those and for one picture. Empty where all
    pixels are of one kind.
    """
    from scipy import ndimage

    found, share = [], []  # of each defective pixel: its score, and its part in the overlap, 1 / (pixels of its region)
    regions = 0
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        found.append(values[mask])
        share.append(1 / np.bincount(labels[mask], minlength=1)[labels[mask]])
        regions += count
    if not regions:
        return {}
    levels, place = np.unique(np.concatenate(found), return_inverse=True)  # thresholds, rising
    between, equal = np.zeros(len(levels) + 1), np.zeros(len(levels) + 1)  # good pixels: above level i - 1; equal to it
    for values, mask in zip(maps, masks, strict=True):
        good = values[~mask]
        above = np.searchsorted(levels, good, side="right")
        between += np.bincount(above, minlength=len(between))
        equal += np.bincount(above[(above > 0) & (levels[above - 1] == good)], minlength=len(equal))
    if not between.sum():
        return {}

    def falling(counts: np.ndarray) -> np.ndarray:
        """Those of the highest threshold, of the two highest ..., as a part of all."""
        return np.cumsum(counts[::-1]) / counts.sum()

    # For each threshold, the highest first, two corners: when all above it is taken, and when what is equal is too.
    reached = falling(between)
    false = np.stack([reached[:-1] - (equal / between.sum())[:0:-1], reached[:-1]], 1).ravel()
    false = np.concatenate([[0.0], false, [1.0]])

    def curve(weights: np.ndarray) -> np.ndarray:
        taken = falling(np.bincount(place, weights, minlength=len(levels)))
        before = np.concatenate([[0.0], taken[:-1]])
        return np.concatenate([[0.0], np.stack([before, taken], 1).ravel(), [1.0]])

    true, overlap = curve(np.ones(len(place))), curve(np.concatenate(share))
    end = int(np.searchsorted(false, FPR_LIMIT, side="right"))  # the last one is 1: there is a corner beyond the limit
    step = (FPR_LIMIT - false[end - 1]) / (false[end] - false[end - 1])
    height = overlap[end - 1] + step * (overlap[end] - overlap[end - 1])
    area = np.trapezoid(np.append(overlap[:end], height), np.append(false[:end], FPR_LIMIT)) / FPR_LIMIT
    return {"pixel_auroc": float(np.trapezoid(true, false)), "pro": float(area)}
