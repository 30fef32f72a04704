"""Tables that are read in chunks: memory does not grow with the file.

The first pass fits the preprocessing to a sample of the training rows and collects the classes. The second pass writes
the preprocessed rows of each split to a cache on disk, which later runs use.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autoenc.core import UNLABELLED
from autoenc.data.dataset import Data
from autoenc.data.kinds import estimator_json as plain
from autoenc.data.kinds.table import Table
from autoenc.data.readers.cells.class_names import MOST
from autoenc.data.sets.table_recipe import Recipe
from autoenc.data.split import Split
from autoenc.data.storage.cache import Entry, Writer, cached, stamp

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 100_000  # training rows that the preprocessing is fitted to
NAMES = ("train", "val", "test")


def streamed(recipe: Recipe, folder: Path, kind: Table | None) -> Data:
    """Return the data set of a recipe. Each row is assigned to a split at random, so that fractions are approximate.

    Raises:
        DataError: as raised by the recipe, or the cache cannot be written.
    """
    for path in recipe.paths:
        next(recipe.chunks(path))  # raises for missing or unreadable files and missing columns
    files = [stamp(path) for path in recipe.paths]
    options = plain.to_plain({k: v for k, v in vars(recipe).items() if k not in ("paths", "source", "plan")})
    parts = [plain.to_plain(dataclasses.asdict(part)) for part in (recipe.source, recipe.plan)]
    key: dict[str, Any] = {"what": "table 5", "files": files, "options": options, "parts": parts}
    key["scikit-learn"] = importlib.metadata.version("scikit-learn")  # whose encoders and scalers are kept
    if kind is not None:
        key["kind"] = zlib.crc32(json.dumps(values_of(kind)).encode())

    def write(writer: Writer) -> None:
        learned, classes, spelling, notes = _learn(recipe, kind)
        _write(recipe, learned, classes, spelling, writer)
        writer.values |= {"kind": values_of(learned), "classes": list(classes), "notes": notes}

    entry = cached(key, folder, write)
    learned = Table.load(None, entry.values["kind"])
    sizes = ", ".join(f"{len(entry.rows(name)):,}" for name in NAMES if name in entry.crcs)
    notes = [*entry.values["notes"], f"read in chunks; {sizes} rows are stored in {entry.path}"]
    splits = [_split(entry, name, recipe.label is not None) for name in NAMES]
    rows: dict[str, Any] = {  # row numbers on the disk: a list would grow with the file
        name: np.load(entry.path / f"{name}_row.npy", mmap_mode="r") for name in ("train", "test") if name in entry.crcs
    }
    return recipe.data(learned, splits, tuple(entry.values["classes"]), tuple(entry.values["range"]), notes, rows)


def values_of(kind: Table) -> dict[str, Any]:
    """Return the contents of kind.json."""
    return {"shape": list(kind.shape), "low": kind.low, "high": kind.high, **kind.state()}


def _split(entry: Entry, name: str, labelled: bool) -> Split:
    if name not in entry.crcs:
        import torch

        return Split(torch.empty(0))
    return Split(entry.rows(name), entry.rows(f"{name}_y")[:] if labelled else None)


def _draws(
    recipe: Recipe, notes: list[str] | None = None
) -> Iterator[tuple[int, pd.DataFrame, pd.Series | None, np.ndarray]]:
    """Yield file, chunk, labels and the split of each row: a reproducible index into NAMES, or -1 for none."""
    random = np.random.default_rng(recipe.split_seed)
    for number, path in enumerate(recipe.paths):
        for frame, labels in recipe.chunks(path, notes):
            if number == 1:
                where = np.full(len(frame), 2)
            else:
                u, v = random.random((2, len(frame)))
                where = np.where(v < recipe.val_fraction, 1, 0)
                if len(recipe.paths) == 1:
                    where[u < recipe.test_fraction] = 2
            if recipe.normal is not None and number == 0:
                assert labels is not None
                where[(labels != recipe.normal).to_numpy()] = 2 if len(recipe.paths) == 1 else -1
            if labels is not None:
                where[(where == 2) & labels.isna().to_numpy()] = -1
            if recipe.excluded and labels is not None:
                where[(where != 2) & (labels.isin(recipe.excluded) | labels.isna()).to_numpy()] = -1
            yield number, frame, labels, where


def _learn(recipe: Recipe, kind: Table | None) -> tuple[Table, tuple[str, ...], dict[str, str], list[str]]:
    """Return the preprocessing, the classes of all rows, the spelling of those of the test file, and notes."""
    import pandas as pd

    if kind is not None and recipe.label is None:
        return kind, (), {}, []
    classes: list[set[str]] = [set() for _ in recipe.paths]
    random = np.random.default_rng(recipe.split_seed + 1)
    sample, seen = pd.DataFrame(), 0
    notes: list[str] = []
    for number, frame, labels, where in _draws(recipe, notes):
        classes[number] |= set() if labels is None else set(labels.dropna())
        if len(classes[number]) > MOST:
            break  # not classes: rejected below, before they fill the memory
        if kind is None:
            train = frame[where == 0]
            seen += len(train)
            # A uniform sample of all rows so far: those with the smallest random numbers.
            sample = pd.concat([sample, train.assign(**{_KEY: random.random(len(train))})])
            if len(sample) > SAMPLE:
                sample = sample.nsmallest(SAMPLE, _KEY)
    spelling, remarks = recipe.spelling(classes[0], classes[-1])
    notes += remarks
    found = tuple(sorted(classes[0] | {spelling.get(name, name) for name in classes[-1]}))
    recipe.check_classes(found)
    if kind is not None:
        return kind, found, spelling, notes
    if not seen:
        recipe.check_sizes([0, 1, 1])
    fitted, more = recipe.plan.fit(sample.drop(columns=_KEY).sort_index(), recipe.source)
    if seen > len(sample):
        more.append(f"preprocessing is fitted to {len(sample):,} of {seen:,} training rows")
    return fitted, found, spelling, notes + more


_KEY = "autoenc: order of the sample"


def _write(recipe: Recipe, kind: Table, classes: tuple[str, ...], spelling: dict[str, str], writer: Writer) -> None:
    index = {name: i for i, name in enumerate(classes)}
    index |= {name: index[known] for name, known in spelling.items()}
    low, high = np.inf, -np.inf
    for part, frame, labels, where in _draws(recipe):
        for number, name in enumerate(NAMES):
            chosen = where == number
            if not chosen.any():
                continue
            rows = kind.matrix(frame[chosen], str(recipe.paths[part]))
            writer.append(rows, name)
            writer.append(frame.index[chosen].to_numpy(np.int64), f"{name}_row")
            if labels is not None:
                writer.append(labels[chosen].map(index).fillna(UNLABELLED).to_numpy(np.int64), f"{name}_y")
            if number == 0:
                low, high = min(low, float(rows.min())), max(high, float(rows.max()))
    writer.values["range"] = [low, high]
