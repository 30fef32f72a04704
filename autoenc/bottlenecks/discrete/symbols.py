"""What discrete codes share: straight-through gradients, and counts of the indices."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autoenc.errors import require


def straight_through(z: Tensor, continuous: Tensor) -> Tensor:
    """Return exactly z, with the gradient of `continuous` (Bengio, Leonard & Courville 2013)."""
    return z.detach() + (continuous - continuous.detach())


def frequencies(index: Tensor, symbols: int) -> Tensor:
    """Return the relative frequencies of the symbols at each place: (B, *index_shape) -> (*index_shape, symbols)."""
    places = math.prod(index.shape[1:])
    rows = index.flatten(1) if index.dim() > 1 else index[:, None]
    offset = torch.arange(places, device=index.device) * symbols
    counts = torch.bincount((rows + offset).flatten(), minlength=places * symbols)
    return (counts / len(index)).view(*index.shape[1:], symbols)


def use(chosen: Tensor) -> dict[str, Tensor]:
    """Return the use of a codebook, from the counts (*, codes) of its entries.

    code_perplexity: exp of the entropy of the chosen entries, at most `codes`; the mean over rows. codes_used: fraction
    of the entries that are chosen at all.
    """
    p = chosen.double() / chosen.sum(-1, keepdim=True)
    return {"code_perplexity": torch.special.entr(p).sum(-1).exp().mean(), "codes_used": (p > 0).double().mean()}


def check_size(key: str, value: object, codes: int, examples: int, positions: int) -> None:
    """Raise ConfigError if there are more codes than positions of all training examples to choose them."""
    of = f"{examples:,} examples" + (f" of {positions} positions" if positions > 1 else "")
    size = "" if value == codes else f"{codes:,} codes, "
    why = f"{size}a codebook larger than the training set, which has {of}"
    require(codes <= examples * positions, key, value, why)
