"""The contract that every variant fits. Read this first.

    x --noise--> encoder --> bottleneck --> decoder --> likelihood        objective = nll + weighted regularizers

Units, everywhere: nats per example, summed over dimensions; means over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

# Checking the arguments of every distribution is a synchronisation in every step on a GPU.
Distribution.set_default_validate_args(False)


@dataclass(frozen=True)
class Batch:
    """What is fed."""

    x: Tensor  # (B, *shape) clean data; of texts (B, T) token ids, padded with 0 (data/spec.py: PAD)
    y: Tensor | None = None  # (B,) labels: for conditioning and evaluation, never for the unsupervised loss
    corrupted: Tensor | None = None  # (B, *shape) what the encoder reads instead of x, where there is noise

    @property
    def input(self) -> Tensor:
        """(B, *shape) what the encoder reads."""
        return self.x if self.corrupted is None else self.corrupted

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Code:
    """What a bottleneck returns."""

    z: Tensor  # (B, *latent_shape) what the decoder reads
    mean: Tensor  # (B, *latent_shape) deterministic: what every application uses
    posterior: Distribution | None = None  # q(z|x), factorised over dimensions; None where the code is deterministic
    losses: dict[str, Tensor] = field(default_factory=dict)  # the bottleneck's own, () or (B,)
    info: dict[str, Tensor] = field(default_factory=dict)  # pre-activations, indices ...: read by regularizers, tally


@dataclass(frozen=True)
class Output:
    """What a forward pass returns."""

    code: Code
    params: Tensor  # (B, *shape) decoder output: the parameters of p(x|z)
    nll: Tensor  # (B,) -log p(x|z), nats per example


@dataclass(frozen=True)
class Loss:
    """What an objective returns."""

    total: dict[str, Tensor]  # player -> scalar that this player minimises
    parts: dict[str, Tensor]  # name -> detached scalar, logged under that name


def sum_over_dims(values: Tensor, x: Tensor) -> Tensor:
    """Sum over the dimensions of an example: (*S, B, *shape), x (B, *shape) -> (*S, B)."""
    return values.flatten(values.dim() - x.dim() + 1).sum(-1)


class Likelihood(nn.Module):
    """p(x|z), given the decoder's output. Subclasses are in likelihoods.py."""

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) of each dimension, in nats: (*S, B, *shape), (B, *shape) -> (*S, B, *shape)."""
        raise NotImplementedError

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        """-log p(x|z) in nats: (*S, B, *shape), (B, *shape) -> (*S, B)."""
        return sum_over_dims(self.nll_per_dim(params, x), x)

    def mean(self, params: Tensor) -> Tensor:
        """E[x|z] in data space: what is shown as the reconstruction."""
        raise NotImplementedError

    def params_of(self, mean: Tensor) -> Tensor:
        """The parameters whose `mean` is the argument, as near as they get: the inverse of `mean`."""
        raise NotImplementedError

    def support(self) -> tuple[float, float]:
        """The range that x must lie in."""
        return -torch.inf, torch.inf

    def remedy(self, mse: float) -> str:
        """Return settings that keep the KL from outweighing the nll, given the error of a model whose posterior has
        collapsed; empty where the likelihood has no scale to set."""
        return ""


class Prior(nn.Module):
    """p(z) over codes of shape `latent_shape`. Subclasses are in priors.py."""

    def log_prob(self, z: Tensor) -> Tensor:
        """log p(z) in nats: (*S, *latent_shape) -> (*S)."""
        raise NotImplementedError

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """(n, *latent_shape) draws, less spread at a temperature below 1; at 0 the likeliest codes."""
        raise NotImplementedError

    def kl(self, posterior: Distribution) -> Tensor | None:
        """KL(q(z_j|x) || p(z_j)) in nats of each dimension, (B, *latent_shape); None without a closed form."""
        return None

    def quantiles(self, levels: Tensor) -> Tensor | None:
        """The quantiles of each dimension: (L,) in (0, 1) -> (L, *latent_shape); None where they are not known."""
        return None


class Bottleneck(nn.Module):
    """Features (B, *feature_shape) -> Code. Subclasses are in bottlenecks/.

    Features are (B, F) or a map (B, C, H, W). Codes of a map keep its positions: `latent_shape` is (latent_dim, H, W).

    Attributes:
        latent_shape: of one code.
        prior: p(z); None where there is none.
        has_posterior: whether `Code.posterior` is a distribution.
        code_range: the interval that the numbers of a code lie in.
        no_density: why no smooth density fits the codes; None where one does.
    """

    latent_shape: tuple[int, ...]
    has_posterior: bool = False
    code_range: tuple[float, float] = (-torch.inf, torch.inf)
    no_density: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.prior: Prior | None = None

    def forward(self, features: Tensor) -> Code:
        raise NotImplementedError

    def project(self, z: Tensor) -> Tensor:
        """The valid code nearest to each z: (N, *latent_shape) -> (N, *latent_shape). Valid codes stay as they are."""
        low, high = self.code_range
        return z if (low, high) == (-torch.inf, torch.inf) else z.clamp(low, high)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor | None:
        """(n, *latent_shape) codes drawn from the prior; None where there is none."""
        return None if self.prior is None else self.project(self.prior.sample(n, temperature))

    def margin(self, code: Code) -> Tensor | None:
        """How far each example is from a discontinuity of the code, (B,): for comparing implementations that round
        differently. None where the code is continuous in the features."""
        return None

    def tally(self, code: Code) -> dict[str, Tensor]:
        """Sums over the examples of a batch, name -> tensor, that `metrics` of many batches are computed from."""
        return {}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Numbers that are logged and never trained on, name -> scalar, from the `tally` of all examples."""
        return {}

    def check(self, examples: int) -> None:
        """ConfigError where so many training examples are too few."""


class Autoregressive(nn.Module):
    """A decoder of sequences that is told what came before: p(x|z) = prod_t p(x_t | x_<t, z)."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """(*S, B, *latent), (B, T) -> (*S, R, V): logits of the R tokens that are not padding, ordered as x[x != 0].

        Those of x_t are computed from x_<t and z alone. Half of a batch of texts is padding: it gets no logits, which
        are most of the work and of the memory.
        """
        raise NotImplementedError

    def generate(self, z: Tensor) -> Tensor:
        """(B, *latent) -> (B, T) the sequences that z stands for, each token the likeliest after those before."""
        raise NotImplementedError


class Autoencoder(nn.Module):
    """noise, encoder, bottleneck, decoder and likelihood in a row."""

    def __init__(
        self, noise: nn.Module, encoder: nn.Module, bottleneck: Bottleneck, decoder: nn.Module, likelihood: Likelihood
    ):
        super().__init__()
        self.noise = noise
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.likelihood = likelihood

    def corrupt(self, batch: Batch) -> Batch:
        """The batch with noise on what the encoder reads; x stays clean, it is the target."""
        return replace(batch, corrupted=self.noise(batch.x))

    def encode(self, batch: Batch) -> Code:
        """The code of what the batch has as input: `corrupted` where there is one, else x."""
        return self.bottleneck(self.encoder(batch.input))

    def decode(self, z: Tensor, batch: Batch | None = None) -> Tensor:
        """(*S, *latent) -> (*S, *shape): the parameters of p(x|z). Of sequences, those of each x_t given x_<t; see
        Autoregressive."""
        if isinstance(self.decoder, Autoregressive):
            assert batch is not None, "sequences need what came before; see `expected`"
            return self.decoder(z, batch.x)
        return self.decoder(z)

    def expected(self, z: Tensor) -> Tensor:
        """(B, *latent) -> (B, *shape) in data space, what z stands for: E[x|z]; of sequences, what is generated."""
        if isinstance(self.decoder, Autoregressive):
            return self.decoder.generate(z)
        return self.likelihood.mean(self.decode(z).float())

    def nll(self, z: Tensor, batch: Batch) -> Tensor:
        """-log p(x|z) in nats: (*S, B, *latent) -> (*S, B)."""
        return self._nll(self.decode(z, batch), batch.x)

    def _nll(self, params: Tensor, x: Tensor) -> Tensor:
        # In float32 whatever the precision of the networks: a sum over thousands of dimensions needs it.
        return self.likelihood.nll(params.float(), x)

    def forward(self, batch: Batch) -> Output:
        """Corrupt (in training mode only, and only where the batch is not corrupted already), encode, decode."""
        if self.training and batch.corrupted is None:
            batch = self.corrupt(batch)
        code = self.encode(batch)
        params = self.decode(code.z, batch)
        return Output(code=code, params=params, nll=self._nll(params, batch.x))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """(B, *shape) in data space, from the deterministic code: the same twice."""
        return self.expected(self.encode(batch).mean)


class Regularizer:
    """A term of the objective: a frozen dataclass with a weight. Subclasses are in regularizers/."""

    weight: float | Callable[[float], float]
    double_backward: ClassVar[bool] = False  # differentiates twice, which torch.compile does not support
    auxiliary: ClassVar[bool] = False  # only helps training: minimised, but not part of the reported loss

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        """The unweighted term: (B,) or (), nats or the term's own unit."""
        raise NotImplementedError

    def check(self, model: Autoencoder) -> None:
        """ConfigError where the term cannot work with the model."""


def weight_at(weight: float | Callable[[float], float], step: float) -> float:
    """The value of a weight, a number or a schedule, at a step."""
    return weight(step) if callable(weight) else weight
