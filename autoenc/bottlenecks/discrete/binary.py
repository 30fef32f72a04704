"""Binary codes: bits of a Bernoulli posterior, for semantic hashing (Salakhutdinov & Hinton 2009)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Bernoulli as BernoulliDistribution

from autoenc.bottlenecks.affine import affine, latent_shape_of
from autoenc.bottlenecks.discrete.symbols import straight_through
from autoenc.core import Bottleneck, Code
from autoenc.errors import require
from autoenc.priors import Bernoulli


class Bits(BernoulliDistribution):
    """Bernoulli distributions with the inverse of the distribution function: 0 up to u = 1 - p, then 1."""

    def icdf(self, value: Tensor) -> Tensor:
        return (value > 1 - self.probs).to(self.probs.dtype)


class Binary(Bottleneck):
    """q(z_j|x) = Bernoulli(p_j), p = sigmoid(y), y an affine map of the features at each position.

    z are sampled bits, in evaluation too, since nll and KL are those of a bound (Shen et al. 2018, NASH). The
    deterministic code has the likelier bits, p > 1/2. Retrieval compares codes by the number of bits that differ.

        straight_through  bits in training, gradient dz/dp = 1 (Bengio et al. 2013)
        concrete          in training z = sigmoid((y + log u - log(1 - u)) / temperature), u uniform, a relaxation that
                          has a gradient (Maddison et al. 2017, eq. 16; Jang et al. 2017)

    The prior is Bernoulli(1/2) for each bit: its KL is log 2 minus the entropy of the bit.

    Args:
        estimator: of the gradient.
        temperature: of the concrete relaxation; bits are exact near 0.
    """

    has_posterior = True
    code_range = (0.0, 1.0)
    symbols = 2
    distance = "hamming"
    no_density = "they are bits, with a prior of their own"

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        latent_dim: int,
        estimator: Literal["straight_through", "concrete"] = "straight_through",
        temperature: float = 0.5,
    ):
        super().__init__()
        why = "must be straight_through or concrete"
        require(estimator in ("straight_through", "concrete"), "estimator", estimator, why)
        require(temperature > 0, "temperature", temperature, "must be above 0")
        self.estimator, self.temperature = estimator, temperature
        self.latent_shape, self.groups = latent_shape_of(feature_shape, latent_dim), latent_dim
        self.index_shape = (*self.latent_shape[1:], latent_dim)
        self.prior = Bernoulli(self.latent_shape)
        self.linear = affine(feature_shape, latent_dim)

    def forward(self, features: Tensor) -> Code:
        logits = self.linear(features).float()
        p = logits.sigmoid()
        mean = straight_through((logits > 0).float(), p)
        u = torch.rand_like(p).clamp(1e-6, 1 - 1e-6)
        if self.training and self.estimator == "concrete":
            z = ((logits + u.log() - (-u).log1p()) / self.temperature).sigmoid()
        else:
            z = straight_through((u < p).float(), p)
        return Code(z=z, mean=mean, posterior=Bits(logits=logits), info={"logits": logits.detach()})

    def project(self, z: Tensor) -> Tensor:
        """Return the nearest bits."""
        return (z > 0.5).to(z.dtype)

    def margin(self, code: Code) -> Tensor:
        """Return the distance of the logits from 0, where a bit changes, the minimum over bits."""
        return code.info["logits"].abs().flatten(1).amin(1)

    def indices(self, code: Code) -> Tensor:
        return code.mean.detach().movedim(1, -1).long()

    def from_indices(self, index: Tensor) -> Tensor:
        return index.movedim(-1, 1).float()

    def tally(self, code: Code) -> dict[str, Tensor]:
        ones = self.indices(code).flatten(0, -2)  # (B * positions, K)
        return {"ones": ones.sum(0), "zeros": (1 - ones).sum(0)}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return bit_entropy, the mean over bits of their entropy over the data: 1 if each is set half of the time."""
        p = torch.stack([sums["ones"], sums["zeros"]]).double()
        return {"bit_entropy": torch.special.entr(p / p.sum(0)).sum(0).mean() / torch.log(p.new_tensor(2.0))}
