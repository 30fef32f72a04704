"""Token ids over a vocabulary that is learned from the training texts and saved with the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from autoenc import memory
from autoenc.core import Likelihood
from autoenc.data.kinds.counts import inverse_frequency, weighed
from autoenc.data.kinds.kind import FILE, REAL, common
from autoenc.data.kinds.texts import Texts, Tokenized, beginning, shared
from autoenc.data.split import BOS, EOS, MASK, PAD, SPECIAL, UNK, Split
from autoenc.errors import DataError, counted, require
from autoenc.files import read_text

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from tokenizers import Tokenizer
    from tokenizers.trainers import BpeTrainer, WordLevelTrainer

Level = Literal["word", "bpe"]
TOKENIZER = "tokenizer.json"
# Numbers with commas, words with apostrophes and hyphens, every other character by itself; with their combining marks
# and the joiners of Hindi and Persian.
LETTERS = r"\w[\w\p{M}\u200c\u200d]*"
WORD = rf"\d+(?:[.,]\d+)+|{LETTERS}(?:['\u2019-]{LETTERS})*|[^\w\s]\p{{M}}*"
BYTES = 256  # the alphabet of byte-pair encoding
AT_ONCE = 1_000  # documents encoded in one batch


@dataclass(frozen=True)
class Tokens(Texts):
    """Texts as token ids: the tokens of a document, EOS, then PAD up to `max_length`.

    Args:
        tokenizer: of the `tokenizers` library; the first ids are `split.SPECIAL`.
        level: word, or bpe (byte-pair encoding, which can represent every text).
    """

    tokenizer: Any = None
    level: Level = "word"

    name: ClassVar[str] = "tokens"
    noun: ClassVar[str] = "token ids"
    continuous: ClassVar[bool] = False
    remedy: ClassVar[str] = "data.level=bpe has no unknown words"
    parts: ClassVar[Mapping[str, str]] = {"network": "sequence", "likelihood": "tokens", "noise": "token_mask"}

    @property
    def max_length(self) -> int:
        """Number of ids of a document."""
        return self.shape[0]

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
        quoting: str = "double",
    ) -> Tokens:
        """Learn the most frequent words of the texts, or merges of byte-pair encoding (Sennrich et al. 2016).

        Args:
            vocabulary_size: maximum number of ids, including the five special ones.
            min_count: minimum number of occurrences of a word (merge).
        """
        from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        require(level in ("word", "bpe"), "level", level, "must be word or bpe")
        lowest = len(SPECIAL) + (BYTES if level == "bpe" else 1)
        require(
            vocabulary_size >= lowest, "vocabulary_size", vocabulary_size, f"must be {lowest} or more at this level"
        )
        require(min_count >= 1, "min_count", min_count, "must be 1 or more")
        require(max_length >= 2, "max_length", max_length, "must be 2 or more: a token and the end token")
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
        high = float(tokenizer.get_vocab_size() - 1)
        return cls((max_length,), 0.0, high, column, encoding, quoting, _literal(tokenizer), level)

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.tokenizer.get_vocab_size()

    def given(self) -> dict[str, Any]:
        return {"vocabulary": self.size}

    @property
    def outputs(self) -> int:
        return self.max_length * self.size

    def lengths(self, split: Split) -> Tensor:
        return (split.tensor != PAD).sum(1)

    def words(self, x: Tensor) -> Tensor:
        """Return the number of tokens of each text, including the end token."""
        return (x != PAD).sum(-1).float()

    def metrics(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> dict[str, Tensor]:
        """Return accuracy, the fraction of tokens that are predicted correctly (without padding), and words."""
        real, words = x != PAD, self.words(x)
        right = torch.zeros_like(x).masked_scatter(real, (params.argmax(-1) == x[real]).to(x.dtype))
        return {"accuracy": right.sum(-1) / words.clamp(min=1), "words": words}

    def error(self, params: Tensor, x: Tensor, likelihood: Likelihood) -> Tensor:
        """Return the negative log-likelihood per token, in nats.

        An unknown word is one of at least as many as are known: the probability of [UNK] is shared among them.
        """
        unknown = (x == UNK).sum(-1) * math.log(max(self.size - len(SPECIAL), 1))
        return (likelihood.nll(params, x) + unknown) / self.words(x).clamp(min=1)

    def annotations(self, split: Split) -> dict[str, np.ndarray]:
        """Return the fraction of unknown words."""
        ids = split.tensor.cpu().numpy()
        return {"unknown": (ids == UNK).sum(1) / (ids > EOS).sum(1).clip(1)}

    def lexical(self, train: Split, queries: Split) -> tuple[csr_matrix, csr_matrix]:
        """Return TF-IDF rows of the known tokens, with the idf of the training rows."""
        one, two = (self._counted(split) for split in (train, queries))
        idf = inverse_frequency(one)
        return weighed(one, idf), weighed(two, idf)

    def _counted(self, split: Split) -> csr_matrix:
        """Return how often each token that is not special occurs, (N, vocabulary - 5)."""
        from scipy.sparse import csr_matrix

        ids = split.tensor.cpu().numpy()
        rows, places = np.nonzero(ids >= len(SPECIAL))
        found = ids[rows, places] - len(SPECIAL)
        return csr_matrix((np.ones(len(found), np.float32), (rows, found)), (len(ids), self.size - len(SPECIAL)))

    def listing(self, x: Tensor) -> tuple[list[str], list[list[Any]]]:
        return ["text"], [[text] for text in self.decode(x)]

    def captions(self, split: Split) -> list[str]:
        return [beginning(text) for text in self.decode(split.tensor.cpu())]

    def _shaped(self, x: Tensor, what: str) -> Tensor:
        return x if x.dim() == 2 else super()._shaped(x, what)

    def _check(self, split: Split, what: str, noisy: bool, support: tuple[float, float]) -> None:
        """Reject values that are not ids of the vocabulary."""
        x = split.tensor
        if bool((x != x.round()).any()) or int(x.min()) < 0 or int(x.max()) >= self.size:
            raise DataError(f"{what}: expected token ids from 0 to {self.size - 1}, or a list of texts")

    def encode(self, raw: Any, what: str = "input", noisy: bool = False, support: tuple[float, float] = REAL) -> Split:
        """Encode texts, or ids (N, T), as int64 ids."""
        split = super().encode(raw, what, noisy, support)
        return split if split.tensor.dtype == torch.int64 else Split(split.tensor.long())

    def tokenize(self, texts: Sequence[str]) -> Tokenized:
        """Return ids (N, max_length) int64, how much of them is unknown, and how many texts are truncated."""
        memory.check_options(8 * len(texts) * self.max_length, max_length=self.max_length)
        ids, truncated = np.full((len(texts), self.max_length), PAD, np.int64), 0
        for start in range(0, len(texts), AT_ONCE):
            part = self.tokenizer.encode_batch_fast(list(texts[start : start + AT_ONCE]))
            for row, encoding in zip(ids[start : start + AT_ONCE], part, strict=True):
                tokens = encoding.ids
                truncated += len(tokens) >= self.max_length
                tokens = [*tokens[: self.max_length - 1], EOS]
                row[: len(tokens)] = tokens
        note = (
            f"{counted(truncated, 'texts are', len(texts))} truncated to {self.max_length} tokens, end token included"
        )
        unknown, words = (ids == UNK).sum(1), (ids > EOS).sum(1)  # PAD, BOS and EOS are the first ids
        return Tokenized(
            torch.from_numpy(ids),
            float(unknown.sum() / max(words.sum(), 1)),
            int((unknown == words).sum()),
            len(texts),
            [note] if truncated else [],
        )

    def decode(self, x: Tensor | np.ndarray) -> list[str]:
        """Convert ids (N, T) to readable text, each up to its EOS; case and spacing are those of the vocabulary."""
        rows = []
        for row in np.asarray(x).tolist():
            row = row[: row.index(EOS)] if EOS in row else row
            row = [i for i in row if i not in (PAD, BOS)]
            if self.level == "bpe":
                rows.append(self.tokenizer.decode(row, skip_special_tokens=False).removeprefix(" "))
            else:
                rows.append(written([self.tokenizer.id_to_token(i) or SPECIAL[UNK] for i in row]))
        return rows

    def state(self) -> dict[str, Any]:
        return super().state() | {"level": self.level, "vocabulary": self.size}

    def save(self, folder: Path) -> None:
        """Write kind.json and tokenizer.json."""
        (folder / TOKENIZER).write_text(self.tokenizer.to_str(pretty=True), encoding="utf-8")
        super().save(folder)

    @classmethod
    def load(cls, folder: Path, values: dict[str, Any]) -> Tokens:
        """Return the kind that `save` wrote; ValueError if the files are damaged or inconsistent."""
        from tokenizers import Tokenizer

        try:
            tokenizer = _literal(Tokenizer.from_str(read_text(folder / TOKENIZER)))
        except Exception as error:  # the library raises plain exceptions
            raise ValueError(f"{TOKENIZER}: {error}") from None
        special = [tokenizer.token_to_id(token) for token in SPECIAL]
        if tokenizer.get_vocab_size() != values["vocabulary"] or special != [PAD, BOS, EOS, UNK, MASK]:
            raise ValueError(f"{TOKENIZER} is inconsistent with {FILE}")
        return cls(**common(values), **shared(values), tokenizer=tokenizer, level=values["level"])


def _literal(tokenizer: Tokenizer) -> Tokenizer:
    """Treat `[PAD]` in a text as five characters, not as padding; the library does not save this setting."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def written(words: Sequence[str]) -> str:
    """Join words and punctuation as in a sentence: `a cat , " black " .` -> `a cat, "black".`"""
    text, glued, quoted = "", True, False
    for word in words:
        closes = word in set(".,!?;:%)]}…”") or (word == '"' and quoted)
        text += word if glued or closes else f" {word}"
        quoted ^= word == '"'
        glued = word in set("([{“$#@/") or (word == '"' and quoted)
    return text
