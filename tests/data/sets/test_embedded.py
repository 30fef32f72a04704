"""Digits and patches: what they hold, that splits are splits, and the mathematics of whitening."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn.datasets
import torch
from torch import Tensor

from autoenc.data import Data, digits, patches
from autoenc.data.sets.embedded import F0, whitened
from autoenc.errors import ConfigError


def rows(x: Tensor) -> list[bytes]:
    return [row.tobytes() for row in x.numpy()]


def power(x: Tensor) -> Tensor:
    """Mean power at 1, 2, ... S / 2 cycles per patch, over all directions: (N, 1, S, S) -> (S / 2,)."""
    size = x.shape[-1]
    window = torch.hann_window(size)  # else the edges leak into all frequencies
    spectrum = torch.fft.fft2(x * window * window.unsqueeze(1)).abs().square().mean((0, 1))
    f = torch.fft.fftfreq(size) * size
    ring = torch.hypot(f, f.unsqueeze(1)).round()
    return torch.stack([spectrum[ring == k].mean() for k in range(1, size // 2 + 1)])


def test_digits_are_scikit_learns_and_the_splits_cover_each_row_once() -> None:
    data = digits()
    reference = sklearn.datasets.load_digits()
    together = torch.cat([split.x for split in (data.train, data.val, data.test)])
    assert sorted(rows(together)) == sorted(rows(torch.from_numpy(reference.images.astype(np.uint8))[:, None]))
    assert [len(data.train), len(data.val), len(data.test)] == [1293, 144, 360]
    assert data.train.x.shape[1:] == data.spec.shape == (1, 8, 8)


def test_digits_are_fed_in_the_unit_interval_with_their_labels() -> None:
    data = digits()
    batch = data.train.take(slice(None))
    assert batch.x.dtype == torch.float32
    assert (batch.x.min(), batch.x.max()) == (data.spec.low, data.spec.high) == (0, 1)
    reference = sklearn.datasets.load_digits()
    label = dict(zip(rows(torch.from_numpy(reference.images.astype(np.float32) / 16)), reference.target, strict=True))
    assert batch.y is not None
    assert [label[row] for row in rows(batch.x)] == batch.y.tolist()
    assert set(batch.y.tolist()) == set(range(len(data.spec.classes)))


def test_split_seed_fixes_the_splits_of_digits() -> None:
    first, again, other = digits(split_seed=1), digits(split_seed=1), digits(split_seed=2)
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).x, getattr(again, part).x)
        assert not torch.equal(getattr(first, part).x, getattr(other, part).x)


@pytest.mark.parametrize("key", ["val_fraction", "test_fraction"])
@pytest.mark.parametrize("value", [0.0, 1.0, -0.1])
def test_a_fraction_must_lie_between_0_and_1(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}={value}: must lie between 0 and 1$"):
        digits(**{key: value})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def small() -> Data:
    return patches(count=5000)


def test_patches_have_mean_0_and_the_training_patches_together_std_1(small: Data) -> None:
    for split in (small.train, small.val, small.test):
        assert split.x.dtype == torch.float32
        assert split.x.mean((1, 2, 3)).abs().max() < 1e-5
    assert [len(small.train), len(small.val), len(small.test)] == [4500, 500, 1000]
    assert small.train.x.square().mean().sqrt().item() == pytest.approx(1, abs=1e-5)
    assert small.test.x.square().mean().sqrt().item() == pytest.approx(1, abs=0.2)  # the same kind of image
    assert (small.spec.low, small.spec.high) == (small.train.x.min().item(), small.train.x.max().item())
    assert small.spec.shape == (1, 12, 12)


def test_no_patch_is_drawn_twice_and_none_is_flat(small: Data) -> None:
    x = torch.cat([small.train.x, small.val.x])
    assert len(set(rows(x))) == len(x)
    assert x.flatten(1).std(1).min() > 0.1


def test_split_seed_fixes_the_patches() -> None:
    first, again, other = (patches(size=6, count=100, split_seed=seed) for seed in (1, 1, 2))
    for part in ("train", "val", "test"):
        assert torch.equal(getattr(first, part).x, getattr(again, part).x)
        assert not torch.equal(getattr(first, part).x, getattr(other, part).x)


@pytest.mark.parametrize("whiten", [True, False])
def test_training_patches_share_no_pixel_with_test_patches(monkeypatch: pytest.MonkeyPatch, whiten: bool) -> None:
    def drawn(seed: int, train_seed: int) -> Data:
        images = np.random.default_rng(train_seed).integers(0, 256, (2, 427, 640, 3), dtype=np.uint8)
        images[:, :, 128:256] = np.random.default_rng(seed).integers(0, 256, (2, 427, 128, 3), dtype=np.uint8)
        monkeypatch.setattr(sklearn.datasets, "load_sample_images", lambda: SimpleNamespace(images=list(images)))
        return patches(size=8, count=2000, whiten=whiten)

    data, other_test, other_train = drawn(0, 1), drawn(2, 1), drawn(0, 3)
    assert torch.equal(data.train.x, other_test.train.x)
    assert torch.equal(data.val.x, other_test.val.x)
    assert not torch.equal(data.test.x, other_test.test.x)
    # Of the training region the test patches take the scale alone. Every place qualifies here: it is noise.
    ratio = data.test.x / other_train.test.x
    torch.testing.assert_close(ratio, ratio.median().expand_as(ratio), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("period", [4, 8, 16])
def test_whitening_multiplies_a_wave_by_f_exp_of_minus_f_over_f0_to_the_fourth(period: int) -> None:
    wave = torch.cos(2 * math.pi * torch.arange(256, dtype=torch.float64) / period).expand(200, 256)
    inner = slice(96, 160)  # away from the mirrored edges, which are no wave; whole periods of each
    f = 1 / period
    expected = f * math.exp(-((f / F0) ** 4)) * wave
    torch.testing.assert_close(whitened(wave)[inner, inner], expected[inner, inner], rtol=0, atol=0.002 * f)


def test_whitening_removes_the_mean_and_leaves_no_step_at_the_edges() -> None:
    ramp = torch.linspace(0, 1, 256, dtype=torch.float64).expand(200, 256)
    assert whitened(torch.ones(200, 256, dtype=torch.float64)).abs().max() < 1e-12
    # Joined end to end, a ramp of height 1 would give a step of 1, and values near 0.4 beside it.
    assert whitened(ramp).abs().max() < 0.01


def test_whitening_flattens_the_spectrum_of_the_photographs() -> None:
    flat, natural = (power(patches(size=32, count=2000, whiten=whiten).train.x) for whiten in (True, False))
    assert natural[0] / natural[8] > 30  # 1/f^2 from 1 to 9 cycles per patch: 81
    assert flat[:9].max() / flat[:9].min() < 2
    assert flat[-1] < 0.05 * flat[8]  # the noise at the highest frequencies is gone


def test_patches_refuse_what_cannot_be_cut() -> None:
    with pytest.raises(ConfigError, match=r"^size=65: must lie in 2 to 64$"):
        patches(size=65)
    with pytest.raises(ConfigError, match=r"^count=3: must be 10 or more$"):
        patches(count=3)
    with pytest.raises(ConfigError, match=r"^count=9000000: the photographs have only \d+ patches of size 12$"):
        patches(count=9_000_000)
