"""Texts from a decoder of sequences, token after token: the likeliest, a sample, or the best of a beam.

Sequences are (N, T) token ids, T the longest allowed: the text, EOS, then padding; without EOS where T are not enough.
Only tokens that a text can have are chosen: no padding, no begin, no mask, and no `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.data.split import BOS, EOS, MASK, PAD, UNK
from autoenc.errors import require

State = tuple[Tensor, ...]  # what a decoder knows of the tokens so far: each with the texts in the first dimension
NEVER = [PAD, BOS, UNK, MASK]


class Stepwise(Protocol):
    """A decoder that can go on from where it stopped."""

    longest: int

    def start(self, z: Tensor) -> State: ...

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]: ...


def _next(decoder: Stepwise, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """(N, V) log p of the next token, -inf where none of a text; and the state."""
    log_p, state = decoder.step(tokens, state)
    log_p[:, NEVER] = -torch.inf
    return log_p, state


@torch.no_grad()
def greedy(decoder: Stepwise, z: Tensor) -> Tensor:
    """(N, K) -> (N, T): the likeliest token at each step."""
    return _one_by_one(decoder, z, lambda log_p: log_p.argmax(-1))


@torch.no_grad()
def sample(
    decoder: Stepwise, z: Tensor, temperature: float = 1.0, top_p: float = 1.0, generator: torch.Generator | None = None
) -> Tensor:
    """(N, K) -> (N, T): each token drawn from p^(1 / temperature), of the likeliest tokens that together have `top_p`.

    Args:
        temperature: 0: the likeliest.
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
        p = p.where(p.cumsum(-1) - p < top_p, 0)  # the first is always in
        return order.gather(1, torch.multinomial(p, 1, generator=generator)).squeeze(1)

    return _one_by_one(decoder, z, draw)


def _one_by_one(decoder: Stepwise, z: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
    state = decoder.start(z)
    tokens = torch.full((len(z),), BOS, device=z.device)
    done = torch.zeros_like(tokens, dtype=torch.bool)
    written = []
    for _ in range(decoder.longest):
        log_p, state = _next(decoder, tokens, state)
        tokens = choose(log_p).masked_fill(done, PAD)
        written.append(tokens)
        done = done | (tokens == EOS)
        if bool(done.all()):
            break
    return _padded(torch.stack(written, 1), decoder.longest)


def _padded(tokens: Tensor, longest: int) -> Tensor:
    return F.pad(tokens, (0, longest - tokens.shape[1]), value=PAD)


@torch.no_grad()
def beam(decoder: Stepwise, z: Tensor, width: int) -> Tensor:
    """(N, K) -> (N, T): the likeliest sequence found by keeping the `width` best beginnings at each step.

    A text that has ended competes with those that go on; log p is summed, not divided by the length. A beam may drop
    the way that leads to the greedy sequence: that one is returned where it is likelier than what the beam found.
    """
    require(width >= 1, "beam", width, "must be 1 or more")
    found, score = _beam(decoder, z, width)
    if width == 1:
        return found
    plain, reached = _beam(decoder, z, 1)
    return torch.where((reached > score)[:, None], plain, found)


def _beam(decoder: Stepwise, z: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """(N, T) the best sequences at the end, and their (N,) log p."""
    n = len(z)
    state = tuple(part.repeat_interleave(width, 0) for part in decoder.start(z))  # (N * width, ...)
    tokens = torch.full((n * width,), BOS, device=z.device)
    score = torch.full((n, width), -torch.inf, device=z.device)
    score[:, 0] = 0  # all beginnings are the same: one of them counts
    written = torch.empty(n * width, 0, dtype=torch.long, device=z.device)
    rows = torch.arange(n, device=z.device)[:, None] * width
    for _ in range(decoder.longest):
        log_p, state = _next(decoder, tokens, state)
        done = (tokens == EOS) | (tokens == PAD)  # goes on with padding, at no cost
        log_p = log_p.masked_fill(done[:, None], -torch.inf)
        log_p[:, PAD] = log_p[:, PAD].where(~done, 0)
        score, best = (score[..., None] + log_p.unflatten(0, (n, width))).flatten(1).topk(width, 1)
        origin, tokens = (rows + best // log_p.shape[1]).flatten(), (best % log_p.shape[1]).flatten()
        state = tuple(part[origin] for part in state)
        written = torch.cat([written[origin], tokens[:, None]], 1)
        if bool(((tokens == EOS) | (tokens == PAD)).all()):
            break
    return _padded(written.unflatten(0, (n, width))[:, 0], decoder.longest), score[:, 0]  # topk sorts
