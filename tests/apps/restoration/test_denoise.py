"""Denoising: what is measured, and that it beats doing nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from autoenc import load_run, metrics, noise
from autoenc.apps.restoration import denoise
from autoenc.data.kinds.denoising.images import Images
from autoenc.data.kinds.series.channels import Channels
from autoenc.data.kinds.series.denoising import Signals
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run


@pytest.fixture(scope="module")
def run(dae_run: Path) -> Run:
    return load_run(dae_run, "cpu")


def test_denoised_digits_are_nearer_to_the_clean_ones_than_the_best_classical_filter_brings_them(run: Run) -> None:
    found = denoise.denoise_test(run, 100)
    assert set(found.numbers) == {"noisy", "model", "filter"}
    assert found.numbers["model"]["psnr"] > found.numbers["filter"]["psnr"] + 1 > found.numbers["noisy"]["psnr"] + 1
    assert found.numbers["model"]["ssim"] > found.numbers["noisy"]["ssim"]
    assert found.noisy.shape == found.denoised.shape == (100, 1, 8, 8)
    assert np.array_equal(found.clean, run.data.test.sample(100).take(slice(None)).x.numpy())
    again = denoise.denoise_test(run, 100)
    assert again.numbers == found.numbers, "the noise has a seed of its own"


def test_examples_that_the_noise_left_as_they_are_do_not_count(run: Run) -> None:
    """Their signal-to-noise ratio is 120 dB, and the filter that changes least would be the best."""
    clean = run.data.test.take(slice(0, 20)).x
    noisy = clean.clone()
    noisy[10:] += 0.3 * torch.randn(10, *clean.shape[1:], generator=torch.Generator().manual_seed(0))
    whole = denoise.denoise(run, Split(noisy), Split(clean), tune=(Split(noisy), Split(clean)))
    half = denoise.denoise(run, Split(noisy[10:]), Split(clean[10:]), tune=(Split(noisy[10:]), Split(clean[10:])))
    assert whole.numbers == half.numbers
    assert whole.filter == half.filter
    same = denoise.denoise(run, Split(clean), Split(clean))
    assert same.numbers["noisy"]["psnr"] == pytest.approx(120), "all count if none is changed"


def test_psnr_is_the_mean_over_images_of_torchmetrics_own(run: Run) -> None:
    random = np.random.default_rng(0)
    clean, other = random.random((2, 6, 1, 8, 8)).astype(np.float32)
    expected = [float(peak_signal_noise_ratio(torch.tensor(b), torch.tensor(a), data_range=1.0)) for a, b in
                zip(clean, other, strict=True)]  # fmt: skip
    assert Images(0.0, 1.0).quality(clean, other)["psnr"] == pytest.approx(np.mean(expected), rel=1e-5)
    assert Images(0.0, 1.0).quality(clean, clean)["ssim"] == 1.0


@pytest.mark.parametrize("scale", [1, 255])
def test_ssim_is_that_of_wang_by_hand(scale: int) -> None:
    """Uniform windows of 7x7, sample covariances, C1 = (.01 L)^2, C2 = (.03 L)^2 (Wang et al. 2004, eq. 13)."""
    random = np.random.default_rng(0)
    x = scale * random.random((2, 9, 8))
    y = (x + scale * 0.2 * random.normal(size=x.shape)).clip(0, scale)
    values = []
    for a, b in zip(x, y, strict=True):
        for i in range(3):
            for j in range(2):
                u, v = (part[i : i + 7, j : j + 7].ravel() for part in (a, b))
                (su, cov), (_, sv) = np.cov(u, v)
                first, second = (0.01 * scale) ** 2, (0.03 * scale) ** 2
                values.append((2 * u.mean() * v.mean() + first) * (2 * cov + second))
                values[-1] /= (u.mean() ** 2 + v.mean() ** 2 + first) * (su + sv + second)
    assert metrics.ssim(x, y, scale) == pytest.approx(np.mean(values), rel=1e-6)


def test_the_filter_is_chosen_on_the_images_given_for_it_and_not_on_those_it_is_measured_on(run: Run) -> None:
    clean = run.data.val.take(slice(0, 30)).x
    flat = torch.full_like(clean, 0.5)
    torch.manual_seed(0)
    noisy_flat = flat + 0.3 * torch.randn_like(flat)
    noisy = clean + 0.02 * torch.randn_like(clean)
    # On constant images the strongest smoothing wins; on nearly clean ones the weakest.
    strong = denoise.denoise(run, Split(noisy), Split(clean), tune=(Split(noisy_flat), Split(flat)))
    weak = denoise.denoise(run, Split(noisy), Split(clean), tune=(Split(noisy), Split(clean)))
    assert strong.filter != weak.filter
    assert strong.numbers["filter"]["psnr"] < weak.numbers["filter"]["psnr"]
    assert strong.numbers["model"] == weak.numbers["model"]


def test_without_clean_images_nothing_is_measured(run: Run) -> None:
    noisy = run.inputs(run.data.test.take(slice(0, 5)).x.numpy() + 0.4, noisy=True)
    found = denoise.denoise(run, noisy)
    assert found.numbers == {}
    assert found.clean is found.filtered is None
    assert found.denoised == pytest.approx(run.over(noisy, run.model.reconstruct).numpy())
    assert denoise.figure(run, found).shape[2] == 3


@pytest.mark.parametrize(
    ("kind", "level", "made"),
    [("gaussian", 0.5, noise.Gaussian), ("masking", 0.2, noise.Masking), ("salt_pepper", None, noise.SaltPepper)],
)
def test_other_noise_than_that_of_training(run: Run, kind: str, level: float | None, made: type) -> None:
    found = denoise.corruption(run, kind, level)
    assert type(found) is made
    assert (found.std if kind == "gaussian" else found.p) == (level or 0.3)


def test_noise_that_is_not_known_or_makes_no_sense_is_refused(run: Run, ae_run: Path, table_run: Path) -> None:
    assert denoise.corruption(run) is run.model.noise
    with pytest.raises(UserError, match=r"without noise.*--noise gaussian .*--level 0\.3"):
        denoise.denoise_test(load_run(ae_run, "cpu"), 5)
    with pytest.raises(UserError, match="--level needs --noise"):
        denoise.corruption(run, None, 0.5)
    with pytest.raises(UserError, match=r"--level=1\.5: must lie between 0 and 1 for masking"):
        denoise.corruption(run, "masking", 1.5)
    with pytest.raises(UserError, match="denoising is for images and series; table has vectors"):
        denoise.denoise_test(load_run(table_run, "cpu"), 5, "gaussian")


def test_filters_of_signals_remove_noise_and_the_ratio_is_that_of_the_powers() -> None:
    kind = Signals(Channels(("a",), (0.0,), (1.0,)), 64)
    random = np.random.default_rng(0)
    clean = np.sin(2 * np.pi * (np.arange(64) / 32 + random.random((5, 1, 1)))).astype(np.float32)
    noisy = clean + 0.5 * random.normal(size=clean.shape).astype(np.float32)
    expected = [10 * np.log10(np.var(a) / np.mean((b - a) ** 2)) for a, b in zip(clean, noisy, strict=True)]
    assert kind.ratios(clean, noisy) == pytest.approx(expected, rel=1e-3)  # whole periods: their mean is 0
    filters = dict(kind.filters(0.5))
    assert all(int(name.split(", ")[1].split()[0]) <= 33 for name in filters)
    smoothed = np.stack([filters["Savitzky-Golay, 17 steps, order 2"](x[0]) for x in noisy])[:, None]
    assert kind.quality(clean, smoothed)["snr"] > kind.quality(clean, noisy)["snr"] + 4
    assert set(dict(Signals(kind.channels, 5).filters(0.5))) == {
        "Wiener, 3 steps", "Wiener, 5 steps", "Savitzky-Golay, 3 steps, order 1",
        *(f"Savitzky-Golay, 5 steps, order {order}" for order in (1, 2, 3)),
    }  # fmt: skip


@pytest.mark.parametrize("option", ["noise", "level", "count"])
def test_options_of_test_images_are_refused_for_new_ones(option: str, dae_run: Path, call: Any, tmp_path: Path) -> None:
    value = {"noise": "gaussian", "level": "0.5", "count": "7"}[option]
    code, _, error = call("denoise", dae_run, "--input", tmp_path / "x.npy", f"--{option}", value)
    assert code == 2
    assert f"--{option} {value}: has no effect with --input" in error


def test_anomalous_test_examples_are_not_denoised(run: Run) -> None:
    spec = replace(run.spec, anomalies=(run.spec.classes[3],))
    other = Run(run.path, run.model, run.config, spec, run.record, run.device)
    other.data = run.data
    kept = run.data.test.y != 3
    assert len(denoise.denoise_test(other, 10_000).noisy) == int(kept.sum()) < len(run.data.test)
