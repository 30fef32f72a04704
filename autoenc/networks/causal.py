"""An autoregressive model of the indices of a discrete code: a small causal Transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.networks.attention import Block


class CausalTransformer(nn.Module):
    """p(i) = prod_t p(i_t | i_1, ..., i_(t-1)) of sequences of T indices.

    The first logits are those of independent indices, `bias`; the rest starts at zero.

    Args:
        length: T. symbols: number of values of an index.
        groups: index t has the meaning of index t + groups, such as a depth of a residual code, at another position.
        hidden, layers, heads, dropout: of the Transformer.
    """

    def __init__(
        self, length: int, symbols: int, groups: int, hidden: int, layers: int, heads: int = 4, dropout: float = 0.1
    ):
        super().__init__()
        self.symbols, self.groups = symbols, groups
        self.embedding = nn.Embedding(groups * symbols + 1, hidden)  # the last one begins the sequence
        self.position = nn.Parameter(0.02 * torch.randn(length, hidden))
        self.blocks = nn.ModuleList(Block(hidden, heads, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(hidden), nn.Linear(hidden, symbols, bias=False)
        self.bias = nn.Parameter(torch.zeros(length, symbols))
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.zeros_(self.out.weight)

    def forward(self, index: Tensor) -> Tensor:
        """Return the logits of each index given those before: (B, T) -> (B, T, symbols)."""
        logits, _ = self._step(index[:, :-1], 0, index.shape[1], [None] * len(self.blocks))
        return logits

    def log_prob(self, index: Tensor) -> Tensor:
        """Return log p of sequences in nats: (B, T) -> (B,)."""
        return -F.cross_entropy(self(index).transpose(1, 2), index, reduction="none").sum(1)

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw sequences (n, T), each index from p^(1 / temperature); at 0 the most likely one."""
        index = torch.zeros(n, 0, dtype=torch.long, device=self.bias.device)
        past: list[Tensor | None] = [None] * len(self.blocks)
        for t in range(len(self.position)):
            logits, past = self._step(index[:, t - 1 :] if t else index, t, 1, past)
            if temperature == 0:
                drawn = logits[:, 0].argmax(-1, keepdim=True)
            else:
                drawn = torch.multinomial((logits[:, 0] / temperature).softmax(-1), 1)
            index = torch.cat([index, drawn], 1)
        return index

    def _step(
        self, before: Tensor, start: int, count: int, past: list[Tensor | None]
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Return the logits (B, count, symbols) of the indices from `start` on, and keys and values of all so far.

        Args:
            before: the indices before each of them; at start 0 without the first, which has none before it.
            past: keys and values of the indices before.
        """
        device = before.device
        group = torch.arange(start - 1 if start else 0, start + count - 1, device=device) % self.groups
        tokens = before + group * self.symbols
        if start == 0:
            begin = torch.full((len(before), 1), self.groups * self.symbols, device=device)
            tokens = torch.cat([begin, tokens], 1)
        x = self.embedding(tokens) + self.position[start : start + count]
        mask = torch.ones(count, start + count, dtype=torch.bool, device=device).tril(start)
        kept: list[Tensor | None] = []
        for block, seen in zip(self.blocks, past, strict=True):
            x, now = block(x, mask, seen)
            kept.append(now)
        return self.out(self.norm(x)) + self.bias[start : start + count], kept
