"""Small models and small data, and a generator that starts the same for every test."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from autoenc import bottlenecks, likelihoods, networks, noise
from autoenc.core import Autoencoder, Bottleneck, Likelihood
from autoenc.data.spec import Data, DataSpec, Split

torch.set_num_threads(1)  # the models are tiny: threads cost more than they bring


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _make_model(
    bottleneck: type[Bottleneck] = bottlenecks.Deterministic,
    shape: Sequence[int] = (6,),
    latent_dim: int = 3,
    network: Callable[..., networks.Pair] = networks.mlp,
    likelihood: Likelihood | None = None,
    corruption: nn.Module | None = None,
    network_options: dict[str, object] | None = None,
    **options: object,
) -> Autoencoder:
    """A model; `options` are the bottleneck's. The mlp has one hidden layer of 8 with a smooth activation."""
    if network is networks.mlp:
        network_options = {"hidden": [8], "activation": "tanh"} | (network_options or {})
    pair = network(tuple(shape), latent_dim, **(network_options or {}))
    return Autoencoder(
        noise=corruption or noise.Identity(),
        encoder=pair.encoder,
        bottleneck=bottleneck(pair.num_features, latent_dim, **options),
        decoder=pair.decoder,
        likelihood=likelihood or likelihoods.Gaussian(),
    )


def _make_data(n: int = 24, val: int = 10, shape: Sequence[int] = (6,), low: float = 0.0, high: float = 1.0) -> Data:
    """Uniform random examples; the label of an example is its number in its split."""
    generator = torch.Generator().manual_seed(7)

    def split(size: int) -> Split:
        x = low + (high - low) * torch.rand(size, *shape, generator=generator)
        return Split(x, torch.arange(size))

    kind = "image" if len(shape) == 3 else "vector"
    return Data(DataSpec("tiny", kind, tuple(shape), low, high), split(n), split(val), split(val))


@pytest.fixture
def make_model() -> Callable[..., Autoencoder]:
    return _make_model


@pytest.fixture
def make_data() -> Callable[..., Data]:
    return _make_data
