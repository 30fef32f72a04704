"""Autoregressive decoding: greedy search, sampling and beam search.

Sequences are (N, T) token ids, T the maximal length: the text, EOS, then padding; no EOS if T tokens are not enough.
The special tokens PAD, BOS, UNK and MASK are never chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.data.split import BOS, EOS, MASK, PAD, UNK
from autoenc.errors import require

State = tuple[Tensor, ...]  # of a decoder after the tokens so far; the first dimension of each tensor is the batch
NEVER = [PAD, BOS, UNK, MASK]


class Stepwise(Protocol):
    """A decoder that reads one token at a time."""

    longest: int

    def start(self, z: Tensor) -> State: ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]: ...


def _next(decoder: Stepwise, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """Return log p of the next token (N, V), -inf for special tokens, and the state."""
    log_p, state = decoder.step(tokens, state)
    log_p[:, NEVER] = -torch.inf
    return log_p, state


@torch.no_grad()
def greedy(decoder: Stepwise, z: Tensor) -> Tensor:
    """Return the most likely token at each step: (N, K) -> (N, T)."""
    return _one_by_one(decoder, z, lambda log_p: log_p.argmax(-1))


@torch.no_grad()
def sample(
    decoder: Stepwise, z: Tensor, temperature: float = 1.0, top_p: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """Draw each token from p^(1 / temperature), restricted to the `top_p` nucleus: (N, K) -> (N, T).

    Args:
        temperature: 0: greedy search.
        top_p: nucleus sampling (Holtzman et al. 2020): the smallest set of tokens with at least this probability.

    Raises:
        ConfigError: a value out of range.
    """
    require(0 <= temperature < torch.inf, "temperature", temperature, "must be 0 or more")
    require(0 < top_p <= 1, "top_p", top_p, "must lie in (0, 1]")
    if temperature == 0:
        return greedy(decoder, z)

    def draw(log_p: Tensor) -> Tensor:
        p, order = (log_p / temperature).softmax(-1).sort(-1, descending=True)
        p = p.where(p.cumsum(-1) - p < top_p, 0)  # the most likely token is always kept
        return order.gather(1, torch.multinomial(p, 1, generator=generator)).squeeze(1)

    return _one_by_one(decoder, z, draw)


def _one_by_one(decoder: Stepwise, z: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
    state = decoder.start(z)
    tokens = torch.full((len(z),), BOS, device=z.device)
    done = torch.zeros_like(tokens, dtype=torch.bool)
    chosen = []
    for _ in range(decoder.longest):
        log_p, state = _next(decoder, tokens, state)
        tokens = choose(log_p).masked_fill(done, PAD)
        chosen.append(tokens)
        done = done | (tokens == EOS)
        if bool(done.all()):
            break
    return _padded(torch.stack(chosen, 1), decoder.longest)


def _padded(tokens: Tensor, longest: int) -> Tensor:
    return F.pad(tokens, (0, longest - tokens.shape[1]), value=PAD)


@torch.no_grad()
def beam(decoder: Stepwise, z: Tensor, width: int) -> Tensor:
    """Return the most likely sequence of a beam search that keeps `width` prefixes at each step: (N, K) -> (N, T).

    Complete texts compete with incomplete ones; log p is summed, not divided by the length. A beam may drop the prefix
    of the greedy sequence, which is returned if it is more likely than the result of the beam.
    """
    require(width >= 1, "beam", width, "must be 1 or more")
    tokens, score = _beam(decoder, z, width)
    if width == 1:
        return tokens
    greedy_tokens, greedy_score = _beam(decoder, z, 1)
    return torch.where((greedy_score > score)[:, None], greedy_tokens, tokens)


def _beam(decoder: Stepwise, z: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return the best sequences (N, T) and their log p (N,)."""
    n = len(z)
    state = tuple(part.repeat_interleave(width, 0) for part in decoder.start(z))  # (N * width, ...)
    tokens = torch.full((n * width,), BOS, device=z.device)
    score = torch.full((n, width), -torch.inf, device=z.device)
    score[:, 0] = 0  # all prefixes are equal at first: only one counts
    prefix = torch.empty(n * width, 0, dtype=torch.long, device=z.device)
    rows = torch.arange(n, device=z.device)[:, None] * width
    for _ in range(decoder.longest):
        log_p, state = _next(decoder, tokens, state)
        done = (tokens == EOS) | (tokens == PAD)  # continued by padding, at no cost
        log_p = log_p.masked_fill(done[:, None], -torch.inf)
        log_p[:, PAD] = log_p[:, PAD].where(~done, 0)
        score, best = (score[..., None] + log_p.unflatten(0, (n, width))).flatten(1).topk(width, 1)
        origin, tokens = (rows + best // log_p.shape[1]).flatten(), (best % log_p.shape[1]).flatten()
        state = tuple(part[origin] for part in state)
        prefix = torch.cat([prefix[origin], tokens[:, None]], 1)
        if bool(((tokens == EOS) | (tokens == PAD)).all()):
            break
    return _padded(prefix.unflatten(0, (n, width))[:, 0], decoder.longest), score[:, 0]  # topk sorts
