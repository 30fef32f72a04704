"""Image files as arrays, decoded by Pillow, with the pixels of torchvision.transforms.v2."""

from __future__ import annotations

import os
import pickle
import stat
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from autoenc.data.readers.arrays import to_unit
from autoenc.errors import DataError, one_line

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "DIB", "GIF")  # of Pillow's, some of which run other programs
DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")  # modes of more than 8 bits
GREY = ("1", "L", "LA", "La", *DEEP)
LARGEST = 2**26  # pixels of an intermediate image
LARGEST_FILE = 2**27  # pixels of an image file

warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged metadata and large images
Image.preinit()


@dataclass(frozen=True)
class ImageFormat:
    """The format that all images are converted to: (channels, height, width) uint8.

    Args:
        fit: "crop" scales until the image covers height x width and crops the centre (v2.Resize of the shorter side,
            v2.CenterCrop); "stretch" scales each side by itself (v2.Resize); "exact" rejects other sizes of new data.
        transforms: names and options of transforms of torchvision.transforms.v2, applied first.
        white: the value that becomes 1.0; None: 255 for 8 bits, 65535 for more, 1 for floating-point numbers. Images
            of 8 bits ignore a white above 255, images of 1 bit any.
    """

    channels: int
    height: int
    width: int
    fit: str = "crop"
    transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    white: float | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def nbytes(self) -> int:
        """Bytes of one image."""
        return self.channels * self.height * self.width


class Header(NamedTuple):
    """Mode and size of an image, rotated as EXIF states.

    pages: whether there are further images in the file. highest: the largest integer of an image of more than 8 bits.
    """

    grey: bool
    height: int
    width: int
    pages: bool = False
    highest: float | None = None


def open_image(file: str | Path) -> Image.Image:
    """Open the first image of a file without decoding it; ValueError if it is too large or not a regular file."""
    status = os.stat(file)
    if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
        raise ValueError("is not a regular file")
    if status.st_size == 0:
        raise ValueError("is empty")
    image = Image.open(file, formats=FORMATS)
    if image.width * image.height > LARGEST_FILE:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels are too many; at most {LARGEST_FILE:,}")
    return image


def to_bytes(values: np.ndarray, white: float) -> np.ndarray:
    """Scale (H, ...) from 0 to white to 0 to 255, rounded half up: uint8. Memory: the result and a few rows."""
    to_unit(np.array([values.min(), values.max()]), white)
    scaled = np.empty(values.shape, np.uint8)
    for out, row in zip(scaled, values, strict=True):
        out[...] = np.floor(to_unit(row.astype(np.float64), white) * 255 + 0.5)
    return scaled


def convert(image: Image.Image, channels: int, white: float | None = None) -> Image.Image:
    """Convert an image to mode L or RGB, as an image viewer shows it.

    - EXIF rotation is applied and palettes are resolved.
    - Transparent pixels are blended with white.
    - Values of more than 8 bits are scaled by `white` and rounded to 8; see `ImageFormat`.
    - CMYK and other colour spaces are converted to RGB; grey is the luma of ITU-R BT.601.
    """
    if channels not in (1, 3):
        raise ValueError(f"image files have 1 or 3 channels, the run has {channels}; use arrays")
    image = upright(image)
    eight = image.mode not in ("1", *DEEP)
    if image.mode in DEEP:
        values, clear = np.asarray(image), image.info.get("transparency")
        pixels = to_bytes(values, white or (1.0 if image.mode == "F" else 65_535.0))
        image = Image.fromarray(pixels if clear is None else np.where(values == clear, np.uint8(255), pixels))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        foreground = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", foreground.size, "white"), foreground)
    mode = "RGB" if channels == 3 else "L"
    image = image if image.mode == mode else image.convert(mode)
    if white is not None and white < 255 and eight:
        image = Image.fromarray(to_bytes(np.asarray(image), white))
    return image


def mask_values(image: Image.Image) -> np.ndarray:
    """Return the largest value of the colours of each pixel (H, W), 0 where it is transparent."""
    image = upright(image)
    if image.mode in DEEP:
        return np.asarray(image)
    rgba = np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    return np.where(rgba[..., 3] < 128, np.uint8(0), rgba[..., :3].max(-1))


def upright(image: Image.Image) -> Image.Image:
    """Apply the rotation that EXIF states."""
    return ImageOps.exif_transpose(image) if _has_orientation(image) else image


def _has_orientation(image: Image.Image) -> bool:
    """Whether EXIF may state a rotation that Pillow does not apply by itself."""
    return image.format != "TIFF" and ("exif" in image.info or image.format not in ("JPEG", "BMP"))


def resize(image: Image.Image, image_format: ImageFormat) -> Image.Image:
    """Scale (bilinear, antialiased) and crop an image to the size of a format."""
    (width, height), (w, h) = image.size, (image_format.width, image_format.height)
    scaled = (w, h)
    if image_format.fit == "crop":
        wide = width * h > height * w
        scaled = (max(w, int(h * width / height)), h) if wide else (w, max(h, int(w * height / width)))
        if scaled[0] * scaled[1] > LARGEST:
            raise ValueError(f"{width}x{height} pixels are too narrow")
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    if scaled == (w, h):
        return image
    left, top = round((scaled[0] - w) / 2), round((scaled[1] - h) / 2)
    return image.crop((left, top, left + w, top + h))


def decode(file: str | Path | Image.Image, image_format: ImageFormat) -> np.ndarray:
    """Decode an image file or a Pillow image to (C, H, W) uint8; damaged files raise any exception.

    A JPEG that Pillow has opened but not yet decoded is read from its file, so that it has the pixels of the file.
    """
    if isinstance(file, Image.Image) and file.format == "JPEG" and getattr(file, "tile", None):
        file = getattr(file, "filename", "") or file
    image = file if isinstance(file, Image.Image) else open_image(file)
    height, width, transforms = image_format.height, image_format.width, image_format.transforms
    try:
        if image is not file and not transforms and image.width * image.height > 64 * width * height:
            # JPEG decodes at 1/2, 1/4 or 1/8 of its size; still four times as large as needed, in a third of the time.
            image.draft(None, (4 * width, 4 * height))
        converted = convert(image, image_format.channels, image_format.white)
        if transforms:
            converted = build_transform(transforms)(converted)
        array = np.frombuffer(resize(converted, image_format).tobytes(), np.uint8)
    finally:
        if image is not file:
            image.close()
    return array.reshape(height, width, image_format.channels).transpose(2, 0, 1)


def build_transform(transforms: Sequence[tuple[str, Mapping[str, Any]]]) -> Any:
    """Build a torchvision transform from names and options; TypeError or ValueError for invalid options."""
    return _build_transform(pickle.dumps([(name, dict(options)) for name, options in transforms]))


@cache
def _build_transform(pickled: bytes) -> Any:
    from torchvision.transforms import v2  # takes seconds to import

    return v2.Compose([getattr(v2, name)(**options) for name, options in pickle.loads(pickled)])


def read_header(file: str | Path | Image.Image) -> Header:
    """Read mode and size of an image file or a Pillow image; only images of more than 8 bits are decoded."""
    image = file if isinstance(file, Image.Image) else open_image(file)
    try:
        grey = image.mode in GREY or (image.mode in ("P", "PA") and _has_grey_palette(image))
        turned = _has_orientation(image) and image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        size = image.size if turned else image.size[::-1]
        highest = float(np.asarray(image).max()) if image.mode in DEEP and image.mode != "F" else None
        return Header(grey, *size, bool(getattr(image, "is_animated", False)), highest)
    finally:
        if image is not file:
            image.close()


def _has_grey_palette(image: Image.Image) -> bool:
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def header_of(file: str | Path) -> Header:
    """Return `read_header` of a file; DataError if it cannot be read."""
    with readable(file):
        return read_header(file)


@contextmanager
def readable(file: object) -> Iterator[None]:
    """Raise DataError for what fails inside: damaged files raise almost every kind of error."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{file}: cannot be read as an image ({reason(error)})") from None


def reason(error: BaseException) -> str:
    """Return why a file cannot be decoded, in one line without its name."""
    text = one_line(error)
    return "is not an image" if text.startswith("cannot identify") else text


def decode_files(files: Sequence[str], image_format: ImageFormat) -> tuple[np.ndarray, dict[int, str]]:
    """Decode files to (n, C, H, W) uint8. Return the pixels, and the reason for each index that cannot be decoded."""
    pixels, errors = np.zeros((len(files), *image_format.shape), np.uint8), {}
    for i, file in enumerate(files):
        try:
            pixels[i] = decode(file, image_format)
        except Exception as error:  # damaged files raise almost every kind of error
            errors[i] = reason(error)
    return pixels, errors


def read_headers(files: Sequence[str]) -> list[Header | str]:
    """Read the header of each file; a string is the reason why it cannot be read."""
    headers: list[Header | str] = []
    for file in files:
        try:
            headers.append(read_header(file))
        except Exception as error:
            headers.append(reason(error))
    return headers
