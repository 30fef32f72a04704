"""Record of dead units, which all sparse codes share (Gao et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoenc.bottlenecks.affine import require_vector
from autoenc.core import Bottleneck, Code
from autoenc.errors import require


class Sparse(Bottleneck):
    """Base class of sparse codes of the pre-activations W features + b.

    A unit that none of the last `dead_after` training examples has activated is dead; regularizers.AuxK revives it,
    with the pre-activations in `Code.info`.

    Args:
        dead_after: number of training examples without activation after which a unit is dead.
    """

    idle: Tensor  # (latent_dim,) training examples since each unit was active
    offers: tuple[str, ...] = ("pre", "dead")

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int, dead_after: int):
        super().__init__()
        require_vector(feature_shape, type(self).__name__)
        require(dead_after >= 1, "dead_after", dead_after, "must be 1 or more")
        self.dead_after, self.latent_shape = dead_after, (latent_dim,)
        self.no_density = "most of their units are exactly zero"
        self.linear = nn.Linear(feature_shape[0], latent_dim)
        self.register_buffer("idle", torch.zeros(latent_dim, dtype=torch.long))

    def recorded(self, z: Tensor, pre: Tensor, **info: Tensor) -> Code:
        """Return the code z (B, K) of pre-activations (B, K), and count active units in training."""
        if self.training:
            self.idle += len(z)
            self.idle.masked_fill_((z.detach() != 0).any(0), 0)
        return Code(z=z, mean=z, info={"pre": pre, "dead": self.idle >= self.dead_after, **info})


def require_k(k: int, latent_dim: int) -> None:
    """Raise ConfigError unless k units can be active."""
    require(1 <= k <= latent_dim, "k", k, f"must lie in [1, model.latent_dim={latent_dim}]")
