"""Vector quantization, the discrete codes of VQ-VAE (van den Oord et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.bottlenecks.affine import affine, latent_shape_of
from autoenc.bottlenecks.discrete.symbols import check_size, frequencies, straight_through, use
from autoenc.core import Bottleneck, Code, Verdict
from autoenc.errors import require
from autoenc.priors import Categorical
from autoenc.verdict import of_codebook

SMOOTHING = 1e-5  # Laplace smoothing of the counts
DISTANCES = 2**21  # at a time, 8 MB


class VectorQuantized(Bottleneck):
    """z = e_k with k = argmin_j |z_e - e_j|, z_e an affine map of the features at each position.

    Gradients pass straight through, dz/dz_e = I. The commitment loss beta |z_e - sg(e_k)|^2, summed over positions and
    channels, keeps the encoder near its entry. The codebook follows the encoder:

        ema       e_j is the moving average of the z_e that chose it: N_j <- decay N_j + (1 - decay) n_j and
                  m_j <- decay m_j + (1 - decay) sum z_e, e_j = m_j / N_j with Laplace-smoothed N_j (appendix A.1)
        gradient  by the loss |sg(z_e) - e_k|^2

    Entries that no position of the last `dead_after` training examples has chosen are replaced by outputs of the
    encoder for the current batch; in the first step, all are, as far as the outputs suffice.

    Args:
        codes: number of entries of the codebook, each of latent_dim numbers.
        beta: weight of the commitment loss.
        learning: update rule of the codebook.
        decay: of the moving averages, and of the frequencies in the prior.
        dead_after: number of training examples.
    """

    codebook: Tensor  # (codes, latent_dim)
    count: Tensor  # (codes,) N_j
    total: Tensor  # (codes, latent_dim) m_j
    idle: Tensor  # (codes,) training examples since an entry was chosen
    prior: Categorical

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        codes: int = 256,
        beta: float = 0.25,
        learning: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        dead_after: int = 2_000,
    ):
        super().__init__()
        require(codes >= 2, "codes", codes, "must be 2 or more")
        require(beta >= 0, "beta", beta, "must be 0 or more")
        require(learning in ("ema", "gradient"), "learning", learning, "must be ema or gradient")
        require(0 < decay < 1, "decay", decay, "must lie between 0 and 1")
        require(dead_after >= 1, "dead_after", dead_after, "must be 1 or more")
        self.codes, self.beta, self.learning, self.decay, self.dead_after = codes, beta, learning, decay, dead_after
        self.latent_shape = latent_shape_of(feature_shape, latent_dim)
        self.symbols, self.index_shape = codes, self.latent_shape[1:]
        self.no_density = f"they are {codes} points, with a prior of their own"
        if len(self.latent_shape) == 1:
            self.remark = (
                f"the code is a single entry of the codebook, one of {codes} for a whole example; "
                "network=conv network.spatial=true gives a grid of entries"
            )
        self.linear = affine(feature_shape, latent_dim)
        self.prior = Categorical(self.latent_shape[1:], codes, decay)
        self._create(codes, latent_dim)

    def _create(self, rows: int, dim: int) -> None:
        """Set a codebook of random entries, all of them dead: (rows, dim)."""
        start = torch.randn(rows, dim)
        if self.learning == "gradient":
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("count", torch.zeros(rows))
            self.register_buffer("total", torch.zeros(rows, dim))
        self.register_buffer("idle", torch.full((rows,), self.dead_after))

    def forward(self, features: Tensor) -> Code:
        encoded = self.linear(features).float()
        with torch.autocast(encoded.device.type, enabled=False):  # distances need float32
            return self._quantize(encoded)

    def _quantize(self, encoded: Tensor) -> Code:
        if self.training:
            self._restart(encoded.detach())
        index = self._nearest(encoded.detach())  # (B, *positions)
        z = self._lookup(index)
        losses = {"commitment": self.beta * (encoded - z.detach()).square().flatten(1).sum(-1)}
        if self.learning == "gradient":
            losses["codebook"] = (encoded.detach() - z).square().flatten(1).sum(-1)
        if self.training:
            self.prior.observe(frequencies(index, self.codes))
            self._observe(encoded.detach().movedim(1, -1), index)
        z = straight_through(z, encoded)
        return Code(z=z, mean=z, losses=losses, info={"index": index, "encoded": encoded.detach()})

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest entry of the codebook at each position."""
        return self._lookup(self._nearest(z)).detach()

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw entries from the prior, independently at each position."""
        return self._lookup(self.prior.sample(n, temperature)).detach()

    def margin(self, code: Code) -> Tensor:
        """Return |z - e|^2 of the second nearest entry less that of the nearest, the minimum over positions."""
        first, second = self._ranked(code.info["encoded"], 2)[0].unbind(-1)
        return (second - first)[:, None].flatten(1).amin(1)

    def indices(self, code: Code) -> Tensor:
        return code.info["index"]

    def from_indices(self, index: Tensor) -> Tensor:
        return self._lookup(index).detach()

    def tally(self, code: Code) -> dict[str, Tensor]:
        return {"chosen": torch.bincount(code.info["index"].flatten(), minlength=self.codes)}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        return use(sums["chosen"])

    def check(self, examples: int) -> None:
        check_size("codes", self.codes, self.codes, examples, math.prod(self.latent_shape[1:]))

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        return of_codebook(numbers, "a smaller model.bottleneck.dead_after or a smaller optimizer.lr")

    def _nearest(self, z: Tensor) -> Tensor:
        return self._ranked(z, 1)[1].squeeze(-1)

    def _ranked(self, z: Tensor, k: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Return the k nearest of `codes` entries from row `first` on: |z - e|^2 - |z|^2, and the index among them.

        (N, C, *positions) -> (N, *positions, k) twice. Distances of a few vectors at a time fit in the cache, which is
        three times as fast, and in memory.
        """
        entries, vectors = self.codebook.detach()[first : first + self.codes], z.movedim(1, -1)
        squares, flat = entries.square().sum(-1), vectors.flatten(0, -2)
        size = max(1, DISTANCES // self.codes)
        parts = [flat] if torch.compiler.is_exporting() else flat.split(size)  # the number of parts would be fixed
        found = [F.linear(part, -2 * entries, squares).topk(k, largest=False) for part in parts]
        values, indices = (torch.cat(each).unflatten(0, vectors.shape[:-1]) for each in zip(*found, strict=True))
        return values, indices

    def _lookup(self, index: Tensor) -> Tensor:
        """Return entries by index: (N, *positions) -> (N, latent_dim, *positions)."""
        return F.embedding(index, self.codebook).movedim(-1, 1)

    @torch.no_grad()
    def _restart(self, encoded: Tensor, first: int = 0, fraction: float = 1.0) -> None:
        """Replace a fraction of the dead entries among `codes` from row `first` on by outputs of the encoder."""
        dead = first + (self.idle[first : first + self.codes] >= self.dead_after).nonzero().flatten()
        if len(dead) == 0:
            return
        vectors = encoded.movedim(1, -1).flatten(0, -2)
        most = math.ceil(fraction * len(dead))
        chosen = vectors[torch.randperm(len(vectors), device=vectors.device)[:most]]
        dead = dead[: len(chosen)]  # the others are replaced in the next batch
        self.codebook[dead] = chosen
        if self.learning == "ema":
            self.count[dead], self.total[dead] = 1.0, chosen
        self.idle[dead] = 0

    @torch.no_grad()
    def _observe(self, vectors: Tensor, rows: Tensor) -> None:
        """Update moving averages with the vectors (B, *, C) of a batch and the rows (B, *) that they have chosen."""
        chosen = torch.bincount(rows.flatten(), minlength=len(self.codebook)).to(vectors.dtype)
        self.idle += len(vectors)
        self.idle[chosen > 0] = 0
        if self.learning == "ema":
            total = torch.zeros_like(self.total).index_add(0, rows.flatten(), vectors.flatten(0, -2))
            self.count.lerp_(chosen, 1 - self.decay)
            self.total.lerp_(total, 1 - self.decay)
            n = self.count.sum()
            smoothed = (self.count + SMOOTHING) / (n + len(self.count) * SMOOTHING) * n
            self.codebook.copy_(self.total / smoothed[:, None])
