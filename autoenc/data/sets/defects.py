"""Pictures of faultless parts, and of parts to be inspected: the layout of MVTec AD (Bergmann et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.readers import images as pictures
from autoenc.data.split import Split
from autoenc.errors import ConfigError, DataError, require

GOOD = "good"


@dataclass(frozen=True)
class Part:
    """A picture to be inspected. kind: the folder that it is from. mask: the file that shows its defects, if any."""

    file: Path
    kind: str
    mask: Path | None = None

    @property
    def name(self) -> str:
        """kind/file, or the file where its kind is not known."""
        return f"{self.kind}/{self.file.name}" if self.kind else self.file.name


@dataclass(frozen=True)
class Layout:
    """What a folder holds: good pictures to learn from, good ones held out, and the test pictures by kind.

    masks: whether there is a folder ground_truth.
    """

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    test: tuple[Part, ...]
    masks: bool


def layout(path: Path, val_fraction: float = 0.2, split_seed: int = 0) -> Layout:
    """Look at train/good, test/<kind> and, where there is one, ground_truth/<kind>; decodes nothing.

    Masks are named as the picture or with `_mask` behind its name. Whole pictures are held out, not patches of them.

    Raises:
        ConfigError: a fraction outside (0, 1).
        DataError: a folder or a mask that is missing, or pictures too few.
    """
    require(0 < val_fraction < 1, "val_fraction", val_fraction, "must lie between 0 and 1")
    if not path.is_dir():
        raise DataError(f"{path}: {'is a file, not a folder' if path.exists() else 'no such folder'}")
    good = _pictures(path / "train" / GOOD)
    held = int(np.ceil(val_fraction * len(good)))
    if held >= len(good):
        raise DataError(
            f"{path / 'train' / GOOD}: {len(good)} pictures are too few to hold val_fraction={val_fraction} out"
        )
    order = torch.randperm(len(good), generator=torch.Generator().manual_seed(split_seed)).tolist()
    train, held_out = ([good[i] for i in sorted(some)] for some in (order[held:], order[:held]))
    if not (path / "test").is_dir():
        raise DataError(f"{path}: has no folder test/ (test/{GOOD}, test/<kind of defect>)")
    truth = path / "ground_truth"
    test = [
        Part(file, kind.name, _mask(truth / kind.name, file) if truth.is_dir() and kind.name != GOOD else None)
        for kind in sorted(p for p in (path / "test").iterdir() if p.is_dir() and not p.name.startswith("."))
        for file in _pictures(kind)
    ]
    if not test:
        raise DataError(f"{path / 'test'}: has no folders of pictures")
    return Layout(tuple(train), tuple(held_out), tuple(test), truth.is_dir())


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; wanted are train/{GOOD}/, test/<kind>/ and ground_truth/<kind>/")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in pictures.SUFFIXES and not p.name.startswith("."))
    if not files:
        raise DataError(f"{folder}: has no pictures ({', '.join(pictures.SUFFIXES)})")
    return files


def _mask(folder: Path, file: Path) -> Path:
    for stem in (file.stem, f"{file.stem}_mask"):
        for suffix in pictures.SUFFIXES:
            if (found := folder / f"{stem}{suffix}").is_file():
                return found
    raise DataError(f"{file}: has no mask; looked for {folder / file.stem}[_mask].png")


def read_picture(file: Path, channels: int) -> np.ndarray:
    """(C, H, W) uint8 of a picture file of any size and mode; DataError where it is none."""
    try:
        with pictures.opened(file) as image:
            array = np.array(pictures.plain(image, channels))
    except Exception as error:  # damaged files bring forth almost every kind
        raise DataError(f"{file}: cannot be read as a picture ({pictures.reason(error)})") from None
    return np.ascontiguousarray(array[None] if channels == 1 else array.transpose(2, 0, 1))


def read_mask(part: Part, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool, True where the part is defective: brighter than half of what the mask's brightest pixel is.

    None of it where there is no mask. DataError where the mask has another size than the picture.
    """
    if part.mask is None:
        return np.zeros(size, bool)
    mask = read_picture(part.mask, 1)[0]
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
    """(C, size, size) patches, at random places, of the pictures in a folder laid out as MVTec AD is.

        train/good/*             what a part should look like: training patches, and validation patches from pictures
                                 that are held out
        test/<kind>/*            test patches; `good` or the kind of defect
        ground_truth/<kind>/*    masks, for scripts/detect.py; names as in test/<kind>, or with _mask behind them

    Pictures may differ in size. Grey where all good pictures are, else RGB.

    Args:
        path: the folder.
        size: of a patch, pixels a side, 16 or more.
        patches: from each picture, 1 or more.
        contrast: 0, or the width in pixels of the window of `kinds.image.contrast_normalized`.
        val_fraction: part of the good training pictures that is held out.
        split_seed: draws these and the places of the patches; the seed of training has no say.

    Raises:
        ConfigError: no path, a value out of range.
        DataError: the layout is another, a file is no picture, a picture is smaller than a patch, a mask is missing.
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
        for cut, file in zip(x, files, strict=True):
            whole = torch.from_numpy(kind.prepared(read_picture(file, channels)))
            height, width = whole.shape[1:]
            if min(height, width) < size:
                raise DataError(f"{file}: has {width}x{height} pixels, a patch {size}x{size}; lower data.size")
            tops, lefts = random.integers(0, height - size + 1, patches), random.integers(0, width - size + 1, patches)
            for i, (top, left) in enumerate(zip(tops.tolist(), lefts.tolist(), strict=True)):
                cut[i] = whole[:, top : top + size, left : left + size]
        return Split(x.flatten(0, 1), scale=1 / 255)

    spec = DataSpec(folder.name, kind)
    parts = (list(found.train), list(found.held_out), [part.file for part in found.test])
    kinds = ", ".join(sorted({part.kind for part in found.test}))
    note = (
        f"{patches} patches of each picture: {len(parts[0])} good ones, {len(parts[1])} held out, "
        f"{len(parts[2])} to test ({kinds}), {'with' if found.masks else 'without'} masks"
    )
    train, val, test = map(split, parts)
    return Data(spec, train, val, test, notes=(note,))


def _is_grey(file: Path) -> bool:
    try:
        return pictures.look_at(str(file))[0]
    except Exception as error:
        raise DataError(f"{file}: cannot be read as a picture ({pictures.reason(error)})") from None
