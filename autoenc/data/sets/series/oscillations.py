"""Generated recordings with trend, season and bursts, and anomalies of five kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from autoenc import memory
from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.series import Series
from autoenc.data.readers.recordings import Format, Recording
from autoenc.data.sets.series.splits import Cutting, assembled
from autoenc.data.storage.windows import Windows, laid
from autoenc.errors import require

NORMAL = "normal"
ANOMALIES = ("decoupled", "flat", "frequency", "level", "spike")
SPIKE = 3  # steps
MOST_BURSTS = 1e10  # times the steps of a recording: minutes


def oscillations(
    count: int = 40,
    steps: int = 512,
    channels: int = 3,
    window: int = 64,
    stride: int | None = None,
    period: float = 25.0,
    noise: float = 0.1,
    bursts: float = 2.0,
    scaling: Literal["standard", "robust", "none"] = "standard",
    differences: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.3,
    data_seed: int = 0,
    split_seed: int = 0,
    kind: Kind | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Draw recordings (T, C): x_tc = trend + season + bursts + noise, windows (C, W).

    The season of channel c is sin(u_t + c pi / C) + sin(2 u_t + c) / 3, u the phase, with a period that differs by up
    to 10% between recordings. Trends are lines with slopes of up to half a unit per 100 steps. Bursts, oscillations of
    four times the frequency under a Gaussian envelope, are shared by all channels.

    A test recording has one anomaly of each kind, for a window or less, in one channel but for the frequency:
    spike: 3 steps, up or down by 3. level: shifted by 1.5. frequency: the season is twice as fast. flat: the value
    stays the same. decoupled: the season runs backwards, unlike that of the other channels.

    truth: clean_test (N_test, C, W), the test windows without noise and without anomalies; period ().

    Args:
        count: of recordings. bursts: expected number in a recording. noise: standard deviation.
        val_fraction, test_fraction: of the recordings. data_seed, split_seed: of the recordings, and of their split.

    Raises:
        ConfigError: a value out of range.
    """
    require(count >= 4, "count", count, "must be 4 or more")
    require(channels >= 1, "channels", channels, "must be 1 or more")
    require(window >= 8, "window", window, "must be 8 or more")
    least = (len(ANOMALIES) + 1) * window
    require(
        steps >= least, "steps", steps, f"must be {least} or more, six windows: a test recording has five anomalies"
    )
    require(period >= 4, "period", period, "must be 4 or more")
    require(noise >= 0, "noise", noise, "must be 0 or more")
    require(bursts >= 0, "bursts", bursts, "must be 0 or more")
    assert kind is None or isinstance(kind, Series)
    cutting = Cutting(
        window, stride, "recording", None, None, val_fraction, test_fraction, split_seed, scaling, False, differences,
        NORMAL, tuple(excluded),
    )  # fmt: skip
    cutting.check()
    overlap = test_fraction * window / (stride or max(1, window // 8))
    numbers = channels * (4 + overlap) + 2
    memory.check_options(4 * numbers * count * steps, count=count, steps=steps, channels=channels)
    most = MOST_BURSTS / (count * steps)
    require(bursts <= most, "bursts", bursts, f"must be {most:,.0f} or less for {count} recordings of {steps} steps")
    random = np.random.default_rng(data_seed)
    tests = {i for i, part in cutting.drawn(count).items() if part == "test"}
    recordings, clean = [], []
    for i in range(count):
        recording, ideal = _recording(f"recording_{i:0{len(str(count - 1))}}", steps, channels, period, noise, bursts,
                                      window if i in tests else 0, random)  # fmt: skip
        recordings.append(recording)
        clean.append(replace(recording, values=ideal))
    format = Format(tuple(f"sensor_{c}" for c in range(channels)), time="", window=window)
    data = assembled("oscillations", laid(recordings), format, cutting, kind)
    assert isinstance(data.spec.kind, Series)
    assert isinstance(data.test.x, Windows)
    windows = data.spec.kind.windows(laid(clean), data.test.x.places).tensor
    return replace(data, truth={"clean_test": windows, "period": torch.tensor(period)})


def _recording(
    name: str, steps: int, channels: int, period: float, noise: float, bursts: float, window: int,
    random: np.random.Generator,
) -> tuple[Recording, np.ndarray]:  # fmt: skip
    """Return a recording, and its signal without noise and anomalies.

    Args:
        window: longest anomaly, in steps; 0: none.
    """
    t = np.arange(steps)
    phase = 2 * np.pi * (t / (period * random.uniform(0.9, 1.1)) + random.uniform())
    trend = random.uniform(-0.5, 0.5, channels) * (t[:, None] / 100) + random.uniform(-0.5, 0.5, channels)
    trend -= trend.mean(0)
    burst = np.zeros(steps)
    for _ in range(random.poisson(bursts)):
        width, middle = period * random.uniform(0.3, 0.6), random.uniform(0, steps)
        burst += 0.8 * np.exp(-0.5 * ((t - middle) / width) ** 2) * np.sin(8 * np.pi * (t - middle) / period)
    season = _season(phase, channels)
    clean = trend + season + burst[:, None]
    values = clean + noise * random.normal(size=clean.shape)
    labels = np.full(steps, NORMAL, object)
    if window:
        block = steps // len(ANOMALIES)
        for i, kind in enumerate(random.permutation(list(ANOMALIES))):
            length = SPIKE if kind == "spike" else int(random.integers(window // 2, window + 1))
            start = i * block + int(random.integers(0, block - length + 1))
            here, c = slice(start, start + length), int(random.integers(channels))
            labels[here] = kind
            if kind == "spike":
                values[here, c] += 3 * random.choice([-1, 1])
            elif kind == "level":
                values[here, c] += 1.5 * random.choice([-1, 1])
            elif kind == "flat":
                values[here, c] = values[start, c]
            elif kind == "frequency":
                values[here] += _season(phase[start] + 2 * (phase[here] - phase[start]), channels) - season[here]
            else:
                values[here, c] += _season(2 * phase[start] - phase[here], channels)[:, c] - season[here, c]
    return Recording(name, values.astype(np.float32), ((0, steps),), 1.0, labels), clean.astype(np.float32)


def _season(phase: np.ndarray, channels: int) -> np.ndarray:
    """Return the season of all channels at phases (T,): (T, C)."""
    c = np.arange(channels)
    return np.sin(phase[:, None] + c * np.pi / channels) + np.sin(2 * phase[:, None] + c) / 3
