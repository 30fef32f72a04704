"""MMD, total correlation, FactorVAE and the penalties of RAE: closed forms, enumeration, gradients."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from autoenc import networks
from autoenc.bottlenecks import Deterministic, Gaussian
from autoenc.build import build
from autoenc.core import Autoencoder, Batch, Code, Output
from autoenc.errors import ConfigError
from autoenc.estimators.inmemory import compose
from autoenc.metrics import mmd
from autoenc.objective import Objective, train_step
from autoenc.objectives import FactorVAE
from autoenc.objectives.factor import permuted
from autoenc.priors import StandardNormal
from autoenc.regularizers import KL, MMD, CodeL2, DecoderJacobian, DecoderL2, TotalCorrelation
from autoenc.regularizers.total_correlation import log_aggregate, stratified_log_weights
from autoenc.seeds import seeded

MakeModel = Callable[..., Autoencoder]


def output(z: Tensor, posterior: Normal | None = None) -> Output:
    """An output of which only the code matters."""
    return Output(Code(z=z, mean=z, posterior=posterior), params=torch.empty(0), nll=torch.zeros(len(z)))


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True))


class TestMMD:
    def test_is_the_discrepancy_of_the_batch_and_as_many_draws(self, make_model: MakeModel) -> None:
        model = make_model()
        model.bottleneck.prior = StandardNormal((3,))
        z = torch.randn(16, 3, dtype=torch.float64)
        torch.manual_seed(1)
        term = MMD()(model, Batch(z), output(z), 0)
        torch.manual_seed(1)
        torch.testing.assert_close(term, mmd(z, model.bottleneck.sample(16)))

    def test_gradient_is_that_of_finite_differences_and_is_finite_at_equal_codes(self) -> None:
        x, y = torch.randn(5, 2, dtype=torch.float64, requires_grad=True), torch.randn(4, 2, dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda x: mmd(x, y), x)
        same = torch.ones(4, 2, requires_grad=True)
        mmd(same, y).backward()
        assert same.grad.isfinite().all()

    def test_moves_codes_of_the_wrong_scale_to_the_prior(self) -> None:
        z = (3 * torch.randn(64, 2)).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=0.3)
        for _ in range(40):
            optimizer.zero_grad()
            mmd(z, torch.randn(64, 2)).backward()
            optimizer.step()
        assert z.abs().median().item() == pytest.approx(0.67, abs=0.25)  # of N(0, 1); 2.0 before

    def test_needs_a_prior(self, make_model: MakeModel) -> None:
        with pytest.raises(ConfigError, match=r"mmd: needs a prior: prior=standard"):
            MMD().check(make_model())
        MMD().check(make_model(Gaussian))


def paper_weights(size: int, num_train: int, last: int) -> Tensor:
    """Weights of one example whose index is 0, from Chen et al. 2018, appendix C.2, with n_M = `last`."""
    m = size - 1
    weights = torch.full((size,), 1 / m)
    weights[0], weights[last] = 1 / num_train, (num_train - m) / (num_train * m)
    return weights


class TestTotalCorrelation:
    @pytest.mark.parametrize(("size", "num_train"), [(2, 7), (4, 7), (7, 7), (5, 1000)])
    def test_weights_are_the_mean_of_those_of_the_paper(self, size: int, num_train: int) -> None:
        weights = stratified_log_weights(size, num_train).exp()
        torch.testing.assert_close(weights.diagonal(), torch.full((size,), 1 / num_train))
        expected = torch.stack([paper_weights(size, num_train, last) for last in range(1, size)]).mean(0)
        torch.testing.assert_close(weights[0], expected)
        torch.testing.assert_close(weights.sum(1), torch.ones(size))

    @pytest.mark.parametrize("size", [2, 3, 5])
    def test_the_estimate_of_the_aggregate_is_unbiased_over_all_batches(self, size: int) -> None:
        """Enumerate the batches of a data set of five examples that have the example of z in them."""
        posterior = Normal(torch.randn(5, 2).double(), 0.3 + torch.rand(5, 2).double())
        z = posterior.sample()
        log_pairs = posterior.log_prob(z.unsqueeze(1))  # (5, 5, 2)
        exact, exact_j = log_pairs.sum(-1).exp().mean(1), log_pairs.exp().mean(1)  # q(z) and q(z_j) at each z
        estimates: list[list[Tensor]] = [[] for _ in range(5)]
        for batch in itertools.combinations(range(5), size):
            index = list(batch)
            part = Normal(posterior.mean[index], posterior.stddev[index])
            log_q, log_q_j = log_aggregate(part, z[index], num_train=5)
            for place, n in enumerate(index):
                estimates[n].append(torch.cat([log_q[place, None], log_q_j[place]]).exp())
        mean = torch.stack([torch.stack(each).mean(0) for each in estimates])
        torch.testing.assert_close(mean, torch.cat([exact[:, None], exact_j], 1))

    def test_of_the_whole_data_set_is_the_exact_integral(self, make_model: MakeModel) -> None:
        """Two examples on the diagonal: q(z) is a mixture of two Gaussians, integrated on a grid."""
        mu, std = torch.tensor([[-1.0, -1.0], [1.0, 1.0]]), 0.5
        grid = torch.linspace(-4, 4, 321, dtype=torch.float64)
        q_j = sum(Normal(m, std).log_prob(grid).exp() for m in (-1.0, 1.0)) / 2
        joint = sum(torch.outer(*[Normal(m, std).log_prob(grid).exp()] * 2) for m in (-1.0, 1.0)) / 2
        exact = (joint * (joint / torch.outer(q_j, q_j)).log()).sum() * (grid[1] - grid[0]) ** 2
        terms = []
        for _ in range(500):  # draws of z for each example
            posterior = Normal(mu, std)
            z = posterior.sample()
            terms.append(TotalCorrelation(num_train=2)(make_model(Gaussian), Batch(z), output(z, posterior), 0).mean())
        assert torch.stack(terms).mean().item() == pytest.approx(exact.item(), abs=0.05)

    def test_is_that_of_a_correlated_gaussian(self, make_model: MakeModel) -> None:
        """-log(1 - rho^2) / 2 for two dimensions; codes are N(0, C) where posteriors are narrow around draws."""
        rho, noise, size = 0.8, 0.3, 2_000
        covariance = torch.tensor([[1.0, rho], [rho, 1.0]])
        means = MultivariateNormal(torch.zeros(2), covariance - noise**2 * torch.eye(2)).sample((size,))
        posterior = Normal(means, noise)
        z = posterior.sample()
        term = TotalCorrelation(num_train=size)(make_model(Gaussian), Batch(z), output(z, posterior), 0).mean()
        assert term.item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.07)

    def test_is_zero_for_one_dimension_and_for_a_collapsed_posterior(self, make_model: MakeModel) -> None:
        model, term = make_model(Gaussian), TotalCorrelation(num_train=100)
        z = torch.randn(6, 1)
        assert term(model, Batch(z), output(z, Normal(z + 1, 0.5)), 0).abs().max() < 1e-5
        z, prior = torch.randn(6, 3), Normal(torch.zeros(6, 3), 1.0)
        assert term(model, Batch(z), output(z, prior), 0).abs().max() < 1e-5
        z, spread = torch.randn(1, 3), Normal(torch.randn(1, 3), 0.5)
        assert term(model, Batch(z), output(z, spread), 0).abs().max() < 1e-5, "a single example"

    def test_with_information_and_marginals_it_is_the_kl(self) -> None:
        """Chen et al. 2018, eq. 2, at the same draws."""
        posterior, prior = Normal(torch.randn(9, 4), 0.2 + torch.rand(9, 4)), Normal(0.0, 1.0)
        z = posterior.sample()
        log_q, log_q_j = log_aggregate(posterior, z, num_train=50)
        information = posterior.log_prob(z).sum(-1) - log_q
        correlation, marginals = log_q - log_q_j.sum(-1), (log_q_j - prior.log_prob(z)).sum(-1)
        kl = (posterior.log_prob(z) - prior.log_prob(z)).sum(-1)
        torch.testing.assert_close(information + correlation + marginals, kl)

    def test_reaches_the_encoder_of_maps_and_vectors_and_not_the_decoder(self, make_model: MakeModel) -> None:
        model, batch = make_model(Gaussian), Batch(torch.randn(8, 6))
        term = TotalCorrelation(num_train=50)(model, batch, model(batch), 0).mean()
        assert all(g is not None and g.any() for g in gradients(term, model.encoder))
        assert all(g is None for g in gradients(term, model.decoder))

    def test_parts_that_fit_in_memory_change_neither_value_nor_gradient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        z, found = torch.randn(6, 2, 3), []
        for at_once in (10**6, 2 * 36, 1):
            monkeypatch.setattr("autoenc.regularizers.total_correlation.AT_ONCE", at_once)
            mean = torch.linspace(-1, 1, 36).view(6, 2, 3).requires_grad_()
            std = torch.full((6, 2, 3), 0.7).requires_grad_()
            joint, single = log_aggregate(Normal(mean, std), z, 50)
            (joint.sum() - 2 * single.sum()).backward()
            found.append((joint.detach(), single.detach(), mean.grad, std.grad))
        assert found[0][1].shape == (6, 6)
        for other in found[1:]:
            torch.testing.assert_close(other, found[0])

    def test_needs_a_posterior(self, make_model: MakeModel) -> None:
        with pytest.raises(ConfigError, match=r"total_correlation: needs a posterior.*Deterministic"):
            TotalCorrelation(num_train=3).check(make_model(Deterministic))


class TestRegularizedAutoencoder:
    def test_l2_is_half_the_squared_norm_of_the_code(self, make_model: MakeModel) -> None:
        z = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
        assert CodeL2()(make_model(), Batch(z), output(z), 0).tolist() == [12.5, 0.5]

    def test_l2_of_the_decoder_has_the_gradient_of_weight_decay_and_no_other(self, make_model: MakeModel) -> None:
        model, batch = make_model(), Batch(torch.randn(4, 6))
        term = DecoderL2()(model, batch, model(batch), 0)
        for gradient, p in zip(gradients(term, model.decoder), model.decoder.parameters(), strict=True):
            if p.dim() > 1:
                torch.testing.assert_close(gradient, 2 * p.detach())
            else:
                assert gradient is None, "biases are free: they start at the mean of the data"
        assert all(g is None for part in (model.encoder, model.bottleneck) for g in gradients(term, part))

    def test_the_gradient_penalty_is_half_the_squared_norm_of_the_decoders_jacobian(
        self, make_model: MakeModel
    ) -> None:
        model, batch = make_model(), Batch(torch.randn(2, 6))
        out = model(batch)
        exact = [
            0.5 * torch.autograd.functional.jacobian(lambda z: model.decode(z[None])[0], z).square().sum()
            for z in out.code.z.detach()
        ]
        draws = torch.stack([DecoderJacobian()(model, batch, out, 0).detach() for _ in range(1_500)])
        torch.testing.assert_close(draws.mean(0), torch.stack(exact), rtol=0.15, atol=0)

    def test_the_gradient_penalty_reaches_the_decoder_only(self, make_model: MakeModel) -> None:
        model, batch = make_model(), Batch(torch.randn(4, 6))
        term = DecoderJacobian()(model, batch, model(batch), 0).mean()
        assert any(g is not None and g.any() for g in gradients(term, model.decoder))
        assert all(g is None for part in (model.encoder, model.bottleneck) for g in gradients(term, part))
        with torch.no_grad():
            assert DecoderJacobian()(model, batch, model(batch), 0).isfinite().all(), "in evaluation too"

    def test_the_gradient_penalty_refuses_sequences(self, make_model: MakeModel) -> None:
        model = make_model(network=networks.sequence, network_options={"vocabulary": 9}, shape=(5,))
        with pytest.raises(ConfigError, match=r"decoder_jacobian.*decoder_l2"):
            DecoderJacobian().check(model)

    def test_refuses_batch_statistics_whose_derivatives_are_of_other_examples(self, make_model: MakeModel) -> None:
        model = make_model()
        model.decoder = nn.Sequential(model.decoder, nn.BatchNorm1d(6))
        with pytest.raises(ConfigError, match=r"decoder_jacobian: needs a decoder without batch .* layer 1"):
            DecoderJacobian().check(model)


class TestFactorVAE:
    def test_permutation_keeps_the_marginals_and_breaks_the_dependence(self) -> None:
        z = torch.randn(2_000, 1).expand(-1, 3).contiguous().view(2_000, 3, 1)
        shuffled = permuted(z)
        torch.testing.assert_close(shuffled.sort(0).values, z.sort(0).values)
        assert torch.corrcoef(shuffled.flatten(1).T).sub(torch.eye(3)).abs().max() < 0.1

    def test_each_player_has_its_own_gradients(self, make_model: MakeModel) -> None:
        model, objective = make_model(Gaussian), FactorVAE({"kl": KL()}, (3,), weight=5.0)
        loss = objective(model, batch := Batch(torch.randn(16, 6)), 0)
        assert set(loss.total) == set(objective.players(model)) == {"model", "critic"}
        assert all(g is None for g in gradients(loss.total["critic"], model))
        assert all(g is not None and g.any() for g in gradients(loss.total["critic"], objective.critic)[:-1])
        with seeded(0):
            loss = objective(model, batch, 0)
        with seeded(0):
            plain = Objective({"kl": KL()})(model, batch, 0).total["model"]
        with seeded(0):
            correlation = objective.critic(model(batch).code.z).mean()
        torch.testing.assert_close(loss.total["model"], plain + 5.0 * correlation)
        term = loss.total["model"] - plain
        assert all(g is not None and g.any() for g in gradients(term, model.encoder))

    def test_the_critic_learns_the_log_density_ratio(self, make_model: MakeModel) -> None:
        """Two units that are equal up to noise: total correlation -log(1 - rho^2) / 2."""
        rho = 0.8
        model, objective = make_model(Gaussian, latent_dim=2), FactorVAE({}, (2,), hidden=[32])
        density = MultivariateNormal(torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]]))
        optimizers = {
            "model": torch.optim.SGD(model.parameters(), lr=0.0),
            "critic": torch.optim.Adam(objective.critic.parameters(), lr=0.005),
        }
        model.encode = lambda batch, y=None: Code(z := density.sample((len(batch),)).requires_grad_(), z)  # type: ignore
        for step in range(200):
            train_step(model, objective, Batch(torch.randn(500, 6)), step, optimizers)
        with torch.no_grad():
            found = objective.critic(density.sample((20_000,))).mean().item()
        assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.08)

    def test_losses_are_those_of_a_critic_that_knows_nothing(self, make_model: MakeModel) -> None:
        objective = FactorVAE({"kl": KL()}, (3,))
        for parameter in objective.critic.parameters():
            nn.init.zeros_(parameter)
        parts = objective(make_model(Gaussian), Batch(torch.randn(8, 6)), 0).parts
        assert parts["critic"].item() == pytest.approx(2 * math.log(2))
        assert parts["total_correlation"] == 0

    def test_a_small_last_batch_leaves_no_trace_in_the_record(self, make_model: MakeModel) -> None:
        model, objective = make_model(Gaussian), FactorVAE({"kl": KL()}, (3,)).train()
        objective(model, Batch(torch.randn(8, 6)), 0)
        recent = objective.recent.clone()
        parts = objective(model, Batch(torch.randn(3, 6)), 0).parts
        assert torch.equal(objective.recent, recent)
        assert "critic" not in parts, "which would enter the mean as 0"

    def test_needs_a_posterior(self, make_model: MakeModel) -> None:
        with pytest.raises(ConfigError, match=r"needs a posterior.*Deterministic"):
            FactorVAE({}, (3,)).check(make_model())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=wae", "trainer.batch_size=1"], r"^trainer\.batch_size=1: must be 2 or more: regularizer=mmd needs 2"),
        (
            ["model=btcvae", "trainer.eval_batch_size=1"],
            r"^trainer\.eval_batch_size=1: .*total_correlation",
        ),
        (["model=factorvae", "trainer.batch_size=3"], r"^trainer\.batch_size=3: must be 4 or more.*FactorVAE"),
        (["model=wae", "prior=default"], r"needs a prior"),
        (["model=ae", "regularizer=[total_correlation]"], r"regularizer=total_correlation: needs a posterior"),
        (["model=factorvae", "model.bottleneck._target_=autoenc.bottlenecks.Deterministic"], r"needs a posterior"),
    ],
)
def test_what_cannot_work_is_refused_before_training(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(compose(overrides), torch.device("cpu"))


def test_the_number_of_training_examples_is_that_of_the_split(make_data: Callable) -> None:
    parts = build(compose(["model=btcvae", "likelihood=gaussian"]), torch.device("cpu"), make_data(n=24))
    assert parts.objective.regularizers["total_correlation"].num_train == 24
