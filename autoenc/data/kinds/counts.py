"""Bags of words: counts over a vocabulary that is learned from the training texts and saved with the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from autoenc.core import Likelihood
from autoenc.data.kinds.kind import common
from autoenc.data.kinds.texts import Texts, beginning
from autoenc.data.split import Split
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import DataError, require
from autoenc.files import write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

View = Literal["counts", "tfidf"]
VOCABULARY = "vocabulary.json"
LISTED = 12  # words that represent a document


def inverse_frequency(counts: csr_matrix) -> np.ndarray:
    """Return idf = ln((1 + n) / (1 + df)) + 1, (V,) float32, where df of n texts contain the word (scikit-learn's)."""
    present = np.bincount(counts.indices, minlength=counts.shape[1])
    return (np.log((1 + counts.shape[0]) / (1 + present)) + 1).astype(np.float32)


def weighed(counts: csr_matrix, idf: np.ndarray) -> csr_matrix:
    """Return the TF-IDF of counts (N, V): (1 + ln count) idf, each row of length 1; empty rows stay 0."""
    from sklearn.preprocessing import normalize

    weights = counts.astype(np.float32)
    weights.data = (1 + np.log(weights.data)) * idf[weights.indices]
    return normalize(weights, copy=False)


@dataclass(frozen=True)
class Counts(Texts):
    """Texts as vectors over a vocabulary, without word order.

    counts: how often each word occurs. tfidf: (1 + ln count) idf, scaled to length 1; see `inverse_frequency`.

    Args:
        vocabulary: words of at least two letters or digits.
        idf: (V,) of tfidf; None for counts.
        lowercase: convert texts to lower case before words are looked up.
    """

    vocabulary: tuple[str, ...] = ()
    idf: np.ndarray | None = None
    lowercase: bool = True

    name: ClassVar[str] = "counts"
    one_unit: ClassVar[bool] = True
    normalize: ClassVar[Literal["l2"] | None] = "l2"

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
    ) -> Counts:
        """Learn the most frequent words of the texts; ties are broken alphabetically.

        Args:
            vocabulary_size: maximum number of words.
            min_count: minimum number of occurrences of a word.
            stop_words: leave out the, of, and ... (scikit-learn's list of 318 English words).
        """
        from sklearn.feature_extraction.text import CountVectorizer

        require(view in ("counts", "tfidf"), "view", view, "must be counts or tfidf")
        require(vocabulary_size >= 1, "vocabulary_size", vocabulary_size, "must be 1 or more")
        require(min_count >= 1, "min_count", min_count, "must be 1 or more")
        vectorizer = CountVectorizer(lowercase=lowercase, stop_words="english" if stop_words else None)
        try:
            counts = vectorizer.fit_transform(texts)
        except ValueError:
            raise DataError("the training texts have no word of two or more letters") from None
        totals = np.asarray(counts.sum(0)).ravel()
        order = np.argsort(-totals, kind="stable")[:vocabulary_size]  # the columns are in alphabetical order
        order = order[totals[order] >= min_count]
        if len(order) == 0:
            raise DataError(f"no word occurs min_count={min_count} times in the training texts")
        idf = inverse_frequency(counts)[order] if view == "tfidf" else None
        names = vectorizer.get_feature_names_out()
        words = tuple(str(names[i]) for i in order)
        return cls((len(words),), 0.0, 1.0, column, encoding, words, idf, lowercase)

    @property
    def size(self) -> int:
        """Number of words."""
        return len(self.vocabulary)

    def words(self, x: Tensor) -> Tensor | None:
        """Return the number of words of each document; None for TF-IDF weights, which count nothing."""
        return None if self.idf is not None else x.sum(-1)

    def metrics(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> dict[str, Tensor]:
        words = self.words(x)
        return {} if words is None else {"words": words}

    def error(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
        """Return the negative log-likelihood per word (per unit of weight for TF-IDF), in nats."""
        return likelihood.nll(params, x) / x.sum(-1).clamp(min=1)

    def comparable(self, x: np.ndarray) -> np.ndarray:
        """Return relative word frequencies: each row sums to 1."""
        return x / x.sum(1, keepdims=True).clip(1e-12)

    def lexical(self, train: Split, queries: Split) -> tuple[csr_matrix, csr_matrix] | None:
        """Return TF-IDF rows, with the idf of the training rows."""
        if not (isinstance(train.x, SparseRows) and isinstance(queries.x, SparseRows)):
            return None
        if self.idf is not None:
            return train.x.matrix, queries.x.matrix
        idf = inverse_frequency(train.x.matrix)
        return weighed(train.x.matrix, idf), weighed(queries.x.matrix, idf)

    def captions(self, split: Split) -> list[str] | None:
        names = split.x.names if isinstance(split.x, SparseRows) else None
        return None if names is None else names.tolist()

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]]:
        return ["words"], [[text] for text in self.decode(x)]

    def matrix(self, texts: Sequence[str]) -> csr_matrix:
        """Return the counts (or TF-IDF weights) of texts, (N, V) float32."""
        from sklearn.feature_extraction.text import CountVectorizer

        vectorizer = CountVectorizer(lowercase=self.lowercase, vocabulary=self.vocabulary, dtype=np.float32)
        counts = vectorizer.transform(texts)
        return counts if self.idf is None else weighed(counts, self.idf)

    def tokenize(self, texts: Sequence[str]) -> tuple[SparseRows, list[str]]:
        """Return rows (N, V), named by the beginnings of the texts, and notes for the user."""
        matrix = self.matrix(texts)
        unknown = int((np.diff(matrix.indptr) == 0).sum())
        note = f"{unknown:,} of {len(texts):,} texts have no word of the vocabulary"
        return SparseRows(matrix, np.array([beginning(t) for t in texts], object)), [note] if unknown else []

    def decode(self, x: Tensor | np.ndarray) -> list[str]:
        """Return the twelve words with the largest counts, weights or probabilities (N, V), in descending order."""
        x = np.asarray(x)
        order = np.argsort(-x, axis=1, kind="stable")[:, :LISTED]
        return [" ".join(self.vocabulary[i] for i in top if row[i] > 0) for row, top in zip(x, order, strict=True)]

    def save(self, folder: Path) -> None:
        """Write kind.json and vocabulary.json."""
        idf = None if self.idf is None else [float(value) for value in self.idf]
        write_json(folder / VOCABULARY, {"words": list(self.vocabulary), "idf": idf})
        super().save(folder)

    def state(self) -> dict[str, Any]:
        return super().state() | {"lowercase": self.lowercase}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Counts:
        """Return the kind that `save` wrote; ValueError, KeyError or TypeError if the files are damaged."""
        learnt = json.loads((folder / VOCABULARY).read_text())
        words, idf = tuple(learnt["words"]), learnt["idf"]
        if not words or len(set(words)) != len(words) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{VOCABULARY} is not a list of distinct words")
        if idf is not None:
            idf = np.array(idf, np.float32)
            if idf.shape != (len(words),) or not np.isfinite(idf).all():
                raise ValueError(f"{VOCABULARY} does not have one idf per word")
        shared = {"column": values["column"], "encoding": values["encoding"], "lowercase": bool(values["lowercase"])}
        return cls(**common(values), **shared, vocabulary=words, idf=idf)

    def description(self) -> dict[str, Any]:
        """Return the description of the input for export.json."""
        text = f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}"
        return {"text": f"{text}; a text is converted to counts of the words of vocabulary.json first"}
