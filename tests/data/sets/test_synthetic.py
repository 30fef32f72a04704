"""Generated data: images have the area, place and turn that their factors say, vectors the moments of their model."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autoenc.data import Data, linear_gaussian, oscillations, shapes, sparse_codes, superposition
from autoenc.data.dataset import without
from autoenc.data.sets.synthetic import FACTORS, HEART_CENTRE, RADIUS, SHAPES, render
from autoenc.errors import ConfigError

SQUARE, ELLIPSE, HEART = range(3)
AREA = {SQUARE: 2.0, ELLIPSE: math.pi / 2, HEART: (0.5 + math.pi / 8) / HEART_CENTRE**2}  # in the unit circle


def drawn(
    shape: int, scale: float = 1.0, angle: float = 0.0, x: float = 32.0, y: float = 32.0, size: int = 64
) -> Tensor:
    """(size, size) float64 in [0, 1]."""
    one = [torch.tensor([value]) for value in (scale, angle, x, y)]
    return render(torch.tensor([shape]), *one, size)[0, 0].double() / 255


def centre(image: Tensor) -> tuple[float, float]:
    """x and y of the centre of gravity, in pixels from the upper left corner."""
    at = torch.arange(len(image)) + 0.5
    return tuple(float((image.sum(axis) * at).sum() / image.sum()) for axis in (0, 1))  # type: ignore[return-value]


@pytest.fixture(scope="module")
def small() -> Data:
    return shapes(count=3_000)


@pytest.mark.parametrize("shape", [SQUARE, ELLIPSE, HEART])
@pytest.mark.parametrize(("scale", "angle", "x", "y"), [(1, 0, 32, 32), (0.5, 0.7, 20.3, 41.6), (0.75, 3.9, 30.5, 25)])
def test_area_and_centre_of_gravity_are_those_of_the_shape(
    shape: int, scale: float, angle: float, x: float, y: float
) -> None:
    image = drawn(shape, scale, angle, x, y)
    assert image.sum().item() == pytest.approx(AREA[shape] * (RADIUS * 64 * scale) ** 2, rel=0.015)
    assert centre(image) == pytest.approx((x, y), abs=0.05)


@pytest.mark.parametrize(("shape", "part_of_a_turn"), [(SQUARE, 4), (ELLIPSE, 2), (HEART, 1)])
def test_a_turn_by_its_symmetry_leaves_a_shape_as_it_is_and_half_of_that_does_not(
    shape: int, part_of_a_turn: int
) -> None:
    period = 2 * math.pi / part_of_a_turn
    image = drawn(shape, angle=0.3)
    assert (image - drawn(shape, angle=0.3 + period)).abs().max() < 0.01
    assert (image - drawn(shape, angle=0.3 + period / 2)).abs().sum() > 0.1 * image.sum()


def test_rotation_is_clockwise_and_the_heart_stands_on_its_tip() -> None:
    below = drawn(HEART)[int(32 + 0.9 * 16)]  # the tip: 16 pixels from the centre
    assert below[30:34].sum() > 1
    assert drawn(HEART)[int(32 - 0.9 * 16)].sum() == 0
    torch.testing.assert_close(drawn(HEART, angle=math.pi / 2), drawn(HEART).rot90(-1), atol=0.01, rtol=0)


def test_edges_are_grey_by_the_part_that_is_covered() -> None:
    side = 2 * math.sqrt(0.5) * RADIUS * 64  # 22.63 pixels: 0.31 of the pixel on either side
    row = drawn(SQUARE)[32]
    assert row[20:22].tolist() == pytest.approx([side / 2 - 11, 1], abs=0.01)
    assert row[19] == 0


def test_factors_are_in_the_order_of_the_rows_and_draw_them_again(small: Data) -> None:
    for part in ("train", "val", "test"):
        split, factors = getattr(small, part), small.truth[f"factors_{part}"]
        assert factors.shape == (len(split), len(FACTORS))
        assert torch.equal(split.y, factors[:, 0])
        margin = RADIUS * 32 + 1
        x, y = (torch.linspace(margin, 32 - margin, 16)[factors[:, i]] for i in (3, 4))
        again = render(split.y, 0.5 + factors[:, 1] / 10, factors[:, 2] * (2 * math.pi / 15), x, y, 32)
        assert (again.int() - split.x.int()).abs().max() <= 1
    assert [len(small.train), len(small.val), len(small.test)] == [2160, 240, 600]


def test_factors_are_uniform_and_independent_and_no_image_occurs_twice(small: Data) -> None:
    names = ("train", "val", "test")
    factors = torch.cat([small.truth[f"factors_{part}"] for part in names])
    sizes = small.truth["factor_sizes"].tolist()
    assert sizes == [3, 6, 15, 16, 16]
    assert small.spec.classes == SHAPES
    for column, size in zip(factors.T, sizes, strict=True):
        counts, expected = torch.bincount(column, minlength=size), 3_000 / size
        assert len(counts) == size
        assert (counts - expected).abs().max() < 4 * math.sqrt(expected)
    off_diagonal = torch.corrcoef(factors.T.double()) - torch.eye(5, dtype=torch.float64)
    assert off_diagonal.abs().max() < 4 / math.sqrt(3_000)
    images = {row.tobytes() for part in names for row in getattr(small, part).x.numpy()}
    assert len(images) == 3_000


def test_shapes_are_whole_and_fed_in_the_unit_interval(small: Data) -> None:
    x = small.train.take(slice(None)).x
    assert x.shape[1:] == small.spec.shape == (1, 32, 32)
    assert (x.min(), x.max()) == (small.spec.low, small.spec.high) == (0, 1)
    assert max(x[..., edge].max() for edge in (0, -1)) == max(x[..., edge, :].max() for edge in (0, -1)) == 0


def test_the_whole_grid_can_be_drawn_and_no_more() -> None:
    data = shapes(size=16, scales=1, rotations=1, positions=4, count=48)
    assert sum(len(getattr(data, part)) for part in ("train", "val", "test")) == 48
    with pytest.raises(ConfigError, match=r"^count=49: must lie in 10 to 48, the number of cells of the grid$"):
        shapes(size=16, scales=1, rotations=1, positions=4, count=49)


def test_factors_stay_with_their_rows_where_a_class_is_left_out(small: Data) -> None:
    rest = without(small, ["heart"])
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(rest, part).y, rest.truth[f"factors_{part}"][:, 0])
    assert len(rest.train) < len(small.train)
    assert len(rest.truth["factor_sizes"]) == 5


def test_each_class_of_linear_gaussian_has_its_own_mean_and_the_common_covariance() -> None:
    data = linear_gaussian(features=4, rank=2, noise=0.4, count=40_000, classes=3)
    assert data.spec.classes == ("0", "1", "2")
    assert data.train.y is not None
    parts = [data.train.tensor[data.train.y == label] for label in range(3)]
    assert min(len(part) for part in parts) > 9_000
    means = torch.stack([part.mean(0) for part in parts])
    assert (means[:, None] - means).norm(dim=-1).add(torch.eye(3)).min() > 0.5
    for part in parts:
        torch.testing.assert_close(part.T.cov(), parts[0].T.cov(), atol=0.06, rtol=0)
    assert linear_gaussian(features=4, rank=2).train.y is None


@pytest.mark.parametrize("make", [shapes, sparse_codes, linear_gaussian])
def test_seeds_fix_the_rows_and_the_splits(make: type[Data]) -> None:
    first, again, resplit, other = (
        make(count=200, **seeds)  # type: ignore[call-arg]
        for seeds in ({}, {}, {"split_seed": 1}, {"data_seed": 1})
    )

    def rows(data: Data) -> set[bytes]:
        return {row.tobytes() for part in (data.train, data.val, data.test) for row in part.tensor.numpy()}

    assert torch.equal(first.train.tensor, again.train.tensor)
    assert not torch.equal(first.train.tensor, resplit.train.tensor)
    assert rows(first) == rows(resplit) != rows(other)
    assert len(rows(first)) == 200


@pytest.mark.parametrize("signed", [False, True])
def test_vectors_without_noise_are_sums_of_so_many_atoms(signed: bool) -> None:
    """Fewer atoms than dimensions, so that least squares gives the codes back."""
    data = sparse_codes(features=30, atoms=20, active=3, signed=signed, noise=0.0, count=1_000)
    dictionary = data.truth["dictionary"]  # (D, A)
    torch.testing.assert_close(dictionary.norm(dim=0), torch.ones(20))
    codes = torch.linalg.lstsq(dictionary, data.train.tensor.T).solution.T  # (N, A)
    used = codes.abs() > 1e-3
    assert (used.sum(1) == 3).all()
    size = math.sqrt(30 / (3 * 13 / 12))
    amplitudes = codes[used]
    assert 0.499 * size < amplitudes.abs().min() < 0.52 * size
    assert 1.48 * size < amplitudes.abs().max() < 1.501 * size
    assert (amplitudes > 0).float().mean().item() == pytest.approx(0.5 if signed else 1, abs=0.05 if signed else 0)
    assert bool(data.truth["signed"]) == signed


def test_sparse_vectors_have_mean_square_1_a_feature_beside_the_noise() -> None:
    clean, noisy = (sparse_codes(noise=noise, count=4_000).train.tensor for noise in (0.0, 0.5))
    assert clean.square().mean().item() == pytest.approx(1, abs=0.05)  # the atoms overlap by chance
    noise = noisy - clean
    assert noise.std().item() == pytest.approx(0.5, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)


def test_linear_gaussian_has_the_covariance_of_probabilistic_pca() -> None:
    """W W^T + sigma^2 I (Tipping & Bishop 1999): inside the subspace any variance, outside sigma^2, no correlation."""
    data = linear_gaussian(features=10, rank=3, noise=0.4, count=40_000)
    basis, x = data.truth["subspace"].double(), data.train.tensor.double()
    torch.testing.assert_close(basis.T @ basis, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.mean(0), data.truth["mean"].double(), atol=0.05, rtol=0)
    outside = torch.eye(10, dtype=torch.float64) - basis @ basis.T
    covariance = torch.cov(x.T)
    torch.testing.assert_close(outside @ covariance @ outside, 0.16 * outside, atol=0.01, rtol=0)
    assert (basis.T @ covariance @ outside).abs().max() < 0.03
    clean = linear_gaussian(features=10, rank=3, noise=0.0, count=40_000).train.tensor - data.truth["mean"]
    assert (clean.double() @ outside).abs().max() < 1e-5
    assert clean.var(0).mean().item() == pytest.approx(1, abs=0.5)  # W is one draw


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (shapes, {"size": 8}, "size=8: must lie in 16 to 256"),
        (shapes, {"rotations": 0}, "rotations=0: must lie in 1 to 1000"),
        (shapes, {"count": 5}, "count=5: must lie in 10 to 69120, the number of cells of the grid"),
        (shapes, {"count": 50, "test_fraction": 1.0}, "test_fraction=1.0: must lie between 0 and 1"),
        (sparse_codes, {"active": 97}, "active=97: must lie in 1 to atoms=96"),
        (sparse_codes, {"noise": -0.1}, "noise=-0.1: must be 0 or more"),
        (sparse_codes, {"features": 1}, "features=1: must be 2 or more"),
        (linear_gaussian, {"rank": 32}, "rank=32: must lie in 1 to 31, below features=32"),
        (linear_gaussian, {"classes": 1}, "classes=1: must be 2 or more, or 0 for no labels"),
        (linear_gaussian, {"count": 9}, "count=9: must be 10 or more"),
    ],
)
def test_values_out_of_range_are_named(make: type[Data], options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        make(**options)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("draw", "options", "key"),
    [
        (shapes, {"count": 10**9, "positions": 1_000, "rotations": 1_000}, "count"),
        (sparse_codes, {"atoms": 10**12}, "atoms"),
        (sparse_codes, {"features": 10**9}, "features"),
        (linear_gaussian, {"count": 10**12}, "count"),
        (linear_gaussian, {"classes": 10**12}, "classes"),
        (superposition, {"count": 10**12}, "count"),
        (superposition, {"rank": 10**12, "correlation": 0.0}, "rank"),
        (oscillations, {"count": 10**12}, "count"),
        (oscillations, {"steps": 10**12}, "steps"),
        (oscillations, {"channels": 10**12}, "channels"),
    ],
)
def test_more_than_fits_into_memory_is_refused_before_it_is_drawn(
    draw: Callable[..., Data], options: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}={options[key]}: must be smaller: needs [\d,]+ GB of memory"):
        draw(**options)


def test_more_bursts_than_can_be_drawn_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^bursts=10{12}.0: must be 488,281 or less for 40 recordings of 512 steps$"):
        oscillations(bursts=1e12)
