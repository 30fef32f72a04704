"""Picture files as arrays, with Pillow; and the worker process that does it for `decoding.Pool`.

This file imports nothing of autoenc and no torch: run as a script, it is a worker, which starts in a fifth of a second
and takes 30 MB. What it does to a picture has the pixels of torchvision.transforms.v2 (tests compare them).
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N")
SIXTEEN = ("I", "I;16", "I;16L", "I;16B", "I;16N")
LARGEST = 2**26  # pixels that a picture may have on the way to its size
HEAD = struct.Struct("<QQ")  # of a message: the lengths of its two parts

Image.preinit()


@dataclass(frozen=True)
class Look:
    """What every picture is brought to: (channels, height, width) uint8.

    fit: "crop" scales until the picture covers height x width and takes the centre (v2.Resize of the shorter side,
    v2.CenterCrop); "stretch" scales each side by itself (v2.Resize). transforms: of torchvision.transforms.v2, applied
    before that, each a name with its options.
    """

    channels: int
    height: int
    width: int
    fit: str = "crop"
    transforms: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    @property
    def nbytes(self) -> int:
        """Of one picture."""
        return self.channels * self.height * self.width


def opened(file: str | Path | IO[bytes]) -> Image.Image:
    """The first picture of a file, not decoded yet; ValueError for pixels that are no shades of 8 or 16 bits."""
    image = Image.open(file)
    if image.mode == "F":
        raise ValueError("pixels are floating-point numbers; data=arrays reads those")
    return image


def plain(image: Image.Image, channels: int) -> Image.Image:
    """The picture as a viewer shows it, in mode L or RGB.

    Turned as EXIF says; palettes looked up; what is transparent lies on white; of 16 bits the upper 8, rounded; CMYK
    and the like in RGB; grey from colour by the luma of ITU-R BT.601.
    """
    if "exif" in image.info or image.format not in ("JPEG", "BMP"):
        image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN:
        shades = np.asarray(image).astype(np.int64).clip(0, 65_535)
        image = Image.fromarray(((shades + 128) // 257).astype(np.uint8))
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        above = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
    wanted = "RGB" if channels == 3 else "L"
    return image if image.mode == wanted else image.convert(wanted)


def fitted(image: Image.Image, look: Look) -> Image.Image:
    """Scaled (bilinear, antialiased) and cropped to the size of `look`."""
    (width, height), (w, h) = image.size, (look.width, look.height)
    if (width, height) == (w, h):
        return image
    scaled = (w, h)
    if look.fit == "crop":
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


def decode(file: str | Path | Image.Image, look: Look) -> np.ndarray:
    """(C, H, W) uint8 of a picture file; any exception where it is none."""
    image = file if isinstance(file, Image.Image) else opened(file)
    try:
        if not look.transforms and image.width * image.height > 64 * look.width * look.height:
            # A JPEG eight times as large as it has to be and more: decoded at a half, a quarter or an eighth, and
            # still four times as large, a third of the time.
            image.draft(None, (4 * look.width, 4 * look.height))
        picture = plain(image, look.channels)
        if look.transforms:
            picture = transformation(look.transforms)(picture)
        array = np.frombuffer(fitted(picture, look).tobytes(), np.uint8)
    finally:
        if image is not file:
            image.close()
    return array.reshape(look.height, look.width, look.channels).transpose(2, 0, 1)


@cache
def _transformation(text: bytes) -> Any:
    from torchvision.transforms import v2  # seconds, and only where it is asked for

    return v2.Compose([getattr(v2, name)(**options) for name, options in pickle.loads(text)])


def transformation(transforms: Sequence[tuple[str, Mapping[str, Any]]]) -> Any:
    """What torchvision makes of names and options; TypeError or ValueError where it refuses them."""
    return _transformation(pickle.dumps([(name, dict(options)) for name, options in transforms]))


def look_at(file: str) -> tuple[bool, int, int]:
    """Of the head of a file: whether it is grey, its height and its width, as turned by EXIF."""
    with opened(file) as image:
        grey = image.mode in GREY or (image.mode in ("P", "PA") and _grey_palette(image))
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
        return grey, *(image.size if turned else image.size[::-1])


def _grey_palette(image: Image.Image) -> bool:
    colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return bool((colours == colours[:, :1]).all())


def reason(error: BaseException) -> str:
    """Why a file is no picture, in one line that does not name it."""
    text = next(iter(str(error).splitlines()), "").strip()
    return "is no picture" if text.startswith("cannot identify") else text or type(error).__name__


def decode_all(files: Sequence[str], look: Look, out: np.ndarray) -> dict[int, str]:
    """Decode files into out (n, C, H, W); zeros for those that cannot be, and why: place -> reason."""
    bad = {}
    for i, file in enumerate(files):
        try:
            out[i] = decode(file, look)
        except Exception as error:  # damaged files bring forth almost every kind
            out[i], bad[i] = 0, reason(error)
    return bad


def look_at_all(files: Sequence[str]) -> list[tuple[bool, int, int] | str]:
    """`look_at` of each file, or why it is no picture."""
    found: list[tuple[bool, int, int] | str] = []
    for file in files:
        try:
            found.append(look_at(file))
        except Exception as error:
            found.append(reason(error))
    return found


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until their pipe is closed: (files, look) with pixels, (files, None) with `look_at_all`."""
    while len(head := requests.read(8)) == 8:
        files, look = pickle.loads(requests.read(struct.unpack("<Q", head)[0]))
        if look is None:
            pixels, said = np.empty(0, np.uint8), pickle.dumps(look_at_all(files))
        else:
            pixels = np.empty((len(files), *look.shape), np.uint8)
            said = pickle.dumps(decode_all(files, look, pixels))
        replies.write(HEAD.pack(len(said), pixels.nbytes) + said)
        replies.write(pixels.reshape(-1).data)
        replies.flush()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.modules["autoenc.data.readers.images"] = sys.modules["__main__"]  # where requests say that Look is
    with os.fdopen(os.dup(0), "rb") as stdin, os.fdopen(os.dup(1), "wb") as stdout:
        serve(stdin, stdout)
