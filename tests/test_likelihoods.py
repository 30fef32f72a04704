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
from autoenc.data.kinds.observed import Column
from autoenc.errors import ConfigError
from autoenc.likelihoods import Bernoulli, Gaussian, Laplace, Table

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


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(("kind", "variance"), [(Gaussian, 1.0), (Laplace, 2.0)])
def test_draws_have_the_mean_and_the_error_of_the_reconstruction(
    kind: type[Gaussian], variance: float, learned: bool
) -> None:
    """A learned scale is the likelihood's own; a fixed one says nothing of the data, and the error takes its place."""
    likelihood = kind(0.3, learned=True) if learned else kind(1.0)
    params, error = torch.tensor([[1.0, -2.0]]).expand(40_000, 2), torch.tensor([0.5, 0.1])
    drawn = likelihood.sample(params, error)
    expected = torch.full((2,), 0.3 * math.sqrt(variance)) if learned else error
    torch.testing.assert_close(drawn.mean(0), params[0], atol=0.01, rtol=0)
    torch.testing.assert_close(drawn.std(0), expected, atol=0, rtol=0.03)
    torch.testing.assert_close(likelihood.sample(params, error, temperature=0.0), params)


def test_draws_of_a_table_are_numbers_with_their_error_and_categories_with_their_probability() -> None:
    columns = (Column("a", "number", 0, 1), Column("b", "category", 1, 4))
    p = torch.tensor([0.7, 0.25, 0.05])
    params = torch.cat([torch.tensor([2.0]), p.log()]).expand(40_000, 4)
    drawn = Table(columns).sample(params, torch.tensor([0.5, 9.0, 9.0, 9.0]))
    assert drawn[:, 0].std().item() == pytest.approx(0.5, rel=0.03)
    assert set(drawn[:, 1:].flatten().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(drawn[:, 1:].mean(0), p, atol=0.01, rtol=0)
    modes = Table(columns).sample(params, torch.ones(4), temperature=0.0)
    assert modes.unique(dim=0).tolist() == [[2.0, 1.0, 0.0, 0.0]]
