"""Bags of words: counts over a vocabulary that is learned from the training texts and saved with the run."""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from autoenc.core import Likelihood
from autoenc.data.kinds.kind import FILE, common
from autoenc.data.kinds.raw import Raw, RawCounts, RawInput
from autoenc.data.kinds.texts import Texts, Tokenized, beginning, shared
from autoenc.data.split import Split
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import DataError, require
from autoenc.files import read_json, write_json

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from torch import Tensor

View = Literal["counts", "tfidf"]
VOCABULARY = "vocabulary.json"
LISTED = 12  # words that represent a document
MARKED = range(0x300, 0x10000)  # combining marks of the scripts in use; a pattern with those beyond is 4 times slower
ASCII_WORD = re.compile(r"\w\w+")


@cache
def word_pattern() -> re.Pattern[str]:
    """Return the pattern of a word: two or more letters, digits and combining marks, which `\\w` does not match."""
    marks = "".join(c for c in map(chr, MARKED) if unicodedata.category(c).startswith("M"))
    return re.compile(rf"\w[\w\u200c\u200d{marks}]+")  # joiners stand inside words of Hindi and Persian


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


def _words(texts: Sequence[str], lowercase: bool, stop_words: bool) -> Iterator[list[str]]:
    """Yield the words of each text, composed (NFC) and without stop words."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    left_out = ENGLISH_STOP_WORDS if stop_words else frozenset()
    for text in texts:
        written = unicodedata.normalize("NFC", text.lower() if lowercase else text)
        pattern = ASCII_WORD if written.isascii() else word_pattern()
        yield [word for word in pattern.findall(written) if word not in left_out]


@dataclass(frozen=True)
class Counts(Texts):
    """Texts as vectors over a vocabulary, without word order.

    counts: how often each word occurs. tfidf: (1 + ln count) idf, scaled to length 1; see `inverse_frequency`. The last
    dimension, [UNK], is that of all words outside the vocabulary, unless they are left out, as in runs of version 0.2.

    Args:
        vocabulary: V words of at least two letters or digits.
        idf: (V + 1,) of tfidf; None for counts.
        lowercase: convert texts to lower case before words are looked up.
        stop_words: leave out scikit-learn's list of 318 English words.
    """

    vocabulary: tuple[str, ...] = ()
    idf: np.ndarray | None = None
    lowercase: bool = True
    stop_words: bool = False

    name: ClassVar[str] = "counts"
    one_unit: ClassVar[bool] = True
    drawn: ClassVar[bool] = False  # the number of words is not modelled
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
        unknown: bool = True,
        column: str | None = None,
        encoding: str = "utf-8",
        quoting: str = "double",
    ) -> Counts:
        """Learn the most frequent words of the texts; ties are broken alphabetically.

        Args:
            vocabulary_size: maximum number of words.
            min_count: minimum number of occurrences of a word.
            stop_words: leave out the, of, and ... (scikit-learn's list of 318 English words).
            unknown: count other words as [UNK]; False: leave them out.
        """
        require(view in ("counts", "tfidf"), "view", view, "must be counts or tfidf")
        require(vocabulary_size >= 1, "vocabulary_size", vocabulary_size, "must be 1 or more")
        require(min_count >= 1, "min_count", min_count, "must be 1 or more")
        totals = Counter(word for words in _words(texts, lowercase, stop_words) for word in words)
        if not totals:
            raise DataError("the training texts have no word of two or more letters")
        order = sorted(totals, key=lambda word: (-totals[word], word))[:vocabulary_size]
        words = tuple(word for word in order if totals[word] >= min_count)
        if not words:
            raise DataError(f"no word occurs min_count={min_count} times in the training texts")
        kind = cls((len(words) + unknown,), 0.0, 1.0, column, encoding, quoting, words, None, lowercase, stop_words)
        return kind if view == "counts" else replace(kind, idf=inverse_frequency(kind.counts(texts)))

    @property
    def size(self) -> int:
        """Number of words, without [UNK]."""
        return len(self.vocabulary)

    @property
    def counts_unknown(self) -> bool:
        """Whether the last dimension is that of unknown words."""
        return self.shape[0] > self.size

    @cached_property
    def index(self) -> dict[str, int]:
        """Word -> dimension."""
        return {word: i for i, word in enumerate(self.vocabulary)}

    def words(self, x: Tensor) -> Tensor | None:
        """Return the number of words of each document, unknown ones included, as nll is of all of them.

        None for TF-IDF weights, which count nothing.
        """
        return None if self.idf is not None else x.sum(-1)

    def metrics(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> dict[str, Tensor]:
        words = self.words(x)
        return {} if words is None else {"words": words}

    def error(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
        """Return the negative log-likelihood per word (per unit of weight for TF-IDF), in nats.

        An unknown word is one of at least as many as are known: the probability of [UNK] is shared among V of them.
        Otherwise texts of unknown words alone would be the easiest to reconstruct.
        """
        nll = likelihood.nll(params, x)
        if self.counts_unknown:
            nll = nll + x[..., -1] * math.log(self.size)
        return nll / x.sum(-1).clamp(min=1)

    def annotations(self, split: Split) -> dict[str, np.ndarray]:
        """Return the fraction of unknown words of each document (of the weight for TF-IDF); 0 without words."""
        from scipy.sparse import csr_matrix

        matrix = split.x.matrix if isinstance(split.x, SparseRows) else csr_matrix(split.rows())
        total, known = (np.asarray(part.sum(1)).ravel() for part in (matrix, matrix[:, : self.size]))
        unknown = 1 - known / np.where(total == 0, 1, total) if self.counts_unknown else np.zeros(len(split))
        return {"unknown": unknown}

    def comparable(self, x: np.ndarray) -> np.ndarray:
        """Return relative word frequencies: each row sums to 1."""
        return x / x.sum(1, keepdims=True).clip(1e-12)

    def lexical(self, train: Split, queries: Split) -> tuple[csr_matrix, csr_matrix] | None:
        """Return TF-IDF rows, with the idf of the training rows."""
        if not (isinstance(train.x, SparseRows) and isinstance(queries.x, SparseRows)):
            return None
        from sklearn.preprocessing import normalize

        one, two = (rows.matrix[:, : self.size] for rows in (train.x, queries.x))
        if self.idf is not None:
            return normalize(one), normalize(two)
        idf = inverse_frequency(one)
        return weighed(one, idf), weighed(two, idf)

    def captions(self, split: Split) -> list[str] | None:
        names = split.x.names if isinstance(split.x, SparseRows) else None
        return None if names is None else names.tolist()

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]]:
        return ["words"], [[text] for text in self.decode(x)]

    def direction(self, atom: Tensor) -> str:
        """Return the words with the largest positive entries."""
        return self.decode(atom[None])[0]

    def counts(self, texts: Sequence[str]) -> csr_matrix:
        """Return the counts of texts, (N, V + 1) float32; the last column is of unknown words.

        A text without words counts as one unknown word: a row of zeros would have no direction and no error.
        """
        from scipy.sparse import csr_matrix

        data: list[int] = []
        indices: list[int] = []
        ends, width, unknown = [0], self.shape[0], self.size
        for words in _words(texts, self.lowercase, self.stop_words):
            found = Counter([self.index.get(word, unknown) for word in words] or [unknown])
            if not self.counts_unknown:
                del found[unknown]
            for dimension in sorted(found):
                indices.append(dimension)
                data.append(found[dimension])
            ends.append(len(indices))
        return csr_matrix((np.array(data, np.float32), np.array(indices, np.int32), ends), (len(texts), width))

    def tokenize(self, texts: Sequence[str]) -> Tokenized:
        """Return rows (N, V + 1), named by the beginnings of the texts, and how much of them is unknown."""
        counts = self.counts(texts)
        matrix = counts if self.idf is None else weighed(counts, self.idf)
        rows = SparseRows(matrix, np.array([beginning(t) for t in texts], object))
        total, known = float(counts.sum()), counts[:, : self.size]
        return Tokenized(
            rows, 1 - float(known.sum()) / max(total, 1), int((np.diff(known.indptr) == 0).sum()), len(texts), []
        )

    def raw(self) -> Raw:
        unknown = ", the last one of all other words" if self.counts_unknown else ""
        text = f"how often each word of vocabulary.json occurs{unknown}; a text without words counts as one of those"
        return RawCounts(RawInput("counts", "float32", self.shape, text), self.idf)

    def raw_rows(self, x: Tensor) -> tuple[Split, list[np.ndarray]]:
        """Return rows of other counts of the same words."""
        from scipy.sparse import csr_matrix

        counts = np.random.default_rng(0).integers(1, 5, x.shape).astype(np.float32) * (x.numpy() > 0)
        rows = csr_matrix(counts)
        return Split(SparseRows(rows if self.idf is None else weighed(rows, self.idf))), [counts]

    def changes(self, gradient: Tensor, rows: Tensor) -> list[tuple[str, float]]:
        """Return one more of each word (for TF-IDF, of its weight)."""
        return list(zip(self.vocabulary, gradient[: self.size].tolist(), strict=True))

    def decode(self, x: Tensor | np.ndarray) -> list[str]:
        """Return the twelve words with the largest counts, weights or probabilities (N, V), in descending order."""
        x = np.asarray(x)[:, : self.size]
        order = np.argsort(-x, axis=1, kind="stable")[:, :LISTED]
        return [" ".join(self.vocabulary[i] for i in top if row[i] > 0) for row, top in zip(x, order, strict=True)]

    def save(self, folder: Path) -> None:
        """Write kind.json and vocabulary.json."""
        idf = None if self.idf is None else [float(value) for value in self.idf]
        write_json(folder / VOCABULARY, {"words": list(self.vocabulary), "idf": idf})
        super().save(folder)

    def state(self) -> dict[str, Any]:
        return super().state() | {"lowercase": self.lowercase, "stop_words": self.stop_words}

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Counts:
        """Return the kind that `save` wrote; ValueError, KeyError or TypeError if the files are damaged."""
        learnt = read_json(folder / VOCABULARY)
        words, idf = tuple(learnt["words"]), learnt["idf"]
        if not words or len(set(words)) != len(words) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{VOCABULARY} is not a list of distinct words")
        if values["shape"] not in ([len(words)], [len(words) + 1]):
            raise ValueError(f"{VOCABULARY} is inconsistent with {FILE}")
        if idf is not None:
            idf = np.array(idf, np.float32)
            if idf.shape != tuple(values["shape"]) or not np.isfinite(idf).all():
                raise ValueError(f"{VOCABULARY} does not have one idf per word")
        lowercase, stop_words = bool(values["lowercase"]), bool(values.get("stop_words", False))  # new in version 0.3
        return cls(
            **common(values), **shared(values), vocabulary=words, idf=idf, lowercase=lowercase, stop_words=stop_words
        )

    def description(self) -> dict[str, Any]:
        text = f"float32, (N, D), values as in training: {self.low:.6g} to {self.high:.6g}"
        return {"text": f"{text}; a text is converted to counts of the words of vocabulary.json first"}
