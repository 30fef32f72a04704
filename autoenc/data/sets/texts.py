"""Text data, as token ids or as bags of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from autoenc.data.dataset import Data, DataSpec, learnable
from autoenc.data.kinds.counts import Counts, View
from autoenc.data.kinds.texts import named
from autoenc.data.kinds.tokens import Level, Tokens
from autoenc.data.readers import path_of
from autoenc.data.readers import texts as documents
from autoenc.data.readers.cells.class_names import class_name, known_class
from autoenc.data.readers.texts import Documents
from autoenc.data.split import Split, hold_out
from autoenc.errors import DataError, counted, require


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
    quoting: str = "double",
    normal: str | int | float | bool | None = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    kind: Tokens | None = None,
    excluded: Sequence[str] = (),
) -> Data:
    """Load the documents of a text file (one per line) or of a CSV file as token ids (T,) int64, with EOS and padding.

    The vocabulary is learned from the training texts. Empty documents are left out, with a note.

    Args:
        path: file (folder) of the training texts, see `readers.texts`. test_path, val_path: files of the other splits;
            drawn from `path` if missing.
        column: column of the texts in a CSV file; null: `text`, or the only column beside the label.
        label: column of the labels; the default may be missing. null: no labels. Documents without one are left out.
        vocabulary_size: maximum number of ids. min_count: rarer words are unknown.
        level: word, or bpe (subwords, by byte-pair encoding).
        max_length: T; longer documents are truncated.
        lowercase: convert texts to lower case.
        encoding, quoting: of the files.
        normal: class to train and validate on; all documents of the others are anomalies of the test split, those of
            `path` only if there is no test_path.
        val_fraction: fraction of the documents without the test documents that is held out if there is no val_path.
        test_fraction: fraction of all documents that is held out if there is no test_path.
        split_seed: seed of both draws.
        kind: kind of a finished run, used instead of learning one.
        excluded: labels of training texts that nothing is learned from.

    Raises:
        ConfigError: a value out of range, an unknown column or encoding.
        DataError: an unreadable file, or too few documents.
    """
    read = partial(documents.read, column=column, label=label, encoding=encoding, quoting=quoting)
    files, notes = _files(path, val_path, test_path, read, val_fraction, test_fraction, split_seed)
    anomalies = _normal_only(files, normal, label, test_path is None)
    training = _learned_from(files["training"], excluded, str(path))
    learned = kind or Tokens.learn(
        training.texts, level, vocabulary_size, min_count, max_length, lowercase, training.column, encoding, quoting
    )
    return _data(path, files, learned, notes, vocabulary_size, min_count, anomalies)


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
    unknown: bool = True,
    encoding: str = "utf-8",
    quoting: str = "double",
    normal: str | int | float | bool | None = None,
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
        unknown: count words outside the vocabulary as [UNK]; False: leave them out, as topic models do.
    """
    read = partial(documents.read, column=column, label=label, encoding=encoding, quoting=quoting)
    files, notes = _files(path, val_path, test_path, read, val_fraction, test_fraction, split_seed)
    anomalies = _normal_only(files, normal, label, test_path is None)
    training = _learned_from(files["training"], excluded, str(path))
    options = (training.column, encoding, quoting)
    learned = kind or Counts.learn(
        training.texts, view, vocabulary_size, min_count, lowercase, stop_words, unknown, *options
    )
    return _data(path, files, learned, notes, vocabulary_size, min_count, anomalies)


def _learned_from(documents: Documents, excluded: Sequence[str], name: str) -> Documents:
    index = learnable(None if documents.labels is None else list(map(str, documents.labels)), excluded, name)
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
    path = path_of("text", path)
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
            notes.append(f"{file}: {counted(empty, 'documents are', len(found.texts))} empty and left out")
        lined = [i for i in filled if found.column is not None and "\n" in found.texts[i].strip()]
        if 0 < 20 * len(lined) <= len(filled):  # rare: not the form of the documents
            longest = max(lined, key=lambda i: found.texts[i].count("\n"))
            notes.append(
                f"Attention: {file}: {counted(len(lined), 'documents have', len(found.texts))} several lines, such as "
                f"{found.names[longest]}; data.quoting=none if a stray quote has joined rows"
            )
        found = found.select(filled)
        files[name] = _labelled(found, file, notes)
    _same_spelling(files, notes)
    fractions = {"test": ("test_fraction", test_fraction), "validation": ("val_fraction", val_fraction)}
    missing = [name for name in fractions if name not in files]
    if (size := len(files["training"].texts)) <= len(missing):
        kinds = ", ".join(["training", *missing])
        raise DataError(f"{path}: has {counted(size, 'documents')} that are not empty, too few for {kinds}")
    for name in missing:
        key, fraction = fractions[name]
        rows = Split(torch.arange(len(files["training"].texts)))
        rest, held = (part.tensor.tolist() for part in hold_out(rows, fraction, split_seed, key, path))
        files["training"], files[name] = files["training"].select(rest), files["training"].select(held)
    return files, notes


def _labelled(found: Documents, file: str, notes: list[str]) -> Documents:
    """Leave out documents without a label, with a note; if all are without, there are no labels."""
    if found.labels is None or None not in found.labels:
        return found
    kept = [i for i, label in enumerate(found.labels) if label is not None]
    if not kept:
        notes.append(f"{file}: no document has a label")
        return replace(found, labels=None)
    missing = len(found.labels) - len(kept)
    notes.append(f"{file}: {counted(missing, 'documents have', len(found.labels))} no label, left out; "
                 "data.label=null ignores labels")  # fmt: skip
    return found.select(kept)


def _same_spelling(files: dict[str, Documents], notes: list[str]) -> None:
    """Give classes of the other files the names of the training file: they may differ by case or a full stop."""
    known = set(map(str, files["training"].labels or ()))
    for name, part in files.items():
        if part.labels is None or not known:
            continue
        names = {label: known_class(label, known) for label in sorted(set(map(str, part.labels)) - known)}
        for label, same in names.items():
            why = f"is read as {same}" if same != label else "is not among the classes of the training file"
            notes.append(f"{name}: class {label} {why}")
        files[name] = replace(part, labels=[names.get(str(label), label) for label in part.labels])


def _normal_only(
    files: dict[str, Documents], normal: str | int | float | bool | None, label: str | None, drawn: bool
) -> tuple[str, ...]:
    """Leave the normal class to train and validate on; return the other classes.

    Args:
        drawn: the test documents are drawn from the training file; its anomalies become test documents.
    """
    if normal is None:
        return ()
    wanted, classes = class_name(normal), {name for part in files.values() for name in part.labels or ()}
    require(files["training"].labels is not None, "normal", normal, f"needs labels, and there is no column {label}")
    known = ", ".join(sorted(map(str, classes)))
    require(wanted in classes, "normal", normal, f"no document has this label; the classes are {known}")
    for name in ("training", "validation"):
        part = files[name]
        other = [i for i, each in enumerate(part.labels or ()) if each != wanted]
        if drawn:
            files["test"] = _joined(files["test"], part.select(other))
        out = set(other)
        files[name] = part.select([i for i in range(len(part.texts)) if i not in out])
        if not files[name].texts:
            raise DataError(f"data.normal={normal}: leaves no {name} documents")
    return tuple(sorted(str(name) for name in classes - {wanted}))


def _joined(one: Documents, two: Documents) -> Documents:
    labels = None if one.labels is None or two.labels is None else [*one.labels, *two.labels]
    return Documents([*one.texts, *two.texts], labels, one.column, [*one.names, *two.names])


def _data(
    file: str | None,
    files: dict[str, Documents],
    kind: Counts | Tokens,
    notes: list[str],
    wanted: int,
    min_count: int,
    anomalies: tuple[str, ...],
) -> Data:
    if kind.size < wanted:
        why = f"no more occur {min_count} times in the training texts"
        notes.append(f"vocabulary: {kind.size:,} instead of data.vocabulary_size={wanted:,}: {why}")
    labels = {str(label) for part in files.values() for label in part.labels or ()} | set(anomalies)
    numbers = all(label.lstrip("-").isdecimal() for label in labels)
    classes = tuple(sorted(labels, key=lambda label: (int(label) if numbers else 0, label)))
    if len(classes) == 1:
        notes.append(f"every document has the label {classes[0]}: metrics based on labels are not available")
    splits = {}
    for key, part in files.items():
        tokenized = kind.tokenize(part.texts)
        above = 1.0 if key == "training" else 0.0  # the vocabulary is that of the training texts
        notes += [f"{key}: {remark}" for remark in tokenized.remarks(above, kind.remedy)]
        y = (
            None
            if part.labels is None
            else torch.tensor([classes.index(str(v)) for v in part.labels], dtype=torch.int64)
        )
        splits[key] = Split(tokenized.x, y)
    train, val, test = splits["training"], splits["validation"], splits["test"]
    if kind.continuous:
        low, high = train.range()
        kind = replace(kind, low=low, high=high)
    path = Path(file or "")
    name = path.resolve().parent.name if path.stem in ("train", "training") else path.stem
    names = {"test": named(files["test"])}
    return Data(DataSpec(name, kind, classes, anomalies), train, val, test, notes=tuple(notes), names=names)
