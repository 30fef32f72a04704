"""Spectrograms of recordings: levels and mel bands against brute force, splits by name, padding, options, new files."""

import re
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import signal
from scipy.io import wavfile

from autoenc.data import kinds, series
from autoenc.data.kinds.series import Spectra, Spectrogram
from autoenc.data.kinds.series.spectra import mel_bands
from autoenc.errors import DataError, UserError

RATE = 1_000
OPTIONS = {
    "window": 64,
    "stride": 16,
    "view": "spectrogram",
    "fft": 16,
    "hop": 8,
    "file_label": "(low|high)_",
    "split": "recording",
}


def sound(folder: Path, name: str, steps: int, scale: float = 0.5, rate: int = RATE, channels: int = 1) -> Path:
    """Write a tone of 100 or 300 Hz with noise; its noise is that of its name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    tone = np.sin(2 * np.pi * (100 if "low" in name else 300) * np.arange(steps) / rate)
    x = scale * (tone[:, None] + 0.1 * random.normal(size=(steps, channels)))
    wavfile.write(folder / name, rate, (x.squeeze() * 2**14).astype(np.int16))
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds of three speakers, 120 to 164 steps."""
    path = tmp_path_factory.mktemp("sounds")
    for i in range(12):
        sound(path, f"{('low', 'high')[i % 2]}_{'abc'[i % 3]}_{i // 3}.wav", 120 + 4 * i)
    return path


@pytest.mark.parametrize("mels", [0, 5])
def test_levels_are_those_of_brute_force(mels: int) -> None:
    spectra = Spectra(fft=16, hop=6, mels=mels, rate=float(RATE))
    x = np.random.default_rng(0).normal(size=(2, 3, 40))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)
    turns = np.exp(-2j * np.pi * np.outer(np.arange(9), np.arange(16)) / 16)
    bands = mel_bands(16, 5, RATE).numpy() if mels else np.eye(9)
    wanted = np.empty((2, 3, len(bands), spectra.columns(40)))
    for t in range(wanted.shape[-1]):
        amplitude = 2 / hann.sum() * np.abs(np.einsum("fs,ncs->ncf", turns, hann * x[:, :, 6 * t : 6 * t + 16]))
        wanted[..., t] = 10 * np.log10(amplitude**2 @ bands.T)
    found = spectra.levels(torch.from_numpy(x).float())
    np.testing.assert_allclose(found, wanted[:, :, ::-1], atol=1e-3)
    assert len(spectra.frequencies) == spectra.size == found.shape[2]
    assert (np.diff(spectra.frequencies) < 0).all(), "the highest first"
    if not mels:  # frames that lie in the signal: scipy's slices from p = fft / 2 hops on
        by_scipy = signal.ShortTimeFFT(signal.windows.hann(16, sym=False), 6, RATE, scale_to="magnitude")
        frames = by_scipy.stft(x[0, 0, :16], p0=0, p1=1, k_offset=8)
        np.testing.assert_allclose(20 * np.log10(2 * np.abs(frames[::-1, 0])), found[0, 0, :, 0], atol=1e-3)


def test_a_sine_of_amplitude_1_has_0_db_at_its_frequency() -> None:
    x = torch.sin(2 * np.pi * 250 * torch.arange(64) / RATE)[None, None]
    spectra = Spectra(fft=16, hop=8, rate=float(RATE))
    levels = spectra.levels(x)[0, 0, :, 0]
    assert float(levels.max()) == pytest.approx(0, abs=0.01)
    assert spectra.frequencies[int(levels.argmax())] == 250
    quiet = Spectra(fft=16, hop=8, relative=True).levels(0.01 * x)
    assert float(quiet.max()) == 0


def test_mel_bands_are_those_of_torchaudio() -> None:
    """torchaudio.functional.melscale_fbanks(9, 0, 4000, 4, 8000).T of torchaudio 2.11, norm=None, mel_scale="htk"."""
    wanted = np.zeros((4, 9))
    wanted[0, 1], wanted[1, 1:3], wanted[2, 2:6] = 0.63035, (0.36965, 0.71126), (0.28874, 0.99441, 0.50282, 0.01123)
    wanted[3, 3:8] = 0.00559, 0.49718, 0.98877, 0.67178, 0.33589
    np.testing.assert_allclose(mel_bands(16, 4, 8000.0), wanted, atol=1e-5)


def test_mel_bands_are_triangles_over_equal_steps_in_mel() -> None:
    bands, mel = mel_bands(2048, 12, 16_000.0).numpy(), 2595 * np.log10(1 + np.arange(1025) * 16_000 / 2048 / 700)
    distance = np.diff(np.linspace(0, mel[-1], 14))[0]
    for i, band in enumerate(bands):
        assert mel[band.argmax()] == pytest.approx((i + 1) * distance, abs=12)
        inside = (mel > i * distance) & (mel < (i + 2) * distance)
        np.testing.assert_array_equal(band[:-1] > 0, inside[:-1])
    between = (mel > distance) & (mel < 12 * distance)
    np.testing.assert_allclose(bands.sum(0)[between], 1, atol=1e-5)


def test_windows_are_spectrograms_scaled_by_the_training_windows(folder: Path, tmp_path: Path) -> None:
    data = series(str(folder), **OPTIONS, test_files="_a_")
    kind = data.spec.kind
    assert isinstance(kind, Spectrogram)
    assert data.spec.shape == data.train.tensor.shape[1:] == (1, 9, 7)
    levels = kind.decode(data.train.tensor)
    assert levels.max() == pytest.approx(kind.top, abs=1e-3)
    assert levels.min() >= kind.top - 80 - 1e-3
    np.testing.assert_allclose(levels.mean((0, 3)), kind.center, atol=1e-3)
    np.testing.assert_allclose(levels.std((0, 3)), kind.scale, rtol=1e-3)
    rate, x = wavfile.read(folder / f"{data.names['train'][0].split()[0]}")
    start = int(data.names["train"][0].split()[1])
    window = torch.from_numpy(x[start : start + 64] / 2**15).float()[None, None]
    np.testing.assert_allclose(levels[0], kind.spectra.levels(window)[0].clamp(min=kind.floor), atol=1e-3)
    assert kind.spectra.rate == rate == RATE
    for file in folder.iterdir():  # nothing is learnt from test recordings
        rate, x = wavfile.read(file)
        wavfile.write(tmp_path / file.name, rate, x // (7 if "_a_" in file.name else 1))
    other = series(str(tmp_path), **OPTIONS, test_files="_a_")
    assert other.spec.kind == kind
    assert not torch.equal(other.test.tensor, data.test.tensor)


def test_robust_scaling_and_none(folder: Path) -> None:
    data = series(str(folder), **OPTIONS, scaling="robust")
    levels = data.spec.kind.decode(data.train.tensor).transpose(1, 2, 0, 3).reshape(9, -1)
    low, middle, high = np.quantile(levels, (0.25, 0.5, 0.75), axis=1)
    np.testing.assert_allclose(data.spec.kind.center[0], middle, atol=1e-3)
    np.testing.assert_allclose(data.spec.kind.scale[0], (high - low) / 1.349, rtol=1e-3)
    plain = series(str(folder), **OPTIONS, scaling="none", range=20)
    assert plain.train.tensor.max() - plain.train.tensor.min() == pytest.approx(20, abs=1e-3)


@pytest.mark.parametrize(
    "options", [{"test_files": r"_[01]\.wav"}, {"group": r"_(\w)_"}, {"group": "_(.)_", "test_files": "_b_"}]
)
@pytest.mark.parametrize("view", [{}, dict.fromkeys(("view", "fft", "hop"))])
def test_no_recording_and_no_group_is_in_two_splits(folder: Path, options: dict, view: dict) -> None:
    data = series(str(folder), **{**OPTIONS, **view}, **options)
    names = {part: {each.split()[0] for each in data.names[part]} for part in ("train", "test")}
    axis = data.val.x.axis
    names["val"] = {axis.name(place).split()[0] for place in data.val.x.places.tolist()}
    assert not names["train"] & names["val"] | names["train"] & names["test"] | names["val"] & names["test"]
    assert len(set.union(*names.values())) == 12
    if pattern := options.get("test_files"):
        assert names["test"] == {file.name for file in folder.iterdir() if re.search(pattern, file.name)}
    if "group" in options:
        groups = [{name.split("_")[1] for name in part} for part in names.values()]
        assert sum(map(len, groups)) == len(set.union(*groups)) == 3
    for part in ("train", "val", "test"):
        windows = getattr(data, part).x
        ends = np.searchsorted(axis.starts, windows.places.numpy() + 63, side="right")
        np.testing.assert_array_equal(np.searchsorted(axis.starts, windows.places.numpy(), side="right"), ends)
        labels = np.concatenate([each.labels for each in axis.recordings])[windows.places.numpy()]
        assert [data.spec.classes[i] for i in getattr(data, part).y] == labels.tolist()


@pytest.mark.parametrize(("short", "rest"), [("zeros", 0.0), ("last", 1.0)])
def test_short_recordings_are_padded_in_training_and_in_new_files(tmp_path: Path, short: str, rest: float) -> None:
    for i in range(12):
        np.save(tmp_path / f"{i:02}.npy", np.append(np.random.default_rng(i).normal(size=39 if i else 99), 1.0))
    data = series(str(tmp_path), window=64, short=short, scaling="none", file_label=r"(\d)\.npy")
    assert len(data.train) + len(data.val) + len(data.test) >= 12
    windows = torch.cat([split.tensor for split in (data.train, data.val, data.test)])
    padded = windows[(windows[:, 0, 40:] == rest).all(1)]
    assert len(padded) == 11
    assert any("11 of 12 recordings shorter than a window: " in note for note in data.notes)
    kind = data.spec.kind
    np.save(tmp_path / "new.npy", np.arange(10) / 8)
    (new,) = kind.encode(tmp_path / "new.npy").tensor
    np.testing.assert_array_equal(new[0], [*np.arange(10) / 8, *[9 / 8 * rest] * 54])
    (recording,) = kind.recordings(tmp_path / "new.npy")
    assert recording.rows.tolist() == list(range(10)), "padding is no row of the file"


def test_short_recordings_are_refused_or_left_out(folder: Path) -> None:
    with pytest.raises(DataError, match=r"has 132 steps, a window 150; data\.short=drop leaves it out, zeros and last"):
        series(str(folder), window=150, short="refuse")
    data = series(str(folder), window=128, split="recording")
    assert any("2 of 12 recordings shorter than a window: left out" in note for note in data.notes)


@pytest.mark.filterwarnings("ignore:.*outside the range of the training data")
def test_a_kind_is_stored_and_reads_new_sounds_alike(folder: Path, tmp_path: Path) -> None:
    data = series(str(folder), **OPTIONS, mels=4, relative=True, range=40, short="zeros")
    kind = data.spec.kind
    kinds.save(kind, tmp_path)
    again = kinds.load(tmp_path, {}, {})
    assert again == kind
    assert isinstance(again, Spectrogram)
    new = again.read(sound(tmp_path, "low_d.wav", 80))
    assert new.names == ["low_d.wav 0", "low_d.wav 16"]
    assert torch.equal(new.split.tensor, kind.encode({"value": wavfile.read(tmp_path / "low_d.wav")[1] / 2**15}).tensor)
    assert torch.equal(kind.encode(new.split.tensor.flatten(1)).tensor, new.split.tensor)
    louder = again.read(sound(tmp_path, "low_d.wav", 80, scale=1.0)).split.tensor
    torch.testing.assert_close(louder, new.split.tensor, atol=0.05, rtol=0)
    assert again.read(sound(tmp_path, "short.wav", 30)).split.tensor.shape == (1, 1, 4, 7)
    assert (again.timed, again.detection) == (False, "rows"), "padding has no place on the time axis"
    for stride, timed in ((16, True), (64, False)):
        assert replace(again, format=replace(again.format, short="drop"), stride=stride).timed == timed
    assert kind.tiles(new.split.tensor).amax() <= 1
    assert kind.show({"input": new.split.tensor, "output": new.split.tensor}).ndim == 3
    assert kind.sheet(new.split.tensor, 2).ndim == 3


def test_sounds_that_do_not_fit_the_training_are_one_line(folder: Path, tmp_path: Path) -> None:
    kind = series(str(folder), **OPTIONS).spec.kind
    with pytest.raises(DataError, match=r"stereo\.wav: has 2 channels, the training data has 1"):
        kind.read(sound(tmp_path, "stereo.wav", 80, channels=2))
    with pytest.raises(
        DataError, match=r"fast\.wav has steps of 0\.0005 s, the training recordings 0\.001 s; resample"
    ):
        kind.read(sound(tmp_path, "fast.wav", 80, rate=2 * RATE))
    cut = sound(tmp_path, "cut.wav", 80)
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(DataError, match=r"cut\.wav: is truncated"):
        kind.read(cut)
    with pytest.raises(DataError, match=r"expected shape \(N, 1, 9, 7\)"):
        kind.encode(np.zeros((2, 1, 9, 8), np.float32))


def test_stereo_sounds_have_two_channels_of_images(tmp_path: Path) -> None:
    for i in range(3):
        sound(tmp_path, f"low_{i}.wav", 900, channels=2)
    data = series(str(tmp_path), window=64, view="spectrogram", fft=16, split="time")
    assert data.spec.shape == (2, 9, 9)
    assert data.spec.kind.channels.names == ("channel_0", "channel_1")
    assert data.spec.kind.sheet(data.train.tensor[:4], 2).shape[-1] == 3


def test_several_rates_are_refused_or_resampled(tmp_path: Path) -> None:
    for i, rate in enumerate((RATE, 2 * RATE)):
        sound(tmp_path, f"low_{i}.wav", 900 * (i + 1), rate=rate)
    options = {"window": 64, "view": "spectrogram", "fft": 64, "split": "time"}
    with pytest.raises(UserError, match=r"low_0\.wav has steps of 0\.001 s and low_1\.wav of 0\.0005 s; data\.step"):
        series(str(tmp_path), **options)
    data = series(str(tmp_path), **options, step=f"{RATE}Hz")
    kind = data.spec.kind
    loudest = kind.decode(data.test.tensor).mean(3)[:, 0].argmax(1)
    np.testing.assert_allclose(kind.spectra.frequencies[loudest], 100, atol=RATE / 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fft": 65}, r"fft=65: must be 4 to data\.window=64: a frame lies inside a window"),
        ({"hop": 0}, r"hop=0: must be 1 to data\.fft=16"),
        ({"mels": 10}, r"mels=10: must be 0 to 9, the frequencies of data\.fft=16"),
        ({"range": 0}, r"range=0: must be more than 0 dB"),
        ({"view": "wavelet"}, r"view=wavelet: must be spectrogram, or null"),
        ({"view": None, "hop": None}, r"fft=16: has no effect without data\.view=spectrogram"),
        ({"view": None, "fft": None, "hop": None, "relative": True}, "relative=True: has no effect without"),
        ({"test_files": "_x_"}, r"test_files=_x_: matches 0 of the 12 recordings, the first is high_a_1\.wav"),
        ({"test_files": "_"}, r"test_files=_: matches 12 of the 12 recordings"),
        ({"test_files": "(", "group": None}, r"test_files=\(: must be a regular expression$"),
        ({"group": "_b_"}, r"group=_b_: must be a regular expression with a group"),
        ({"group": "_(b)_"}, r"group=_\(b\)_: no group of it matches high_a_1\.wav"),
        ({"group": "_(.)_", "split": "time"}, r"group=_\(\.\)_: holds out whole recordings"),
        ({"group": "(low|high)"}, r"2 groups are too few to divide; data\.group=null"),
        ({"file_label": "low"}, r"file_label=low: must be a regular expression with a group"),
        ({"short": "fill"}, "short=fill: must be one of drop, zeros, last, refuse"),
        ({"test_files": "_a_", "test_path": "."}, r"test_files=_a_: data\.test_path has the test recordings"),
    ],
)
def test_options_that_cannot_work_are_one_line(folder: Path, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        series(str(folder), **{**OPTIONS, **options})
    assert "\n" not in str(refused.value)


def test_mel_bands_need_a_rate(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=4_000))
    options = {"path": str(tmp_path / "x.npy"), "window": 256, "view": "spectrogram", "mels": 4}
    with pytest.raises(UserError, match=r"mels=4: needs the rate of the recordings: data\.step=16000Hz"):
        series(**options)
    with pytest.raises(UserError, match=r"mels=9: 3 of the bands have no frequency of data\.fft=16; fewer bands or a"):
        series(**options | {"mels": 9}, step="48000Hz")
    assert series(**options, step="8000Hz").spec.shape == (1, 4, 31)
    assert series(**options | {"mels": 0}).spec.shape == (1, 9, 31), "by default, sixteenths of a window"


@pytest.mark.parametrize("window", [32, 64, 100, 128, 200, 256, 512, 8192])
def test_spectrograms_are_large_enough_for_convolutions_by_default(window: int) -> None:
    spectra = Spectra.of(window, None, None)
    assert (spectra.fft, spectra.hop) == (512, 256) if window == 8192 else spectra.fft in (16, 32)
    assert min(spectra.size, spectra.columns(window)) >= 8
    assert spectra.fft + (spectra.columns(window) - 1) * spectra.hop <= window
