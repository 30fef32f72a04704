"""Codes: their distribution, their sparsity, and where their gradients go."""

import math

import pytest
import torch
from torch.distributions import Normal

from autoenc.bottlenecks import Deterministic, Gaussian, TopK
from autoenc.core import Bottleneck
from autoenc.errors import ConfigError


@pytest.mark.parametrize(
    ("activation", "function", "code_range"),
    [
        ("identity", lambda a: a, (-math.inf, math.inf)),
        ("relu", torch.relu, (0, math.inf)),
        ("sigmoid", torch.sigmoid, (0, 1)),
        ("tanh", torch.tanh, (-1, 1)),
    ],
)
def test_deterministic_is_an_affine_map_and_an_activation(activation, function, code_range) -> None:
    bottleneck, features = Deterministic((5,), 3, activation), torch.randn(7, 5)
    weight, bias = bottleneck.linear.weight, bottleneck.linear.bias
    code = bottleneck(features)
    torch.testing.assert_close(code.z, function(features @ weight.T + bias))
    assert code.mean is code.z
    assert code.posterior is None
    assert bottleneck.code_range == code_range


def test_deterministic_refuses_an_unknown_activation() -> None:
    with pytest.raises(ConfigError, match="activation=softmax: must be one of identity, relu, sigmoid, tanh"):
        Deterministic((5,), 3, "softmax")


def gaussian(mu: list[float], logvar: list[float]) -> Gaussian:
    """A bottleneck whose posterior does not depend on the features."""
    bottleneck = Gaussian((1,), len(mu))
    with torch.no_grad():
        bottleneck.linear.weight.zero_()
        bottleneck.linear.bias.copy_(torch.tensor(mu + logvar))
    return bottleneck


@pytest.mark.parametrize("training", [True, False])
def test_gaussian_samples_have_mean_mu_and_variance_exp_logvar(training: bool) -> None:
    mu, logvar = [0.5, -2.0], [math.log(0.25), math.log(4.0)]
    code = gaussian(mu, logvar).train(training)(torch.zeros(40_000, 1))
    torch.testing.assert_close(code.z.mean(0), torch.tensor(mu), atol=0.05, rtol=0)
    torch.testing.assert_close(code.z.var(0), torch.tensor([0.25, 4.0]), atol=0, rtol=0.05)
    assert torch.equal(code.mean, torch.tensor([mu]).expand(40_000, 2)), "what applications use is not random"
    torch.testing.assert_close(code.posterior.stddev[0], torch.tensor([0.5, 2.0]))


def test_gaussian_gradients_are_those_of_mu_plus_sigma_times_noise() -> None:
    bottleneck = gaussian([0.5, -2.0], [0.4, -0.3])
    code = bottleneck(torch.zeros(1, 1))
    noise = (code.z - code.mean) / code.posterior.stddev  # the e of z = mu + sigma e
    (gradient,) = torch.autograd.grad(code.z.sum(), bottleneck.linear.bias)
    expected = torch.cat([torch.ones(2), (0.5 * code.posterior.stddev * noise).flatten()]).detach()
    torch.testing.assert_close(gradient, expected)


def test_gaussian_stays_finite_for_extreme_features() -> None:
    code = gaussian([0.0, 0.0], [1e4, -1e4])(torch.zeros(100, 1))
    assert code.z.isfinite().all()
    assert (code.posterior.stddev > 0).all()


def test_gaussian_is_in_float32_under_bfloat16() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        code = Gaussian((4,), 2)(torch.randn(3, 4))
    assert code.z.dtype == code.mean.dtype == code.posterior.stddev.dtype == torch.float32


def test_only_the_gaussian_has_a_prior_and_it_is_standard_normal() -> None:
    bottleneck, z = Gaussian((5,), 2), torch.randn(7, 2)
    torch.testing.assert_close(bottleneck.prior.log_prob(z), Normal(0.0, 1.0).log_prob(z).sum(-1))
    samples = bottleneck.sample(20_000)
    assert samples.shape == (20_000, 2)
    torch.testing.assert_close(torch.cov(samples.T), torch.eye(2), atol=0.05, rtol=0)
    torch.testing.assert_close(samples.mean(0), torch.zeros(2), atol=0.05, rtol=0)
    for other in (Deterministic((5,), 2), TopK((5,), 2, k=1)):
        assert other.sample(3) is None
        assert other.prior is None


def topk(k: int = 2, dead_after: int = 100, **linear: torch.Tensor) -> TopK:
    """Six units that read six features: pre-activations are the features."""
    bottleneck = TopK((6,), 6, k=k, dead_after=dead_after)
    with torch.no_grad():
        bottleneck.linear.weight.copy_(torch.eye(6))
        bottleneck.linear.bias.zero_()
    return bottleneck


@pytest.mark.parametrize("k", [1, 3, 6])
def test_topk_keeps_the_k_largest_and_exactly_k(k: int) -> None:
    features = torch.randn(50, 6) - 1.5  # mostly negative: a rule of "positive only" would keep fewer
    z = topk(k)(features).z
    assert ((z != 0).sum(-1) == k).all()
    threshold = features.sort(-1, descending=True).values[:, k - 1 : k]
    torch.testing.assert_close(z, torch.where(features >= threshold, features, 0.0))


def test_topk_passes_gradients_through_the_kept_units_alone() -> None:
    bottleneck, features = topk(k=2), torch.randn(50, 6)
    features[:, 4:] = -10  # never among the best
    features.requires_grad_()
    code = bottleneck(features)
    kept = code.z != 0
    code.z.sum().backward()
    torch.testing.assert_close(features.grad, kept.float())  # dz/dpre is 1 where kept, 0 elsewhere
    torch.testing.assert_close(bottleneck.linear.weight.grad, kept.float().T @ features.detach())
    assert not bottleneck.linear.weight.grad[4:].any()
    assert not bottleneck.linear.bias.grad[4:].any()


def test_topk_counts_the_examples_since_a_unit_was_active() -> None:
    bottleneck = topk(k=1, dead_after=10)
    at = torch.eye(6)
    bottleneck(at[[0, 1, 2]])
    assert bottleneck.idle.tolist() == [0, 0, 0, 3, 3, 3]
    code = bottleneck(at[[0] * 7])
    assert bottleneck.idle.tolist() == [0, 7, 7, 10, 10, 10]
    code = bottleneck(at[[0, 3]])
    assert bottleneck.idle.tolist() == [0, 9, 9, 0, 12, 12]
    assert code.info["dead"].tolist() == [False, False, False, False, True, True]
    torch.testing.assert_close(code.info["pre"], at[[0, 3]])
    assert not bottleneck(at[[4]]).info["dead"][4], "one example revives a unit"


def test_topk_counts_in_training_alone_and_the_count_is_saved() -> None:
    bottleneck = topk(k=1)
    bottleneck(torch.eye(6)[[0, 1]])
    bottleneck.eval()(torch.eye(6))
    assert bottleneck.idle.tolist() == [0, 0, 2, 2, 2, 2]
    assert torch.equal(bottleneck.state_dict()["idle"], bottleneck.idle)


@pytest.mark.parametrize("k", [0, 7])
def test_topk_refuses_an_impossible_k(k: int) -> None:
    with pytest.raises(ConfigError, match=f"^k={k}: must lie in .*latent_dim=6"):
        TopK((6,), 6, k=k)


@pytest.mark.parametrize("bottleneck", [Deterministic((5,), 3), TopK((5,), 3, k=2), Gaussian((5,), 3)])
def test_the_code_of_an_example_does_not_depend_on_its_neighbours(bottleneck: Bottleneck) -> None:
    features = torch.randn(8, 5)
    torch.testing.assert_close(bottleneck(features).mean[2:3], bottleneck(features[2:3]).mean)
