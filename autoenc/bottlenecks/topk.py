"""k-sparse codes (Makhzani & Frey 2013), with a record of dead units (Gao et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoenc.bottlenecks.affine import require_vector
from autoenc.core import Bottleneck, Code
from autoenc.errors import require


class TopK(Bottleneck):
    """z keeps the k largest of W features + b and sets the others to zero.

    Kept values may be negative, so that exactly k units are active. A unit that none of the last `dead_after` training
    examples has activated is dead; regularizers.AuxK revives it, with the pre-activations in `Code.info`.

    Args:
        k: number of active units for each example.
        dead_after: number of training examples without activation after which a unit is dead.
    """

    idle: Tensor  # (latent_dim,) training examples since each unit was active

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int, k: int = 8, dead_after: int = 10_000):
        super().__init__()
        require_vector(feature_shape, "TopK")
        require(1 <= k <= latent_dim, "k", k, f"must lie in [1, model.latent_dim={latent_dim}]")
        require(dead_after >= 1, "dead_after", dead_after, "must be 1 or more")
        self.k, self.dead_after, self.latent_shape = k, dead_after, (latent_dim,)
        self.no_density = f"all but {k} of their {latent_dim} units are exactly zero"
        self.linear = nn.Linear(feature_shape[0], latent_dim)
        self.register_buffer("idle", torch.zeros(latent_dim, dtype=torch.long))

    def forward(self, features: Tensor) -> Code:
        pre = self.linear(features)
        top = pre.topk(self.k, dim=-1)
        z = torch.zeros_like(pre).scatter(-1, top.indices, top.values)
        if self.training:
            with torch.no_grad():
                active = torch.zeros_like(self.idle, dtype=torch.bool)
                active[top.indices.flatten()] = True
                self.idle += len(pre)
                self.idle[active] = 0
        return Code(z=z, mean=z, info={"pre": pre, "dead": self.idle >= self.dead_after})

    def project(self, z: Tensor) -> Tensor:
        """Keep the k values of largest magnitude: the nearest code with at most k active units."""
        top = z.abs().topk(self.k, dim=-1).indices
        return torch.zeros_like(z).scatter(-1, top, z.gather(-1, top))

    def margin(self, code: Code) -> Tensor | None:
        """Return the k-th largest pre-activation minus the next one."""
        if self.k == self.latent_shape[0]:
            return None
        last, following = code.info["pre"].topk(self.k + 1).values[:, -2:].unbind(1)
        return last - following
