"""Folders of parts to inspect: good images for training, images to inspect, and masks of their defects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from autoenc.data.readers import images
from autoenc.data.readers.folders import PARTS, tree
from autoenc.data.readers.paths import check_folder, is_hidden
from autoenc.data.split import check_fractions, divided, held_size
from autoenc.errors import ConfigError, DataError, counted

GOOD = "good"
GOOD_FOLDERS = (GOOD, "ok", "normal")
MASK_FOLDERS = ("ground_truth", "groundtruth", "ground-truth", "gt", "masks", "mask")
MASK_SUFFIXES = ("_mask", "_gt", "_label", "_groundtruth", "_ground_truth")
TEST_FRACTION = 0.2  # of the good images, where no folder has those to inspect
EXPECTED = f"expected train/{GOOD}/, test/<kind>/ and ground_truth/<kind>/; data.good names the folder of good images"
BRIGHT = 128  # masks with lower values have numbers of classes


@dataclass(frozen=True)
class Part:
    """An image to inspect.

    Args:
        kind: `GOOD`, the folder, or empty if it is not known. masks: files that mark its defects together.
        name: path of the file in the folder of the images.
    """

    file: Path
    kind: str
    masks: tuple[Path, ...] = ()
    name: str = ""

    @property
    def marked(self) -> bool:
        """Whether it is known which pixels are defective."""
        return self.kind == GOOD or bool(self.masks)


@dataclass(frozen=True)
class Layout:
    """The files of a folder: good images for training and validation, and test images.

    masks: whether defective images have masks. notes: lines for the user.
    """

    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    test: tuple[Part, ...]
    masks: bool
    notes: tuple[str, ...] = ()


def layout(
    path: Path,
    val_fraction: float = 0.2,
    split_seed: int = 0,
    good: str | Sequence[str] | None = None,
    masks: str | None = None,
    mask_suffix: str | Sequence[str] | None = None,
) -> Layout:
    """List the images of a folder and match masks to them, without decoding images of 8 bits.

    Known layouts are those of MVTec AD, MVTec LOCO, BTAD and VisA, and similar ones; names are compared in lower case:

        train/good, validation/good, test/<kind>    good images are in folders good, ok or normal, or in train/ itself
        Data/Images/Normal, Data/Images/<kind>      or without Data/, Images/: part of the good images is held out
        ground_truth/<kind>/<image>_mask.png        or gt, mask, masks; _mask, _gt, _label, or no suffix
        ground_truth/<kind>/<image>/*.png           several masks, which are united
        test/<kind>/<image>_mask.png                masks beside the images

    Whole images are held out, not patches.

    Args:
        val_fraction: of the good images, if there is no folder for validation. split_seed: of these.
        good: names of folders of good images. masks: folder of the masks, in `path`.
        mask_suffix: what the names of masks have in addition to those of the images.

    Raises:
        ConfigError: a fraction outside (0, 1), no such folder of masks.
        DataError: a missing or empty folder, too few images, a mask without image or of another size.
    """
    check_fractions(val_fraction=val_fraction)
    check_folder(path)
    names = _names(good, GOOD_FOLDERS)
    suffixes = _names(mask_suffix, MASK_SUFFIXES)
    mask_folder = None if masks is None else path / masks
    if mask_folder is not None and not mask_folder.is_dir():
        raise ConfigError("masks", masks, f"{path} has no such folder")
    roots = {part: _child(path, PARTS[part]) for part in PARTS}
    if roots["train"] is None:
        train, held_out, test = _without_train(path, names, suffixes, mask_folder, val_fraction, split_seed)
    else:
        train = _good_images(roots["train"], names, suffixes)
        if roots["val"] is not None:
            held_out = _good_images(roots["val"], names, suffixes)
        else:
            train, held_out = _drawn(train, val_fraction, split_seed)
        if roots["test"] is None:
            raise DataError(f"{path}: has no folder test/ (test/{GOOD}, test/<kind of defect>)")
        files = (p for p in sorted(roots["test"].iterdir()) if p.is_file() and not is_hidden(p.name))
        if loose := [p for p in files if p.suffix.lower() in images.SUFFIXES]:
            why = f"lies in no folder of a kind; put it into {GOOD}/ or into a folder named by its defect"
            raise DataError(f"{loose[0]}: {why}")
        test = _parts(roots["test"], names, suffixes, mask_folder)
    if not test:
        raise DataError(f"{roots['test'] or path}: has no folders of images")
    test = _with_masks(path, test, names, mask_folder, suffixes)
    check_masks(test)
    defective = [part for part in test if part.kind != GOOD]
    marked = sum(part.marked for part in defective)
    without = f"{len(defective) - marked} of {len(defective)} defective images have no mask"
    notes = [f"{without}: pixels are measured on the rest"] if 0 < marked < len(defective) else []
    notes += [
        f"{folder}: is not used: training is on good images, data.good names their folders"
        for part in ("train", "val")
        for folder in _folders(roots[part] or path / part)
        if folder.name.lower() not in (*names, *MASK_FOLDERS)
    ]
    return Layout(tuple(train), tuple(held_out), tuple(test), marked > 0, tuple(notes))


def _names(given: str | Sequence[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    names = default if given is None else [given] if isinstance(given, str) else given
    return tuple(str(name).lower() for name in names)


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not is_hidden(p.name)) if path.is_dir() else []


def _child(path: Path, names: Sequence[str]) -> Path | None:
    """Return the folder in `path` with the first of these names that exists, in upper or lower case."""
    there = {folder.name.lower(): folder for folder in _folders(path)}
    return next((there[name] for name in names if name in there), None)


def _images(folder: Path) -> list[Path]:
    return [Path(file) for file in tree(folder, recursive=False).files]


def _good_images(folder: Path, names: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """Return the images of the folders of good images in `folder`, or those in `folder` itself if it has no folders.

    Masks beside them are left out.
    """
    found = [each for each in _folders(folder) if each.name.lower() in names]
    if not found and _folders(folder):
        raise DataError(f"{folder / names[0]}: no such folder; {EXPECTED}")
    files = [file for each in found or [folder] for file in _images(each)]
    places = {(file.parent, file.stem.lower()) for file in files}
    return [f for f in files if not any((f.parent, stem) in places for stem in _stems(f.stem.lower(), suffixes)[1:])]


def _drawn(files: list[Path], fraction: float, seed: int) -> tuple[list[Path], list[Path]]:
    """Return the rest and a random fraction of files, `val_fraction` in messages, rounded up."""
    held = held_size(len(files), fraction, "val_fraction", "images", files[0].parent)
    rest, out = ([files[i] for i in part.tolist()] for part in divided(len(files), held, seed))
    return rest, out


def _without_train(
    path: Path, names: Sequence[str], suffixes: Sequence[str], masks: Path | None, val_fraction: float, seed: int
) -> tuple[list[Path], list[Path], list[Part]]:
    """Return training, held-out and test images of a folder whose kinds lie beside each other."""
    root = next((p for p in (path / "Data" / "Images", path / "Images", path) if _child(p, names)), None)
    if root is None:
        raise DataError(f"{path / 'train' / names[0]}: no such folder; {EXPECTED}")
    parts = _parts(root, names, suffixes, masks)
    good = [part.file for part in parts if part.kind == GOOD]
    if len(good) < 3:
        raise DataError(f"{root}: has {counted(len(good), 'good images')}, too few for training, validation and test")
    rest, inspected = _drawn(good, TEST_FRACTION, seed)
    train, held_out = _drawn(rest, val_fraction, seed)
    chosen = set(inspected)
    return train, held_out, [part for part in parts if part.kind != GOOD or part.file in chosen]


def _parts(root: Path, names: Sequence[str], suffixes: Sequence[str], masks: Path | None) -> list[Part]:
    """Return the images of each kind, a folder in `root`, with the masks beside them."""
    folders = [each for each in _folders(root) if each.name.lower() not in MASK_FOLDERS and each != masks]
    kinds = {each.name.lower() for each in folders}
    parts = []
    for folder in folders:
        if any(stem in kinds for stem in _stems(folder.name.lower(), suffixes)[1:]):
            continue  # masks of that kind
        files = _images(folder)
        stems = {file.stem.lower(): file for file in files}
        beside: dict[Path, list[Path]] = {}
        for file in files:
            for stem in _stems(file.stem.lower(), suffixes)[1:]:
                if stem in stems:
                    beside.setdefault(stems[stem], []).append(file)
        found = {mask for each in beside.values() for mask in each}
        kind = GOOD if folder.name.lower() in names else folder.name
        parts += [
            Part(file, kind, () if kind == GOOD else tuple(beside.get(file, ())), f"{folder.name}/{file.name}")
            for file in files
            if file not in found
        ]
    return parts


def _with_masks(
    path: Path, parts: Sequence[Part], names: Sequence[str], masks: Path | None, suffixes: Sequence[str]
) -> list[Part]:
    """Add the masks that lie in folders of their own; DataError for one that belongs to no image."""
    found: dict[Path, list[Path]] = {part.file: list(part.masks) for part in parts}
    owners: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        for kind in (part.file.parent.name.lower(), ""):
            owners.setdefault((kind, part.file.stem.lower()), []).append(part)
    kinds = {kind for kind, _ in owners if kind}
    for root, kind_of_root in _mask_roots(path, parts, masks, suffixes):
        if not any(files for _, _, files in os.walk(root)):
            continue
        for name in map(Path, tree(root).names):
            folders = [folder.lower() for folder in name.parts[:-1]]
            kind, inner = kind_of_root, ""
            for folder in folders:
                if not kind and (known := [stem for stem in _stems(folder, suffixes) if stem in kinds]):
                    kind = known[0]
                elif folder not in PARTS["test"]:
                    inner = folder  # .../<image>/000.png, or a kind that has no images
            stems = _stems(inner, suffixes) if inner else []
            stems += [] if inner and not kind else _stems(name.stem.lower(), suffixes)
            of_mask = next((owners[kind, stem] for stem in stems if (kind, stem) in owners), [])
            if len(of_mask) > 1:
                of_mask = [part for part in of_mask if part.kind != GOOD]
            if len(of_mask) > 1:
                raise DataError(f"{root / name}: could be of several images; put masks into folders of their kinds")
            if of_mask and of_mask[0].kind != GOOD:
                found[of_mask[0].file].append(root / name)
            elif not of_mask and not {kind, *folders} & {*names, *PARTS["train"]}:
                why = "is a mask without an image; data.mask_suffix names what follows the name of the image"
                raise DataError(f"{root / name}: {why}")
    return [replace(part, masks=tuple(found[part.file])) for part in parts]


def _mask_roots(
    path: Path, parts: Sequence[Part], masks: Path | None, suffixes: Sequence[str]
) -> list[tuple[Path, str]]:
    """Return the folders of masks, with the kind that they are of, or an empty string."""
    if masks is not None:
        return [(masks, "")]
    root, kinds = parts[0].file.parent.parent, sorted({part.file.parent for part in parts})
    above = [folder for folder in (path, root.parent, root) if folder.is_relative_to(path)]
    found = [(folder, "") for folder in map(partial(_child, names=MASK_FOLDERS), above) if folder is not None][:1]
    for kind in kinds:
        beside = [each for each in _folders(root) if kind.name.lower() in _stems(each.name.lower(), suffixes)[1:]]
        inside = _child(kind, MASK_FOLDERS)
        found += [(each, kind.name.lower()) for each in [*beside, *([] if inside is None else [inside])]]
    return found


def _stems(name: str, suffixes: Sequence[str]) -> list[str]:
    """Return a name, and without each suffix that it has."""
    return [name, *(name.removesuffix(suffix) for suffix in suffixes if suffix and name.endswith(suffix))]


def check_masks(parts: Sequence[Part]) -> None:
    """Raise DataError if a mask and its image differ in size, or cannot be read."""
    for part in parts:
        for mask in part.masks:
            _check_size(mask, images.header_of(mask)[1:3], part.file, images.header_of(part.file)[1:3])


def _check_size(mask: Path, found: tuple[int, ...], file: Path, wanted: tuple[int, ...]) -> None:
    if found != wanted:
        sizes = [f"{w}x{h}" for h, w in (found, wanted)]
        raise DataError(f"{mask}: the mask has {sizes[0]} pixels, {file} has {sizes[1]}")


def read_mask(part: Part, size: tuple[int, int]) -> np.ndarray:
    """Return the mask of a part, (H, W) bool: the union of its masks, all False if there are none.

    Pixels are marked where a mask is brighter than half of its brightest pixel, or than 0 in masks with numbers of
    classes (0, 1, 2 ...). Transparent pixels are not marked.

    Raises:
        DataError: mask and image differ in size.
    """
    whole = np.zeros(size, bool)
    for file in part.masks:
        with images.readable(file), images.open_image(file) as opened:
            values = images.mask_values(opened)
        _check_size(file, values.shape, part.file, size)
        highest = values.max()
        whole |= values > (0 if highest < BRIGHT and values.dtype.kind != "f" else highest / 2)
    return whole
