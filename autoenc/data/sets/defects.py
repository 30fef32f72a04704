"""Images of defect-free parts and of parts to inspect, in the layout of MVTec AD (Bergmann et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers import images
from autoenc.data.readers.folders import tree
from autoenc.data.split import Split, check_fractions
from autoenc.errors import ConfigError, DataError, require

GOOD = "good"


@dataclass(frozen=True)
class Part:
    """An image to inspect. kind: its folder. mask: the file that marks its defects, if any."""

    file: Path
    kind: str
    mask: Path | None = None

    @property
    def name(self) -> str:
        """kind/file, or the file name if the kind is unknown."""
        return f"{self.kind}/{self.file.name}" if self.kind else self.file.name


@dataclass(frozen=True)
class Layout:
    """The files of a folder: good images for training and validation, and test images.

    masks: whether a folder ground_truth exists.
    """

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    test: tuple[Part, ...]
    masks: bool


def layout(path: Path, val_fraction: float = 0.2, split_seed: int = 0) -> Layout:
    """List train/good, test/<kind> and, if it exists, ground_truth/<kind>, without decoding images.

    Masks have the name of the image, with or without a suffix `_mask`. Whole images are held out, not patches.

    Raises:
        ConfigError: a fraction outside (0, 1).
        DataError: a missing folder or mask, or too few images.
    """
    check_fractions(val_fraction=val_fraction)
    if not path.is_dir():
        raise DataError(f"{path}: {'is a file, not a folder' if path.exists() else 'no such folder'}")
    good = _images(path / "train" / GOOD)
    held = int(np.ceil(val_fraction * len(good)))
    if held >= len(good):
        raise DataError(f"{path / 'train' / GOOD}: {len(good)} images are too few for val_fraction={val_fraction}")
    order = torch.randperm(len(good), generator=torch.Generator().manual_seed(split_seed)).tolist()
    train, held_out = ([good[i] for i in sorted(some)] for some in (order[held:], order[:held]))
    if not (path / "test").is_dir():
        raise DataError(f"{path}: has no folder test/ (test/{GOOD}, test/<kind of defect>)")
    truth = path / "ground_truth"
    test = [
        Part(file, kind.name, _mask(truth / kind.name, file) if truth.is_dir() and kind.name != GOOD else None)
        for kind in sorted(p for p in (path / "test").iterdir() if p.is_dir() and not p.name.startswith("."))
        for file in _images(kind)
    ]
    if not test:
        raise DataError(f"{path / 'test'}: has no folders of images")
    return Layout(tuple(train), tuple(held_out), tuple(test), truth.is_dir())


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected train/{GOOD}/, test/<kind>/ and ground_truth/<kind>/")
    return [Path(file) for file in tree(folder, recursive=False).files]


def _mask(folder: Path, file: Path) -> Path:
    for stem in (file.stem, f"{file.stem}_mask"):
        for suffix in images.SUFFIXES:
            if (mask := folder / f"{stem}{suffix}").is_file():
                return mask
    raise DataError(f"{file}: has no mask; looked for {folder / file.stem}[_mask].png")


def read_image(file: Path, kind: Kind) -> np.ndarray:
    """Read an image file of any size as the images of a run are read: (C, H, W) uint8; DataError if it cannot be."""
    assert isinstance(kind, Image)
    look = kind.reading
    try:
        with images.open_image(file) as image:
            array = np.array(images.convert(image, look.channels, look.white))
    except Exception as error:  # damaged files raise almost every kind of error
        raise DataError(f"{file}: cannot be read as an image ({images.reason(error)})") from None
    return np.ascontiguousarray(array[None] if look.channels == 1 else array.transpose(2, 0, 1))


def read_mask(part: Part, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a part, (H, W) bool: True where it is brighter than half of its brightest pixel.

    All False without a mask file. DataError if mask and image differ in size.
    """
    if part.mask is None:
        return np.zeros(size, bool)
    mask = read_image(part.mask, Image((1, 1, 1), 0.0, 1.0))[0]
    if mask.shape != size:
        found, wanted = (f"{w}x{h}" for h, w in (mask.shape, size))
        raise DataError(f"{part.mask}: the mask has {found} pixels, {part.file} has {wanted}")
    return mask > mask.max() / 2


def defects(
    path: str | None = None,
    size: int = 32,
    patches: int = 60,
    contrast: float = 0.0,
    val_fraction: float = 0.2,
    split_seed: int = 0,
) -> Data:
    """Cut random patches (C, size, size) from the images of a folder with the layout of MVTec AD.

        train/good/*             defect-free parts: training patches, and validation patches from held-out images
        test/<kind>/*            test patches; `good` or the kind of defect
        ground_truth/<kind>/*    masks, for scripts/detect.py; names as in test/<kind>, with or without _mask

    Images may differ in size. Patches are grey if all good images are, else RGB.

    Args:
        path: the folder.
        size: side of a patch in pixels, at least 16.
        patches: number of patches per image, at least 1.
        contrast: width in pixels of the window of `kinds.image.contrast_normalized`; 0: no normalization.
        val_fraction: fraction of the good training images that is held out for validation.
        split_seed: seed of the held-out images and of the patch positions.

    Raises:
        ConfigError: no path, a value out of range.
        DataError: another layout, an unreadable image, an image smaller than a patch, a missing mask.
    """
    if path is None:
        raise ConfigError("path", None, "name a folder with train/good and test/<kind>: data.path=FOLDER")
    require(size >= 16, "size", size, "must be 16 or more")
    require(patches >= 1, "patches", patches, "must be 1 or more")
    require(0 <= contrast < np.inf, "contrast", contrast, "must be 0 or more")
    folder = Path(path).expanduser()
    found = layout(folder, val_fraction, split_seed)
    channels = 1 if all(map(_is_grey, (*found.train, *found.held_out))) else 3
    kind = Image((channels, size, size), 0.0, 1.0, contrast=contrast)
    random = np.random.default_rng(split_seed)

    def split(files: list[Path]) -> Split:
        x = torch.empty(len(files), patches, channels, size, size, dtype=torch.uint8)
        for out, file in zip(x, files, strict=True):
            whole = torch.from_numpy(kind.prepared(read_image(file, kind)))
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
    return Data(spec, train, val, test, notes=(note,))


def _is_grey(file: Path) -> bool:
    try:
        return images.read_header(str(file)).grey
    except Exception as error:
        raise DataError(f"{file}: cannot be read as an image ({images.reason(error)})") from None
