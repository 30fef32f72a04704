"""Base class of the kinds of text data."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from autoenc.data.kinds.kind import REAL, Kind
from autoenc.data.readers import texts as documents
from autoenc.data.readers.texts import Documents
from autoenc.data.scaling import is_numeric
from autoenc.data.split import Examples, Rows, Split
from autoenc.errors import ConfigError, DataError, counted

SHOWN = 100  # characters of a document in its caption
MANY = 0.2  # fraction of unknown words above which a remedy is named
SOME = 0.05  # fraction of unknown words of new texts above which there is a warning


@dataclass(frozen=True)
class Tokenized:
    """Texts as the model is fed them.

    Args:
        unknown: fraction of the words that are unknown. without_known: number of texts without a known word.
        notes: for the user.
    """

    x: Tensor | Rows
    unknown: float
    without_known: int
    size: int
    notes: list[str]

    def remarks(self, above: float = SOME, remedy: str = "") -> list[str]:
        """Return all notes; one is of unknown words, if they are more than the fraction `above`."""
        parts = [f"{self.unknown:.1%} of the words are unknown"] if self.unknown > above else []
        if self.without_known:
            parts.append(f"{counted(self.without_known, 'texts have', self.size)} no word of the vocabulary")
        if remedy and self.unknown > max(above, MANY):
            parts.append(remedy)
        return [*self.notes, *(["; ".join(parts)] if parts else [])]


@dataclass(frozen=True)
class Texts(Kind):
    """Documents.

    Args:
        column: the column of the texts in CSV files. encoding: of files. quoting: of cells in CSV files.
    """

    column: str | None = None
    encoding: str = "utf-8"
    quoting: str = "double"

    noun: ClassVar[str] = "texts"
    texts: ClassVar[bool] = True
    encodes_objects: ClassVar[bool] = True

    remedy: ClassVar[str] = "data.min_count=1 and a larger data.vocabulary_size leave fewer out"

    def tokenize(self, texts: Sequence[str]) -> Tokenized:
        """Return texts as the model is fed them."""
        raise NotImplementedError

    def decode(self, x: Tensor | np.ndarray) -> list[str]:
        """Return examples as readable text."""
        raise NotImplementedError

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        """Return texts as the model is fed them; warn of truncated texts and of texts without known words.

        Args:
            raw: a list of texts (empty ones are kept), or an array or tensor of encoded texts.
        """
        if is_numeric(raw):
            return super().encode(raw, what, noisy, support)
        tokenized = self.tokenize(checked(raw))
        for note in tokenized.remarks():
            warnings.warn(note, stacklevel=2)
        return Split(tokenized.x)

    def read(
        self, path: Path, resize: bool = False, noisy: bool = False, support: tuple[float, float] = REAL
    ) -> Examples:
        """Read documents, see `readers.texts`; they are named by line, row or file, and their beginnings."""
        found = self._documents(path, None)
        return Examples(self.encode(found.texts), named(found))

    def class_names(self, path: Path, label: str, normal: str | None) -> Sequence[str | None] | None:
        try:
            return self._documents(path, label).labels
        except ConfigError:  # no such column
            return None

    def _documents(self, path: Path, label: str | None) -> Documents:
        column = self.column if documents.has_columns(path) else None
        return documents.read(path, column, label, self.encoding, self.quoting)

    def show(self, versions: Mapping[str, Tensor]) -> list[str]:
        """Show the versions of each example, one below the other."""
        width = max(map(len, versions)) + 2
        read = [self.decode(x) for x in versions.values()]
        if len(versions) == 1:
            return read[0]
        groups = zip(*read, strict=True)
        return [f"{name + ':':{width}}{text}" for group in groups for name, text in zip(versions, group, strict=True)]

    def sheet(self, x: Tensor, columns: int, labels: Sequence[str] = ()) -> None:
        return None

    def distances(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, Any]:
        return {"column": self.column, "encoding": self.encoding, "quoting": self.quoting}


def shared(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `state` wrote; runs of version 0.2 have no quoting."""
    return {"column": values["column"], "encoding": values["encoding"], "quoting": values.get("quoting", "double")}


def named(found: Documents) -> list[str]:
    """Return a name for each document: its line, row or file, and its beginning."""
    return [f"{name}: {beginning(text)}".rstrip() for name, text in zip(found.names, found.texts, strict=True)]


def checked(raw: Sequence[str]) -> list[str]:
    """Return a list of texts; DataError for anything else."""
    if isinstance(raw, str):
        raise DataError("expected a list of texts, found one text; put it in brackets")
    texts = list(raw)
    if wrong := [i for i, text in enumerate(texts) if not isinstance(text, str)]:
        raise DataError(f"expected a list of texts, found {type(texts[wrong[0]]).__name__} at index {wrong[0]}")
    if not texts:
        raise DataError("expected a list of texts, found none")
    return texts


def beginning(text: str) -> str:
    """Return the first 100 characters on one line."""
    return " ".join(text[: 4 * SHOWN].split())[:SHOWN]
