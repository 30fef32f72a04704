"""Images of defect-free parts and of parts to inspect, in the layout of MVTec AD (Bergmann et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from autoenc import memory
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers import images, path_of
from autoenc.data.readers.arrays import suggested_white
from autoenc.data.readers.images import ImageFormat
from autoenc.data.readers.inspection_folders import layout
from autoenc.data.scaling import DARK
from autoenc.data.split import Split
from autoenc.errors import DataError, require


def read_image(file: Path, kind: Kind) -> np.ndarray:
    """Read an image file of any size as the images of a run are read: (C, H, W) uint8; DataError if it cannot be."""
    assert isinstance(kind, Image)
    look = kind.reading
    with images.readable(file), images.open_image(file) as image:
        array = np.array(images.convert(image, look.channels, look.white))
    return np.ascontiguousarray(array[None] if look.channels == 1 else array.transpose(2, 0, 1))


def defects(
    path: str | None = None,
    size: int = 32,
    patches: int = 60,
    contrast: float = 0.0,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    good: str | Sequence[str] | None = None,
    masks: str | None = None,
    mask_suffix: str | Sequence[str] | None = None,
    white: float | None = None,
) -> Data:
    """Cut random patches (C, size, size) from the images of a folder with the layout of MVTec AD.

        train/good/*             defect-free parts: training patches, and validation patches from held-out images
        test/<kind>/*            test patches; `good` or the kind of defect
        ground_truth/<kind>/*    masks, for scripts/detect.py

    Other names and layouts are described in `readers.inspection_folders.layout`.
    Images may differ in size. Patches are grey if all good images are, else RGB.

    Args:
        path: the folder.
        size: side of a patch in pixels, at least 16.
        patches: number of patches per image, at least 1.
        contrast: width in pixels of the window of `kinds.image.contrast_normalized`; 0: no normalization.
        val_fraction: fraction of the good training images that is held out for validation.
        split_seed: seed of the held-out images and of the patch positions.
        good: names of the folders of good images: good, ok, normal. masks: folder of the masks. mask_suffix: what the
            names of masks have in addition: _mask, _gt, _label.
        white: value that becomes 1.0; by default 255 for 8 bits, 65535 for more, 1 for floating-point numbers.

    Raises:
        ConfigError: no path, a value out of range.
        DataError: another layout, an unreadable image, an image smaller than a patch, a mask without image.
    """
    path = path_of("defects", path)
    require(size >= 16, "size", size, "must be 16 or more")
    require(patches >= 1, "patches", patches, "must be 1 or more")
    require(0 <= contrast < np.inf, "contrast", contrast, "must be 0 or more")
    folder = Path(path).expanduser()
    require(white is None or 0 < white < np.inf, "white", white, "must be above 0: 255, 4095, ...")
    found = layout(folder, val_fraction, split_seed, good, masks, mask_suffix)
    headers = [images.header_of(file) for file in (*found.train, *found.held_out)]
    channels = 1 if all(header.grey for header in headers) else 3
    image_format = ImageFormat(channels, size, size, "exact", white=white)
    kind = Image((channels, size, size), 0.0, 1.0, image_format, contrast)
    random, brightest = np.random.default_rng(split_seed), 0

    def split(files: list[Path]) -> Split:
        nonlocal brightest
        memory.check_options(len(files) * patches * channels * size**2, patches=patches, size=size)
        x = torch.empty(len(files), patches, channels, size, size, dtype=torch.uint8)
        for out, file in zip(x, files, strict=True):
            pixels = read_image(file, kind)
            brightest = max(brightest, int(pixels.max()))
            whole = torch.from_numpy(kind.prepared(pixels))
            height, width = whole.shape[1:]
            if min(height, width) < size:
                raise DataError(f"{file}: has {width}x{height} pixels, a patch {size}x{size}; lower data.size")
            tops, lefts = random.integers(0, height - size + 1, patches), random.integers(0, width - size + 1, patches)
            for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
                out[i] = whole[:, top : top + size, left : left + size]
        return Split(x.flatten(0, 1), scale=1 / 255)

    spec = DataSpec(folder.name, kind)
    parts = (list(found.train), list(found.held_out), [part.file for part in found.test])
    kinds = ", ".join(sorted({part.kind for part in found.test}))
    note = (
        f"{patches} patches per image: {len(parts[0])} good images for training, {len(parts[1])} for validation, "
        f"{len(parts[2])} for testing ({kinds}), {'with' if found.masks else 'without'} masks"
    )
    train, val, test = map(split, parts)
    return Data(spec, train, val, test, notes=(note, *found.notes, *_dark(headers, brightest, white)))


def _dark(headers: Sequence[images.Header], highest: int, white: float | None) -> list[str]:
    """Return a note on good images that do not fill the range; DataError if they are black."""
    deep = max((header.highest for header in headers if header.highest is not None), default=None)
    if white is not None or highest >= DARK * 255 or (deep is not None and deep >= 4_096):
        return []
    top, full = (highest, 255) if deep is None else (deep, 65_535)
    text = f"the images have values up to {top:g} of {full}; data.white={suggested_white(top):g} makes that the white"
    if highest <= 1:
        raise DataError(f"all good images are black: {text}")
    return [f"Attention: {text}"]
