"""Corruptions: how much they change, where, and that they leave their argument alone."""

import pytest
import torch
from torch import Tensor, nn

from autoenc.errors import ConfigError
from autoenc.noise import Affine, Blemishes, Gaussian, Identity, Masking, SaltPepper
from autoenc.noise.blemishes import KINDS as KINDS_OF_BLEMISH

IMAGES = 0.25 + 0.5 * torch.rand(20, 3, 24, 24, generator=torch.Generator().manual_seed(1))  # in [0.25, 0.75]
VECTORS = 0.25 + 0.5 * torch.rand(200, 60, generator=torch.Generator().manual_seed(2))
KINDS = [Identity(), Gaussian(0, 1, std=0.5), Gaussian(0, 1, std=0.5, clip=True), Masking(0.4), SaltPepper(0, 1, 0.4)]


@pytest.mark.parametrize("noise", KINDS, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("x", [IMAGES, VECTORS], ids=["images", "vectors"])
def test_the_argument_is_not_changed_and_draws_differ(noise: nn.Module, x: Tensor) -> None:
    before = x.clone()
    first, second = noise(x), noise(x)
    assert torch.equal(x, before)
    assert first.shape == x.shape
    assert first.dtype == x.dtype
    assert torch.equal(first, second) == isinstance(noise, Identity)


@pytest.mark.parametrize("noise", KINDS[1:], ids=lambda n: type(n).__name__)
def test_noise_is_a_function_of_torchs_generator(noise: nn.Module) -> None:
    """Checkpoints carry that generator: a resumed run sees the same noise."""
    state = torch.get_rng_state()
    first = noise(VECTORS)
    torch.set_rng_state(state)
    assert torch.equal(noise(VECTORS), first)


def test_gaussian_noise_has_its_standard_deviation_and_no_bias() -> None:
    added = Gaussian(0, 1, std=0.3)(VECTORS) - VECTORS  # 12,000 draws: the standard error of std is 0.002
    assert added.std().item() == pytest.approx(0.3, abs=0.01)
    assert added.mean().item() == pytest.approx(0, abs=0.015)
    assert torch.corrcoef(torch.stack([added.flatten(), VECTORS.flatten()]))[0, 1].abs() < 0.05


def test_gaussian_noise_leaves_the_range_unless_it_is_clipped() -> None:
    free, clipped = Gaussian(0.2, 0.8, std=0.5)(VECTORS), Gaussian(0.2, 0.8, std=0.5, clip=True)(VECTORS)
    assert free.min() < 0.2
    assert free.max() > 0.8
    low, high = torch.tensor(0.2), torch.tensor(0.8)
    assert clipped.min() == low
    assert clipped.max() == high


@pytest.mark.parametrize("p", [0.1, 0.4])
def test_masking_zeroes_the_fraction_p_and_leaves_the_rest(p: float) -> None:
    masked = Masking(p)(VECTORS)
    zero = masked == 0
    assert zero.float().mean().item() == pytest.approx(p, abs=0.02)
    assert torch.equal(masked[~zero], VECTORS[~zero])


@pytest.mark.parametrize("p", [0.1, 0.4])
def test_salt_and_pepper_are_halves_of_p(p: float) -> None:
    noisy = SaltPepper(-3, 5, p)(VECTORS)
    assert (noisy == -3).float().mean().item() == pytest.approx(p / 2, abs=0.015)
    assert (noisy == 5).float().mean().item() == pytest.approx(p / 2, abs=0.015)
    kept = (noisy != -3) & (noisy != 5)
    assert torch.equal(noisy[kept], VECTORS[kept])


@pytest.mark.parametrize("noise", [Masking(0.4), SaltPepper(-3, 5, 0.4)], ids=["masking", "salt_pepper"])
def test_a_pixel_of_a_colour_image_is_hit_as_a_whole(noise: nn.Module) -> None:
    noisy = noise(IMAGES)
    hit = noisy != IMAGES  # (B, 3, H, W)
    assert torch.equal(hit.any(1), hit.all(1))
    assert torch.equal(noisy[:, 0][hit[:, 0]], noisy[:, 2][hit[:, 2]])
    per_image = hit[:, 0].flatten(1).float().mean(-1)
    assert per_image.mean().item() == pytest.approx(0.4, abs=0.02)
    assert per_image.std() < 0.06, "pixels are drawn one by one"
    assert len({tuple(h.flatten().tolist()) for h in hit[:, 0]}) == len(IMAGES), "images are drawn one by one"


def test_dimensions_of_vectors_are_drawn_one_by_one() -> None:
    hit = Masking(0.5)(VECTORS) == 0
    correlation = torch.corrcoef(hit.T.float())  # (60, 60)
    assert (correlation - torch.eye(60)).abs().max() < 0.4


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1, 1.5])
def test_an_impossible_fraction_is_refused(p: float) -> None:
    for make in (lambda: Masking(p), lambda: SaltPepper(0, 1, p)):
        with pytest.raises(ConfigError, match=f"^p={p}: must lie between 0 and 1$"):
            make()
    with pytest.raises(ConfigError, match=r"^std="):
        Gaussian(0, 1, std=-0.1)


def test_the_standard_deviation_varies_between_examples() -> None:
    std = Gaussian(0, 1, std=0.6, vary=True)(torch.zeros(2000, 100)).std(1)  # U(0, 0.6)
    assert std.mean().item() == pytest.approx(0.3, abs=0.02)
    assert std.std().item() == pytest.approx(0.6 / 12**0.5, abs=0.02)


def test_affine_noise_shifts_by_at_most_its_share_of_the_side() -> None:
    x = torch.zeros(200, 1, 20, 30)
    x[:, :, 9:11, 14:16] = 1.0
    moved = Affine((1, 20, 30), 0, 1, std=0, rotate=0, scale=0, shift=0.2)(x)
    assert moved.flatten(1).sum(1).sub(4).abs().max() < 1e-3
    rows, columns = torch.arange(20.0).view(-1, 1), torch.arange(30.0)
    down, across = ((moved[:, 0] * axis).flatten(1).sum(1) / 4 for axis in (rows, columns))
    for shift, most in ((down - 9.5, 4.0), (across - 14.5, 6.0)):
        assert 0.9 * most < shift.abs().max() <= most + 1e-3


def test_affine_noise_turns_about_the_centre_and_keeps_distances() -> None:
    """A quarter turn of an image that is not square: resampling grids are relative to its sides."""
    from autoenc.noise.geometry import affine, resampled

    x = torch.zeros(1, 1, 9, 15)
    x[0, 0, 4, 10] = 1.0  # 3 pixels right of the centre
    quarter = affine(x, torch.tensor([torch.pi / 2]), torch.ones(1, 2), torch.zeros(1, 2))
    turned = resampled(x, quarter)
    assert turned[0, 0, [1, 7], 7].max().item() == pytest.approx(1, abs=1e-4)
    same = affine(x, torch.zeros(1), torch.ones(1, 2), torch.zeros(1, 2))
    assert torch.allclose(resampled(x, same), x, atol=1e-5)
    large = torch.rand(1, 1, 300, 300)
    with torch.autocast("cpu", torch.bfloat16):
        same = affine(large, torch.zeros(1), torch.ones(1, 2), torch.zeros(1, 2))
        assert torch.allclose(resampled(large, same), large, atol=1e-3), "coordinates are not rounded"


@pytest.mark.parametrize("kind", KINDS_OF_BLEMISH)
def test_a_blemish_changes_some_pixels_of_each_kind(kind: str) -> None:
    torch.manual_seed(0)
    changed = (Blemishes((3, 24, 24), 0, 1, p=1.0, kinds=[kind])(IMAGES) - IMAGES).abs().amax(1) > 1e-4  # (B, H, W)
    assert changed.any(-1).any(-1).float().mean() > 0.4
    assert 0.01 < changed.float().mean() < 0.9


def test_an_image_alone_is_pasted_from_its_mirror() -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 1, 24, 24)
    noise = Blemishes((1, 24, 24), 0, 1, p=1.0, kinds=["patch"])
    assert any(not torch.equal(noise(image), image) for _ in range(20))


def test_an_unknown_kind_of_blemish_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^kinds=\['rust'\]: must be among bright, dark"):
        Blemishes((1, 24, 24), 0, 1, kinds=["rust"])
    with pytest.raises(ConfigError, match=r"^rotate=200: must lie in 0 to 180"):
        Affine((1, 24, 24), 0, 1, rotate=200)
