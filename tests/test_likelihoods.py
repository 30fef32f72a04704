"""Likelihoods against torch.distributions, and the optimum of what is learnt."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Laplace as TorchLaplace
from torch.distributions import Normal

from autoenc.core import Likelihood
from autoenc.errors import ConfigError
from autoenc.likelihoods import Bernoulli, Gaussian, Laplace

X, PARAMS = torch.linspace(-2, 3, 24).reshape(2, 3, 4), torch.linspace(4, -3, 120).reshape(5, 2, 3, 4)


def test_bernoulli_of_binary_data_is_the_log_probability() -> None:
    x = (X > 0).float()
    torch.testing.assert_close(Bernoulli().nll_per_dim(PARAMS, x), -TorchBernoulli(logits=PARAMS).log_prob(x))
    torch.testing.assert_close(Bernoulli().mean(PARAMS), TorchBernoulli(logits=PARAMS).mean)


def test_bernoulli_of_grey_values_is_least_at_the_grey_value_where_it_is_the_entropy() -> None:
    x = torch.linspace(0.05, 0.95, 10)
    logits = torch.logit(x).requires_grad_()
    nll = Bernoulli().nll_per_dim(logits, x)
    torch.testing.assert_close(nll, TorchBernoulli(probs=x).entropy())
    (gradient,) = torch.autograd.grad(nll.sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(10), atol=1e-6, rtol=0)


def test_bernoulli_stays_finite_for_extreme_logits() -> None:
    assert Bernoulli().nll_per_dim(torch.tensor([200.0, -200.0]), torch.tensor([0.0, 1.0])).tolist() == [200, 200]


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    ("likelihood", "reference"),
    [
        (lambda learned: Gaussian(sigma=0.3, learned=learned), lambda mean: Normal(mean, 0.3)),
        (lambda learned: Laplace(scale=0.3, learned=learned), lambda mean: TorchLaplace(mean, 0.3)),
    ],
)
def test_located_likelihoods_have_the_normalised_density(
    likelihood: Callable[[bool], Likelihood], reference: Callable[[Tensor], Normal], learned: bool
) -> None:
    per_dim = -reference(PARAMS).log_prob(X)
    torch.testing.assert_close(likelihood(learned).nll_per_dim(PARAMS, X), per_dim)
    torch.testing.assert_close(likelihood(learned).nll(PARAMS, X), per_dim.flatten(2).sum(-1))
    assert torch.equal(likelihood(learned).mean(PARAMS), PARAMS)


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_output_sigmoid_puts_the_mean_into_the_unit_interval(kind: type[Gaussian]) -> None:
    plain, squashed = kind(0.3), kind(0.3, output="sigmoid")
    torch.testing.assert_close(squashed.nll(PARAMS, X), plain.nll(PARAMS.sigmoid(), X))
    torch.testing.assert_close(squashed.mean(PARAMS), PARAMS.sigmoid())
    assert squashed.support() == Bernoulli().support() == (0, 1)
    assert plain.support() == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("kind", "optimum"),
    [(Gaussian, lambda e: e.square().mean().sqrt()), (Laplace, lambda e: e.abs().mean())],
)
def test_a_learned_scale_has_its_optimum_at_the_size_of_the_error(
    kind: type[Gaussian], optimum: Callable[[Tensor], Tensor]
) -> None:
    x, mean = torch.randn(50, 4), torch.zeros(50, 4)
    likelihood = kind(1.0, learned=True)
    optimizer = torch.optim.LBFGS(likelihood.parameters(), max_iter=50, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = likelihood.nll_per_dim(mean, x).sum(-1).mean()
        loss.backward()
        return loss

    x = 0.05 * x
    optimizer.step(closure)
    torch.testing.assert_close(likelihood.log_scale.detach().exp(), optimum(x), rtol=1e-3, atol=0)


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
def test_only_a_learned_scale_is_a_parameter_and_both_are_stored(kind: type[Gaussian]) -> None:
    fixed, learned = kind(0.3), kind(0.3, learned=True)
    assert list(fixed.parameters()) == []
    assert [p.requires_grad for p in learned.parameters()] == [True]
    for likelihood in (fixed, learned):
        torch.testing.assert_close(likelihood.log_scale.exp(), torch.tensor(0.3))


def test_a_perfect_fit_has_a_finite_density() -> None:
    likelihood = Gaussian(learned=True)
    with torch.no_grad():
        likelihood.above_floor.fill_(-80)
    assert likelihood.nll_per_dim(X, X).sum().isfinite()


@pytest.mark.parametrize("kind", [Gaussian, Laplace])
@pytest.mark.parametrize("broken", [0.0, -1.0])
def test_a_scale_that_is_not_positive_is_refused(kind: type[Gaussian], broken: float) -> None:
    with pytest.raises(ConfigError, match="must be above 0"):
        kind(broken)


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(ConfigError, match="output=tanh: must be identity or sigmoid"):
        Gaussian(output="tanh")


def test_a_scale_above_the_error_is_to_be_learned_from_the_error_on() -> None:
    assert Gaussian(1.0).remedy(mse=0.0729) == "likelihood.learned=true likelihood.sigma=0.27"
    assert Laplace(1.0).remedy(mse=0.0729) == "likelihood.learned=true likelihood.scale=0.27"
    assert Gaussian(0.2).remedy(mse=0.0729) == Gaussian(1.0, learned=True).remedy(mse=0.0729) == ""
    assert Bernoulli().remedy(mse=0.0729) == ""
