"""Write spectrograms of the Free Spoken Digit Dataset (data/fsdd) as images of 32x32 pixels into a .npz.

x, y: takes from 10 on; x_test, y_test: takes 0 to 9 of each digit and speaker. Grey levels are logarithms of the power
in 32 bands, equally wide in mel, at 32 times of the recording, from 60 dB below its maximum (0) to its maximum (255).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy import ndimage, signal
from scipy.io import wavfile

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32  # bands and times
RANGE = 60.0  # dB
TEST_TAKES = 10


def mel_bands(frequencies: np.ndarray, count: int = SIDE) -> np.ndarray:
    """Return triangular windows of equal width in mel: (count, frequencies)."""
    top = 2595 * np.log10(1 + frequencies[-1] / 700)
    edges = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    rising = (frequencies - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - frequencies) / np.diff(edges)[1:, None]
    return np.minimum(rising, falling).clip(0)


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return the log-mel spectrogram of a recording: (SIDE, SIDE) uint8, low frequencies at the bottom."""
    samples = np.pad(samples.astype(np.float64), (0, max(0, 512 - len(samples))))
    frequencies, _, power = signal.spectrogram(samples, rate, nperseg=256, noverlap=192, nfft=512)
    bands = mel_bands(frequencies) @ power
    level = 10 * np.log10(bands + 1e-12 * bands.max() + 1e-30)
    level = ndimage.zoom(level, (1, SIDE / level.shape[1]), order=1)
    grey = ((level - level.max()) / RANGE + 1).clip(0, 1)
    return (255 * grey[::-1]).round().astype(np.uint8)


def main() -> None:
    """Convert all recordings."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--input", type=Path, default=ROOT / "data" / "fsdd", help="folder of DIGIT_SPEAKER_TAKE.wav")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "spectrograms.npz")
    options = parser.parse_args()
    x, y, takes = [], [], []
    for file in sorted(options.input.glob("*.wav")):
        digit, _, take = file.stem.split("_")
        rate, samples = wavfile.read(file)
        x.append(spectrogram(samples, rate))
        y.append(int(digit))
        takes.append(int(take))
    if not x:
        raise SystemExit(f"{options.input}: no recordings DIGIT_SPEAKER_TAKE.wav")
    images, labels, test = np.stack(x), np.array(y), np.array(takes) < TEST_TAKES
    options.output.parent.mkdir(parents=True, exist_ok=True)
    train = ~test
    np.savez_compressed(options.output, x=images[train], y=labels[train], x_test=images[test], y_test=labels[test])
    print(f"{options.output}: {train.sum():,} training and {test.sum():,} test images")


if __name__ == "__main__":
    main()
