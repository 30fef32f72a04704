"""Mixture, VampPrior and RealNVP: densities that integrate to one, draws of them, and who receives which gradient."""

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Normal

from autoenc.bottlenecks import Gaussian
from autoenc.core import Autoencoder, Batch, Prior
from autoenc.errors import ConfigError
from autoenc.priors import Mixture, RealNVP, Vamp
from autoenc.priors import mixture as mixtures
from autoenc.regularizers import KL
from autoenc.regularizers.kl import kl_estimate, kl_per_example

MakeModel = Callable[..., Autoencoder]
NUMBERS = SimpleNamespace(continuous=True)


def scrambled(prior: Prior) -> Prior:
    """A prior with random parameters, as after training."""
    for p in prior.parameters():
        torch.nn.init.normal_(p, std=0.3)  # much larger ones give flows heavy tails
    return prior


def vamp(make_model: MakeModel, latent_dim: int = 2, components: int = 4) -> tuple[Autoencoder, Vamp]:
    model = make_model(Gaussian, latent_dim=latent_dim)
    prior = Vamp(model.bottleneck.latent_shape, (6,), 0.0, 1.0, NUMBERS, components)
    model.bottleneck.prior = prior
    prior.bind(model)
    return model, prior


@pytest.fixture(params=["mixture", "vamp", "realnvp"])
def prior(request: pytest.FixtureRequest, make_model: MakeModel) -> Prior:
    """A prior of two-dimensional codes."""
    if request.param == "vamp":
        return vamp(make_model)[1]
    return scrambled(Mixture((2,), 3) if request.param == "mixture" else RealNVP((2,), layers=4, hidden=[8]))


@torch.no_grad()
def test_the_density_integrates_to_one_and_draws_have_its_moments(prior: Prior) -> None:
    side = torch.linspace(-12, 12, 600)
    z = torch.cartesian_prod(side, side)
    p = prior.log_prob(z).exp() * (side[1] - side[0]) ** 2
    torch.testing.assert_close(p.sum(), torch.tensor(1.0), atol=2e-3, rtol=0)
    drawn = prior.sample(40_000)
    mean = p @ z
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.06, rtol=0)
    cov = (p[:, None] * (z - mean)).T @ (z - mean)
    torch.testing.assert_close(drawn.T.cov(), cov, atol=0.08, rtol=0.06)
    spread = [float(prior.sample(2_000, temperature=t).var(0).sum()) for t in (0.0, 0.5, 1.0)]
    assert spread == sorted(spread)


def test_codes_have_a_shape_and_leading_dimensions() -> None:
    for made in (Mixture((3, 2, 2), 4), RealNVP((3, 2, 2), layers=2)):
        z = torch.randn(5, 6, 3, 2, 2)
        assert made.log_prob(z).shape == (5, 6)
        torch.testing.assert_close(made.log_prob(z)[2, 3], made.log_prob(z[2, 3]), rtol=1e-4, atol=1e-4)
        assert made.sample(7).shape == (7, 3, 2, 2)
        assert made.kl(Normal(z, torch.ones_like(z))) is None


def test_a_mixture_of_one_component_has_the_closed_form_as_mean_of_the_estimate(make_model: MakeModel) -> None:
    model = make_model(Gaussian)
    model.bottleneck.prior = prior = Mixture((3,), 1)
    scrambled(prior)
    code = model.encode(Batch(torch.randn(4, 6)))
    _, mean, std = prior.parts()
    closed = torch.distributions.kl_divergence(code.posterior, Normal(mean[0], std[0])).sum(-1)
    draws = kl_estimate(model, code, code.posterior.sample(torch.Size([20_000])))
    torch.testing.assert_close(draws.mean(0), closed, atol=0.1, rtol=0.05)
    assert kl_per_example(model, code).shape == (4,)


def test_responsibilities_are_those_of_bayes_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = scrambled(Mixture((2,), 3))
    z = torch.randn(50, 2)
    log_weights, mean, std = prior.parts()
    joint = log_weights + Normal(mean, std).log_prob(z[:, None]).sum(-1)
    torch.testing.assert_close(prior.responsibilities(z), joint.softmax(1))
    torch.testing.assert_close(prior.log_prob(z), joint.logsumexp(1))
    whole = prior.log_prob(z)
    monkeypatch.setattr(mixtures, "AT_ONCE", 12)
    torch.testing.assert_close(prior.log_prob(z), whole, msg="in parts, as for many codes")


def test_the_verdict_on_clusters_is_the_perplexity_of_their_weights() -> None:
    prior = Mixture((2,), 4)
    assert prior.diagnosis({}).healthy
    assert "perplexity 4.0, 4 clusters" in prior.diagnosis({}).text
    prior.logits.data[0] = 9.0
    assert not prior.diagnosis({}).healthy
    assert "clusters have collapsed: weights of perplexity 1.0" in prior.diagnosis({}).text
    assert Mixture((2,), 1).diagnosis({}).healthy, "one was asked for"


def test_a_mixture_starts_at_the_clusters_of_the_codes_with_the_variance_of_the_posterior() -> None:
    prior = Mixture((2,), 3)
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    labels = torch.arange(3).repeat_interleave(torch.tensor([100, 200, 300]))
    mean = centres[labels] + 0.1 * torch.randn(600, 2)
    codes = torch.stack([mean, mean + 0.5 * torch.randn(600, 2)], 1)
    said: list[str] = []
    prior.start(lambda n: torch.empty(0), lambda n: codes[:n], said.append)
    assert said == ["mixture: fitting 3 components to 600 codes, 10 times"]
    order = [int((prior.mean - centre).square().sum(1).argmin()) for centre in centres]
    torch.testing.assert_close(prior.mean[order].detach(), centres, atol=0.05, rtol=0)
    torch.testing.assert_close(prior.logits.softmax(0)[order], torch.tensor([1, 2, 3]) / 6)
    torch.testing.assert_close(prior.log_std.exp(), torch.full((3, 2), math.sqrt(0.26)), atol=0.05, rtol=0)
    assert (prior.responsibilities(mean).argmax(1) == torch.tensor(order)[labels]).all()


def test_a_mixture_starts_from_the_best_of_several_fits() -> None:
    torch.manual_seed(9)
    centres = 3.0 * torch.cartesian_prod(torch.arange(5), torch.arange(5))
    mean = centres.repeat_interleave(25, 0) + 0.5 * torch.randn(625, 2)
    prior = Mixture((2,), 25)
    prior.start(lambda n: torch.empty(0), lambda n: torch.stack([mean, mean], 1)[:n], print)
    nearest = torch.cdist(centres, prior.mean.detach()).amin(1)
    assert float(nearest.max()) < 0.5, "a single fit gives two clusters one component"


def test_a_mixture_starts_from_clusters_that_are_apart_though_a_likelier_fit_has_one_within_another() -> None:
    torch.manual_seed(0)
    nested = torch.randn(300, 2) * torch.tensor([0.4, 1.5]).repeat_interleave(150)[:, None] + torch.tensor([0.0, 12.0])
    pair = 0.6 * torch.randn(300, 2) + torch.tensor([[-1.5, 0.0], [1.5, 0.0]]).repeat_interleave(150, 0)
    mean = torch.cat([nested, pair])
    fit = GaussianMixture(3, n_init=10, random_state=0).fit(mean.numpy())
    assert (fit.means_[:, 1] > 6).sum() == 2, "the likeliest"
    prior = Mixture((2,), 3)
    prior.start(lambda n: torch.empty(0), lambda n: torch.stack([mean, mean], 1)[:n], print)
    expected = torch.tensor([[-1.5, 0.0], [0.0, 12.0], [1.5, 0.0]])
    found = prior.mean.detach()
    torch.testing.assert_close(found[found[:, 0].argsort()], expected, atol=0.2, rtol=0)


def test_a_mixture_finds_clusters_that_lie_across_the_axes() -> None:
    torch.manual_seed(0)
    long, wide = torch.randn(2, 800)
    label = torch.arange(800) % 2
    mean = torch.stack([1.5 * long + 0.2 * wide + 2 * label, 1.5 * long - 0.2 * wide - 2 * label], 1)  # two bars
    prior = Mixture((2,), 2)
    prior.start(lambda n: torch.empty(0), lambda n: torch.stack([mean, mean], 1)[:n], print)
    apart = prior.mean.detach()[:, 0] - prior.mean.detach()[:, 1]  # 0 and 4 of the bars, whatever the place along them
    torch.testing.assert_close(apart.sort().values, torch.tensor([0.0, 4.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(prior.log_std.exp(), torch.full((2, 2), 1.5), atol=0.2, rtol=0)


def test_components_of_another_rate_are_the_same_and_move_that_much_less() -> None:
    torch.manual_seed(0)
    mean = torch.randn(300, 2) + 8 * (torch.arange(300) % 3)[:, None]
    z, parts = torch.randn(400, 2) * 6, {}
    for rate in (1.0, 0.25):
        prior = Mixture((2,), 3, rate)
        prior.start(lambda n: torch.empty(0), lambda n: torch.stack([mean, mean], 1)[:n], print)
        start = [part.detach().clone() for part in prior.parts()]
        optimizer = torch.optim.Adam(prior.parameters(), lr=0.01)
        prior.log_prob(z).sum().backward()
        optimizer.step()
        parts[rate] = start, [after.detach() - before for after, before in zip(prior.parts(), start, strict=True)]
    torch.testing.assert_close(parts[0.25][0], parts[1.0][0])
    torch.testing.assert_close(parts[0.25][1][1], parts[1.0][1][1] / 4, atol=2e-6, rtol=1e-3)
    assert parts[1.0][1][1].abs().min() > 0.009
    with pytest.raises(ConfigError, match=r"^rate=0: must be above 0 and at most 1"):
        Mixture((2,), 3, 0)


def test_a_vamp_prior_is_the_mean_posterior_of_its_pseudo_inputs(make_model: MakeModel) -> None:
    model, prior = vamp(make_model)
    z = torch.randn(8, 2)
    posterior = model.encode(Batch(prior.pseudo_inputs)).posterior
    each = posterior.log_prob(z[:, None]).sum(-1)  # (N, C)
    torch.testing.assert_close(prior.log_prob(z), each.logsumexp(1) - math.log(4))
    with torch.no_grad():
        prior.pseudo_inputs[0] = 7.0
    edge = model.encode(Batch(torch.ones(1, 6))).posterior.mean
    torch.testing.assert_close(prior.parts()[1][:1], edge, msg="pseudo-inputs stay in the range of the data")


def test_the_kl_reaches_pseudo_inputs_and_encoder_and_no_parameter_is_registered_twice(make_model: MakeModel) -> None:
    model, prior = vamp(make_model)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    assert [name for name in names if "prior" in name] == ["bottleneck.prior.pseudo_inputs"]
    assert len(names) == len({id(p) for p in model.parameters()})
    assert len(list(prior.parameters())) == 1
    prior.log_prob(torch.randn(5, 2)).sum().backward()  # z itself is not of the encoder
    assert prior.pseudo_inputs.grad.any()
    assert all(p.grad.any() for p in [*model.encoder.parameters(), model.bottleneck.linear.weight])
    assert all(p.grad is None for p in model.decoder.parameters())
    copied = copy.deepcopy(model)
    assert copied.bottleneck.prior._model[0] is copied, "a copy encodes with its own encoder"


def test_pseudo_inputs_start_at_training_examples(make_model: MakeModel) -> None:
    _, prior = vamp(make_model)
    x = torch.rand(9, 6)
    prior.start(lambda n: x[:n], lambda n: torch.empty(0), print)
    assert torch.equal(prior.pseudo_inputs.detach(), x[:4])
    prior.start(lambda n: x[5:7], lambda n: torch.empty(0), print)
    assert torch.equal(prior.pseudo_inputs.detach(), torch.cat([x[5:7], x[2:4]])), "of the rows that there are"


def test_pseudo_inputs_are_refused_for_tokens_and_batch_statistics(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"not tokens.*prior=mixture"):
        Vamp((2,), (6,), 0.0, 1.0, SimpleNamespace(continuous=False))
    model = make_model(Gaussian, network_options={"norm": "batch"})
    with pytest.raises(ConfigError, match=r"network\.norm=batch.*network\.norm=layer"):
        Vamp((3,), (6,), 0.0, 1.0, NUMBERS).bind(model)


def test_a_flow_is_inverted_and_its_determinant_is_that_of_autograd() -> None:
    flow = scrambled(RealNVP((5,), layers=4, hidden=[16]))
    z = torch.randn(6, 5)
    u, log_det = flow.flow(z)
    torch.testing.assert_close(flow.inverse(u), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(flow.flow(flow.inverse(z))[0], z, atol=1e-4, rtol=1e-4)
    jacobian: Tensor = torch.func.vmap(torch.func.jacrev(lambda each: flow.flow(each[None])[0][0]))(z)
    torch.testing.assert_close(log_det, jacobian.slogdet().logabsdet, atol=1e-4, rtol=1e-4)
    assert (jacobian.abs() > 1e-6).all(), "every value depends on every other"
    at_start = RealNVP((5,))
    torch.testing.assert_close(at_start.flow(z), (z, torch.zeros(6)))


def test_a_flow_fits_two_moons_better_than_a_gaussian() -> None:
    from sklearn.datasets import make_moons

    x = torch.tensor(make_moons(2_000, noise=0.05, random_state=0)[0], dtype=torch.float32)
    x = (x - x.mean(0)) / x.std(0)
    train, test = x[:1_500], x[1_500:]
    flow = RealNVP((2,), layers=6, hidden=[32])
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.005)
    for step in range(250):
        loss = -flow.log_prob(train[(step * 150 % 1_500) :][:150]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    gaussian = torch.distributions.MultivariateNormal(train.mean(0), train.T.cov())
    assert flow.log_prob(test).mean() > gaussian.log_prob(test).mean() + 0.5


@pytest.mark.parametrize("name", ["mixture", "realnvp"])
def test_the_kl_trains_the_prior_and_the_encoder(make_model: MakeModel, name: str) -> None:
    model = make_model(Gaussian)
    model.bottleneck.prior = prior = scrambled(Mixture((3,), 4) if name == "mixture" else RealNVP((3,), hidden=[8]))
    batch = Batch(torch.randn(5, 6))
    KL()(model, batch, model(batch), 0).mean().backward()
    assert all(p.grad.any() for p in [*prior.parameters(), *model.encoder.parameters()])


def test_a_gaussian_code_adopts_a_deterministic_one(make_model: MakeModel) -> None:
    plain, gaussian = make_model(), make_model(Gaussian)
    state = gaussian.bottleneck.adopted(plain.bottleneck.state_dict())
    gaussian.load_state_dict(plain.encoder.state_dict(prefix="encoder."), strict=False)
    gaussian.bottleneck.load_state_dict(state)
    batch = Batch(torch.randn(5, 6))
    code = gaussian.encode(batch)
    torch.testing.assert_close(code.mean, plain.encode(batch).mean)
    torch.testing.assert_close(code.posterior.stddev, torch.full((5, 3), 0.1), msg="whatever the example")
    own = gaussian.bottleneck.state_dict()
    assert gaussian.bottleneck.adopted(own).keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in gaussian.bottleneck.adopted(own).items())
    state["linear.weight"] = torch.zeros(len(state["linear.weight"]) // 2, 999)  # of other features
    assert gaussian.bottleneck.adopted(state)["linear.weight"].shape[1] == 999, "for the caller to refuse"
