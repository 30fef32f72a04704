"""The importance weighted bound against a linear Gaussian model: values, gradients and who receives them."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from autoenc import bottlenecks, likelihoods, objectives
from autoenc.core import Autoencoder, Batch, Code
from autoenc.errors import ConfigError
from autoenc.objective import Objective, train_step
from autoenc.objectives import IWAE
from autoenc.regularizers import KL, L1
from autoenc.training.evaluation import evaluation_mode

MakeModel = Callable[..., Autoencoder]


class Scaled(bottlenecks.Gaussian):
    """q(z|x) = N(features, std), both learned."""

    def __init__(self) -> None:
        super().__init__((1,), 1)
        self.log_std = nn.Parameter(torch.tensor([-0.3]))

    def forward(self, features: Tensor) -> Code:
        posterior = Normal(features, self.log_std.exp().expand_as(features))
        return Code(z=posterior.rsample(), mean=features, posterior=posterior)


def linear_gaussian() -> Autoencoder:
    """x = w z + e in two dimensions, with a q(z|x) that is off."""
    encoder, decoder = nn.Linear(2, 1), nn.Linear(1, 2)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[0.3, -0.2]]))
        encoder.bias.fill_(0.1)
        decoder.weight.copy_(torch.tensor([[1.0], [-0.5]]))
        decoder.bias.copy_(torch.tensor([0.2, 0.0]))
    return Autoencoder(nn.Identity(), encoder, Scaled(), decoder, likelihoods.Gaussian(0.7))


X = torch.tensor([[1.5, -0.4]])


def gradients(model: Autoencoder, k: int, gradient: str, repeats: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard error of the gradient of each parameter, over independent batches of one example."""
    objective, found = IWAE({}, k=k, gradient=gradient), []  # type: ignore[arg-type]
    names = [name for name, p in model.named_parameters() if not name.startswith("bottleneck.linear")]
    parameters = dict(model.named_parameters())
    for _ in range(40):
        batch = Batch(X.expand(repeats // 40, 2))
        loss = objective(model, batch, 0).total["model"]
        grads = torch.autograd.grad(loss, [parameters[name] for name in names])
        found.append(torch.cat([g.flatten() for g in grads]))
    rows = torch.stack(found)
    sizes = [parameters[name].numel() for name in names]
    means, errors = rows.mean(0).split(sizes), (rows.std(0) / math.sqrt(40)).split(sizes)
    return {name: (m, e) for name, m, e in zip(names, means, errors, strict=True)}


@pytest.mark.parametrize("k", [1, 4])
def test_dreg_has_the_mean_of_the_standard_gradient_and_less_variance(k: int) -> None:
    """A weight of the wrong sign, or v in place of v^2, is far outside of the interval."""
    model = linear_gaussian()
    standard, dreg = (gradients(model, k, gradient, 80_000) for gradient in ("standard", "dreg"))
    for name, (mean, error) in standard.items():
        other, other_error = dreg[name]
        assert ((mean - other).abs() < 4 * (error.square() + other_error.square()).sqrt() + 1e-6).all(), name
    for name in ("encoder.weight", "bottleneck.log_std"):
        mean, error = standard[name]
        assert (mean.abs() > 10 * error).all(), f"{name}: the interval says something"
        assert (dreg[name][1] < error).all(), f"{name}: less variance"


def test_dreg_of_the_true_posterior_has_no_gradient_at_all_for_the_encoder() -> None:
    """All w are p(x): the path derivative of each log w is 0, and so is every draw of the gradient."""
    model = linear_gaussian()
    w, b, s = model.decoder.weight.detach(), model.decoder.bias.detach(), 0.7
    variance = 1 / (1 + float(w.square().sum()) / s**2)
    with torch.no_grad():
        model.encoder.weight.copy_(variance * w.T / s**2)
        model.encoder.bias.copy_(-model.encoder.weight @ b)
        model.bottleneck.log_std.fill_(0.5 * math.log(variance))
    loss = IWAE({}, k=3, gradient="dreg")(model, Batch(torch.randn(20, 2)), 0).total["model"]
    encoder, std, decoder = torch.autograd.grad(
        loss, [model.encoder.weight, model.bottleneck.log_std, model.decoder.weight]
    )
    assert encoder.abs().max() < 1e-4
    assert std.abs().max() < 1e-4
    assert decoder.abs().max() > 1e-2


@pytest.mark.parametrize("gradient", ["standard", "dreg"])
def test_the_gradient_of_the_decoder_is_the_standard_one(gradient: str) -> None:
    """Draw by draw, with the weights v written out; the sample of the model itself is one, unless dreg."""
    model, batch, k = linear_gaussian(), Batch(torch.randn(5, 2)), 6
    torch.manual_seed(1)
    loss = IWAE({}, k=k, gradient=gradient)(model, batch, 0).total["model"]  # type: ignore[arg-type]
    found = torch.autograd.grad(loss, list(model.decoder.parameters()))
    torch.manual_seed(1)
    code = model(batch).code
    own = code.z.unsqueeze(0)[: int(gradient == "standard")]
    z = torch.cat([own, code.posterior.rsample((k - len(own),))]).detach()
    log_p = -model.nll(z, batch)
    log_w = log_p + model.bottleneck.prior.log_prob(z) - code.posterior.log_prob(z).sum(-1)
    v = (log_w.detach() - log_w.detach().logsumexp(0)).exp()
    expected = torch.autograd.grad(-(v * log_p).sum(0).mean(), list(model.decoder.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_the_bound_grows_with_k_to_the_evidence() -> None:
    model = linear_gaussian()
    w, b = model.decoder.weight.detach(), model.decoder.bias.detach()
    x = torch.randn(4_000, 2)
    exact = -MultivariateNormal(b, w @ w.T + 0.49 * torch.eye(2)).log_prob(x).mean()
    with torch.no_grad():
        found = {k: float(IWAE({}, k=k)(model, Batch(x), 0).parts["loss"]) for k in (1, 5, 500)}
        one = model(Batch(x))
        elbo = float((one.nll + model.bottleneck.prior.kl(one.code.posterior).sum(1)).mean())
    assert found[1] == pytest.approx(elbo, abs=0.1)
    assert found[1] > found[5] + 0.05 > found[500]
    assert found[500] == pytest.approx(float(exact), abs=0.01)


def test_loss_is_the_bound_and_the_other_terms_in_training_and_evaluation(make_model: MakeModel) -> None:
    model, batch = make_model(bottlenecks.Gaussian), Batch(torch.randn(16, 6))
    objective = IWAE({"l1": L1(weight=0.5)}, k=3)
    with evaluation_mode(model, objective), torch.no_grad():
        parts = objective(model, batch, math.inf).parts
        torch.manual_seed(20_011)
        out = model(batch)
        bound = objective.bound(model, batch, out)
    assert set(parts) == {"loss", "nll", "kl", "l1"}
    assert float(parts["loss"]) == pytest.approx(float(bound.mean() + 0.5 * parts["l1"]), rel=1e-6)
    assert float(parts["kl"]) == pytest.approx(float(model.bottleneck.prior.kl(out.code.posterior).sum(1).mean()))
    assert float(parts["loss"]) < float(parts["nll"] + parts["kl"] + 0.5 * parts["l1"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trained = [float(train_step(model, objective, batch, i, {"model": optimizer})["loss"]) for i in range(60)]
    assert trained[0] == pytest.approx(float(parts["loss"]), rel=0.2)
    assert trained[-1] < trained[0]


@pytest.mark.parametrize("gradient", ["standard", "dreg"])
def test_parts_that_fit_in_memory_change_no_gradient(gradient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, found = linear_gaussian(), Batch(torch.randn(5, 2)), []
    calls: list[int] = []
    plain = model.nll
    model.nll = lambda z, batch: calls.append(len(z)) or plain(z, batch)  # type: ignore[method-assign, func-returns-value]
    for most in (2**23, 2 * 5 * 2):
        monkeypatch.setattr(objectives.iwae, "AT_ONCE", most)
        torch.manual_seed(0)
        loss = IWAE({}, k=5, gradient=gradient)(model, batch, 0).total["model"]  # type: ignore[arg-type]
        found.append([loss, *torch.autograd.grad(loss, [*model.decoder.parameters(), model.encoder.weight])])
    again = [2, 2, 2, 2, 4] if gradient == "standard" else [1, 1, 2, 2, 2, 2, 5]
    assert sorted(calls) == again, "each part again in the backward pass, and the model's own sample not"
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: IWAE({}, k=0), r"^k=0: .* from 1 to"),
        (lambda m: IWAE({}, k=10**6), r"^k=1000000: .* from 1 to"),
        (lambda m: IWAE({}, gradient="stl"), r"^gradient=stl: must be standard or dreg"),  # type: ignore[arg-type]
        (lambda m: IWAE({}).check(m()), "the bottleneck Deterministic has none, Gaussian has both"),
        (lambda m: IWAE({}).check(m(bottlenecks.Binary)), "the codes of Binary are discrete"),
        (lambda m: IWAE({"kl": KL()}).check(m(bottlenecks.Gaussian)), r"contains the KL already; .*regularizer=\[kl\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    make: Callable[[MakeModel], Objective], message: str, make_model: MakeModel
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(make_model)
