"""The interfaces that every variant implements. Read this first.

    x --noise--> encoder --> bottleneck --> decoder --> likelihood        objective = nll + weighted regularizers

Units, everywhere: nats per example, summed over dimensions; means over the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from autoenc.errors import UserError
from autoenc.parallel import Network

# Checking the arguments of every distribution is a synchronisation in every step on a GPU.
Distribution.set_default_validate_args(False)

UNLABELLED = -1  # the label of an example whose class is not known


@dataclass(frozen=True)
class Batch:
    """Examples as a model is fed them."""

    x: Tensor  # (B, *shape) clean data; for text data (B, T) token ids, padded with 0 (data/split.py: PAD)
    y: Tensor | None = None  # (B,) labels, UNLABELLED where not known; for conditions and evaluation, no other loss
    corrupted: Tensor | None = None  # (B, *shape) input of the encoder instead of x, if there is noise

    @property
    def input(self) -> Tensor:
        """(B, *shape) input of the encoder."""
        return self.x if self.corrupted is None else self.corrupted

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Entries:
    """The non-zero entries of sparse codes (B, K), k for each example, in any order."""

    values: Tensor  # (B, k)
    units: Tensor  # (B, k) int64, which unit each value is of

    def joined(self, values: Tensor, units: Tensor) -> Entries:
        """Return entries with more of them (B, j), of other units or 0."""
        return Entries(torch.cat([self.values, values], 1), torch.cat([self.units, units], 1))


@dataclass(frozen=True)
class Code:
    """The output of a bottleneck."""

    z: Tensor  # (B, *latent_shape) input of the decoder
    mean: Tensor  # (B, *latent_shape) deterministic code, which every application uses
    posterior: Distribution | None = None  # q(z|x), factorized over dimensions; None if the code is deterministic
    losses: dict[str, Tensor] = field(default_factory=dict)  # terms of the bottleneck itself, () or (B,)
    info: dict[str, Tensor] = field(
        default_factory=dict
    )  # pre-activations, indices, ...; read by regularizers, `tally` and apps
    entries: Entries | None = None  # z again, where it is so sparse that decoders save time with it


@dataclass(frozen=True)
class Output:
    """The output of a forward pass."""

    code: Code
    params: Tensor  # (B, *shape) decoder output: the parameters of p(x|z)
    nll: Tensor  # (B,) -log p(x|z), nats per example


@dataclass(frozen=True)
class Loss:
    """The output of an objective."""

    total: dict[str, Tensor]  # player -> scalar that this player minimizes
    parts: dict[str, Tensor]  # name -> detached scalar, logged under that name


@dataclass(frozen=True)
class Verdict:
    """Assessment of a trained part in words, with what to try if it is not healthy."""

    healthy: bool
    text: str


def sum_over_dims(values: Tensor, x: Tensor) -> Tensor:
    """Sum over the dimensions of an example: (*S, B, *shape), x (B, *shape) -> (*S, B)."""
    return values.flatten(values.dim() - x.dim() + 1).sum(-1)


class Likelihood(nn.Module):
    """p(x|z) given the output of the decoder. Subclasses are in likelihoods.py.

    Attributes:
        remark: advice that is shown when training begins, or an empty text.
    """

    remark: str = ""

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        """Return -log p(x|z) of each dimension in nats: (*S, B, *shape), (B, *shape) -> (*S, B, *shape)."""
        raise NotImplementedError

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        """Return -log p(x|z) in nats: (*S, B, *shape), (B, *shape) -> (*S, B)."""
        return sum_over_dims(self.nll_per_dim(params, x), x)

    def mean(self, params: Tensor) -> Tensor:
        """Return E[x|z] in data space: the reconstruction."""
        raise NotImplementedError

    def sample(self, params: Tensor, error: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw x from p(x|z): (B, *shape) -> (B, *shape).

        Args:
            error: (*shape) root mean squared error of the reconstruction, the scale of a likelihood that learns none.
            temperature: factor of the scale; draws have less spread below 1, and at 0 they are the modes.

        A likelihood that does not define it gives its mean.
        """
        return self.mean(params)

    def params_of(self, mean: Tensor) -> Tensor:
        """Return parameters whose `mean` is as close as possible to the argument: the inverse of `mean`."""
        raise NotImplementedError

    def observed(self, x: Tensor) -> Tensor | None:
        """Return which entries of x are observed, (*S, *shape) bool; None: all."""
        return None

    def visible(self, inputs: Tensor, x: Tensor) -> Tensor:
        """Return the input of the encoder, with 0 for entries of x that are not observed: (B, *shape)."""
        observed = self.observed(x)
        return inputs if observed is None else inputs.where(observed, 0)

    def support(self) -> tuple[float, float]:
        """Return the range that x must lie in."""
        return -torch.inf, torch.inf

    def remedy(self, mse: float) -> str:
        """Return settings that keep the KL from outweighing the nll, given the error of a model whose posterior has
        collapsed; empty where the likelihood has no scale to set."""
        return ""


class Prior(nn.Module):
    """p(z) over codes of shape `latent_shape`. Subclasses are in priors/.

    Attributes:
        remark: advice that is shown when training begins with new weights, or an empty text.
        generates: whether training makes codes resemble its draws; otherwise a density is fitted to generate.
        tempered: whether a temperature changes its draws; not those of a uniform distribution.
    """

    remark: str = ""
    generates: bool = True
    tempered: bool = True

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats: (*S, *latent_shape) -> (*S)."""
        raise NotImplementedError

    def energy(self, z: Tensor) -> Tensor:
        """Return -log p(z) up to a constant, as an anomaly score: (*S, *latent_shape) -> (*S)."""
        return -self.log_prob(z)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw codes (n, *latent_shape), with less spread at a temperature below 1; at 0 the most likely codes."""
        raise NotImplementedError

    def kl(self, posterior: Distribution) -> Tensor | None:
        """Return KL(q(z_j|x) || p(z_j)) in nats, (B, *latent_shape); None without a closed form."""
        return None

    def quantiles(self, levels: Tensor) -> Tensor | None:
        """Return quantiles of each dimension: (L,) in (0, 1) -> (L, *latent_shape); None if they are not known."""
        return None

    def responsibilities(self, z: Tensor) -> Tensor | None:
        """Return p(c|z) of the clusters c that the prior has learnt, (N, *latent_shape) -> (N, C); None without."""
        return None

    def bind(self, model: Autoencoder) -> None:
        """Keep what the prior needs of its model, once, without registering parameters of the model again."""

    def start(self, rows: Callable[[int], Tensor], codes: Callable[[int], Tensor], say: Callable[[str], None]) -> None:
        """Set values that follow from training data, once, before the first step.

        Args:
            rows: n -> at most n random training examples (N, *shape).
            codes: n -> their codes (N, 2, *latent_shape): the deterministic one, and a draw from the posterior.
            say: prints a line.
        """

    def check(self, examples: int) -> None:
        """Raise ConfigError if there are too few training examples."""

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict | None:
        """Return what the metrics of a trained model say about the prior; None: nothing."""
        return None


class Bottleneck(nn.Module):
    """Features (B, *feature_shape) -> Code. Subclasses are in bottlenecks/.

    Features are (B, F) or a map (B, C, H, W). Codes of a map keep its positions: `latent_shape` is (latent_dim, H, W).

    Attributes:
        latent_shape: shape of one code.
        prior: p(z), or None.
        has_posterior: whether `Code.posterior` is a distribution.
        code_range: interval of the values of a code.
        no_density: the reason why no smooth density fits the codes, or None.
        symbols: number of values of an index of a discrete code; 0 for other codes.
        index_shape: shape of the indices of one discrete code, in the order in which they depend on each other.
        groups: indices with a meaning of their own at each position, such as depths: the last dimension of
            `index_shape`; 1 if there is one index at each position.
        distance: how codes are compared in retrieval.
        remark: advice that is shown when training begins, or an empty text.
        offers: names in `Code.info` that regularizers may ask for.
        needs: regularizer without which a part of the bottleneck does not learn.
    """

    latent_shape: tuple[int, ...]
    has_posterior: bool = False
    code_range: tuple[float, float] = (-torch.inf, torch.inf)
    no_density: str | None = None
    symbols: int = 0
    index_shape: tuple[int, ...] = ()
    groups: int = 1
    distance: Literal["cosine", "euclidean", "hamming"] = "cosine"
    remark: str = ""
    offers: tuple[str, ...] = ()
    needs: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.prior: Prior | None = None

    def forward(self, features: Tensor) -> Code:
        raise NotImplementedError

    def project(self, z: Tensor) -> Tensor:
        """Return the valid code nearest to each z (N, *latent_shape). Valid codes are unchanged."""
        low, high = map(float, self.code_range)  # ONNX has no clamp between a whole number and infinity
        return z if (low, high) == (-torch.inf, torch.inf) else z.clamp(low, high)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor | None:
        """Draw codes (n, *latent_shape) from the prior; None if there is none."""
        return None if self.prior is None else self.project(self.prior.sample(n, temperature))

    def adopted(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of another run's bottleneck as the first ones of this bottleneck; see `init_from`."""
        return state

    def margin(self, code: Code) -> Tensor | None:
        """Return the distance (B,) of each example from a discontinuity of the code; None if the code is continuous.

        Close to a discontinuity, implementations that round differently return different codes.
        """
        return None

    def indices(self, code: Code) -> Tensor:
        """Return the indices (B, *index_shape) of discrete codes, int64."""
        raise NotImplementedError

    def from_indices(self, index: Tensor) -> Tensor:
        """Return the codes with these indices: (N, *index_shape) -> (N, *latent_shape)."""
        raise NotImplementedError

    def tally(self, code: Code) -> dict[str, Tensor]:
        """Return sums over the examples of a batch, from which `metrics` are computed: name -> tensor."""
        return {}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return numbers to log, which are not trained on, from the `tally` of all examples: name -> scalar."""
        return {}

    def check(self, examples: int) -> None:
        """Raise ConfigError if there are too few training examples."""

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict | None:
        """Return what the metrics of a trained model say about the code; None: the activity of its units does."""
        return None


class Condition(nn.Module):
    """Labels that a model is conditioned on: q(z|x, y) and p(x|z, y). Subclasses are in conditions.py.

    The embedding of y, `size` channels, is joined to the features before the bottleneck and to z before the decoder.

    Attributes:
        size: number of joined channels.
        classes: number of classes.
        inferred: whether `labels` computes the labels from x, and never reads those of the batch.
    """

    size: int
    classes: int
    inferred: bool = False

    def embed(self, y: Tensor) -> Tensor:
        """Return the embeddings of labels: (B,) -> (B, size)."""
        raise NotImplementedError

    def labels(self, batch: Batch) -> Tensor:
        """Return the labels (B,) that the model is conditioned on; UserError if one is not known."""
        raise NotImplementedError

    def log_q(self, batch: Batch) -> Tensor:
        """Return log q(y|x) of all classes, (B, C), if the labels are inferred."""
        raise NotImplementedError

    def join(self, values: Tensor, y: Tensor, dims: int) -> Tensor:
        """Append the embedding of y (B,) to the channels, the same at each position.

        Args:
            values: (*S, B, C, *positions), where (C, *positions) has `dims` dimensions.
        """
        embedded = self.embed(y).to(values.dtype)
        embedded = embedded.view(*embedded.shape, *[1] * (dims - 1))  # (B, size, 1, ...)
        lead, positions = values.shape[: values.dim() - dims], values.shape[values.dim() - dims + 1 :]
        return torch.cat([values, embedded.expand(*lead, self.size, *positions)], -dims)

    def check(self, labels: dict[str, Tensor | None]) -> None:
        """Raise ConfigError if the labels of the splits, by name, do not suffice."""

    def tally(self, batch: Batch) -> dict[str, Tensor]:
        """Return sums over the examples of a batch, from which `metrics` are computed: name -> tensor."""
        return {}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return numbers to report, from the `tally` of all examples: name -> scalar."""
        return {}


class Autoregressive(nn.Module):
    """An autoregressive decoder of sequences: p(x|z) = prod_t p(x_t | x_<t, z)."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Return logits (*S, R, V) of the R tokens that are not padding, ordered as x[x != 0].

        z is (*S, B, *latent), x (B, T). The logits of x_t depend on x_<t and z only. Padding, half of a batch
        of texts, has no logits: they are most of the work and of the memory.
        """
        raise NotImplementedError

    def outputs(self, x: Tensor) -> Tensor:
        """Return the number of tokens of each text that are not padding: (B, T) -> (B,)."""
        return (x != 0).sum(1)

    def generate(self, z: Tensor) -> Tensor:
        """Decode greedily: (B, *latent) -> (B, T)."""
        raise NotImplementedError


class EntriesDecoder(nn.Module):
    """A decoder that need not multiply by zeros."""

    def of_entries(self, entries: Entries) -> Tensor:
        """Return the same as for the dense codes."""
        raise NotImplementedError


class Autoencoder(nn.Module):
    """Noise, encoder, bottleneck, decoder and likelihood, and a condition if there is one.

    Methods of a conditional model take labels y (B,); None: those that the condition has for the batch.
    """

    def __init__(
        self,
        noise: nn.Module,
        encoder: nn.Module,
        bottleneck: Bottleneck,
        decoder: nn.Module,
        likelihood: Likelihood,
        condition: Condition | None = None,
    ):
        super().__init__()
        self.noise = noise
        self.encoder = encoder
        self.bottleneck = bottleneck
        self.decoder = decoder
        self.likelihood = likelihood
        self.condition = condition

    def networks(self) -> list[Network]:
        """Return encoder and decoder, for processes to divide."""
        outputs = self.decoder.outputs if isinstance(self.decoder, Autoregressive) else None
        return [Network(self.encoder), Network(self.decoder, len(self.bottleneck.latent_shape), outputs)]

    def corrupt(self, batch: Batch) -> Batch:
        """Return the batch with noise on the input of the encoder; x, the target, stays clean."""
        return replace(batch, corrupted=self.noise(batch.x))

    def labels(self, batch: Batch) -> Tensor | None:
        """Return the labels (B,) that the model is conditioned on; None without a condition."""
        return None if self.condition is None else self.condition.labels(self.visible(batch))

    def visible(self, batch: Batch) -> Batch:
        """Return the batch with 0 in the input of the encoder for entries that are not observed."""
        shown = self.likelihood.visible(batch.input, batch.x)
        return batch if shown is batch.input else replace(batch, corrupted=shown)

    def encode(self, batch: Batch, y: Tensor | None = None) -> Code:
        """Return the code of `batch.input`: `corrupted` if there is noise, else x."""
        y = self.labels(batch) if y is None else y
        features = self.encoder(self.visible(batch).input)
        if self.condition is not None and y is not None:
            features = self.condition.join(features, y, features.dim() - 1)
        return self.bottleneck(features)

    def decode(self, z: Tensor, batch: Batch | None = None, y: Tensor | None = None) -> Tensor:
        """Return the parameters of p(x|z), for sequences of each p(x_t | x_<t, z): (*S, *latent) -> (*S, *shape)."""
        if y is None and batch is not None:
            y = self.labels(batch)
        z = self.joined(z, y)
        if isinstance(self.decoder, Autoregressive):
            assert batch is not None, "sequences need the tokens before; see `expected`"
            return self.decoder(z, batch.x)
        return self.decoder(z)

    def decode_code(self, code: Code, batch: Batch, y: Tensor | None = None) -> Tensor:
        """Return the parameters of p(x|z) for the code of a batch, by its non-zero entries if there are few."""
        if code.entries is not None and self.condition is None and isinstance(self.decoder, EntriesDecoder):
            return self.decoder.of_entries(code.entries)
        return self.decode(code.z, batch, y)

    def joined(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return codes as the decoder reads them: with the embedding of y if there is a condition.

        Raises:
            UserError: a conditional model, and no labels.
        """
        if self.condition is None:
            return z
        if y is None:
            raise UserError("the model is conditional and decodes codes of given classes: y=..., or --class NAME")
        return self.condition.join(z, y, len(self.bottleneck.latent_shape))

    def expected(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return E[x|z] in data space, for sequences the generated one: (B, *latent) -> (B, *shape)."""
        if isinstance(self.decoder, Autoregressive):
            return self.decoder.generate(self.joined(z, y))
        return self.likelihood.mean(self.decode(z, y=y).float())

    def nll(self, z: Tensor, batch: Batch, y: Tensor | None = None) -> Tensor:
        """Return -log p(x|z) in nats: (*S, B, *latent) -> (*S, B)."""
        return self._nll(self.decode(z, batch, *(() if y is None else (y,))), batch.x)

    def _nll(self, params: Tensor, x: Tensor) -> Tensor:
        # float32 in mixed precision too: a sum over thousands of dimensions needs it
        return self.likelihood.nll(params.float(), x)

    def forward(self, batch: Batch) -> Output:
        """Corrupt (in training mode, unless the batch is corrupted already), encode, decode."""
        if self.training and batch.corrupted is None:
            batch = self.corrupt(batch)
        y = self.labels(batch)
        code = self.encode(batch, y)
        params = self.decode_code(code, batch, y)
        return Output(code=code, params=params, nll=self._nll(params, batch.x))

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> Tensor:
        """Return the reconstruction from the deterministic code, in data space: (B, *shape)."""
        y = self.labels(batch)
        return self.expected(self.encode(batch, y).mean, y)


class Regularizer:
    """A term of the objective: a frozen dataclass with a weight. Subclasses are in regularizers/."""

    weight: float | Callable[[float], float]
    double_backward: ClassVar[bool] = False  # differentiates twice
    auxiliary: ClassVar[bool] = False  # only helps training: minimised, but not part of the reported loss
    smallest_batch: ClassVar[int] = 1  # examples that the term needs
    reads_prior: ClassVar[str] = ""  # density, which trains a learnt prior, or samples

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        """Return the unweighted term: (B,) or (), in nats or a unit of its own."""
        raise NotImplementedError

    def check(self, model: Autoencoder) -> None:
        """Raise ConfigError if the term cannot be computed for the model."""


def weight_at(weight: float | Callable[[float], float], step: float) -> float:
    """Return the value of a weight, a number or a schedule, at a step."""
    return weight(step) if callable(weight) else weight
