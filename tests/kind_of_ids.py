"""A kind of token ids without a tokenizer, for models that need one."""

from dataclasses import dataclass

from autoenc.data.kinds.tokens import Tokens


@dataclass(frozen=True)
class Ids(Tokens):
    """Ids 0 to high of sequences of shape (T,)."""

    @property
    def size(self) -> int:
        return int(self.high) + 1
