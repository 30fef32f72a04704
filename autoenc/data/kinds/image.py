"""Images (C, H, W), grey or RGB."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from autoenc.canvas import picture_grid
from autoenc.data.kinds.denoising.images import Images
from autoenc.data.kinds.kind import REAL, Kind, common, squared_errors
from autoenc.data.kinds.raw import Raw, RawImages, RawInput
from autoenc.data.readers import images
from autoenc.data.readers.arrays import numbers_of_file
from autoenc.data.readers.folders import tree
from autoenc.data.readers.images import Header, ImageFormat
from autoenc.data.scaling import is_numeric
from autoenc.data.split import Examples, Split
from autoenc.errors import DataError, counted
from autoenc.metrics import mse_per_example, psnr

TRANSFORMS = ("CenterCrop", "Grayscale", "Pad", "Resize")  # of torchvision's: those without randomness
FLOOR = 0.01  # of the range: variation below the noise of a camera is not amplified to full contrast
BLACK = 16  # of 255: values of 12 bits that are read as 16 bits are not larger
REACH = 4.0  # standard deviations on either side in the range of a contrast-normalised image


@dataclass(frozen=True)
class Image(Kind):
    """Images (C, H, W).

    Args:
        format: size, mode, transforms and white of image files; None: files must have the size of `shape`.
        contrast: width in pixels of the window of `contrast_normalized`; 0: no normalization.
        channels_last: whether new arrays that could be (C, H, W) or (H, W, C) are the latter.
    """

    format: ImageFormat | None = None
    contrast: float = 0.0
    channels_last: bool = False

    name: ClassVar[str] = "image"
    noun: ClassVar[str] = "images"
    images: ClassVar[bool] = True
    one_unit: ClassVar[bool] = True
    encodes_objects: ClassVar[bool] = True
    score: ClassVar[str] = "local"
    deep_white: ClassVar[float | None] = 65_535.0
    queries: ClassVar[int] = 10
    drawn: ClassVar[bool] = False  # the noise of single pixels is no part of an image

    @property
    def bounded(self) -> bool:
        """Pixels lie in [0, 1] by definition, unless another range was observed."""
        return (self.low, self.high) == (0.0, 1.0)

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read an image file, all images of a folder tree (named by relative paths), or a file of arrays.

        Unreadable files in a folder are skipped with a warning; DataError if none can be read.
        """
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        if path.is_dir():
            found = tree(path)
            return self._of_files(found.files, found.names, resize, skip=True)
        if path.suffix.lower() in images.SUFFIXES:
            return self._of_files([path], [path.name], resize)
        split = self.encode(numbers_of_file(path, "an image, a folder of images, "), str(path), noisy, support)
        return Examples(split, [str(i) for i in range(len(split))])

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        """Return images as the model is fed them.

        Args:
            raw: (N, C, H, W), (N, H, W) if grey, (N, H, W, C), or flat (N, C H W): values in [0, 1], or integers, which
                are divided by `format.white`; or paths of image files or Pillow images, a list or a single one.
        """
        if not is_numeric(raw) and _names_images(raw):
            items = [raw] if isinstance(raw, str | Path) or not isinstance(raw, Iterable) else list(raw)
            return self._of_files(items, [str(item) for item in items], resize=False).split
        split = super().encode(raw, what, noisy, support)
        if self.contrast == 0:
            return split
        pixels = (split.take(slice(None)).x * 255).round().clamp(0, 255).byte().numpy()
        return Split(torch.stack([torch.from_numpy(self.prepared(image)) for image in pixels]), scale=1 / 255)

    def units(self, raw: Any, what: str, noisy: bool = False) -> Split:
        split = super().units(raw, what, noisy)
        if noisy or self.reading.fit == "exact" or split.scale != 1 or "float" in str(getattr(raw, "dtype", "float")):
            return split
        return Split((split.tensor * 255 + 0.5).byte(), scale=1 / 255)  # rounded to 8 bits, as files are

    @property
    def reading(self) -> ImageFormat:
        """The format that image files are converted to."""
        channels, height, width = self.shape
        return self.format or ImageFormat(channels, height, width, "exact")

    @property
    def white_value(self) -> float | None:
        return self.reading.white

    def prepared(self, image: np.ndarray) -> np.ndarray:
        return image if self.contrast == 0 else contrast_normalized(image, self.contrast)

    def _of_files(self, files: Sequence[Any], names: Sequence[str], resize: bool, skip: bool = False) -> Examples:
        """Decode image files or Pillow images; those that cannot be read are left out if `skip`."""
        pixels: dict[int, np.ndarray] = {}
        headers, errors = [], []
        for i, file in enumerate(files):
            try:
                header, pixels[i] = self._decoded(file, resize)
                headers.append(header)
            except WrongSize:
                raise
            except DataError as error:
                if not skip:
                    raise
                errors.append(error)
        if not pixels:
            raise errors[0] if errors else DataError("expected paths of images, or images, found none")
        notes = self._remarks(headers, resize)
        highest = max(int(image.max()) for image in pixels.values())
        if 0 < highest <= BLACK:
            notes.append(
                f"the images are almost black: values up to {highest} of 255; is their range that of training?"
            )
        if errors:
            skipped = f"{counted(len(errors), 'files are', len(files))} left out"
            notes.append(f"{skipped}: {errors[0]}{' ...' if len(errors) > 1 else ''}")
        for note in notes:
            warnings.warn(note, stacklevel=4)
        x = torch.from_numpy(np.stack([self.prepared(image) for image in pixels.values()]))
        return Examples(Split(x, scale=1 / 255), [names[i] for i in pixels])

    def _decoded(self, file: Any, resize: bool) -> tuple[Header, np.ndarray]:
        """Decode an image file or a Pillow image to (C, H, W) uint8."""
        look = self.reading
        if not (self.low >= 0 and 0.5 < self.high <= 1):
            found = f"the run was trained on arrays with values from {self.low:.4g} to {self.high:.4g}"
            raise DataError(f"{file}: image files have values in [0, 1], {found}; give an array")
        with images.readable(file):
            header = images.read_header(file)
            if look.fit == "exact" and not resize and header[1:3] != self.shape[1:]:
                size = f"expected {look.width}x{look.height} pixels, found {header.width}x{header.height}"
                raise WrongSize(f"{file}: {size}; --resize scales images")
            return header, np.array(images.decode(file, look))

    def _remarks(self, headers: Sequence[Header], resize: bool) -> list[str]:
        """Return what users may not expect of the new images."""
        notes, size = [], self.shape[1:]
        other = [] if resize else [header for header in headers if header[1:3] != size]
        if other:
            notes.append(
                f"{counted(len(other), 'images are', len(headers))} scaled to {size[1]}x{size[0]} pixels as in "
                f"training (data.fit={self.reading.fit}); the first has {other[0].width}x{other[0].height}"
            )
        if pages := sum(header.pages for header in headers):
            notes.append(f"{counted(pages, 'images have', len(headers))} several pages; the first is read")
        return notes

    def _shaped(self, x: Tensor, what: str) -> Tensor:
        c, h, w = self.shape
        if self.channels_last and tuple(x.shape[1:]) == (h, w, c):
            return x.permute(0, 3, 1, 2).contiguous()
        match tuple(x.shape[1:]):
            case (a, b, d) if (a, b, d) == self.shape:
                return x
            case (a, b) if (a, b) == (h, w) and c == 1:
                return x.unsqueeze(1)
            case (a, b, d) if (a, b, d) == (h, w, c):
                return x.permute(0, 3, 1, 2).contiguous()
            case (a,) if a == c * h * w:
                return x.unflatten(1, self.shape)
        raise self._other_shape(x, what, f" or (N, {c * h * w})")

    def distances(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """Return mse, and psnr in dB relative to the range of the data."""
        mse = mse_per_example(x, x_hat)
        return {"mse": mse, "psnr": psnr(mse, self.high - self.low)}

    @property
    def denoising(self) -> Images:
        return Images(self.low, self.high)

    def clip(self, x: np.ndarray) -> np.ndarray:
        return x.clip(self.low, self.high)

    def decode(self, x: Tensor | np.ndarray) -> np.ndarray:
        """Return images with values in [0, 1]: (N, C, H, W)."""
        return ((np.asarray(x) - self.low) / max(self.high - self.low, 1e-12)).clip(0, 1)

    def listing(self, x: Tensor) -> None:
        return None

    def tiles(self, x: Tensor) -> Tensor:
        return ((x - self.low) / max(self.high - self.low, 1e-12)).clamp(0, 1)

    def show(self, versions: Mapping[str, Tensor]) -> np.ndarray:
        """Draw a row of images for each version; below outputs, their squared error."""
        count = len(next(iter(versions.values())))
        errors = squared_errors(versions)
        texts = [
            text for name in versions for text in ([f"{e:.2g}" for e in errors] if name == "output" else [""] * count)
        ]
        labels = [f"{name}, mse" if name == "output" and errors else name for name in versions]
        return picture_grid(torch.cat(list(versions.values())), count, self.low, self.high, labels, texts)

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> np.ndarray:
        return picture_grid(x, min(columns, len(x)), self.low, self.high, list(labels) or None)

    def ranked(
        self, x: Tensor, captions: Sequence[str], texts: Sequence[str], colors: Sequence[str | None]
    ) -> np.ndarray:
        """Draw a row of images for each query; hits that are not known are blank."""
        labels = [caption[:24] for caption in captions]
        across = len(x) // len(captions)
        return picture_grid(x.nan_to_num(), across, self.low, self.high, labels, list(texts), list(colors))

    def state(self) -> dict[str, Any]:
        look = None if self.format is None else asdict(self.format)
        return {"look": look, "contrast": self.contrast, "channels_last": self.channels_last}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Image:
        look = values.get("look")
        contrast, last = float(values.get("contrast", 0.0)), bool(values.get("channels_last", False))
        return cls(**common(values), format=look and format_of(look), contrast=contrast, channels_last=last)

    def description(self) -> dict[str, Any]:
        text = f"float32, (N, C, H, W), values as in training: {self.low:.6g} to {self.high:.6g}"
        text += f"; {self._white()}" if self.bounded else "; nothing is rescaled"
        if self.format is not None and self.format.fit != "exact":
            text += "; image files are converted to one size and mode as kind.json says"
        if self.contrast:
            text += f"; contrast is normalised over a Gaussian window of {self.contrast:g} pixels first"
        white = self.reading.white
        return {"text": text} | ({} if white is None else {"uint8_scale": 1 / min(white, 255.0)})

    def raw_whole(self) -> Raw:
        colours, white = "grey" if self.shape[0] == 1 else "RGB", self.reading.white or 255.0
        text = f"images of one size, {colours}, as files of 8 bits have them"
        if white > 255:
            text += f"; values of more bits times 255 / {white:g}, rounded"
        given = RawInput("image", "uint8", (self.shape[0], "H", "W"), text, least=self.shape[1])
        return RawImages(given, min(white, 255.0), self.contrast, FLOOR, REACH)

    def raw(self) -> Raw:
        (given,) = super().raw().inputs
        if not self.bounded:
            return Raw(given)
        return Raw(replace(given, range=(0.0, 1.0), uint8_scale=1 / min(self.white_value or 255.0, 255.0)))

    def _white(self) -> str:
        white = self.reading.white
        return f"white is {white:g}" if white is not None else "uint8 (0 to 255) is multiplied by 1/255"


class WrongSize(DataError):
    """An image does not have the size of the training images."""


def format_of(values: Mapping[str, Any]) -> ImageFormat:
    """Return the format that kind.json describes; ValueError for transforms that are not allowed."""
    plain = {**values}
    steps = tuple((str(name), dict(options)) for name, options in plain.pop("transforms"))
    if any(name not in TRANSFORMS for name, _ in steps):
        raise ValueError(f"transforms other than {', '.join(TRANSFORMS)}")
    return ImageFormat(**plain, transforms=steps)


def contrast_normalized(image: np.ndarray, window: float) -> np.ndarray:
    """Standardise each pixel by the local mean and standard deviation, uint8 to uint8.

    Both are taken over a Gaussian window of `window` pixels. This removes uneven illumination and gives dark and bright
    regions the same weight. -4 to 4 standard deviations are mapped to 0 to 255.

    Args:
        image: (C, H, W).
    """
    from scipy import ndimage

    x = image.astype(np.float32) / 255
    around = (0, window, window)
    x -= ndimage.gaussian_filter(x, around)
    x /= np.sqrt(ndimage.gaussian_filter(x * x, around) + FLOOR**2)
    return ((x / REACH + 1) * 127.5).clip(0, 255).round().astype(np.uint8)


def _names_images(raw: Any) -> bool:
    """Whether raw data are paths or Pillow images, and not nested lists of numbers."""
    first = raw
    while isinstance(first, list | tuple) and first:
        first = first[0]
    return isinstance(first, list | tuple | str | Path) or hasattr(first, "getexif")
