"""Residual quantization, the codes of RQ-VAE (Lee et al. 2022, "Autoregressive image generation using residual
quantization")."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.bottlenecks.discrete.quantized import VectorQuantized
from autoenc.bottlenecks.discrete.symbols import frequencies, straight_through, use
from autoenc.core import Code
from autoenc.errors import require
from autoenc.priors import Categorical

CANDIDATES = 8_192  # sums of entries that `project` compares at each depth and position
CHUNK = 4_096  # positions at a time, 128 MB of distances
ROUNDING = 1e-5  # relative


class ResidualQuantized(VectorQuantized):
    """z = sum_d e_{k_d}, where k_d chooses the entry nearest to the residual that the depths before have left.

    r_0 = z_e, k_d = argmin_j |r_{d-1} - e_j|, r_d = r_{d-1} - e_{k_d} (sec. 3.1). The commitment loss has a term
    for each depth, beta sum_d |z_e - sg(z_d)|^2 with the partial sums z_d. Codebooks are learned as those of
    VectorQuantized, from the residuals. With depth 1 the code is that of VectorQuantized.

    Args:
        depth: number D of entries at each position.
        shared: use one codebook for all depths, as the paper does; else each depth has its own.
    """

    first: Tensor  # (D,) row of the codebook that the entries of each depth begin at

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        codes: int = 256,
        depth: int = 4,
        shared: bool = True,
        beta: float = 0.25,
        learning: Literal["ema", "gradient"] = "ema",
        decay: float = 0.99,
        dead_after: int = 2_000,
    ):
        super().__init__(feature_shape, latent_dim, codes, beta, learning, decay, dead_after)
        require(depth >= 1, "depth", depth, "must be 1 or more")
        self.depth, self.shared, self.groups = depth, shared, depth
        self.index_shape = (*self.latent_shape[1:], depth)
        self.no_density = f"they are sums of {depth} of {codes} points, with a prior of their own"
        self.remark = ""
        self.prior = Categorical(self.index_shape, codes, decay)
        if not shared:
            self._create(depth * codes, latent_dim)
        self.starts = [0 if shared else step * codes for step in range(depth)]
        self.register_buffer("first", torch.tensor(self.starts), persistent=False)

    def _quantize(self, encoded: Tensor) -> Code:
        residual = encoded.detach()
        sums = [torch.zeros_like(residual)]  # z_0 ... z_D
        rows, residuals, losses = [], [], {"commitment": encoded.new_zeros(())}
        margin = encoded.new_tensor(torch.inf)
        for step, first in enumerate(self.starts):
            if self.training:  # a shared codebook has entries of the size of the residuals of each depth
                self._restart(residual, first, 1 / (self.depth - step) if self.shared else 1.0)
            (nearest, second), (index, _) = (found.unbind(-1) for found in self._ranked(residual, 2, first))
            margin = torch.minimum(margin, (second - nearest)[:, None].flatten(1).amin(1))
            rows.append(index + first)
            if self.training:
                self.idle[rows[-1].flatten()] = 0  # the next depth must not replace them
            residuals.append(residual)
            entry = self._lookup(rows[-1])
            sums.append(sums[-1] + entry)
            losses["commitment"] = losses["commitment"] + _square(encoded - sums[-1].detach())
            if self.learning == "gradient":
                losses["codebook"] = losses.get("codebook", 0) + _square(residual - entry)
            residual = residual - entry.detach()
        losses["commitment"] = self.beta * losses["commitment"]
        chosen = torch.stack(rows, -1)  # (B, *positions, D)
        index = chosen - self.first
        if self.training:
            self.prior.observe(frequencies(index, self.codes))
            self._observe(torch.stack(residuals, -1).movedim(1, -1), chosen)
        z = straight_through(sums[-1], encoded)
        return Code(z=z, mean=z, losses=losses, info={"index": index, "margin": margin.detach()})

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest sum of entries that a beam search finds.

        Choosing one depth at a time, as `forward` does, misses one code in seven that is such a sum already.
        """
        vectors = z.movedim(1, -1)
        if torch.compiler.is_exporting():  # the number of parts would be fixed
            return self._nearest_sum(vectors).movedim(-1, 1)
        parts = [self._nearest_sum(part) for part in vectors.flatten(0, -2).split(CHUNK)]
        return torch.cat(parts).view(vectors.shape).movedim(-1, 1)

    def _nearest_sum(self, z: Tensor) -> Tensor:
        """Return the nearest sums of entries to vectors: (*R, C) -> (*R, C)."""
        codebook, z = self.codebook.detach(), z.unsqueeze(-2)
        sums = torch.zeros_like(z)  # (*R, beam, C)
        for first in self.starts:
            entries, residual = codebook[first : first + self.codes], z - sums
            distance = residual.square().sum(-1, keepdim=True) - 2 * residual @ entries.T + entries.square().sum(-1)
            beam = min(max(1, CANDIDATES // self.codes), distance.shape[-2] * self.codes)
            best = distance.flatten(-2).topk(beam, largest=False).indices  # (*R, beam)
            sums = _pick(sums, best // self.codes) + F.embedding(best % self.codes, entries)
        found = _pick(sums, (z - sums).square().sum(-1).argmin(-1, keepdim=True))
        same = (found - z).abs().amax(-1, keepdim=True) <= ROUNDING * z.abs().amax(-1, keepdim=True)
        return torch.where(same, z, found).squeeze(-2)  # the same entries, added in another order

    def margin(self, code: Code) -> Tensor:
        """Return |residual - e|^2 of the second nearest entry less that of the nearest, the minimum over positions and
        depths."""
        return code.info["margin"]

    def from_indices(self, index: Tensor) -> Tensor:
        entries = self._lookup(index + self.first).detach()  # (N, C, *positions, D)
        total = torch.zeros_like(entries[..., 0])
        for step in range(self.depth):  # in the order of `forward`: the same floating-point sum
            total = total + entries[..., step]
        return total

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw entries from the prior, independently at each position and depth."""
        return self.from_indices(self.prior.sample(n, temperature))

    def tally(self, code: Code) -> dict[str, Tensor]:
        index = code.info["index"]
        return {"chosen": frequencies(index.view(-1, self.depth), self.codes) * index[..., 0].numel()}  # (D, codes)

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return code_perplexity, mean over depths, and codes_used; see `use`."""
        numbers = use(sums["chosen"])
        if self.shared:
            numbers["codes_used"] = (sums["chosen"].sum(0) > 0).double().mean()
        return numbers


def _square(difference: Tensor) -> Tensor:
    """Return the squared norm of each example: (B, *) -> (B,)."""
    return difference.square().flatten(1).sum(-1)


def _pick(sums: Tensor, index: Tensor) -> Tensor:
    """Return the sums of a beam at `index`: (*R, beam, C), (*R, n) -> (*R, n, C)."""
    return sums.gather(-2, index[..., None].expand(*index.shape, sums.shape[-1]))
