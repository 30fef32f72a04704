"""Sound files: WAV with 8, 16, 24 and 32 bits, or floats."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from autoenc.errors import DataError, one_line

FULL = {"uint8": 128.0, "int16": 2.0**15, "int32": 2.0**31}  # scipy returns 24 bits in the upper bytes of int32


def read_wav(path: Path) -> tuple[np.ndarray, float]:
    """Return the samples of a WAV file, (T, C) float32 in [-1, 1], and the samples per second.

    Raises:
        DataError: a damaged or truncated file, or an encoding other than PCM and floats.
    """
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)
            warnings.filterwarnings("error", message="Reached EOF", category=wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except wavfile.WavFileWarning as error:
        raise DataError(f"{path}: is truncated ({one_line(error)})") from None
    except Exception as error:  # scipy raises anything for damaged files
        raise DataError(f"{path}: cannot be read as .wav: truncated or damaged ({one_line(error)})") from None
    if not samples.size or rate <= 0:
        raise DataError(f"{path}: has no samples")
    if samples.dtype.kind == "f":
        if not np.isfinite(samples).all():
            raise DataError(f"{path}: has samples that are NaN or infinite")
        sound = samples.astype(np.float32)
    else:
        sound = samples.astype(np.float32) / np.float32(FULL[samples.dtype.name])
        sound -= samples.dtype.kind == "u"
    return sound.reshape(len(sound), -1), float(rate)
