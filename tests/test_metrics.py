"""Reported numbers against numpy."""

import math

import numpy as np
import pytest
import torch

from autoenc import metrics
from autoenc.metrics import LatentStatistics, mse_per_example, psnr


def test_mse_is_the_mean_over_dimensions_for_each_example() -> None:
    x, x_hat = torch.randn(5, 3, 4, 2), torch.randn(5, 3, 4, 2)
    expected = ((x.numpy() - x_hat.numpy()) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(mse_per_example(x, x_hat), torch.from_numpy(expected))


def test_psnr_is_in_decibels_of_the_range() -> None:
    mse = torch.tensor([1.0, 0.01, 0.25])
    torch.testing.assert_close(psnr(mse, 1.0), torch.tensor([0.0, 20.0, 10 * math.log10(4)]))
    torch.testing.assert_close(psnr(4 * mse, 2.0), psnr(mse, 1.0))


@pytest.mark.parametrize("data_range", [1.0, 255.0])
def test_psnr_of_a_perfect_copy_is_120(data_range: float) -> None:
    assert psnr(torch.zeros(1), data_range).item() == pytest.approx(120, abs=1e-3)


def gathered(codes: np.ndarray, kl: np.ndarray | None = None, sizes: tuple[int, ...] = (7, 7, 3)) -> LatentStatistics:
    stats, start = LatentStatistics(), 0
    for size in sizes:
        part = slice(start, start + size)
        stats.update(torch.from_numpy(codes[part]), None if kl is None else torch.from_numpy(kl[part]))
        start += size
    return stats


def test_sharpness_is_the_mean_gradient_magnitude() -> None:
    ramp = np.add.outer(4.0 * np.arange(5), 3.0 * np.arange(6))  # falls by 4 downwards and 3 to the right
    assert metrics.sharpness(np.stack([ramp[None], 0 * ramp[None]])) == pytest.approx(2.5)
    stripes = np.tile([0.0, 1.0], (4, 4))[None, None]
    assert metrics.sharpness(stripes) == pytest.approx(1)


def test_latent_statistics_are_those_of_numpy_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(17, 5)).astype(np.float32) * [1, 0.05, 0.2, 3, 1] + [100, 0, 0, 0, -7]
    codes[:, 1:3] *= rng.random((17, 2)) < 0.5
    kl = rng.random((17, 5)).astype(np.float32)
    for sizes in ((7, 7, 3), (17,)):
        stats = gathered(codes.astype(np.float32), kl, sizes)
        np.testing.assert_allclose(stats.variance, codes.astype(np.float32).astype(float).var(0), rtol=1e-4)
        np.testing.assert_allclose(stats.usage, (abs(codes) > 1e-3).mean(0))
        np.testing.assert_allclose(stats.kl, kl.mean(0), rtol=1e-5)


def test_variance_does_not_suffer_from_a_large_mean() -> None:
    codes = np.float32(1000) + np.random.default_rng(0).normal(size=(17, 2)).astype(np.float32)
    np.testing.assert_allclose(gathered(codes).variance, codes.astype(float).var(0), rtol=1e-6)


def test_latent_numbers_count_units() -> None:
    codes = np.zeros((17, 6), np.float32)
    codes[:, 0] = np.linspace(-1, 1, 17)  # active, used by all but one example (0)
    codes[:, 1] = 5.0  # used by all, constant: not active
    codes[0, 2] = 1.0  # one example in 17: variance 0.055
    codes[:, 3] = 5e-4  # below the threshold of zero
    codes[:, 4] = np.linspace(-0.1, 0.1, 17)  # used, variance 0.0037: not active
    numbers = gathered(codes).numbers()
    used = 16 + 17 + 1 + 16
    assert numbers == pytest.approx(
        {"dim": 6, "active_units": 2, "zeros": 1 - used / 102, "mean_active": used / 17, "dead_units": 2}
    )


def test_kl_is_summed_over_units_and_there_only_with_a_posterior() -> None:
    codes, kl = np.zeros((17, 2), np.float32), np.tile(np.float32([0.5, 1.5]), (17, 1))
    assert gathered(codes, kl).numbers()["kl"] == pytest.approx(2.0)
    assert gathered(codes).kl is None
    assert "kl" not in gathered(codes).numbers()


def test_a_mean_exceeds_another_by_students_t_of_the_paired_difference() -> None:
    random = np.random.default_rng(0)
    common, noise = random.normal(size=200), random.normal(size=200)
    assert metrics.exceeds(common + 0.1 + 0.3 * noise, common), "the interval is 0.04 wide, as the pairs share a part"
    assert not metrics.exceeds(common + 0.01 + 0.3 * noise, common)
    assert not metrics.exceeds(common, common)
    assert not metrics.exceeds(common[:1] + 1, common[:1]), "one value has no sampling error"


def test_the_variance_of_a_difference_of_aurocs_is_that_of_repeated_draws() -> None:
    """DeLong's interval rejects equal scores in 2.5 of 100 draws, and finds a real difference."""
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    labels = np.arange(150) < 50
    rejected = 0
    for _ in range(400):
        common = random.normal(size=150) + labels
        a, b = common + 0.5 * random.normal(size=150), common + 0.5 * random.normal(size=150)
        rejected += metrics.auroc_exceeds(labels, a, b)
    assert 2 <= rejected <= 20
    below, above = metrics._placements(labels, a.round(1))
    assert below.mean() == pytest.approx(above.mean()) == pytest.approx(roc_auc_score(labels, a.round(1)))
    assert metrics.auroc_exceeds(labels, common, common + 2 * random.normal(size=150))
