"""Defects of eleven kinds painted on good images, in another way than the noise that models are trained with.

A defect below the grain of its image measures nothing. Strengths are in units of the local standard deviation of the
image, so that each kind is at least just visible:

- bright, dark, large, faint: brightness changes by a multiple of the local standard deviation, at least 1.5.
- grain: noise of 1.5 to 3 local standard deviations. blur: the variance inside falls to a third or less.
- turn, stretch, strip, patch, warp: the squared derivative along an axis changes by a factor of 2, on average over the
  mask, or the brightness by 1.5 local standard deviations. Grain that is only moved is not visible.

Regions and strengths are drawn until this holds; after `DRAWS` draws, the clearest one is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

Painter = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]
SIZES = {"small": (3, 9, 2, 6), "medium": (10, 25, 8, 18), "large": (25, 60, 18, 45)}  # half axes in pixels
DRAWS = 20  # at most, of a defect
LEAST = {"bright": 2.0, "dark": 2.0, "large": 1.5, "faint": 1.2, "grain": 1.2}  # change, in local standard deviations


def spot(size: tuple[int, int], random: np.random.Generator, extent: str) -> np.ndarray:
    """Return a ragged ellipse of random place and direction: (H, W) bool."""
    height, width = size
    y, x, angle = random.uniform(0.05, 0.95) * height, random.uniform(0.05, 0.95) * width, random.uniform(0, np.pi)
    longest, shortest = SIZES[extent][:2], SIZES[extent][2:]
    rows, columns = np.mgrid[:height, :width]
    along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
    across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    ragged = ndimage.gaussian_filter(random.normal(size=size), 3)
    shape = (along / random.uniform(*longest)) ** 2 + (across / random.uniform(*shortest)) ** 2
    return shape < 1 + 0.4 * ragged / ragged.std()


def scratch(size: tuple[int, int], random: np.random.Generator) -> np.ndarray:
    """Return a random walk of 20 to 90 pixels, 1 to 5 pixels wide: (H, W) bool."""
    mask, angle = np.zeros(size, bool), random.uniform(0, 2 * np.pi)
    y, x = random.uniform(0.05, 0.95) * size[0], random.uniform(0.05, 0.95) * size[1]
    for _ in range(int(random.uniform(20, 90))):
        if 0 <= y < size[0] and 0 <= x < size[1]:
            mask[int(y), int(x)] = True
        angle += 0.25 * random.normal()
        y, x = y + np.sin(angle), x + np.cos(angle)
    return ndimage.binary_dilation(mask, iterations=int(random.integers(1, 3))) if random.random() < 0.7 else mask


def region(size: tuple[int, int], random: np.random.Generator, extent: str) -> np.ndarray:
    """Return a defective region of at least 8 pixels; small ones are half spots, half scratches."""
    mask = np.zeros(size, bool)
    while mask.sum() < 8:
        walk = extent == "small" and random.random() < 0.5
        mask = scratch(size, random) if walk else spot(size, random, extent)
    return mask


def blended(image: np.ndarray, content: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return image (H, W) with content (H, W) inside a mask with soft edges, as uint8."""
    soft = (1.3 * ndimage.gaussian_filter(mask.astype(float), 0.7)).clip(0, 1)
    return (image + soft * (content - image)).round().clip(0, 255).astype(np.uint8)


def deviation(image: np.ndarray, mask: np.ndarray) -> float:
    """Return the standard deviation of an image around a mask, without trends: the grain, at least 2 grey levels.

    The difference from a mean over a Gaussian of 8 pixels, in the mask and 6 pixels around it.
    """
    detail = image - ndimage.gaussian_filter(image, 8)
    return max(2.0, float(detail[ndimage.binary_dilation(mask, iterations=6)].std()))


def brightness(extent: str, low: float, high: float, signs: tuple[int, ...]) -> Painter:
    """Return a painter that makes a region brighter or darker by a multiple of the local standard deviation."""

    def paint(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        mask = region(image.shape, random, extent)
        change = random.choice(signs) * random.uniform(low, high) * deviation(image, mask)
        return blended(image, image + change, mask), mask

    return paint


def blur(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blur a region by a Gaussian of 2 to 4 pixels."""
    mask = region(image.shape, random, "medium")
    return blended(image, ndimage.gaussian_filter(image, random.uniform(2, 4)), mask), mask


def grain(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Add noise of 1.5 to 3 local standard deviations, fine or coarse, to a region."""
    mask = region(image.shape, random, "medium")
    noise = ndimage.gaussian_filter(random.normal(size=image.shape), random.choice([0.3, 1.0, 2.0]))
    return blended(image, image + random.uniform(1.5, 3) * deviation(image, mask) * noise / noise.std(), mask), mask


def mapped(image: np.ndarray, mask: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return a region of an image after a linear map about its centre."""
    centre = np.array(ndimage.center_of_mass(mask))
    content = ndimage.affine_transform(image, matrix, centre - matrix @ centre, order=1, mode="reflect")
    return blended(image, content, mask)


def turn(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Turn a region by 30 to 150 degrees."""
    mask, angle = region(image.shape, random, "medium"), np.deg2rad(random.uniform(30, 150))
    return mapped(image, mask, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])), mask


def stretch(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Stretch a region by a factor of 1.7 to 3, in one direction or both."""
    mask, factor = region(image.shape, random, "medium"), 1 / random.uniform(1.7, 3)
    matrix = np.diag([(factor, 1.0), (1.0, factor), (factor, factor)][random.integers(3)])
    return mapped(image, mask, matrix), mask


def shifted(image: np.ndarray, mask: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """Return an image with the region moved in from elsewhere, with hard edges."""
    return np.where(mask, ndimage.shift(image, offset, order=1, mode="reflect"), image).round().astype(np.uint8)


def strip(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Shift a strip, 6 to 20 pixels wide and 40 to 120 long, by 4 to 15 pixels along or across it."""
    height, width = image.shape
    thick, length = int(random.integers(6, 21)), int(random.integers(40, 121))
    flat = random.random() < 0.5
    down, across = (thick, min(length, width)) if flat else (min(length, height), thick)
    top, left = random.integers(0, height - down + 1), random.integers(0, width - across + 1)
    mask = np.zeros(image.shape, bool)
    mask[top : top + down, left : left + across] = True
    far = random.choice([-1, 1]) * random.uniform(4, 15)
    return shifted(image, mask, (0, far) if flat == (random.random() < 0.5) else (far, 0)), mask


def patch(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Put the content of another place, at least 20 pixels away, into a rectangle of 12 to 40 pixels."""
    sides = [int(min(random.integers(12, 41), size // 2)) for size in image.shape]
    corner = [int(random.integers(0, size - side + 1)) for size, side in zip(image.shape, sides, strict=True)]
    source = corner
    while max(abs(a - b) for a, b in zip(source, corner, strict=True)) < 20:
        source = [int(random.integers(0, size - side + 1)) for size, side in zip(image.shape, sides, strict=True)]
    mask = np.zeros(image.shape, bool)
    mask[corner[0] : corner[0] + sides[0], corner[1] : corner[1] + sides[1]] = True
    painted = image.copy()
    painted[mask] = image[source[0] : source[0] + sides[0], source[1] : source[1] + sides[1]].ravel()
    return painted.astype(np.uint8), mask


def warp(image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Swirl a disc of 12 to 30 pixels in radius by up to 2 to 5 radians at its centre."""
    height, width = image.shape
    y, x, radius = random.uniform(0.1, 0.9) * height, random.uniform(0.1, 0.9) * width, random.uniform(12, 30)
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y, columns - x)
    angle = random.choice([-1, 1]) * random.uniform(2, 5) * (1 - distance / radius).clip(0) ** 2
    down = y + (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
    across = x + (rows - y) * np.sin(angle) + (columns - x) * np.cos(angle)
    content = ndimage.map_coordinates(image, [down, across], order=1, mode="reflect")
    return content.round().clip(0, 255).astype(np.uint8), distance < 0.7 * radius


PAINTERS: dict[str, Painter] = {
    "bright": brightness("small", 3.0, 6.0, (1,)),
    "dark": brightness("small", 3.0, 6.0, (-1,)),
    "large": brightness("large", 2.0, 4.0, (-1, 1)),
    "faint": brightness("medium", 1.5, 2.0, (-1, 1)),
    "blur": blur,
    "grain": grain,
    "turn": turn,
    "stretch": stretch,
    "strip": strip,
    "patch": patch,
    "warp": warp,
}


def visibility(kind: str, image: np.ndarray, painted: np.ndarray, mask: np.ndarray) -> float:
    """Return how clear a defect is: 1 is just visible. See the top of this file."""
    if kind == "blur":  # by the variance that it removes, relative to that around it
        before, after = (np.square(x - ndimage.gaussian_filter(x, 8))[mask].mean() for x in (image, painted))
        return float(min(before / (3 * after + 1e-6), before / (deviation(image, mask) ** 2 / 2)))
    grain = deviation(image, mask)
    if kind in LEAST:
        return float(np.sqrt(np.square(painted - image)[mask].mean())) / grain / LEAST[kind]
    smooth = [ndimage.gaussian_filter(painted - image, 4)[mask] / (1.5 * grain)]
    for axis in (0, 1):
        energies = (ndimage.gaussian_filter(np.square(np.gradient(x, axis=axis)), 4)[mask] for x in (image, painted))
        smooth.append(np.subtract(*(np.log2(each + 1) for each in energies)))
    return max(float(np.abs(each).mean()) for each in smooth)


def paint(kind: str, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint one visible defect: image (1, H, W) uint8 -> the same with the defect, and its mask (H, W)."""
    grey, best, clearest = image[0].astype(np.float64), (image[0], np.zeros(image.shape[1:], bool)), -1.0
    for _ in range(DRAWS):
        painted, mask = PAINTERS[kind](grey, random)
        found = visibility(kind, grey, painted.astype(np.float64), mask)
        if found > clearest:
            best, clearest = (painted, mask), found
        if found >= 1:
            break
    return best[0][None], best[1]
