"""Decoding image files: modes and sizes, compared with Pillow and torchvision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import RNG, noise, save
from PIL import Image
from torchvision.transforms import v2

from autoenc.data.readers import images
from autoenc.data.readers.images import ImageFormat


def rounded(array: np.ndarray) -> np.ndarray:
    return np.floor(array + 0.5).astype(np.uint8)


def test_every_mode_is_read_as_an_image_viewer_shows_it(tmp_path: Path) -> None:
    rgb, grey, alpha = noise(), noise(channels=1), noise(channels=1)
    luma = np.asarray(Image.fromarray(rgb).convert("L"))
    rgb_format, grey_format = ImageFormat(3, 12, 16), ImageFormat(1, 12, 16)

    def same(
        name: str, image: np.ndarray | Image.Image, wanted: np.ndarray, tolerance: int = 0, **options: Any
    ) -> None:
        decoded = images.decode(
            save(tmp_path / name, image, **options), rgb_format if wanted.ndim == 3 else grey_format
        )
        decoded = decoded.transpose(1, 2, 0) if wanted.ndim == 3 else decoded[0]
        assert np.abs(decoded.astype(int) - wanted).max() <= tolerance, name

    def three(array: np.ndarray) -> np.ndarray:
        return np.stack([array] * 3, -1)

    for suffix in ("png", "tif", "bmp", "webp"):
        same(f"rgb.{suffix}", rgb, rgb, **({"lossless": True} if suffix == "webp" else {}))
    same("grey.png", grey, grey)
    same("grey_as_rgb.png", grey, three(grey))
    same("rgb_as_grey.png", rgb, luma)
    same("bits.png", Image.fromarray(grey > 127), three(np.where(grey > 127, 255, 0)))
    same("palette.png", Image.fromarray(grey // 2).convert("P"), three(grey // 2))
    # On white: a * colour + (1 - a) * 255.
    part = alpha[..., None] / 255
    same("rgba.png", np.dstack([rgb, alpha]), rounded(part * rgb + (1 - part) * 255), tolerance=1)
    same("la.png", Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]),
         rounded(alpha / 255 * grey + (1 - alpha / 255) * 255), tolerance=1)  # fmt: skip
    # 16 bits: all of the range, 65535 is white.
    deep = RNG.integers(0, 65_536, (12, 16)).astype(np.uint16)
    same("deep.png", deep, rounded(deep / 257))
    same("deep.tif", deep, rounded(deep / 257))
    cmyk = Image.merge("CMYK", [Image.fromarray(c) for c in (*rgb.transpose(2, 0, 1), grey)])
    ink = 1 - np.dstack([rgb, grey]) / 255.0
    same("cmyk.tif", cmyk, rounded(255 * ink[..., :3] * ink[..., 3:]), tolerance=1)
    # EXIF 6: to be turned by 90 degrees clockwise.
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix in ("png", "webp"):
        turned = np.rot90(rgb, 1)
        same(f"turned.{suffix}", np.ascontiguousarray(turned), rgb, exif=exif,
             **({"lossless": True} if suffix == "webp" else {}))  # fmt: skip
        assert images.read_header(str(tmp_path / f"turned.{suffix}"))[:3] == (False, 12, 16)
    unit = (deep / 65_535).astype(np.float32)
    same("float.tif", Image.fromarray(unit), rounded(unit.astype(np.float64) * 255))


@pytest.mark.parametrize(("height", "width"), [(12, 16), (40, 15), (33, 33), (9, 50)])
@pytest.mark.parametrize("size", [(8, 8), (10, 14), (20, 20)])
def test_scaling_has_the_pixels_of_torchvision(height: int, width: int, size: tuple[int, int]) -> None:
    image = Image.fromarray(noise(height, width))
    stretched = images.decode(image, ImageFormat(3, *size, fit="stretch"))
    assert np.array_equal(stretched, np.asarray(v2.Resize(size)(image)).transpose(2, 0, 1))
    if size[0] == size[1]:
        cropped = images.decode(image, ImageFormat(3, *size))
        wanted = v2.Compose([v2.Resize(size[0]), v2.CenterCrop(size)])(image)
        assert np.array_equal(cropped, np.asarray(wanted).transpose(2, 0, 1))
    steps = (("Pad", {"padding": 3}), ("CenterCrop", {"size": [9, 9]}))
    wanted = v2.Compose([v2.Pad(3), v2.CenterCrop(9), v2.Resize(size)])(image)
    decoded = images.decode(image, ImageFormat(3, *size, fit="stretch", transforms=steps))
    assert np.array_equal(decoded, np.asarray(wanted).transpose(2, 0, 1))


def test_a_large_jpeg_is_decoded_at_a_fraction_and_looks_the_same(tmp_path: Path) -> None:
    smooth = Image.fromarray(noise(16, 16)).resize((1600, 1200), Image.Resampling.BICUBIC)
    path = save(tmp_path / "large.jpg", smooth, quality=95)
    decoded = images.decode(path, ImageFormat(3, 32, 32)).astype(int)
    wanted = v2.Compose([v2.Resize(32), v2.CenterCrop(32)])(Image.open(path))
    assert np.abs(decoded - np.asarray(wanted).transpose(2, 0, 1)).max() <= 3
