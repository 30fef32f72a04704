"""Image files for tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from autoenc.data.split import Split
from autoenc.errors import UserError

RNG = np.random.default_rng(0)


def noise(height: int = 12, width: int = 16, channels: int = 3) -> np.ndarray:
    array = RNG.integers(0, 256, (height, width, channels)).astype(np.uint8)
    return array if channels > 1 else array[..., 0]


def save(path: Path, array: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(array)).save(path, **options)
    return path


def write_images(folder: Path, n: int = 12, **size: int) -> dict[str, np.ndarray]:
    """Write n PNG files in two class folders. Return relative path -> pixels."""
    arrays = {f"{'ab'[i % 2]}/{i:02}.png": noise(**size) for i in range(n)}
    for name, array in arrays.items():
        save(folder / name, array)
    return arrays


def read_all(*splits: Split) -> torch.Tensor:
    return torch.cat([split.take(slice(None)).x for split in splits])


def error_message(kind: type[UserError], function: Callable[[], object]) -> str:
    """Return the message, one line, of the error that a call raises."""
    with pytest.raises(kind) as caught:
        function()
    assert "\n" not in str(caught.value)
    return str(caught.value)
