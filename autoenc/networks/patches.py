"""Examples as tokens: patches of images, spans of series, groups of values of vectors, columns of tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from autoenc.data.kinds.kind import Column
from autoenc.errors import ConfigError, require
from autoenc.networks.attention import positions

AMPLITUDE = 0.25  # of the first positions: those of 1 would outweigh the values of a patch
MOST = 64  # tokens of a vector or a series, about; and the square of those along the side of an image
BEARABLE = 1024  # tokens, whose attention takes time and memory in proportion to their square, unless asked for


class Patches(nn.Module):
    """Examples (B, *shape) as T tokens of D values each, (B, T, D), and back.

    Images (C, H, W) are cut into patches of size x size pixels, series (C, T) into spans of `size` steps, vectors (D,)
    into groups of `size` values. The tokens of a table are its columns: a number, or the dimensions of a category, with
    the dimension that says that the cell is missing; shorter ones are padded with 0.

    Args:
        size: None: the divisor nearest to an eighth of the shorter side, from 2 (images), or to 1/64 (others).
        columns: of a table.

    Attributes:
        coordinates: (T, A) places of the tokens along the axes of an example.
        alike: whether the values of all tokens mean the same, so that they may share weights.
    """

    index: Tensor  # (T, D) dimension of each value of a token; the number of dimensions for padding
    place: Tensor  # (*shape) number of each dimension in the flattened tokens
    coordinates: Tensor

    def __init__(self, input_shape: tuple[int, ...], size: int | None = None, columns: Sequence[Column] = ()):
        super().__init__()
        total, axes = math.prod(input_shape), len(input_shape)
        grid: tuple[int, ...]
        number = torch.arange(total).view(input_shape)
        if columns:
            if size is not None:
                raise ConfigError("patch", size, "must be null for tables, whose tokens are columns")
            missing = [[] if c.indicator is None else [c.indicator] for c in columns]
            rows = [torch.tensor([*range(c.start, c.stop), *m]) for c, m in zip(columns, missing, strict=True)]
            index, grid = pad_sequence(rows, batch_first=True, padding_value=total), (len(rows),)
        else:
            sides = input_shape[1:] if axes > 1 else input_shape
            size = _usual(sides) if size is None else size
            require(size >= 1, "patch", size, "must be 1 or more, or null")
            if any(side % size for side in sides):
                whole = " x ".join(map(str, sides))
                common = ", ".join(str(n) for n in range(1, math.gcd(*sides) + 1) if math.gcd(*sides) % n == 0)
                raise ConfigError("patch", size, f"must divide the size of the examples, {whole}: one of {common}")
            grid = tuple(side // size for side in sides)
            if axes == 3:
                cut = number.view(-1, grid[0], size, grid[1], size).permute(1, 3, 0, 2, 4)
            else:
                cut = number.view(-1, grid[0], size).transpose(0, 1)
            index = cut.reshape(math.prod(grid), -1)
        place = torch.empty(total + 1, dtype=torch.long)
        place[index.flatten()] = torch.arange(index.numel())
        self.alike, self.padded = axes > 1, bool((index == total).any())
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("place", place[:-1].view(input_shape), persistent=False)
        steps = torch.meshgrid(*(torch.arange(n) for n in grid), indexing="ij")
        self.register_buffer("coordinates", torch.stack(steps, -1).flatten(0, -2), persistent=False)

    @property
    def count(self) -> int:
        """Number of tokens T."""
        return len(self.index)

    @property
    def values(self) -> int:
        """Number of values D of a token."""
        return self.index.shape[1]

    def split(self, x: Tensor) -> Tensor:
        """Return the tokens of examples: (B, *shape) -> (B, T, D)."""
        flat = x.flatten(1)
        return (nn.functional.pad(flat, (0, 1)) if self.padded else flat)[:, self.index]

    def join(self, tokens: Tensor) -> Tensor:
        """Return the examples of tokens: (B, T, D) -> (B, *shape)."""
        return tokens.flatten(1)[:, self.place]

    def map(self, n_in: int, n_out: int) -> nn.Module:
        """Return an affine map of each token, (B, T, n_in) -> (B, T, n_out), shared if the tokens are alike."""
        return nn.Linear(n_in, n_out) if self.alike else LinearOfEach(self.count, n_in, n_out)

    def regions(self, pool: int) -> Tensor:
        """Return the region of each token, (T,), if every axis is divided into `pool` parts."""
        region = torch.zeros(self.count, dtype=torch.long)
        for axis, side in enumerate((self.coordinates.amax(0) + 1).tolist()):
            region = region * pool + self.coordinates[:, axis] * pool // side
        return region

    def positions(self, width: int) -> nn.Parameter:
        """Return learnt positions (T, width) that start at small sinusoids of the coordinates along each axis."""
        axes = self.coordinates.shape[1]
        part = math.ceil(width / axes)
        waves = positions(0, int(self.coordinates.max()) + 1, part + part % 2, torch.zeros(()))[:, :part]
        return nn.Parameter(AMPLITUDE * waves[self.coordinates].flatten(1)[:, :width].contiguous())


class LinearOfEach(nn.Module):
    """An affine map with weights of its own for each token: (B, T, n_in) -> (B, T, n_out)."""

    def __init__(self, count: int, n_in: int, n_out: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, n_in, n_out) / math.sqrt(n_in))
        self.bias = nn.Parameter(torch.zeros(count, n_out))

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.einsum("btd,tdw->btw", tokens, self.weight) + self.bias


def _usual(sides: Sequence[int]) -> int:
    """Return the default size of a patch; ConfigError if no size that divides the sides leaves a bearable number."""
    common, along = math.gcd(*sides), MOST if len(sides) == 1 else math.isqrt(MOST)
    wanted = max(min(sides) / along, len(sides))
    size = min((n for n in range(1, common + 1) if common % n == 0), key=lambda n: abs(n - wanted))
    tokens, whole = math.prod(side // size for side in sides), " x ".join(map(str, sides))
    remedy = f"choose another size of the examples, with a common divisor, or set {size}"
    require(tokens <= BEARABLE, "patch", None, f"examples of {whole} would be {tokens:,} tokens; {remedy}")
    return size
