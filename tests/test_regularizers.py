"""Terms of the objective against closed forms, brute force and Monte Carlo, and what they refuse."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc import networks
from autoenc.bottlenecks import Deterministic, Gaussian, TopK
from autoenc.build import build
from autoenc.config.composed import compose
from autoenc.core import Autoencoder, Batch, Code, Output
from autoenc.errors import ConfigError
from autoenc.likelihoods import Gaussian as GaussianLikelihood
from autoenc.objective import Objective
from autoenc.regularizers import KL, L1, AuxK, Jacobian, KLSparsity
from autoenc.regularizers.jacobian import jacobian_norm
from autoenc.regularizers.kl import kl_per_dim

MakeModel = Callable[..., Autoencoder]


def output(code: Code) -> Output:
    """An output of which only the code matters."""
    return Output(code=code, params=torch.empty(0), nll=torch.zeros(len(code.z)))


def posterior(mu: Tensor, logvar: Tensor) -> Code:
    return Code(z=mu, mean=mu, posterior=Normal(mu, (0.5 * logvar).exp()))


class TestKL:
    def test_is_the_closed_form_summed_over_dimensions(self, make_model: MakeModel) -> None:
        mu, logvar = torch.randn(5, 3), torch.randn(5, 3)
        kl = KL()(make_model(Gaussian), Batch(torch.zeros(5, 6)), output(posterior(mu, logvar)), 0)
        torch.testing.assert_close(kl, (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum(-1))

    def test_agrees_with_monte_carlo(self, make_model: MakeModel) -> None:
        code = posterior(torch.tensor([[1.0, -0.5, 0.0]]), torch.tensor([[-2.0, 0.3, 0.0]]))
        z = code.posterior.sample((200_000,))
        sampled = (code.posterior.log_prob(z) - Normal(0.0, 1.0).log_prob(z)).mean(0)
        torch.testing.assert_close(kl_per_dim(make_model(Gaussian), code), sampled, atol=0.01, rtol=0)

    def test_of_the_prior_is_zero(self, make_model: MakeModel) -> None:
        code = posterior(torch.zeros(2, 3), torch.zeros(2, 3))
        assert not kl_per_dim(make_model(Gaussian), code).any()

    def test_free_bits_are_a_floor_for_each_dimensions_mean_over_the_batch(self, make_model: MakeModel) -> None:
        mu = torch.tensor([[0.1, 2.0, 0.0], [0.1, 0.0, 1.4]])  # KL is mu^2 / 2: means 0.005, 1, 0.49
        term = KL(free_bits=0.3)(make_model(Gaussian), Batch(mu), output(posterior(mu, torch.zeros(2, 3))), 0)
        torch.testing.assert_close(term, torch.tensor(0.3 + 1.0 + 0.49))

    def test_gradients_vanish_below_the_free_bits_and_are_whole_above(self, make_model: MakeModel) -> None:
        mu = torch.tensor([[0.1, 2.0, 0.0], [0.1, 0.0, 1.4]], requires_grad=True)
        logvar = torch.full((2, 3), -0.01, requires_grad=True)
        out = output(posterior(mu, logvar))
        KL(free_bits=0.3)(make_model(Gaussian), Batch(mu), out, 0).backward()
        alive = torch.tensor([[0.0, 1.0, 1.0]])
        torch.testing.assert_close(mu.grad, alive * mu.detach() / 2)  # d(mu^2 / 2) / dmu, mean over 2 examples
        torch.testing.assert_close(logvar.grad, alive * 0.5 * (logvar.detach().exp() - 1) / 2)

    @pytest.mark.parametrize("bottleneck", [Deterministic, TopK])
    def test_is_refused_where_there_is_no_posterior(self, make_model: MakeModel, bottleneck: type) -> None:
        options = {"k": 1} if bottleneck is TopK else {}
        with pytest.raises(ConfigError, match=f"bottleneck {bottleneck.__name__} has none"):
            KL().check(make_model(bottleneck, **options))
        KL().check(make_model(Gaussian))

    def test_refuses_negative_free_bits(self) -> None:
        with pytest.raises(ConfigError, match=r"^free_bits=-0.1: must be 0 or more$"):
            KL(free_bits=-0.1)


class TestSparsity:
    def test_l1_is_the_sum_of_absolute_values_for_each_example(self, make_model: MakeModel) -> None:
        z = torch.tensor([[1.0, -2.0, 0.0], [0.5, 0.5, -0.25]])
        assert L1()(make_model(), Batch(z), output(Code(z, z)), 0).tolist() == [3.0, 1.25]

    def test_kl_sparsity_is_the_divergence_of_mean_activations(self, make_model: MakeModel) -> None:
        z = torch.rand(50, 4)
        term = KLSparsity(target=0.1)(make_model(), Batch(z), output(Code(z, z)), 0)
        target = torch.distributions.Bernoulli(torch.tensor(0.1))
        expected = torch.distributions.kl_divergence(target, torch.distributions.Bernoulli(z.mean(0)))
        torch.testing.assert_close(term, expected.sum())

    def test_kl_sparsity_is_least_at_the_target(self, make_model: MakeModel) -> None:
        def term(rho: Tensor) -> Tensor:
            z = rho.expand(10, 3)
            return KLSparsity(target=0.2)(make_model(), Batch(z), output(Code(z, z)), 0)

        rho = torch.full((3,), 0.2, requires_grad=True)
        (gradient,) = torch.autograd.grad(term(rho), rho)
        assert term(rho).item() == pytest.approx(0, abs=1e-6)
        torch.testing.assert_close(gradient, torch.zeros(3), atol=1e-5, rtol=0)
        assert term(torch.full((3,), 0.1)) > 0
        assert term(torch.full((3,), 0.3)) > 0

    def test_kl_sparsity_reads_the_mean_over_the_batch_and_not_each_activation(self, make_model: MakeModel) -> None:
        z = torch.zeros(10, 3)
        z[0] = 1  # each unit active in one of ten examples
        assert KLSparsity(target=0.1)(make_model(), Batch(z), output(Code(z, z)), 0).item() == pytest.approx(
            0, abs=1e-6
        )

    def test_kl_sparsity_stays_finite_for_units_that_never_fire(self, make_model: MakeModel) -> None:
        z = torch.zeros(10, 3, requires_grad=True)
        term = KLSparsity()(make_model(), Batch(z), output(Code(z, z)), 0)
        assert term.isfinite()
        assert term > 0

    @pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
    def test_kl_sparsity_is_refused_for_codes_outside_the_unit_interval(
        self, make_model: MakeModel, activation: str
    ) -> None:
        with pytest.raises(ConfigError, match=r"model\.bottleneck\.activation=sigmoid"):
            KLSparsity().check(make_model(activation=activation))
        with pytest.raises(ConfigError):
            KLSparsity().check(make_model(Gaussian))
        KLSparsity().check(make_model(activation="sigmoid"))

    @pytest.mark.parametrize("target", [0.0, 1.0])
    def test_kl_sparsity_refuses_an_impossible_target(self, target: float) -> None:
        with pytest.raises(ConfigError, match=f"^target={target}: must lie between 0 and 1$"):
            KLSparsity(target=target)


class TestJacobian:
    def brute_force(self, model: Autoencoder, x: Tensor) -> Tensor:
        """Example by example, with torch's own: (B,)."""

        def encode(one: Tensor) -> Tensor:
            return model.encode(Batch(one[None])).mean.flatten()

        return torch.stack([torch.autograd.functional.jacobian(encode, one).square().sum() for one in x])

    @pytest.mark.parametrize("shape", [(6,), (2, 8, 8)], ids=["vectors", "images"])
    def test_exact_form_is_the_squared_frobenius_norm(self, make_model: MakeModel, shape: tuple[int, ...]) -> None:
        network = networks.conv if len(shape) == 3 else networks.mlp
        options = {"channels": [4], "hidden": 8, "activation": "silu", "norm": "group"} if len(shape) == 3 else {}
        model, x = make_model(shape=shape, network=network, network_options=options), torch.randn(4, *shape)
        torch.testing.assert_close(jacobian_norm(model, Batch(x), None), self.brute_force(model, x))

    def test_of_a_linear_encoder_is_the_norm_of_its_weight(self, make_model: MakeModel) -> None:
        model = make_model(network=networks.linear)
        expected = model.bottleneck.linear.weight.square().sum().expand(5)
        torch.testing.assert_close(jacobian_norm(model, Batch(torch.randn(5, 6)), None), expected)

    def test_projected_form_is_unbiased(self, make_model: MakeModel) -> None:
        model, batch = make_model(latent_dim=5), Batch(torch.randn(4, 6))
        exact = jacobian_norm(model, batch, None)
        estimate = jacobian_norm(model, batch, 5_000, create_graph=False)
        torch.testing.assert_close(estimate, exact, rtol=0.05, atol=0)
        # Var(|J^T v|^2) = 2 |J J^T|^2 for v ~ N(0, I): vectors of another kind have another variance.
        single = torch.stack([jacobian_norm(model, batch, 1, create_graph=False) for _ in range(200)])
        assert (single.std(0) > 0.2 * exact).all(), "each projection is a draw of its own"

    def test_size_of_the_code_chooses_the_form(self, make_model: MakeModel) -> None:
        model, batch = make_model(latent_dim=5), Batch(torch.randn(4, 6))
        out = model(batch)
        exact = jacobian_norm(model, batch, None)
        torch.testing.assert_close(Jacobian(exact_up_to=5)(model, batch, out, 0), exact)
        assert not torch.allclose(Jacobian(exact_up_to=4)(model, batch, out, 0), exact)

    def test_trains_the_encoder_and_not_the_decoder(self, make_model: MakeModel) -> None:
        model, batch = make_model(), Batch(torch.randn(4, 6))
        Jacobian()(model, batch, model(batch), 0).mean().backward()
        for name, p in model.named_parameters():
            if name.startswith("decoder"):
                assert p.grad is None, name
            elif name == "bottleneck.linear.bias":
                assert p.grad is None or not p.grad.any()  # a constant has no derivative
            else:
                assert p.grad is not None, name
                assert p.grad.any(), name

    def test_gradient_is_that_of_finite_differences(self, make_model: MakeModel) -> None:
        model, batch = make_model().double(), Batch(torch.randn(4, 6, dtype=torch.float64))
        weight = model.encoder[1].weight
        (gradient,) = torch.autograd.grad(jacobian_norm(model, batch, None).sum(), weight)
        with torch.no_grad():
            weight[2, 3] += 1e-5
            above = jacobian_norm(model, batch, None, create_graph=False).sum()
            weight[2, 3] -= 2e-5
            below = jacobian_norm(model, batch, None, create_graph=False).sum()
        torch.testing.assert_close(gradient[2, 3], (above - below) / 2e-5, rtol=1e-5, atol=1e-8)

    def test_is_taken_at_the_input_of_the_encoder(self, make_model: MakeModel) -> None:
        model, x, corrupted = make_model(), torch.randn(4, 6), torch.randn(4, 6)
        batch = Batch(x, corrupted=corrupted)
        torch.testing.assert_close(Jacobian()(model, batch, model(batch), 0), self.brute_force(model, corrupted))
        assert not corrupted.requires_grad, "the batch is not changed"

    @pytest.mark.parametrize(("network", "shape"), [(networks.mlp, (6,)), (networks.conv, (1, 8, 8))])
    def test_batch_norm_in_the_encoder_is_refused_and_named(
        self, make_model: MakeModel, network: Callable[..., networks.Pair], shape: tuple[int, ...]
    ) -> None:
        model = make_model(shape=shape, network=network, network_options={"norm": "batch"})
        name = next(n for n, m in model.encoder.named_modules() if "BatchNorm" in type(m).__name__)
        with pytest.raises(ConfigError, match=rf"\b{name}\b.*network\.norm=none") as refused:
            Jacobian().check(model)
        assert "\n" not in str(refused.value)
        Jacobian().check(make_model(shape=shape, network=network))

    def test_does_not_advance_the_counters_of_the_bottleneck(self, make_model: MakeModel) -> None:
        """It encodes a second time: what a training step counts must still be counted once."""
        model, batch = make_model(TopK, k=1), Batch(torch.randn(4, 6))
        out = model(batch)
        before = model.bottleneck.idle.clone()
        Jacobian()(model, batch, out, 0)
        assert torch.equal(model.bottleneck.idle, before)


class TestAuxK:
    def model(self, make_model: MakeModel, dead: list[int], **options: object) -> Autoencoder:
        """Eight units, two active at a time, a linear decoder, a Gaussian likelihood; `dead` units are dead."""
        options = {"likelihood": GaussianLikelihood(sigma=0.5), "latent_dim": 8, "k": 2, "dead_after": 100} | options
        model = make_model(TopK, network=networks.linear, **options)
        model.bottleneck.idle[dead] = 1000
        with torch.no_grad():
            model.bottleneck.linear.bias[dead] = -20  # never among the best
        return model

    def test_is_zero_without_dead_units(self, make_model: MakeModel) -> None:
        model, batch = self.model(make_model, dead=[]), Batch(torch.randn(5, 6))
        assert AuxK()(model, batch, model(batch), 0).tolist() == [0] * 5

    @pytest.mark.parametrize("k_aux", [1, 2, 32])
    def test_is_the_error_of_modelling_the_residual_by_dead_units(self, make_model: MakeModel, k_aux: int) -> None:
        dead = [1, 4, 6]
        model, batch = self.model(make_model, dead), Batch(torch.randn(5, 6))
        out = model(batch)
        with torch.no_grad():  # Gao et al. 2024, sec. 2.4: e = x - x_hat, e_hat = W z_dead, |e - e_hat|^2
            pre = model.bottleneck.linear(batch.x)
            z_dead = torch.zeros(5, 8)
            for i in range(5):
                best = sorted(dead, key=lambda j: -pre[i, j].item())[:k_aux]
                z_dead[i, best] = pre[i, best]
            e = batch.x - model.likelihood.mean(out.params)
            squared = (e - z_dead @ model.decoder[0].weight.T).square().sum(-1)
            before = e.square().sum(-1)
        torch.testing.assert_close(AuxK(k_aux=k_aux)(model, batch, out, 0), (squared - before) / (2 * 0.5**2))

    def test_is_continuous_when_the_first_unit_dies(self, make_model: MakeModel) -> None:
        model, batch = self.model(make_model, dead=[1]), Batch(torch.randn(5, 6))
        with torch.no_grad():
            model.bottleneck.linear.weight[1] = 0
            model.bottleneck.linear.bias[1] = 1e-4
        small = AuxK()(model, batch, model(batch), 0)
        assert 0 < small.abs().max() < 1e-2

    def test_gradients_of_a_linear_decoder_reach_the_atoms_of_dead_units_alone(self, make_model: MakeModel) -> None:
        dead = [1, 4, 6]
        model, batch = self.model(make_model, dead), Batch(torch.randn(5, 6))
        term = AuxK()(model, batch, model(batch), 0).mean()
        weight, bias = torch.autograd.grad(term, [model.decoder[0].weight, model.decoder[0].bias])
        assert weight[:, dead].any(0).all()
        assert weight[:, [0, 2, 3, 5, 7]].abs().max() < 1e-5 * weight.abs().max()
        assert bias.abs().max() < 1e-5 * weight.abs().max()

    def test_is_minimised_and_is_no_part_of_the_loss(self, make_model: MakeModel) -> None:
        model, batch = self.model(make_model, dead=[1, 4]), Batch(torch.randn(5, 6))
        loss = Objective({"auxk": AuxK(weight=0.25)})(model, batch, 0)
        assert loss.parts["auxk"] != 0
        assert loss.parts["loss"] == loss.parts["nll"]
        assert loss.total["model"].item() == pytest.approx((loss.parts["nll"] + loss.parts["auxk"] / 4).item())

    def test_gradients_reach_dead_units_of_the_encoder_and_no_living_ones(self, make_model: MakeModel) -> None:
        dead = [1, 4, 6]
        model, batch = self.model(make_model, dead), Batch(torch.randn(5, 6))
        linear = model.bottleneck.linear
        out = model(batch)
        (without,) = torch.autograd.grad(out.nll.mean(), linear.weight, retain_graph=True)
        assert not without[dead].any(), "top-k alone gives them nothing"
        (gradient,) = torch.autograd.grad(AuxK()(model, batch, out, 0).mean(), linear.weight)
        assert gradient[dead].any(1).all()
        assert not gradient[[0, 2, 3, 5, 7]].any()

    @pytest.mark.parametrize("revive", [True, False])
    def test_dead_units_come_alive_and_do_not_without_it(self, make_model: MakeModel, revive: bool) -> None:
        dead = [0, 1, 2, 3]
        model = make_model(TopK, shape=(8,), network=networks.linear, latent_dim=8, k=2, dead_after=64)
        with torch.no_grad():
            model.bottleneck.linear.bias[dead] = -2  # pre-activations have a standard deviation of 0.4
        # Each example is one of eight directions: four units are not enough.
        x = 2 * torch.eye(8)[torch.arange(64) % 8] + 0.05 * torch.randn(64, 8)
        objective = Objective({"auxk": AuxK(weight=1 / 32)} if revive else {})
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for step in range(400):
            optimizer.zero_grad()
            objective(model, Batch(x), step).total["model"].backward()
            optimizer.step()
        used = (model.eval().encode(Batch(x)).z != 0).any(0)
        assert used[4:].all()
        assert used[:4].all() if revive else not used[:4].any()

    @pytest.mark.parametrize("bottleneck", [Deterministic, Gaussian])
    def test_is_refused_without_a_topk_code(self, make_model: MakeModel, bottleneck: type) -> None:
        with pytest.raises(ConfigError, match=f"model=topk.*{bottleneck.__name__}"):
            AuxK().check(make_model(bottleneck))
        AuxK().check(make_model(TopK, k=1))


@pytest.mark.parametrize("term", [KL, L1, KLSparsity, Jacobian, AuxK])
def test_terms_are_frozen(term: Callable[..., object]) -> None:
    with pytest.raises(AttributeError):
        term().weight = 2.0


def test_terms_leave_the_model_and_the_code_alone(make_model: MakeModel) -> None:
    model, batch = make_model(Gaussian).eval(), Batch(torch.randn(4, 6))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    out = model(batch)
    z = out.code.z.clone()
    for term in (KL(), KL(free_bits=0.1), L1(), Jacobian()):
        term(model, batch, out, 0)
    assert torch.equal(out.code.z, z)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(isinstance(p.grad, nn.Parameter) for p in model.parameters())


@pytest.mark.parametrize("term", ["decoder_jacobian", "jacobian"])
def test_penalties_on_derivatives_reach_the_weights_of_transformers(term: str) -> None:
    settings = ["model=rae", "data=oscillations", "network=transformer", f"regularizer=[{term}]", "data.count=4"]
    parts = build(compose(settings), torch.device("cpu"))
    batch = next(parts.data.train.in_order(3))
    sum(parts.objective(parts.model, batch, 0).total.values()).backward()
    side = parts.model.decoder if term == "decoder_jacobian" else parts.model.encoder
    assert any(p.grad is not None and p.grad.any() for p in side.parameters())
