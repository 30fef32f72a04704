"""Image folders: trees of PNG, JPEG, WebP, TIFF and BMP files of mixed sizes and modes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import TRANSFORMS, Image
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers import path_of
from autoenc.data.scaling import DARK
from autoenc.data.split import Split, check_fractions, hold_out
from autoenc.data.storage.cache import FOLDER
from autoenc.errors import ConfigError, DataError, counted, one_line, require

if TYPE_CHECKING:  # modules that import Pillow are imported where they are used
    from autoenc.data.readers.folders import Tree
    from autoenc.data.readers.images import ImageFormat
    from autoenc.data.storage.image_cache import StoredImages, Survey

LARGEST = 4_096  # pixels a side
MOST_WORKERS = 8


def image_folder(
    path: str | None = None,
    test_path: str | None = None,
    size: int | Sequence[int] | None = None,
    mode: Literal["rgb", "grey"] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    transforms: Sequence[Mapping[str, Any]] = (),
    white: float | None = None,
    flip: bool = False,
    shift: int = 0,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    workers: int | None = None,
    cache: bool | Literal["auto"] = "auto",
    cache_folder: str = FOLDER,
    max_bad: int = 10,
    kind: Kind | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Load images (C, H, W) in [0, 1] from a folder tree; the first folder below `path` is the class.

    Sub-folders train/, val/ and test/ are the splits; missing splits are drawn. If any image is outside a class folder,
    there are no labels. Images are decoded once into a cache, or by worker processes in each epoch, with the same
    pixels. Augmentation is applied after the cache.

    Args:
        path: the folder. test_path: a folder of test images.
        size: side in pixels, or [height, width]; by default the size of the images, if all are equal.
        mode: grey or rgb; by default rgb if any image has colour.
        fit: "crop" scales the shorter side to the size and crops the centre; "stretch" scales both sides.
        transforms: transforms of torchvision.transforms.v2, applied first: [{CenterCrop: {size: 200}}, ...].
        white: value that becomes 1.0; by default 255 for 8 bits, 65535 for more (data of 12 bits: 4095), 1 for
            floating-point numbers and where no value exceeds 1.
        flip: mirror training images horizontally with probability 1/2. shift: translate training images by up to this
            many pixels, with mirrored edges. Both are drawn for each image and epoch.
        val_fraction: fraction of the images without the test images that is held out if there is no val/.
        test_fraction: fraction of all images that is held out if there are no test images.
        split_seed: seed of both draws.
        workers: number of decoding processes; 0: decode in this process; by default one per core, up to 8.
        cache: store decoded images on disk: true, false, or "auto": if they fit half of the free space.
        cache_folder: folder of the cache.
        max_bad: maximum number of unreadable files; they are left out.
        kind: kind of a finished run, used instead of the options. excluded: classes that mode and white are not learned
            from.

    Raises:
        ConfigError, DataError: a value out of range, a missing folder, too few images, too many unreadable files.
    """
    from autoenc.data.readers.folders import parts, tree
    from autoenc.data.storage.augmented import AugmentedImages
    from autoenc.data.storage.image_cache import ImageStore
    from autoenc.data.storage.workers import Pool

    path = path_of("image_folder", path)
    require(max_bad >= 0, "max_bad", max_bad, "must be 0 or more")
    require(workers is None or 0 <= workers <= 256, "workers", workers, "must lie in 0 to 256")
    require(white is None or 0 < white < math.inf, "white", white, "must be above 0: 255, 4095, ...")
    require(shift >= 0, "shift", shift, "must be 0 or more")
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    folders, beside = parts(path, test_path)
    trees = {part: tree(folder) for part, folder in folders.items()}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS lacks it
    pool = Pool(min(MOST_WORKERS, cores) if workers is None else workers)
    store = ImageStore(list(trees.values()), pool, cache, cache_folder, max_bad)
    survey = store.survey(excluded) if kind is None else None
    if survey is not None:
        if white is None and survey.deep == survey.count and survey.highest <= 1:
            white = 1.0
        image_format = _format(survey, size, mode, fit, transforms, white)
    else:
        assert isinstance(kind, Image)
        assert kind.format is not None
        image_format = kind.format
    side = min(image_format.shape[1:])
    require(shift < side, "shift", shift, f"must be less than {side}")

    stored = store.pixels(image_format)
    if survey is not None and image_format.white is None and not survey.deep and stored.highest == 1:
        image_format = replace(image_format, white=1.0)
        stored = store.pixels(image_format)
    classes, y, unlabelled = _labels(trees)
    kept = torch.tensor(stored.kept)
    first = 0
    files = [name for tree_of_part in trees.values() for name in tree_of_part.names]
    splits: dict[str, Split] = {}
    indices: dict[str, Split] = {}  # of the examples among all files
    for part, listed in trees.items():
        here = ((kept >= first) & (kept < first + len(listed.names))).nonzero().squeeze(1)
        labels = None if y is None else y[kept[here]]
        everything = AugmentedImages(stored.x, None, scale=1 / 255)
        splits[part], indices[part] = replace(everything.subset(here), y=labels), Split(kept[here])
        first += len(listed.names)
    needed = 1 + sum(part not in splits for part in ("val", "test"))
    if len(splits["train"]) < needed or not all(len(split) for split in splits.values()):
        few = min(splits.values(), key=len) if len(splits["train"]) >= needed else splits["train"]
        raise DataError(
            f"{path}: has {counted(len(few), 'readable images')}, too few for training, validation and test"
        )
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part not in splits:
            for each in (splits, indices):
                each["train"], each[part] = hold_out(each["train"], fraction, split_seed, f"{part}_fraction", path)
    assert isinstance(splits["train"], AugmentedImages)
    train = replace(splits["train"], flip=flip, shift=shift)

    notes = [*stored.notes, *(_range_notes(survey, stored, image_format.white) if survey is not None else ())]
    if unlabelled:
        notes.append(f"no labels: {unlabelled}")
    if beside:
        notes.append(f"{path}: folders beside train/ are ignored: {', '.join(beside)}")
    name = Path(path).expanduser().resolve().name
    spec = DataSpec(name, Image(image_format.shape, 0.0, 1.0, image_format), classes)
    names = {part: [files[i] for i in indices[part].tensor.tolist()] for part in ("train", "test")}
    return Data(spec, train, splits["val"], splits["test"], notes=tuple(notes), names=names)


def _range_notes(survey: Survey, stored: StoredImages, white: float | None) -> list[str]:
    """Return notes on pages that are not read, and on values that do not fill the range; DataError if all are 0."""
    from autoenc.data.readers.arrays import suggested_white

    notes = []
    if survey.pages:
        notes.append(f"{counted(survey.pages, 'images have', survey.count)} several pages; the first is read")
    if stored.highest == 0:
        hint = f"; data.white={suggested_white(survey.highest):g} scales them" if survey.highest else ""
        raise DataError(f"all pixels of all images are 0 (black){hint}")
    if white == 1:
        notes.append("no value of the images exceeds 1: 1 is white (data.white)")
    elif white is None and survey.deep and survey.highest < 4_096:
        notes.append(
            f"Attention: the {survey.deep:,} images of more than 8 bits have values up to {survey.highest:g} of 65535; "
            f"data.white={suggested_white(survey.highest):g} makes that the white"
        )
    elif stored.highest < DARK * 255:
        notes.append(
            f"Attention: the images are dark: values up to {stored.highest} of 255; data.white sets another white"
        )
    elif stored.dark:
        notes.append(f"Attention: {counted(stored.dark, 'images are', survey.count)} black: no value exceeds 1 of 255")
    return notes


def _format(
    survey: Survey,
    size: int | Sequence[int] | None,
    mode: str | None,
    fit: str,
    transforms: Sequence[Mapping[str, Any]],
    white: float | None,
) -> ImageFormat:
    """Return the size, mode, transforms and white; where they are not given, those of the images."""
    from autoenc.data.readers.images import ImageFormat, build_transform

    steps = []
    for step in transforms:
        name = next(iter(step), "")
        options = step.get(name) or {}
        if len(step) != 1 or name not in TRANSFORMS or not isinstance(options, Mapping):
            why = f"each must be {{name: {{option: value}}}}, with a name among {', '.join(TRANSFORMS)}"
            raise ConfigError("transforms", dict(step), why)
        steps.append((name, dict(options)))
    if steps:
        try:
            build_transform(steps)
        except (TypeError, ValueError) as error:
            raise ConfigError("transforms", [dict(step) for step in transforms], one_line(error)) from None
    if size is None:
        if survey.smallest != survey.largest or steps:
            pixels = " to ".join(f"{width}x{height}" for height, width in (survey.smallest, survey.largest))
            why = f"the images have {pixels} pixels; set a common size: data.size=64"
            raise ConfigError("size", None, why)
        size = survey.smallest
    height, width = (size, size) if isinstance(size, int) else tuple(size) if len(size) == 2 else (0, 0)
    require(min(height, width) >= 1 and max(height, width) <= LARGEST, "size", size,
            f"must be a side in pixels, or [height, width], each 1 to {LARGEST}")  # fmt: skip
    channels = 1 if mode == "grey" or (mode is None and survey.grey) else 3
    return ImageFormat(channels, height, width, fit, tuple(steps), white)


def _labels(trees: Mapping[str, Tree]) -> tuple[tuple[str, ...], torch.Tensor | None, str]:
    """Return the classes, the label of each file of all trees, and the reason if there are none."""
    if unlabelled := [tree for tree in trees.values() if tree.labels() is None]:
        nested = [tree.root for tree in unlabelled if any(os.sep in name for name in tree.names)]
        return (), None, f"{nested[0]} has images beside its folders" if nested else ""
    names = [name for tree in trees.values() for name in tree.labels() or ()]
    classes = tuple(sorted(set(names)))
    if len(classes) == 1:
        return (), None, f"all images are in one class folder, {classes[0]}"
    index = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([index[name] for name in names]), ""
