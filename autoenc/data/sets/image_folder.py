"""Pictures in folders: any tree of PNG, JPEG, WebP, TIFF and BMP, of mixed sizes and modes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import TRANSFORMS, Image
from autoenc.data.kinds.kind import Kind
from autoenc.data.split import Split, hold_out
from autoenc.data.storage.cache import FOLDER
from autoenc.errors import ConfigError, DataError, one_line, require

if TYPE_CHECKING:  # what knows Pillow is imported where it is used
    from autoenc.data.readers.folders import Tree
    from autoenc.data.readers.images import Look

LARGEST = 4_096  # pixels a side
MOST_WORKERS = 8


def image_folder(
    path: str | None = None,
    test_path: str | None = None,
    size: int | Sequence[int] | None = None,
    mode: Literal["rgb", "grey"] | None = None,
    fit: Literal["crop", "stretch"] = "crop",
    transforms: Sequence[Mapping[str, Any]] = (),
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
) -> Data:
    """Pictures (C, H, W) in [0, 1] of a folder tree; the first folder below it is the class.

    Sub-folders train/, and where there are any val/ and test/, are the splits; else they are drawn. Pictures that do
    not lie in a class folder have no label, and then none has. Pictures are decoded once into a cache, or by worker
    processes in every epoch: the same pixels. Moving and mirroring come after the cache.

    Args:
        path: the folder. test_path: another one, with the test pictures.
        size: pixels a side, or [height, width]; by default that of the pictures, if they agree.
        mode: grey or rgb; by default rgb where one picture has colour.
        fit: "crop" scales the shorter side to the size and takes the centre; "stretch" scales both sides.
        transforms: of torchvision.transforms.v2, applied before that: [{CenterCrop: {size: 200}}, ...].
        flip: mirror every second training picture, left and right. shift: move training pictures by up to so many
            pixels, the edge is a mirror. Both drawn anew for each picture and epoch.
        val_fraction: part of what is not test that is held out for validation, where there is no val/.
        test_fraction: part of all that is held out for the end, where there are no test pictures.
        split_seed: draws both.
        workers: processes that decode; 0: none but this one; by default one for each core, up to 8.
        cache: keep the decoded pictures on the disk: true, false, or "auto", where half of what is free suffices.
        cache_folder: where.
        max_bad: files that may be unreadable; they are left out.
        kind: of a finished run, used as it is.

    Raises:
        ConfigError, DataError: a value out of range; no such folder, no or too few pictures, too many unreadable ones.
    """
    from autoenc.data.readers.folders import parts, tree
    from autoenc.data.storage.augmented import Pictures
    from autoenc.data.storage.decoding import Pool
    from autoenc.data.storage.image_cache import Store

    if path is None:
        raise ConfigError("path", None, "give your own folder: data.path=folder")
    require(max_bad >= 0, "max_bad", max_bad, "must be 0 or more")
    require(workers is None or 0 <= workers <= 256, "workers", workers, "must lie in 0 to 256")
    require(shift >= 0, "shift", shift, "must be 0 or more")
    for key, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        require(0 < value < 1, key, value, "must lie between 0 and 1")
    folders, beside = parts(path, test_path)
    trees = {part: tree(folder) for part, folder in folders.items()}
    pool = Pool(min(MOST_WORKERS, len(os.sched_getaffinity(0))) if workers is None else workers)
    store = Store(list(trees.values()), pool, cache, cache_folder, max_bad)
    if kind is None:
        look = _look(store.survey if size is None or mode is None else None, size, mode, fit, transforms)
    else:
        assert isinstance(kind, Image)
        assert kind.look is not None
        look = kind.look
    require(shift < min(look.height, look.width), "shift", shift, f"must be less than {min(look.height, look.width)}")

    stored = store.pixels(look)
    classes, y, unlabelled = _labels(trees)
    kept = torch.tensor(stored.kept)
    first = 0
    files = [name for found in trees.values() for name in found.names]
    splits: dict[str, Split] = {}
    places: dict[str, Split] = {}  # of the examples among all files
    for part, found in trees.items():
        here = ((kept >= first) & (kept < first + len(found.names))).nonzero().squeeze(1)
        labels = None if y is None else y[kept[here]]
        everything = Pictures(stored.x, None, scale=1 / 255)
        splits[part], places[part] = replace(everything.subset(here), y=labels), Split(kept[here])
        first += len(found.names)
    needed = 1 + sum(part not in splits for part in ("val", "test"))
    if len(splits["train"]) < needed or not all(len(split) for split in splits.values()):
        few = min(splits.values(), key=len) if len(splits["train"]) >= needed else splits["train"]
        raise DataError(f"{path}: {len(few)} readable pictures are too few for training, validation and test")
    if "test" not in splits:
        for each in (splits, places):
            each["train"], each["test"] = hold_out(each["train"], test_fraction, split_seed, "test_fraction")
    if "val" not in splits:
        for each in (splits, places):
            each["train"], each["val"] = hold_out(each["train"], val_fraction, split_seed, "val_fraction")
    assert isinstance(splits["train"], Pictures)
    train = replace(splits["train"], flip=flip, shift=shift)

    notes = [*stored.notes]
    if unlabelled:
        notes.append(f"no labels: {unlabelled}")
    if beside:
        notes.append(f"{path}: of the folders beside train/, nothing is read: {', '.join(beside)}")
    name = Path(path).expanduser().resolve().name
    spec = DataSpec(name, Image(look.shape, 0.0, 1.0, look), classes)
    names = {part: [files[i] for i in places[part].tensor.tolist()] for part in ("train", "test")}
    return Data(spec, train, splits["val"], splits["test"], notes=tuple(notes), names=names)


def _look(
    survey: Any,
    size: int | Sequence[int] | None,
    mode: str | None,
    fit: str,
    transforms: Sequence[Mapping[str, Any]],
) -> Look:
    """What pictures are brought to; `survey` is called where that depends on them."""
    from autoenc.data.readers.images import Look, transformation

    steps = []
    for step in transforms:
        name = next(iter(step), "")
        options = step.get(name) or {}
        if len(step) != 1 or name not in TRANSFORMS or not isinstance(options, Mapping):
            why = f"each must be {{name: {{option: value}}}}, with a name out of {', '.join(TRANSFORMS)}"
            raise ConfigError("transforms", dict(step), why)
        steps.append((name, dict(options)))
    if steps:
        try:
            transformation(steps)
        except (TypeError, ValueError) as error:
            raise ConfigError("transforms", [dict(step) for step in transforms], one_line(error)) from None
    grey, smallest, largest = survey() if survey else (False, (0, 0), (0, 0))
    if size is None:
        if smallest != largest or steps:
            pixels = " to ".join(f"{width}x{height}" for height, width in (smallest, largest))
            why = f"the pictures have {pixels} pixels; give the size to bring them to: data.size=64"
            raise ConfigError("size", None, why)
        size = smallest
    height, width = (size, size) if isinstance(size, int) else tuple(size) if len(size) == 2 else (0, 0)
    require(min(height, width) >= 1 and max(height, width) <= LARGEST, "size", size,
            f"must be pixels a side, or [height, width], each 1 to {LARGEST}")  # fmt: skip
    return Look(1 if mode == "grey" or (mode is None and grey) else 3, height, width, fit, tuple(steps))


def _labels(trees: Mapping[str, Tree]) -> tuple[tuple[str, ...], torch.Tensor | None, str]:
    """The classes, a label for each file of all trees, and why there are none."""
    found = [tree.labels() for tree in trees.values()]
    if any(labels is None for labels in found):
        nested = next(
            (t for t, labels in zip(trees.values(), found, strict=True) if labels is None and t.has_folders), None
        )
        return (), None, f"{nested.root} has pictures beside its folders" if nested else ""
    names = [name for labels in found for name in labels or ()]
    classes = tuple(sorted(set(names)))
    if len(classes) == 1:
        return (), None, f"all pictures lie in one class folder, {classes[0]}"
    places = {name: i for i, name in enumerate(classes)}
    return classes, torch.tensor([places[name] for name in names]), ""
