"""Tables with numeric and categorical columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers import path_of
from autoenc.data.readers.cells.class_names import class_name, normal_class
from autoenc.data.readers.tables import source_of
from autoenc.data.sets.table_recipe import Recipe
from autoenc.data.split import Split, check_fractions, hold_out, three_way
from autoenc.data.storage.cache import FOLDER

if TYPE_CHECKING:
    import pandas as pd

    from autoenc.data.kinds.table import Table

LARGE = 200 * 2**20  # size in bytes above which a file is read in chunks and cached on disk


def table(
    path: str | None = None,
    test_path: str | None = None,
    label: str | None = None,
    normal: str | int | float | bool | None = None,
    drop: Sequence[str | int | float] = (),
    header: bool | None = None,
    names: Sequence[str | int | float] = (),
    separator: str = ",",
    decimal: Literal[".", ","] = ".",
    encoding: str = "utf-8",
    quoting: Literal["double", "backslash", "none"] = "double",
    skip: int = 0,
    comment: str | None = None,
    missing: Sequence[str | int | float] = (),
    infinite: Literal["error", "missing"] = "error",
    thousands: str | None = None,
    array: str | None = None,
    scaling: Literal["standard", "robust", "quantile", "none"] = "standard",
    log: bool | Sequence[str | int | float] = False,
    categorical: Sequence[str | int | float] = (),
    dates: Literal["auto"] | Sequence[str | int | float] = "auto",
    keep: Sequence[str | int | float] = (),
    max_categories: int = 100,
    stream: bool | None = None,
    cache: str = FOLDER,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    kind: Kind | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Load a table as vectors (D,): numbers are imputed and scaled, categories one-hot encoded.

    The preprocessing is fitted to the training rows.

    Args:
        path: .csv, .txt, .tsv, .jsonl (also .gz), .parquet, .feather, .xlsx; .npy, or .npz or .mat with X and
            optionally y.
        test_path: a second file with the test rows.
        label: column of the classes; not an input of the model.
        normal: class to train and validate on; all rows of the others are anomalies of the test split, those of `path`
            only if there is no test_path. Rows without a label are left out.
        drop: columns to leave out; one of the files has each.
        header, names, separator, decimal, thousands, encoding, quoting, skip, comment, missing, infinite, array: format
            of the files; see readers.tables.Source.
        scaling, log, categorical, dates, keep, max_categories: preprocessing; see kinds.column_plan.Plan.
        stream: read in chunks into a cache on disk, with constant memory; see streamed_table.py. None: for files larger
            than 200 MB.
        cache: folder of the cache.
        val_fraction: fraction of the rows without the test rows that is held out for validation.
        test_fraction: fraction of all rows that is held out for testing if there is no test_path.
        split_seed: seed of both draws.
        kind: kind of a finished run, used instead of fitting one.
        excluded: classes that nothing is learned from.

    Raises:
        ConfigError, DataError: an invalid option, file or column.
    """
    from autoenc.data.kinds.column_plan import Plan
    from autoenc.data.kinds.table import Table
    from autoenc.data.sets.streamed_table import streamed

    path = path_of("table", path)
    source = source_of(
        {"header": header, "names": names, "separator": separator, "encoding": encoding, "missing": missing,
         "decimal": decimal, "drop": drop, "label": label, "quoting": quoting, "skip": skip, "comment": comment,
         "thousands": thousands, "infinite": infinite, "array": array, "normal": normal}
    )  # fmt: skip
    check_fractions(val_fraction=val_fraction, test_fraction=test_fraction)
    assert kind is None or isinstance(kind, Table)
    if kind is not None:
        source = replace(source, kept=kind.source.kept)
    plan = Plan(
        scaling, log if isinstance(log, bool) else _texts(log), _texts(categorical), max_categories,
        dates if isinstance(dates, str) else _texts(dates), _texts(keep),
    )  # fmt: skip
    paths = tuple(Path(p).expanduser() for p in (path, test_path) if p is not None)
    normal = normal_class(normal)
    recipe = Recipe(
        paths, label, normal, tuple(excluded), _texts(drop), source, plan, val_fraction, test_fraction, split_seed
    )
    if stream is None:
        stream = any(p.is_file() and p.stat().st_size > LARGE for p in paths)
    return streamed(recipe, Path(cache), kind) if stream else _in_memory(recipe, kind)


def _texts(values: Sequence[str | int | float]) -> tuple[str, ...]:
    return tuple(class_name(value) for value in values)


def _in_memory(recipe: Recipe, kind: Table | None) -> Data:
    import pandas as pd

    frames: list[pd.DataFrame] = []
    texts: list[pd.Series] = []
    notes: list[str] = []
    for path in recipe.paths:
        chunks, labels = zip(*recipe.chunks(path, notes), strict=True)
        frames.append(pd.concat(chunks))  # the index is the row of the file, from 1
        texts += [] if recipe.label is None else [pd.concat(labels, ignore_index=True)]
    y: list[Tensor | None] = [None] * len(frames)
    classes: tuple[str, ...] = ()
    if texts:
        spelling, remarks = recipe.spelling(*(set(each.dropna()) for each in (texts[0], texts[-1])))
        notes += remarks
        # The code of a missing label is -1, UNLABELLED.
        codes, values = pd.factorize(pd.concat([texts[0], *(t.replace(spelling) for t in texts[1:])]), sort=True)
        y = list(torch.from_numpy(codes.astype(np.int64)).split([len(each) for each in texts]))
        classes = tuple(map(str, values))
        recipe.check_classes(classes)

    index = [Split(torch.arange(len(frame)), labels) for frame, labels in zip(frames, y, strict=True)]
    if len(frames) == 1:
        train, val, test = three_way(
            index[0], recipe.val_fraction, recipe.test_fraction, recipe.split_seed, recipe.paths[0]
        )
    else:
        train, val = hold_out(index[0], recipe.val_fraction, recipe.split_seed, "val_fraction", recipe.paths[0])
        test = index[1]
    if recipe.normal is not None:
        normal = classes.index(recipe.normal)
        if len(frames) == 1:  # anomalies are rare: all of them are test rows
            anomalies = [part.tensor[part.y != normal] for part in (train, val)]
            test = index[0].subset(torch.cat([test.tensor, *anomalies]).sort().values)
        train, val = (_only(split, [normal]) for split in (train, val))
    if recipe.excluded and classes:
        kept = [i for i, name in enumerate(classes) if name not in recipe.excluded]
        train, val = (_only(split, kept) for split in (train, val))
    if classes:
        test = test.labelled()
    recipe.check_sizes([len(split) for split in (train, val, test)])
    if kind is None:
        kind, remarks = recipe.plan.fit(frames[0].iloc[train.tensor.numpy()], recipe.source)
        notes += remarks
    splits: list[Split] = []
    names: dict[str, pd.Index] = {}
    for name, split, part in (("train", train, 0), ("val", val, 0), ("test", test, -1)):
        frame = frames[part].iloc[split.tensor.numpy()]
        splits.append(Split(torch.from_numpy(kind.matrix(frame, str(recipe.paths[part]))), split.y))
        if name != "val":
            names[name] = frame.index
    return recipe.data(kind, splits, classes, splits[0].range(), notes, names)


def _only(split: Split, classes: Sequence[int]) -> Split:
    assert split.y is not None
    return split.subset(torch.isin(split.y, torch.tensor(classes)).nonzero().squeeze(1))
