"""Pre-norm Transformer layers (Vaswani et al. 2017; Xiong et al. 2020) with a cache of keys and values."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.errors import require

EXPANSION = 4  # width of the feed-forward layer, as in the paper


def check_layers(cell: str, **sizes: int) -> None:
    """Raise ConfigError for another cell than gru and transformer, or a size below 1."""
    require(cell in ("gru", "transformer"), "cell", cell, "must be gru or transformer")
    for key, size in sizes.items():
        require(size >= 1, key, size, "must be 1 or more")


class Block(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual connection."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm_attention, self.norm_hidden = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(
            nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width), nn.Dropout(dropout)
        )

    def forward(self, x: Tensor, mask: Tensor | None, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Process the next t positions.

        Args:
            x: (B, t, W). mask: broadcasts to (B, heads, t, p + t), True where attention is allowed; None: everywhere.
            past: (B, 2, heads, p, W / heads) keys and values of the p positions before, if any.

        Returns:
            (B, t, W), and keys and values of all p + t positions.
        """
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.query_key_value(self.norm_attention(x)).chunk(3, -1)
        )  # (B, heads, t, W / heads)
        seen = torch.stack([key, value], 1)
        if past is not None:
            seen = torch.cat([past, seen], 3)
        read = _attend(query, seen[:, 0], seen[:, 1], mask)
        x = x + self.dropout(self.join(read.transpose(1, 2).flatten(2)))
        return x + self.hidden(self.norm_hidden(x)), seen


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v; on a CPU not in bfloat16, whose gradient takes five times as long there."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask)


def positions(start: int, count: int, width: int, like: Tensor) -> Tensor:
    """Return sinusoidal encodings (count, width) of the positions from `start`."""
    index = torch.arange(start, start + count, device=like.device)[:, None]  # which bfloat16 rounds from 257 on
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000) / width))
    return torch.cat([(index * rate).sin(), (index * rate).cos()], 1)[:, :width].to(like.dtype)
