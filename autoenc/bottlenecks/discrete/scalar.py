"""Finite scalar quantization (Mentzer et al. 2024, "Finite scalar quantization: VQ-VAE made simple")."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from autoenc.bottlenecks.affine import affine, latent_shape_of
from autoenc.bottlenecks.discrete.symbols import check_size, frequencies, straight_through, use
from autoenc.core import Bottleneck, Code
from autoenc.errors import require
from autoenc.priors import Categorical

EPS = 1e-3  # keeps the bounded values off the outermost boundaries, as in the paper
MOST = 2**16  # codes, the largest codebook of the paper


class FiniteScalar(Bottleneck):
    """z_c = round(f(y_c)) / floor(L_c / 2) with y an affine map of the features at each position.

    f(y) = tanh(y + s) (L - 1)(1 - eps) / 2 - o bounds a channel to L whole numbers (sec. 3.1 and appendix A.1), with
    offset o = 1/2 for even L and the paper's shift s = tan(o / ((L - 1)(1 - eps) / 2)). Gradients pass straight through
    the rounding, dz/df = 1 / floor(L / 2). The codebook is implicit, all prod_c L_c combinations: nothing is learned,
    and there is no commitment loss. Index of a code: sum_c d_c prod_{i<c} L_i, d_c in 0 ... L_c - 1.

    Args:
        levels: L of each of the latent_dim channels.
        decay: of the moving average of frequencies in the prior.
    """

    code_range = (-1.0, 1.0)
    levels: Tensor  # (C,)
    basis: Tensor  # (C,) index of the first level above the lowest of each channel
    prior: Categorical

    def __init__(
        self, feature_shape: tuple[int, ...], latent_dim: int, levels: Sequence[int] = (8, 6, 5), decay: float = 0.99
    ):
        super().__init__()
        levels = list(levels)
        require(len(levels) > 0 and min(levels) >= 2, "levels", levels, "must be 2 or more for each channel")
        why = f"must have one number for each of the model.latent_dim={latent_dim} channels"
        require(len(levels) == latent_dim, "levels", levels, why)
        self.symbols = math.prod(levels)
        require(self.symbols <= MOST, "levels", levels, f"give {self.symbols:,} codes; at most {MOST:,}: use fewer")
        require(0 < decay < 1, "decay", decay, "must lie between 0 and 1")
        self.latent_shape = latent_shape_of(feature_shape, latent_dim)
        self.index_shape = self.latent_shape[1:]
        self.no_density = f"they are {self.symbols} points, with a prior of their own"
        self.linear = affine(feature_shape, latent_dim)
        self.prior = Categorical(self.index_shape, self.symbols, decay)
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        basis = [math.prod(levels[:channel]) for channel in range(len(levels))]
        self.register_buffer("basis", torch.tensor(basis), persistent=False)

    def forward(self, features: Tensor) -> Code:
        bounded = self._bound(self.linear(features).float())
        whole = straight_through(bounded.round(), bounded)
        z = whole / self._shaped(self.levels // 2)
        index = self._index(whole.detach())
        if self.training:
            self.prior.observe(frequencies(index, self.symbols))
        return Code(z=z, mean=z, info={"index": index, "bounded": bounded.detach()})

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest levels."""
        half = self._shaped(self.levels // 2)
        return (z * half).round().clamp(min=-half, max=self._shaped(self.levels) - 1 - half) / half

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw codes from the prior, independently at each position."""
        return self.from_indices(self.prior.sample(n, temperature))

    def margin(self, code: Code) -> Tensor:
        """Return the distance of the bounded values from where rounding changes, the minimum over channels."""
        bounded = code.info["bounded"]
        return (0.5 - (bounded - bounded.round()).abs()).flatten(1).amin(1)

    def indices(self, code: Code) -> Tensor:
        return code.info["index"]

    def from_indices(self, index: Tensor) -> Tensor:
        half = self.levels // 2
        digits = index[..., None] // self.basis % self.levels  # (N, *positions, C)
        return ((digits - half) / half).movedim(-1, 1)

    def tally(self, code: Code) -> dict[str, Tensor]:
        return {"chosen": torch.bincount(code.info["index"].flatten(), minlength=self.symbols)}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return use(sums["chosen"])

    def check(self, examples: int) -> None:
        check_size("levels", self.levels.tolist(), self.symbols, examples, math.prod(self.index_shape))

    def _bound(self, y: Tensor) -> Tensor:
        """Return f(y): (N, C, *positions) -> the same."""
        levels = self._shaped(self.levels)
        half, offset = (levels - 1) * (1 - EPS) / 2, (1 - levels % 2) / 2
        return torch.tanh(y + torch.tan(offset / half)) * half - offset

    def _index(self, whole: Tensor) -> Tensor:
        """Return indices of whole numbers: (N, C, *positions) -> (N, *positions)."""
        digits = whole.movedim(1, -1).long() + self.levels // 2
        return (digits * self.basis).sum(-1)

    def _shaped(self, values: Tensor) -> Tensor:
        """Return values of the channels as they broadcast with codes: (C,) -> (C, *1)."""
        return values.view(-1, *[1] * len(self.index_shape))
