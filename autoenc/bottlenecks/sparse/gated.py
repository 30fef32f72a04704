"""Codes whose gate and magnitude are separate (Rajamanoharan et al. 2024a)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.bottlenecks.sparse.activity import Sparse
from autoenc.core import Code


class Gated(Sparse):
    """z = H(gate) relu(magnitude), with gate = W features + b and magnitude = exp(r) W features + b_mag.

    Rajamanoharan et al. 2024a, "Improving dictionary learning with gated sparse autoencoders", eq. 6 and 7. An L1
    penalty on the gate decides which units are active without shrinking their magnitudes. The step H has no gradient:
    the gate learns from regularizers.L1 and regularizers.GateReconstruction, which read relu(gate) in
    `Code.info["gate"]` (eq. 8).

    Args:
        dead_after: see `Sparse`.
    """

    offers = (*Sparse.offers, "gate")
    needs = "gate"
    code_range = (0.0, math.inf)

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int, dead_after: int = 10_000):
        super().__init__(feature_shape, latent_dim, dead_after)
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))  # r
        self.magnitude_bias = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, features: Tensor) -> Code:
        shared = F.linear(features, self.linear.weight)
        gate = shared + self.linear.bias
        magnitude = (self.log_scale.exp() * shared + self.magnitude_bias).relu()
        return self.recorded(magnitude * (gate > 0), gate, gate=gate.relu())

    def margin(self, code: Code) -> Tensor:
        """Return the distance of the gate that is nearest to its step."""
        return code.info["pre"].abs().amin(1)
