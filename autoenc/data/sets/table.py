"""The user's tables: columns of numbers and of categories."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import Data
from autoenc.data.kinds.kind import Kind
from autoenc.data.readers.tables import Source
from autoenc.data.sets.table_recipe import Recipe
from autoenc.data.split import Split, hold_out
from autoenc.data.storage.cache import FOLDER
from autoenc.errors import ConfigError, require

if TYPE_CHECKING:
    import pandas as pd

    from autoenc.data.kinds.table import Table

LARGE = 200 * 2**20  # bytes of a file that is read in pieces and kept on the disk


def table(
    path: str | None = None,
    test_path: str | None = None,
    label: str | None = None,
    normal: str | int | float | bool | None = None,
    drop: Sequence[str] = (),
    header: bool = True,
    names: Sequence[str] = (),
    separator: str = ",",
    decimal: Literal[".", ","] = ".",
    encoding: str = "utf-8",
    missing: Sequence[str] = (),
    scaling: Literal["standard", "robust", "quantile", "none"] = "standard",
    log: bool | Sequence[str] = False,
    categorical: Sequence[str] = (),
    max_categories: int = 100,
    stream: bool | None = None,
    cache: str = FOLDER,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    kind: Kind | None = None,
) -> Data:
    """A table as vectors (D,): numbers imputed and scaled, categories one-hot, learnt from the training rows alone.

    Args:
        path: .csv, .txt, .tsv, .parquet, or .npz with X and perhaps y, .npy.
        test_path: a second file with the test rows.
        label: the column with the classes; not trained on.
        normal: the class to train and validate on; the others are the anomalies of the test rows. Rows without a label
            are then left out.
        drop: columns to leave out.
        header, names, separator, decimal, encoding, missing: how the file is read; see frames.Source.
        scaling, log, categorical, max_categories: what becomes of the columns; see plan.Plan.
        stream: read in pieces into a cache on the disk, in memory that does not grow with the file; see streamed.py.
            None: where the file has more than 200 MB.
        cache: the folder for that.
        val_fraction: part of what is not test that is held out for validation.
        test_fraction: part of all rows that is held out for the end; not used where there is a test_path.
        split_seed: draws both; the seed of training has no say.
        kind: of a finished run, used as it is.

    Raises:
        ConfigError, DataError: a file, a column or a value that is not what it should be; see the parts.
    """
    from autoenc.data.kinds.column_plan import Plan
    from autoenc.data.kinds.table import Table, class_name
    from autoenc.data.sets.streamed_table import streamed

    if path is None:
        raise ConfigError("path", None, "say which file: data.path=FILE.csv")
    require(len(separator) == 1, "separator", repr(separator), "must be one character")
    require(normal is None or label is not None, "normal", normal, "needs data.label: the column that has this value")
    for name, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        require(0 < fraction < 1, name, fraction, "must lie between 0 and 1")
    assert kind is None or isinstance(kind, Table)
    require(decimal in (".", ","), "decimal", repr(decimal), "must be . or ,")
    require(decimal != separator, "decimal", repr(decimal), "is the separator of the columns too")
    source = Source(header, tuple(names), separator, encoding, tuple(missing), decimal)
    plan = Plan(scaling, log if isinstance(log, bool) else tuple(log), tuple(categorical), max_categories)
    paths = tuple(Path(p).expanduser() for p in (path, test_path) if p is not None)
    normal = None if normal is None else class_name(normal)
    recipe = Recipe(paths, label, normal, tuple(drop), source, plan, val_fraction, test_fraction, split_seed)
    if stream is None:
        stream = any(p.is_file() and p.stat().st_size > LARGE for p in paths)
    return streamed(recipe, Path(cache), kind) if stream else _in_memory(recipe, kind)


def _in_memory(recipe: Recipe, kind: Table | None) -> Data:
    import pandas as pd

    frames: list[pd.DataFrame] = []
    texts: list[pd.Series] = []
    notes: list[str] = []
    for path in recipe.paths:
        pieces, labels = zip(*recipe.pieces(path, notes), strict=True)
        frames.append(pd.concat(pieces))  # the index: rows of the file, from 0
        texts += [] if recipe.label is None else [pd.concat(labels, ignore_index=True)]
    y: list[Tensor | None] = [None] * len(frames)
    classes: tuple[str, ...] = ()
    if texts:
        codes, values = pd.factorize(pd.concat(texts), sort=True)
        y = list(torch.from_numpy(codes.astype(np.int64)).split([len(each) for each in texts]))
        classes = tuple(map(str, values))
        recipe.check_classes(classes)

    index = [Split(torch.arange(len(frame)), labels) for frame, labels in zip(frames, y, strict=True)]
    test = index[-1]
    rest = index[0]
    if len(frames) == 1:
        rest, test = hold_out(rest, recipe.test_fraction, recipe.split_seed, "test_fraction")
    train, val = hold_out(rest, recipe.val_fraction, recipe.split_seed, "val_fraction")
    if recipe.normal is not None:
        train, val = (_only(split, classes.index(recipe.normal)) for split in (train, val))
    if kind is None:
        kind, found = recipe.plan.fit(frames[0].iloc[train.tensor.numpy()], recipe.source)
        notes += found
    made = [
        Split(torch.from_numpy(kind.matrix(frame.iloc[split.tensor.numpy()], str(path))), split.y)
        for split, frame, path in (
            (train, frames[0], recipe.paths[0]),
            (val, frames[0], recipe.paths[0]),
            (test, frames[-1], recipe.paths[-1]),
        )
    ]
    names = {
        name: frame.index[split.tensor.numpy()]
        for name, split, frame in (("train", train, frames[0]), ("test", test, frames[-1]))
    }
    return recipe.data(kind, made, classes, made[0].range(), notes, names)


def _only(split: Split, number: int) -> Split:
    assert split.y is not None
    return split.subset((split.y == number).nonzero().squeeze(1))
