"""Texts, as token ids or as bags of words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.counts import Counts, View
from autoenc.data.kinds.texts import Texts
from autoenc.data.kinds.tokens import Level, Tokens
from autoenc.data.readers import texts as documents
from autoenc.data.readers.texts import Documents
from autoenc.data.split import Split, hold_out
from autoenc.errors import ConfigError, DataError


def text(
    path: str | None = None,
    test_path: str | None = None,
    val_path: str | None = None,
    column: str | None = None,
    label: str | None = documents.LABEL,
    vocabulary_size: int = 10_000,
    min_count: int = 2,
    level: Level = "word",
    max_length: int = 64,
    lowercase: bool = True,
    encoding: str = "utf-8",
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    kind: Tokens | None = None,
) -> Data:
    """The documents of a text file (one per line) or of a CSV, as ids of tokens and EOS, padded: (T,) int64.

    The vocabulary is that of the training texts alone. Empty documents are left out, with a note.

    Args:
        path: of the training texts. test_path, val_path: files of the others; cut from the first where there are none.
        column: of the texts in a CSV; null: `text`, or the only one beside the label.
        label: column of the labels; the default is used where it is there. null: no labels.
        vocabulary_size: ids at most. min_count: words that occur less often are unknown.
        level: whole words, or bpe: pieces of words, learnt from pairs of bytes.
        max_length: T; longer documents are cut.
        lowercase: no difference between upper and lower case.
        encoding: of the files.
        val_fraction: part of what is not test that is held out for validation, where there is no val_path.
        test_fraction: part of all documents that is held out for the end, where there is no test_path.
        split_seed: draws both.
        kind: of a finished run, used as it is.

    Raises:
        ConfigError: a value out of range, a column or an encoding that there is not.
        DataError: a file that cannot be read, or too few documents.
    """
    files, notes = _files(path, val_path, test_path, column, label, encoding, (val_fraction, test_fraction), split_seed)
    training = files["training"]
    learnt = kind or Tokens.learn(
        training.texts, level, vocabulary_size, min_count, max_length, lowercase, training.column, encoding
    )
    return _data(files, learnt, _named(path), notes + _unreached(learnt.size, vocabulary_size, min_count))


def bag_of_words(
    path: str | None = None,
    test_path: str | None = None,
    val_path: str | None = None,
    column: str | None = None,
    label: str | None = documents.LABEL,
    view: View = "counts",
    vocabulary_size: int = 10_000,
    min_count: int = 2,
    lowercase: bool = True,
    stop_words: bool = False,
    encoding: str = "utf-8",
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    kind: Counts | None = None,
) -> Data:
    """The documents of a text file or CSV as counts of words, (V,) float32; kept sparse. Arguments as of `text`, and

    Args:
        view: counts: how often each word occurs; tfidf: weighed by how rare a word is, of length 1 (`words.weighed`).
        vocabulary_size: words at most. min_count: words that occur less often are left out.
        stop_words: leave out the, of, and ... (318 English words).
    """
    files, notes = _files(path, val_path, test_path, column, label, encoding, (val_fraction, test_fraction), split_seed)
    training = files["training"]
    learnt = kind or Counts.learn(
        training.texts, view, vocabulary_size, min_count, lowercase, stop_words, training.column, encoding
    )
    return _data(files, learnt, _named(path), notes + _unreached(learnt.size, vocabulary_size, min_count))


def _files(
    path: str | None,
    val_path: str | None,
    test_path: str | None,
    column: str | None,
    label: str | None,
    encoding: str,
    fractions: tuple[float, float],
    split_seed: int,
) -> tuple[dict[str, Documents], list[str]]:
    """The documents for training, validation and test, and notes."""
    if path is None:
        raise ConfigError("path", None, "give your own texts: data.path=file.txt, a document per line, or file.csv")
    notes: list[str] = []
    files = {"training": _filled(path, column, label, encoding, notes)}
    for name, file in (("validation", val_path), ("test", test_path)):
        if file is not None:
            files[name] = _filled(file, column, label, encoding, notes)
    missing = [name for name in ("test", "validation") if name not in files]
    if (size := len(files["training"].texts)) <= len(missing):
        kinds = ", ".join(["training", *missing])
        raise DataError(f"{path}: has {size} documents that are not empty, too few for {kinds}")
    keys = {"validation": (fractions[0], "val_fraction"), "test": (fractions[1], "test_fraction")}
    for name in missing:
        files["training"], files[name] = _cut(files["training"], keys[name][0], split_seed, keys[name][1])
    return files, notes


def _unreached(size: int, wanted: int, min_count: int) -> list[str]:
    """A note where the vocabulary is smaller than asked."""
    why = f"no more occur {min_count} times in the training texts"
    return [f"vocabulary: {size:,}, and not data.vocabulary_size={wanted:,}: {why}"] if size < wanted else []


def _data(files: dict[str, Documents], learnt: Texts, name: str, notes: list[str]) -> Data:
    classes = _classes(files.values())
    if len(classes) == 1:
        notes.append(f"every document has the label {classes[0]}: nothing can be measured by labels")
    splits = {}
    for key, part in files.items():
        x, said = learnt.tokenize(part.texts)
        notes += [f"{key}: {note}" for note in said]
        y = None if part.labels is None else torch.tensor([classes.index(v) for v in part.labels], dtype=torch.int64)
        splits[key] = Split(x, y)
    train, val, test = splits["training"], splits["validation"], splits["test"]
    if learnt.continuous:
        low, high = train.range()
        learnt = replace(learnt, low=low, high=high)
    return Data(DataSpec(name, learnt, classes), train, val, test, notes=tuple(notes))


def _filled(file: str, column: str | None, label: str | None, encoding: str, notes: list[str]) -> Documents:
    """The documents of a file that have something in them."""
    found = documents.read(file, column, label, encoding)
    if empty := len(found.empty()):
        notes.append(f"{file}: {empty:,} of {len(found.texts):,} documents are empty, and left out")
    found = found.without_empty()
    if not found.texts:
        raise DataError(f"{file}: has no documents")
    return found


def _cut(found: Documents, fraction: float, seed: int, key: str) -> tuple[Documents, Documents]:
    """Rest and part that is held out, at random."""
    rest, held = hold_out(Split(torch.arange(len(found.texts))), fraction, seed, key)
    return found.select(rest.tensor.tolist()), found.select(held.tensor.tolist())


def _classes(files: Iterable[Documents]) -> tuple[str, ...]:
    """All labels, sorted; numbers as numbers."""
    found = {label for part in files for label in part.labels or ()}
    numbers = all(label.lstrip("-").isdecimal() for label in found)
    return tuple(sorted(found, key=lambda label: (int(label) if numbers else 0, label)))


def _named(file: str | None) -> str:
    """The name of the file; that of its folder where it says nothing."""
    path = Path(file or "")
    return path.resolve().parent.name if path.stem in ("train", "training") else path.stem
