"""How texts become token ids: a vocabulary learnt from the training texts, kept in the run."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import BOS, EOS, MASK, PAD, SPECIAL, UNK, DataSpec, Examples, Rows, Split
from autoenc.data.kinds.preprocessing import FILE
from autoenc.data.readers import texts as documents
from autoenc.errors import DataError, require
from autoenc.files import write_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.trainers import BpeTrainer, WordLevelTrainer

Level = Literal["word", "bpe"]
TOKENIZER = "tokenizer.json"
# Numbers with their commas, words with their apostrophes and hyphens, every other sign by itself.
WORD = r"\d+(?:[.,]\d+)+|\w+(?:['\u2019-]\w+)*|[^\w\s]"
BYTES = 256  # the alphabet of byte-pair encoding
AT_ONCE = 1_000  # documents that are encoded together
SHOWN = 100  # characters of a document that it can be told by


class OfTexts:
    """What every preprocessing of texts does with new ones."""

    column: str | None
    encoding: str

    def encode(self, texts: Sequence[str]) -> tuple[Tensor | Rows, list[str]]:
        """The texts as a model is fed them, and what happened to them that a person should know."""
        raise NotImplementedError

    def texts(self, x: Tensor | np.ndarray) -> list[str]:
        """Examples as a model is fed them, or as it makes them, as people read them."""
        raise NotImplementedError

    def lines(self, versions: Mapping[str, Tensor]) -> list[str]:
        """The same examples in several versions, by name: one under the other."""
        width = max(map(len, versions)) + 2
        read = [self.texts(x) for x in versions.values()]
        if len(versions) == 1:
            return read[0]
        groups = zip(*read, strict=True)
        return [f"{name + ':':{width}}{text}" for group in groups for name, text in zip(versions, group, strict=True)]

    def apply(self, raw: Sequence[str]) -> Split:
        """A list of texts; empty ones keep their place. Warns of what happened to them."""
        x, notes = self.encode(checked(raw))
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return Split(x)

    def read(self, path: Path) -> Examples:
        """The documents of a text file or CSV, each told by its beginning."""
        column = self.column if path.suffix.lower() in documents.TABLES else None
        texts = documents.read(path, column, None, self.encoding).texts
        return Examples(self.apply(texts), [beginning(text) for text in texts])


@dataclass(frozen=True)
class Tokens(OfTexts):
    """Texts as ids: the tokens of a document, then EOS, then PAD up to `max_length`.

    Args:
        tokenizer: of the `tokenizers` library, with the ids of `spec.SPECIAL` first.
        level: word, or bpe (pairs of bytes, which know every text).
        max_length: ids of a document, EOS among them; longer ones are cut.
        column: of the texts in CSV files. encoding: of files.
    """

    tokenizer: Tokenizer
    level: Level
    max_length: int
    column: str | None = None
    encoding: str = "utf-8"

    kind = "tokens"

    @classmethod
    def learn(
        cls,
        texts: Sequence[str],
        level: Level,
        vocabulary_size: int,
        min_count: int,
        max_length: int,
        lowercase: bool,
        column: str | None = None,
        encoding: str = "utf-8",
    ) -> Tokens:
        """The most frequent words of the texts, or the merges of byte-pair encoding (Sennrich et al. 2016).

        Args:
            vocabulary_size: ids at most, the five special ones among them.
            min_count: words (merges) that occur less often are left out.
        """
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        require(level in ("word", "bpe"), "level", level, "must be word or bpe")
        lowest = len(SPECIAL) + (BYTES if level == "bpe" else 1)
        require(
            vocabulary_size >= lowest, "vocabulary_size", vocabulary_size, f"must be {lowest} or more at this level"
        )
        require(min_count >= 1, "min_count", min_count, "must be 1 or more")
        require(max_length >= 2, "max_length", max_length, "must be 2 or more: a token and the end")
        common: dict[str, Any] = {
            "vocab_size": vocabulary_size,
            "min_frequency": min_count,
            "special_tokens": list(SPECIAL),
            "show_progress": False,
        }
        trainer: WordLevelTrainer | BpeTrainer
        if level == "word":
            tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[UNK]))
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "removed", invert=True)
            trainer = trainers.WordLevelTrainer(**common)
        else:
            tokenizer = Tokenizer(models.BPE())
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
            tokenizer.decoder = decoders.ByteLevel()
            trainer = trainers.BpeTrainer(**common, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
        steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.train_from_iterator(texts, trainer, length=len(texts))
        if tokenizer.get_vocab_size() <= len(SPECIAL):
            raise DataError(f"no word occurs min_count={min_count} times in the training texts")
        return cls(_literal(tokenizer), level, max_length, column, encoding)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.tokenizer.get_vocab_size()

    def describe(self, name: str, train: Split, classes: tuple[str, ...]) -> DataSpec:
        """One example of the data."""
        top = float(self.size - 1)
        return DataSpec(name, "tokens", (self.max_length,), 0.0, top, classes, vocabulary=self.size)

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, list[str]]:
        """(N, max_length) int64 ids, and what happened to the texts that a person should know."""
        ids, cut = np.full((len(texts), self.max_length), PAD, np.int64), 0
        for start in range(0, len(texts), AT_ONCE):
            part = self.tokenizer.encode_batch_fast(list(texts[start : start + AT_ONCE]))
            for row, encoding in zip(ids[start : start + AT_ONCE], part, strict=True):
                found = encoding.ids
                cut += len(found) >= self.max_length
                found = [*found[: self.max_length - 1], EOS]
                row[: len(found)] = found
        long = f"{cut:,} of {len(texts):,} texts are cut to {self.max_length} tokens, their end among them"
        return torch.from_numpy(ids), [long] if cut else []

    def texts(self, x: Tensor | np.ndarray) -> list[str]:
        """(N, T) ids -> what people read, each up to its EOS. Case and spacing are those of the vocabulary."""
        rows = []
        for row in np.asarray(x).tolist():
            row = row[: row.index(EOS)] if EOS in row else row
            row = [i for i in row if i not in (PAD, BOS)]
            if self.level == "bpe":
                rows.append(self.tokenizer.decode(row, skip_special_tokens=False).removeprefix(" "))
            else:
                rows.append(written([self.tokenizer.id_to_token(i) or SPECIAL[UNK] for i in row]))
        return rows

    def save(self, folder: Path) -> None:
        """preprocessing.json and tokenizer.json."""
        kept = {"level": self.level, "max_length": self.max_length, "column": self.column, "encoding": self.encoding}
        (folder / TOKENIZER).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")
        write_json(folder / FILE, {"kind": self.kind, "vocabulary": self.size, **kept})

    @classmethod
    def load(cls, folder: Path) -> Tokens:
        """ValueError where the files are damaged or do not fit each other."""
        from tokenizers import Tokenizer

        kept = json.loads((folder / FILE).read_text())
        try:
            tokenizer = _literal(Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8")))
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"{TOKENIZER}: {error}") from None
        special = [tokenizer.token_to_id(token) for token in SPECIAL]
        if tokenizer.get_vocab_size() != kept["vocabulary"] or special != [PAD, BOS, EOS, UNK, MASK]:
            raise ValueError(f"{TOKENIZER} does not fit {FILE}")
        return cls(tokenizer, kept["level"], int(kept["max_length"]), kept["column"], kept["encoding"])


def _literal(tokenizer: Tokenizer) -> Tokenizer:
    """`[PAD]` in a text is five signs, and not padding. A setting that the library does not save."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def checked(raw: Sequence[str]) -> list[str]:
    """A list of texts; DataError for anything else."""
    if isinstance(raw, str):
        raise DataError("expected a list of texts, found one text; put it in brackets")
    texts = list(raw)
    if wrong := [i for i, text in enumerate(texts) if not isinstance(text, str)]:
        raise DataError(f"expected a list of texts, found {type(texts[wrong[0]]).__name__} at place {wrong[0]}")
    if not texts:
        raise DataError("expected a list of texts, found none")
    return texts


def beginning(text: str) -> str:
    """The first 100 characters, on one line."""
    return " ".join(text[: 4 * SHOWN].split())[:SHOWN]


def written(words: Sequence[str]) -> str:
    """Words and signs as they are written in a sentence: `a cat , " black " .` -> `a cat, "black".`"""
    text, glued, quoted = "", True, False
    for word in words:
        closes = word in set(".,!?;:%)]}…”") or (word == '"' and quoted)
        text += word if glued or closes else f" {word}"
        quoted ^= word == '"'
        glued = word in set("([{“$#@/") or (word == '"' and quoted)
    return text
