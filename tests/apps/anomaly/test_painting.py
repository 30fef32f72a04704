"""Defects that are painted to choose the score of inspection are visible."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "protocols"))
from painting import PAINTERS, deviation, paint, visibility


@pytest.mark.parametrize("level", [20, 150])
@pytest.mark.parametrize("kind", PAINTERS)
def test_each_kind_of_painted_defect_exceeds_the_grain(kind: str, level: float) -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :128]
    stripes = 8 * np.sin(columns * 2 * np.pi / 7 + random.normal(size=128).cumsum() / 4)
    image = level + 0.5 * rows + stripes * (columns > 40) + random.normal(size=rows.shape)
    image = image.clip(0, 255).astype(np.uint8)[None]
    painted, mask = paint(kind, image, random)
    assert (painted.dtype, painted.shape, mask.shape) == (np.uint8, (1, 96, 128), (96, 128))
    assert visibility(kind, image[0].astype(float), painted[0].astype(float), mask) >= 1
    outside = np.abs(painted[0].astype(float) - image[0])[~mask].mean()
    assert outside < 0.05 * deviation(image[0].astype(float), mask)
