"""Priors: densities, samples, and the KL with and without a closed form."""

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent, MixtureSameFamily, Normal

from autoenc.bottlenecks import Gaussian
from autoenc.core import Batch, Prior
from autoenc.errors import ConfigError
from autoenc.metrics import mmd
from autoenc.priors import Categorical, StandardNormal
from autoenc.regularizers import KL
from autoenc.regularizers.kl import kl_estimate, kl_per_example


class Open(StandardNormal):
    """A standard normal that does not know its closed form."""

    def kl(self, posterior: Distribution) -> None:
        return None


class Mixture(Prior):
    """Three learnt Gaussians in one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.tensor([[-2.0], [0.0], [2.0]]))

    def _density(self) -> Distribution:
        parts = Independent(Normal(self.means, torch.ones(3, 1)), 1)
        return MixtureSameFamily(TorchCategorical(torch.ones(3)), parts)

    def log_prob(self, z: Tensor) -> Tensor:
        return self._density().log_prob(z)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        return self._density().sample((n,))


@pytest.mark.parametrize("shape", [(3,), (2, 4, 5)])
def test_standard_normal_sums_over_all_dimensions_of_a_code(shape: tuple[int, ...]) -> None:
    prior, z = StandardNormal(shape), torch.randn(6, 7, *shape)
    torch.testing.assert_close(prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).flatten(2).sum(-1))
    assert prior.sample(5).shape == (5, *shape)
    assert not prior.sample(5, temperature=0).any()
    quantiles = prior.quantiles(torch.tensor([0.5, 0.975]))
    assert quantiles.shape == (2, *shape)
    torch.testing.assert_close(quantiles[1], torch.full(shape, 1.959964))
    assert not prior.state_dict(), "older checkpoints load"


@pytest.mark.parametrize("features", [(5,), (5, 2, 3)])
def test_the_estimate_of_the_kl_agrees_with_the_closed_form(make_model, features: tuple[int, ...]) -> None:
    model = make_model(Gaussian)
    model.bottleneck = bottleneck = Gaussian(features, 2)
    code = bottleneck(torch.randn(4, *features))
    closed = kl_per_example(model, code)
    assert closed.shape == (4,)
    bottleneck.prior = Open(bottleneck.latent_shape)
    draws = kl_estimate(model, code, code.posterior.sample((20_000,)))
    torch.testing.assert_close(draws.mean(0), closed, atol=0.1, rtol=0.05)
    single = kl_per_example(model, code)
    torch.testing.assert_close(single, kl_estimate(model, code, code.z))


def test_a_learnt_prior_gets_its_gradient_from_the_kl(make_model) -> None:
    model = make_model(Gaussian, latent_dim=1)
    model.bottleneck.prior = prior = Mixture()
    batch = Batch(torch.randn(5, 6))
    KL()(model, batch, model(batch), 0).mean().backward()
    assert prior.means.grad.any()
    with pytest.raises(ConfigError, match=r"free_bits needs .*; regularizer\.kl\.free_bits=0, or prior=standard"):
        KL(free_bits=0.1).check(model)
    KL().check(model)


def test_categorical_draws_each_position_from_its_own_frequencies() -> None:
    prior = Categorical((2,), entries=3, decay=0.5)
    torch.testing.assert_close(prior.log_prob(torch.tensor([[0, 2]])).exp(), torch.tensor([1 / 9]))
    for _ in range(20):
        prior.observe(torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]]))
    drawn = prior.sample(10_000)
    assert drawn.shape == (10_000, 2)
    assert (drawn[:, 1] == 2).all()
    torch.testing.assert_close((drawn[:, 0] == 1).float().mean(), torch.tensor(0.75), atol=0.02, rtol=0)
    assert set(drawn[:, 0].tolist()) == {0, 1}, "entries that are not in use are never drawn"
    assert prior.sample(4, temperature=0).tolist() == [[1, 2]] * 4
    torch.testing.assert_close(prior.log_prob(torch.tensor([[0, 2], [1, 2]])).exp(), torch.tensor([0.25, 0.75]))


def test_mmd_is_zero_for_one_distribution_and_grows_with_the_distance() -> None:
    x, y = torch.randn(1_000, 4), torch.randn(1_000, 4)
    assert abs(mmd(x, y)) < 0.01
    assert 0.05 < mmd(x, y + 0.5) < mmd(x, y + 1)
    assert mmd(x, 3 * y) > 0.05
    small = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])
    kernel = lambda square: sum(2 * s / (2 * s + square) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))  # noqa: E731
    expected = kernel(1) + kernel(4) - 2 * (kernel(0) + kernel(4) + kernel(1) + kernel(1)) / 4
    assert mmd(*small) == pytest.approx(expected)
