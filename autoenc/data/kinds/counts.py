"""How texts become bags of words: counts over a vocabulary learnt from the training texts, kept in the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from autoenc.data.dataset import DataSpec, Split
from autoenc.data.kinds.preprocessing import FILE
from autoenc.data.kinds.tokens import OfTexts, beginning
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import DataError, require
from autoenc.files import write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

View = Literal["counts", "tfidf"]
VOCABULARY = "vocabulary.json"
LISTED = 12  # words that a document is told by


def inverse_frequency(counts: csr_matrix) -> np.ndarray:
    """(V,) float32 idf = ln((1 + n) / (1 + df)) + 1, where df of the n texts have the word (scikit-learn's)."""
    present = np.bincount(counts.indices, minlength=counts.shape[1])
    return (np.log((1 + counts.shape[0]) / (1 + present)) + 1).astype(np.float32)


def weighed(counts: csr_matrix, idf: np.ndarray) -> csr_matrix:
    """TF-IDF of counts (N, V): (1 + ln count) idf, each row of length 1, or 0 where nothing is counted."""
    from sklearn.preprocessing import normalize

    found = counts.astype(np.float32)
    found.data = (1 + np.log(found.data)) * idf[found.indices]
    return normalize(found, copy=False)


@dataclass(frozen=True)
class BagOfWords(OfTexts):
    """Texts as vectors over a vocabulary; the order of the words is lost.

    counts: how often each word occurs. tfidf: (1 + ln count) idf, scaled to length 1; see `inverse_frequency`.

    Args:
        words: the vocabulary: two letters or digits at least.
        idf: (V,) of tfidf; None for counts.
        lowercase: before words are looked up.
        column: of the texts in CSV files. encoding: of files.
    """

    words: tuple[str, ...]
    idf: np.ndarray | None = None
    lowercase: bool = True
    column: str | None = None
    encoding: str = "utf-8"

    kind = "bag_of_words"

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        view: View,
        vocabulary_size: int,
        min_count: int,
        lowercase: bool,
        stop_words: bool,
        column: str | None = None,
        encoding: str = "utf-8",
    ) -> BagOfWords:
        """The most frequent words of the texts; of words that are as frequent, those first in the alphabet.

        Args:
            vocabulary_size: words at most.
            min_count: words that occur less often are left out.
            stop_words: leave out the, of, and ...: scikit-learn's list of 318 English words.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        require(view in ("counts", "tfidf"), "view", view, "must be counts or tfidf")
        require(vocabulary_size >= 1, "vocabulary_size", vocabulary_size, "must be 1 or more")
        require(min_count >= 1, "min_count", min_count, "must be 1 or more")
        vectorizer = CountVectorizer(lowercase=lowercase, stop_words="english" if stop_words else None)
        try:
            counts = vectorizer.fit_transform(texts)
        except ValueError:
            raise DataError("the training texts have no word of two letters or more") from None
        totals = np.asarray(counts.sum(0)).ravel()
        order = np.argsort(-totals, kind="stable")[:vocabulary_size]  # the columns are in the order of the alphabet
        order = order[totals[order] >= min_count]
        if len(order) == 0:
            raise DataError(f"no word occurs min_count={min_count} times in the training texts")
        idf = inverse_frequency(counts)[order] if view == "tfidf" else None
        names = vectorizer.get_feature_names_out()
        return cls(tuple(str(names[i]) for i in order), idf, lowercase, column, encoding)

    @property
    def size(self) -> int:
        """Number of words."""
        return len(self.words)

    def describe(self, name: str, train: Split, classes: tuple[str, ...]) -> DataSpec:
        """One example of the data."""
        return DataSpec(name, "counts", (self.size,), *train.range(), classes)

    def matrix(self, texts: Sequence[str]) -> csr_matrix:
        """(N, V) float32."""
        from sklearn.feature_extraction.text import CountVectorizer

        vectorizer = CountVectorizer(lowercase=self.lowercase, vocabulary=self.words, dtype=np.float32)
        counts = vectorizer.transform(texts)
        return counts if self.idf is None else weighed(counts, self.idf)

    def encode(self, texts: Sequence[str]) -> tuple[SparseRows, list[str]]:
        """(N, V) rows named by the beginnings of the texts, and what a person should know of them."""
        matrix = self.matrix(texts)
        unknown = int((np.diff(matrix.indptr) == 0).sum())
        note = f"{unknown:,} of {len(texts):,} texts have no word of the vocabulary"
        return SparseRows(matrix, np.array([beginning(t) for t in texts], object)), [note] if unknown else []

    def texts(self, x: Tensor | np.ndarray) -> list[str]:
        """(N, V) counts, weights or probabilities -> the twelve words that have the most, the first one first."""
        x = np.asarray(x)
        order = np.argsort(-x, axis=1, kind="stable")[:, :LISTED]
        return [" ".join(self.words[i] for i in top if row[i] > 0) for row, top in zip(x, order, strict=True)]

    def save(self, folder: Path) -> None:
        """preprocessing.json and vocabulary.json."""
        kept = {"lowercase": self.lowercase, "column": self.column, "encoding": self.encoding}
        idf = None if self.idf is None else [float(value) for value in self.idf]
        write_json(folder / VOCABULARY, {"words": list(self.words), "idf": idf})
        write_json(folder / FILE, {"kind": self.kind, **kept})

    @classmethod
    def load(cls, folder: Path) -> BagOfWords:
        """ValueError, KeyError or TypeError where the files are damaged."""
        kept = json.loads((folder / FILE).read_text())
        learnt = json.loads((folder / VOCABULARY).read_text())
        words, idf = tuple(learnt["words"]), learnt["idf"]
        if not words or len(set(words)) != len(words) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{VOCABULARY} is no list of different words")
        if idf is not None:
            idf = np.array(idf, np.float32)
            if idf.shape != (len(words),) or not np.isfinite(idf).all():
                raise ValueError(f"{VOCABULARY} has not one idf for each word")
        return cls(words, idf, bool(kept["lowercase"]), kept["column"], kept["encoding"])
