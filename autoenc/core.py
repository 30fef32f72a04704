"""The contract that every variant fits. Read this first.

    x --noise--> encoder --> bottleneck --> decoder --> likelihood        objective = nll + weighted regularizers

Units, everywhere: nats per example, summed over dimensions; means over the batch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

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

    z: Tensor  # (B, *latent) what the decoder reads
    mean: Tensor  # (B, *latent) deterministic: what every application uses
    posterior: Distribution | None = None  # q(z|x), factorised over dimensions; None where the code is deterministic
    losses: dict[str, Tensor] = field(default_factory=dict)  # the bottleneck's own, () or (B,)
    info: dict[str, Tensor] = field(default_factory=dict)  # pre-activations, indices ... for terms and logs


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


class Bottleneck(nn.Module):
    """Features (B, F) -> Code. Subclasses are in bottlenecks/."""

    def forward(self, features: Tensor) -> Code:
        raise NotImplementedError

    def prior(self, like: Tensor) -> Distribution | None:
        """p(z), factorised over dimensions, in the shape of `like`; None where the bottleneck has no prior."""
        return None

    def prior_sample(self, n: int) -> Tensor | None:
        """(n, *latent) draws from p(z); None where the bottleneck has no prior."""
        return None


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


class Regularizer(Protocol):
    """One term of the objective. A frozen dataclass with a weight; `requires` is checked at build."""

    weight: float | Callable[[float], float]

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        """The unweighted term: (B,) or (), nats or the term's own unit."""
        ...


def weight_at(weight: float | Callable[[float], float], step: float) -> float:
    """A weight is a number or a schedule."""
    return weight(step) if callable(weight) else weight


class Objective(nn.Module):
    """Mean nll + the bottleneck's own losses + sum of weight(step) * regularizer.

    `step` is the number of the training step, or `math.inf` in evaluation: schedules then stand at their end,
    so that the losses of two evaluations can be compared while a weight is still warming up.
    """

    def __init__(self, regularizers: Mapping[str, Regularizer]):
        super().__init__()
        self.regularizers = dict(regularizers)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        """Who minimises what; adversarial objectives add a critic."""
        return {"model": model}

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        if model.training and batch.corrupted is None:
            batch = model.corrupt(batch)  # here, so that the regularizers see the input that the code came from
        out = model(batch)
        parts = {"nll": out.nll.mean()} | {name: term.mean() for name, term in out.code.losses.items()}
        total = functools.reduce(torch.add, parts.values())
        for name, regularizer in self.regularizers.items():
            parts[name] = regularizer(model, batch, out, step).mean()
            total = total + weight_at(regularizer.weight, step) * parts[name]
        parts = {"loss": total} | parts
        return Loss(total={"model": total}, parts={name: term.detach() for name, term in parts.items()})
