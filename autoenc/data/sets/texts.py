"""Text data, as token ids or as bags of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from autoenc.data.dataset import Data, DataSpec, learnable
from autoenc.data.kinds.counts import Counts, View
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
    excluded: Sequence[str] = (),
) -> Data:
    """Load the documents of a text file (one per line) or of a CSV file as token ids (T,) int64, with EOS and padding.

    The vocabulary is learned from the training texts. Empty documents are left out, with a note.

    Args:
        path: file of the training texts. test_path, val_path: files of the other splits; drawn from `path` if missing.
        column: column of the texts in a CSV file; null: `text`, or the only column beside the label.
        label: column of the labels; the default may be missing. null: no labels.
        vocabulary_size: maximum number of ids. min_count: rarer words are unknown.
        level: word, or bpe (subwords, by byte-pair encoding).
        max_length: T; longer documents are truncated.
        lowercase: convert texts to lower case.
        encoding: of the files.
        val_fraction: fraction of the documents without the test documents that is held out if there is no val_path.
        test_fraction: fraction of all documents that is held out if there is no test_path.
        split_seed: seed of both draws.
        kind: kind of a finished run, used instead of learning one.
        excluded: labels of training texts that nothing is learned from.

    Raises:
        ConfigError: a value out of range, an unknown column or encoding.
        DataError: an unreadable file, or too few documents.
    """
    read = partial(documents.read, column=column, label=label, encoding=encoding)
    files, notes = _files(path, val_path, test_path, read, val_fraction, test_fraction, split_seed)
    training = _learned_from(files["training"], excluded, str(path))
    learned = kind or Tokens.learn(
        training.texts, level, vocabulary_size, min_count, max_length, lowercase, training.column, encoding
    )
    return _data(path, files, learned, notes, vocabulary_size, min_count)


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
    excluded: Sequence[str] = (),
) -> Data:
    """Load the documents of a text or CSV file as sparse word counts (V + 1,) float32, the last of unknown words.

    The arguments not listed here are those of `text`.

    Args:
        view: counts: number of occurrences of each word; tfidf: weighted by rarity, length 1 (`counts.weighed`).
        vocabulary_size: maximum number of words. min_count: rarer words are unknown.
        stop_words: leave out the, of, and ... (318 English words).
    """
    read = partial(documents.read, column=column, label=label, encoding=encoding)
    files, notes = _files(path, val_path, test_path, read, val_fraction, test_fraction, split_seed)
    training = _learned_from(files["training"], excluded, str(path))
    learned = kind or Counts.learn(
        training.texts, view, vocabulary_size, min_count, lowercase, stop_words, training.column, encoding
    )
    return _data(path, files, learned, notes, vocabulary_size, min_count)


def _learned_from(documents: Documents, excluded: Sequence[str], name: str) -> Documents:
    index = learnable(documents.labels, excluded, name)
    return documents if isinstance(index, slice) else documents.select(index)


def _files(
    path: str | None,
    val_path: str | None,
    test_path: str | None,
    read: Callable[[str], Documents],
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
) -> tuple[dict[str, Documents], list[str]]:
    """Return the documents of the splits without empty ones, and notes."""
    if path is None:
        raise ConfigError("path", None, "name a file of texts: data.path=file.txt, a document per line, or file.csv")
    notes: list[str] = []
    files: dict[str, Documents] = {}
    for name, file in (("training", path), ("validation", val_path), ("test", test_path)):
        if file is None:
            continue
        found = read(file)
        filled = [i for i, text in enumerate(found.texts) if text.strip()]
        if not filled:
            raise DataError(f"{file}: has no documents")
        if empty := len(found.texts) - len(filled):
            notes.append(f"{file}: {empty:,} of {len(found.texts):,} documents are empty and left out")
        files[name] = found.select(filled)
    fractions = {"test": ("test_fraction", test_fraction), "validation": ("val_fraction", val_fraction)}
    missing = [name for name in fractions if name not in files]
    if (size := len(files["training"].texts)) <= len(missing):
        kinds = ", ".join(["training", *missing])
        raise DataError(f"{path}: has {size} documents that are not empty, too few for {kinds}")
    for name in missing:
        key, fraction = fractions[name]
        rows = Split(torch.arange(len(files["training"].texts)))
        rest, held = (part.tensor.tolist() for part in hold_out(rows, fraction, split_seed, key))
        files["training"], files[name] = files["training"].select(rest), files["training"].select(held)
    return files, notes


def _data(
    file: str | None, files: dict[str, Documents], kind: Counts | Tokens, notes: list[str], wanted: int, min_count: int
) -> Data:
    if kind.size < wanted:
        why = f"no more occur {min_count} times in the training texts"
        notes.append(f"vocabulary: {kind.size:,} instead of data.vocabulary_size={wanted:,}: {why}")
    labels = {label for part in files.values() for label in part.labels or ()}
    numbers = all(label.lstrip("-").isdecimal() for label in labels)
    classes = tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))
    if len(classes) == 1:
        notes.append(f"every document has the label {classes[0]}: metrics based on labels are not available")
    splits = {}
    for key, part in files.items():
        tokenized = kind.tokenize(part.texts)
        above = 1.0 if key == "training" else 0.0  # the vocabulary is that of the training texts
        notes += [f"{key}: {remark}" for remark in tokenized.remarks(above, kind.remedy)]
        y = None if part.labels is None else torch.tensor([classes.index(v) for v in part.labels], dtype=torch.int64)
        splits[key] = Split(tokenized.x, y)
    train, val, test = splits["training"], splits["validation"], splits["test"]
    if kind.continuous:
        low, high = train.range()
        kind = replace(kind, low=low, high=high)
    path = Path(file or "")
    name = path.resolve().parent.name if path.stem in ("train", "training") else path.stem
    return Data(DataSpec(name, kind, classes), train, val, test, notes=tuple(notes))
