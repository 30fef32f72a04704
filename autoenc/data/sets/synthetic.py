"""Synthetic data with known ground truth, which is in `Data.truth`."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc import memory
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split, three_way
from autoenc.errors import require

FACTORS = ("shape", "scale", "rotation", "x", "y")  # the columns of factors_train, factors_val, factors_test
SHAPES = ("square", "ellipse", "heart")
RADIUS = 0.25  # of the circle around the largest shape, in widths of the image
SMALLEST = 0.5  # scale
HEART_CENTRE = (0.25 + math.pi / 8 * (0.75 + 1 / (3 * math.pi))) / (0.5 + math.pi / 8)  # of gravity, above the tip
CHUNK = 1_000  # images drawn at a time


def shapes(
    size: int = 32,
    scales: int = 6,
    rotations: int = 15,
    positions: int = 16,
    count: int = 20_000,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    data_seed: int = 0,
    split_seed: int = 0,
) -> Data:
    """Draw white squares, ellipses and hearts on black, (1, size, size), after dSprites (Matthey et al. 2017).

    Five independent factors lie on a grid: shape, scale (0.5 to 1), rotation (of a full turn), x and y of the centre of
    gravity. Each cell is drawn at most once. If `rotations` is odd, the grid has neither quarter nor half turns, and no
    two images are equal in spite of the symmetry of squares and ellipses. Edges are anti-aliased; labels are shapes.

    truth: factors_train, factors_val, factors_test (N, 5) int64, with columns as in FACTORS and grid indices as values;
    factor_sizes (5,), the number of values of each factor.

    Args:
        size: side in pixels, 16 to 256.
        scales, rotations: numbers of values. positions: number of values of x and of y.
        count: number of images, each from a different cell of the grid.
        val_fraction: fraction of the images without the test images that is held out for validation.
        test_fraction: fraction of `count` that is held out for testing.
        data_seed: seed of the images. split_seed: seed of the splits.

    Raises:
        ConfigError: a value out of range, or more images than cells.
    """
    require(16 <= size <= 256, "size", size, "must lie in 16 to 256")
    for name, number in (("scales", scales), ("rotations", rotations), ("positions", positions)):
        require(1 <= number <= 1_000, name, number, "must lie in 1 to 1000")
    sizes = (len(SHAPES), scales, rotations, positions, positions)
    cells = math.prod(sizes)
    require(10 <= count <= cells, "count", count, f"must lie in 10 to {cells}, the number of cells of the grid")
    memory.check_options(count * (size**2 + 80) + 8 * cells * (50 * count > cells), count=count)  # drawn from all cells
    chosen = np.random.default_rng(data_seed).choice(cells, count, replace=False)
    factors = torch.from_numpy(np.stack(np.unravel_index(chosen, sizes), 1))  # (N, 5)

    scale = torch.linspace(SMALLEST, 1, scales)[factors[:, 1]] if scales > 1 else torch.ones(count)
    angle = factors[:, 2] * (2 * math.pi / rotations)
    margin = RADIUS * size + 1  # the pixel keeps the soft edge inside
    position = torch.linspace(margin, size - margin, positions) if positions > 1 else torch.tensor([size / 2])
    x = render(factors[:, 0], scale, angle, position[factors[:, 3]], position[factors[:, 4]], size)

    parts = divided_rows(x, val_fraction, test_fraction, split_seed)
    truth = {f"factors_{name}": factors[split.y] for name, split in parts.items()}
    truth["factor_sizes"] = torch.tensor(sizes)
    splits = {name: replace(split, y=factors[split.y, 0], scale=1 / 255) for name, split in parts.items()}
    spec = DataSpec("shapes", Image((1, size, size), 0.0, 1.0), SHAPES)
    return Data(spec, splits["train"], splits["val"], splits["test"], truth=truth)


def render(shape: Tensor, scale: Tensor, angle: Tensor, x: Tensor, y: Tensor, size: int) -> Tensor:
    """Draw one shape per image: (N,) each -> (N, 1, size, size) uint8.

    Args:
        shape: index into SHAPES. scale: 1 for the largest. angle: in radians, clockwise.
        x, y: centre of gravity, in pixels from the upper left corner, y downwards.
    """
    images = torch.empty(len(shape), 1, size, size, dtype=torch.uint8)
    grid = torch.arange(size) + 0.5
    for number, distance in enumerate((_to_square, _to_ellipse, _to_heart)):
        for rows in (shape == number).nonzero().squeeze(1).split(CHUNK):
            right = grid - x[rows].view(-1, 1, 1)  # (B, 1, S)
            down = grid.unsqueeze(1) - y[rows].view(-1, 1, 1)  # (B, S, 1)
            cos, sin = (f(angle[rows]).view(-1, 1, 1) for f in (torch.cos, torch.sin))
            unit = (RADIUS * size * scale[rows]).view(-1, 1, 1)
            # The distance of a pixel from the edge, in pixels, determines its covered fraction.
            signed = unit * distance((cos * right + sin * down) / unit, (sin * right - cos * down) / unit)
            images[rows, 0] = (255 * (0.5 - signed).clamp(0, 1)).round().byte()
    return images


# Signed distances (B, S, S) to the edges of shapes in the unit circle, negative inside; v points upwards.
# After I. Quilez, "2D distance functions", https://iquilezles.org/articles/distfunctions2d/


def _to_square(u: Tensor, v: Tensor) -> Tensor:
    half = math.sqrt(0.5)
    u, v = u.abs() - half, v.abs() - half
    return torch.hypot(u.clamp(min=0), v.clamp(min=0)) + torch.maximum(u, v).clamp(max=0)


def _to_ellipse(u: Tensor, v: Tensor) -> Tensor:
    """Semi-axes 1 and 1/2, to first order, which is exact on the edge."""
    level, slope = (torch.hypot(u, k * v).clamp(min=1e-6) for k in (2, 4))
    return (level - 1) * level / slope


def _to_heart(u: Tensor, v: Tensor) -> Tensor:
    """A square on its tip with half a disc on each upper side; the centre of gravity has distance 1 from the tip."""
    u, v = HEART_CENTRE * u.abs(), HEART_CENTRE * (v + 1)  # the tip at (0, 0), the dent at (0, 1)
    on_side = 0.5 * (u + v).clamp(min=0)
    below = torch.minimum(torch.hypot(u, v - 1), torch.hypot(u - on_side, v - on_side)) * torch.sign(u - v)
    disc = torch.hypot(u - 0.25, v - 0.75) - math.sqrt(0.125)
    return torch.where(u + v > 1, disc, below) / HEART_CENTRE


def sparse_codes(
    features: int = 64,
    atoms: int = 96,
    active: int = 4,
    signed: bool = False,
    noise: float = 0.1,
    count: int = 20_000,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    data_seed: int = 0,
    split_seed: int = 0,
) -> Data:
    """Draw x = D s + noise, (features,), sums of a few atoms of a dictionary (Olshausen & Field 1997).

    The columns of D (features, atoms) have norm 1 and are uniform on the sphere. `active` random entries of s are not
    0; their amplitudes are uniform in 0.5 to 1.5 times a factor that makes the mean square of D s about 1 per feature,
    so that `noise` is the ratio of noise to signal.

    truth: dictionary (features, atoms); signed (), bool; noise (); active_test (N_test, atoms), bool.

    Args:
        signed: draw random signs; else all amplitudes are positive.
        noise: standard deviation of the Gaussian noise on each feature, 0 for none.
        count, val_fraction, test_fraction, data_seed, split_seed: see `shapes`.

    Raises:
        ConfigError: a value out of range.
    """
    require(features >= 2, "features", features, "must be 2 or more")
    require(atoms >= 1, "atoms", atoms, "must be 1 or more")
    require(1 <= active <= atoms, "active", active, f"must lie in 1 to atoms={atoms}")
    require(noise >= 0, "noise", noise, "must be 0 or more")
    require(count >= 10, "count", count, "must be 10 or more")
    numbers = 2 * atoms * (count + features) + 3 * count * features
    memory.check_options(8 * numbers, count=count, features=features, atoms=atoms)
    random = torch.Generator().manual_seed(data_seed)
    dictionary = F.normalize(torch.randn(features, atoms, generator=random, dtype=torch.float64), dim=0)
    index = torch.rand(count, atoms, generator=random).topk(active, dim=1).indices
    amplitudes = 0.5 + torch.rand(count, active, generator=random, dtype=torch.float64)
    amplitudes *= math.sqrt(features / (active * 13 / 12))  # 13/12: the mean square of the line above
    if signed:
        amplitudes *= 2 * torch.randint(2, amplitudes.shape, generator=random) - 1
    codes = torch.zeros(count, atoms, dtype=torch.float64).scatter_(1, index, amplitudes)
    x = codes @ dictionary.T + noise * torch.randn(count, features, generator=random, dtype=torch.float64)
    truth = {"dictionary": dictionary.float(), "signed": torch.tensor(signed), "noise": torch.tensor(noise)}
    splits = divided_rows(x.float(), val_fraction, test_fraction, split_seed)
    truth["active_test"] = codes[splits["test"].y] != 0
    return vectors("sparse_codes", splits, truth)


def linear_gaussian(
    features: int = 32,
    rank: int = 8,
    noise: float = 0.5,
    classes: int = 0,
    count: int = 10_000,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    data_seed: int = 0,
    split_seed: int = 0,
) -> Data:
    """Draw x = W z + mu + noise, z ~ N(0, I), (features,): probabilistic PCA (Tipping & Bishop 1999).

    W (features, rank) has entries from N(0, 1 / rank), so that the signal has variance 1 per feature; mu from N(0, 1).

    truth: subspace (features, rank), an orthonormal basis of the span of W; mean (features,); noise ().

    Args:
        noise: standard deviation of the Gaussian noise on each feature, 0 for none.
        classes: number of equally likely labels, each with a mean of its own: mu plus entries from N(0, 1); 0: none.
        count, val_fraction, test_fraction, data_seed, split_seed: see `shapes`.

    Raises:
        ConfigError: a value out of range.
    """
    require(features >= 2, "features", features, "must be 2 or more")
    require(1 <= rank < features, "rank", rank, f"must lie in 1 to {features - 1}, below features={features}")
    require(noise >= 0, "noise", noise, "must be 0 or more")
    require(classes == 0 or classes >= 2, "classes", classes, "must be 2 or more, or 0 for no labels")
    require(count >= 10, "count", count, "must be 10 or more")
    numbers = features * (3 * count + rank + classes) + rank * count
    memory.check_options(8 * numbers, count=count, features=features, classes=classes)
    random = torch.Generator().manual_seed(data_seed)
    w, mean, z, e = (
        torch.randn(size, generator=random, dtype=torch.float64)
        for size in ((features, rank), (features,), (count, rank), (count, features))
    )
    x = z @ w.T / math.sqrt(rank) + mean + noise * e
    truth = {"subspace": torch.linalg.qr(w).Q.float(), "mean": mean.float(), "noise": torch.tensor(noise)}
    y = None
    if classes:
        y = torch.randint(classes, (count,), generator=random)
        x += torch.randn(classes, features, generator=random, dtype=torch.float64)[y]
    return vectors("linear_gaussian", divided_rows(x.float(), val_fraction, test_fraction, split_seed), truth, y)


def vectors(name: str, splits: dict[str, Split], truth: dict[str, Tensor], labels: Tensor | None = None) -> Data:
    """Return a data set of the splits of `divided_rows`, with the label of each row before the division, if any."""
    parts = (splits[part] for part in ("train", "val", "test"))
    train, val, test = (replace(part, y=None if labels is None else labels[part.y]) for part in parts)
    classes = () if labels is None else tuple(str(i) for i in range(int(labels.max()) + 1))
    return Data(DataSpec(name, Vector(train.tensor.shape[1:], *train.range()), classes), train, val, test, truth=truth)


def divided_rows(x: Tensor, val_fraction: float, test_fraction: float, split_seed: int) -> dict[str, Split]:
    """Return the splits by name; y is the row index in x."""
    splits = three_way(Split(x, torch.arange(len(x))), val_fraction, test_fraction, split_seed)
    return dict(zip(("train", "val", "test"), splits, strict=True))
