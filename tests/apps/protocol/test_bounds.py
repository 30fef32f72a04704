"""Bounds on -log p(x) against closed forms, and mutual information at its two ends."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kind_of_ids import Ids
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from autoenc import bottlenecks, likelihoods, load_run
from autoenc.apps.protocol.bounds import bounds
from autoenc.apps.protocol.evaluate import evaluate
from autoenc.conditions import InferredLabels
from autoenc.core import Autoencoder, Batch, Code
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.kind import Kind
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.priors import Mixture
from autoenc.training.evaluation import mutual_information
from autoenc.verdict import of_code

D, K, SIGMA = 5, 2, 0.4


class Known(bottlenecks.Gaussian):
    """q(z|x) with the mean that the encoder gives and one scale."""

    def __init__(self, std: float | Tensor, latent_dim: int = K):
        super().__init__((1,), latent_dim)
        self.std = torch.as_tensor(std)

    def forward(self, features: Tensor) -> Code:
        posterior = Normal(features, self.std.expand_as(features))
        return Code(z=posterior.rsample(), mean=features, posterior=posterior)


def linear_gaussian(widened: float = 1.0) -> tuple[Run, Tensor, Tensor]:
    """x = z W + e with orthogonal rows in W: the posterior is diagonal. (run, exact -log p(x), data).

    widened: standard deviations of q over those of the posterior.
    """
    torch.manual_seed(0)
    w = torch.linalg.qr(torch.randn(D, K)).Q.T * torch.tensor([[2.0], [0.7]])  # (K, D)
    variance = 1 / (1 + w.square().sum(1) / SIGMA**2)
    encoder, decoder = nn.Linear(D, K, bias=False), nn.Linear(K, D, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(variance[:, None] * w / SIGMA**2)
        decoder.weight.copy_(w.T)
    likelihood = likelihoods.Gaussian(SIGMA)
    model = Autoencoder(nn.Identity(), encoder, Known(widened * variance.sqrt()), decoder, likelihood)
    x = torch.randn(300, K) @ w + SIGMA * torch.randn(300, D)
    exact = -MultivariateNormal(torch.zeros(D), w.T @ w + SIGMA**2 * torch.eye(D)).log_prob(x)
    return in_memory(model, Vector((D,), -9.0, 9.0)), exact, x


def in_memory(model: Autoencoder, kind: Kind) -> Run:
    config = {"trainer": {"eval_batch_size": 50}, "model": {"latent_dim": K}}
    described = DataSpec("tiny", kind)
    return Run(Path("RUN"), model, config, described, {}, torch.device("cpu"))


def test_with_the_true_posterior_both_are_exact() -> None:
    """Every importance weight is then p(x)."""
    run, exact, x = linear_gaussian()
    found = bounds(run, Split(x), samples=3)
    np.testing.assert_allclose(found.nll, exact, atol=1e-4)
    np.testing.assert_allclose(found.elbo, exact, atol=1e-4)


def test_with_a_poor_posterior_samples_bring_the_bound_down_to_the_truth() -> None:
    run, exact, x = linear_gaussian(widened=1.6)
    found = {samples: bounds(run, Split(x), samples) for samples in (1, 100, 2_000)}
    gap = K * (0.5 * (1.6**2 - 1) - math.log(1.6))  # KL(q || p(z|x)), the same for every x
    assert found[2_000].elbo.mean() - exact.mean() == pytest.approx(gap, abs=0.02)
    for each in found.values():
        assert (each.nll <= each.elbo + 1e-9).all(), "Jensen, on the same draws"
    means = [float(found[samples].nll.mean() - exact.mean()) for samples in (1, 100, 2_000)]
    assert means[0] > means[1] > -0.02
    assert means[0] == pytest.approx(gap, abs=0.15)
    assert means[2] == pytest.approx(0, abs=0.01)


def test_samples_bring_the_bound_of_a_mixture_prior_down_to_the_truth() -> None:
    """x = z W + e with z of a mixture of Gaussians: p(x) is one too."""
    run, _, _ = linear_gaussian(widened=1.6)
    prior = run.model.bottleneck.prior = Mixture((K,), 3)
    for p in prior.parameters():
        nn.init.normal_(p, std=0.5)
    log_pi, mean, std = (part.detach() for part in prior.parts())
    w = run.model.decoder.weight.detach().T
    x = prior.sample(200).detach() @ w + SIGMA * torch.randn(200, D)
    covariance = w.T @ torch.diag_embed(std**2) @ w + SIGMA**2 * torch.eye(D)
    each = MultivariateNormal(mean @ w, covariance).log_prob(x[:, None])
    exact = -(log_pi + each).logsumexp(1)
    found = bounds(run, Split(x), samples=5_000)
    assert (found.nll <= found.elbo + 1e-9).all()
    assert found.elbo.mean() - float(exact.mean()) > 0.1
    assert found.nll.mean() == pytest.approx(float(exact.mean()), abs=0.02)


def test_of_inferred_classes_the_bound_is_of_their_mixture() -> None:
    """x = z W + b_y + e with y unknown: bounds given the likeliest class would lie below -log p(x)."""
    torch.manual_seed(0)
    w, b = torch.randn(D), torch.randn(2, D)
    variance = 1 / (1 + w.square().sum() / SIGMA**2)
    condition = InferredLabels(2, lambda: SimpleNamespace(encoder=nn.Identity(), feature_shape=(D,)), width=2)
    bottleneck, decoder = bottlenecks.Gaussian((D + 2,), 1), nn.Linear(3, D, bias=False)
    a = variance * w / SIGMA**2
    with torch.no_grad():
        condition.embedding.weight.copy_(torch.eye(2))
        condition.bias.copy_(torch.tensor([0.5, -0.5]))
        bottleneck.linear.weight.zero_()
        bottleneck.linear.weight[0] = torch.cat([a, -b @ a])
        bottleneck.linear.bias.copy_(torch.stack([torch.tensor(0.0), variance.log()]))
        decoder.weight.copy_(torch.cat([w[:, None], b.T], 1))
    likelihood = likelihoods.Gaussian(SIGMA)
    run = in_memory(
        Autoencoder(nn.Identity(), nn.Identity(), bottleneck, decoder, likelihood, condition), Vector((D,), -9.0, 9.0)
    )
    x = torch.randn(60, 1) * w + b[torch.arange(60) % 2] + SIGMA * torch.randn(60, D)
    each = MultivariateNormal(b, torch.outer(w, w) + SIGMA**2 * torch.eye(D)).log_prob(x[:, None])  # log p(x|y)
    q = condition.log_q(Batch(x)).exp().detach()
    found = bounds(run, Split(x), samples=2)
    np.testing.assert_allclose(found.nll, math.log(2) - each.logsumexp(1), atol=1e-4)
    np.testing.assert_allclose(found.elbo, (q * (math.log(2) - each + q.log())).sum(1), atol=1e-4)
    assert (found.nll <= found.elbo).all()


def test_numbers_do_not_depend_on_how_much_is_in_memory_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, x = linear_gaussian()  # exact weights: draws differ with the parts, numbers do not
    whole = bounds(run, Split(x[:40]), samples=20).nll
    monkeypatch.setattr("autoenc.apps.protocol.bounds.AT_ONCE", 3 * D)
    np.testing.assert_allclose(bounds(run, Split(x[:40]), samples=20).nll, whole, atol=1e-4)


def test_memory_does_not_grow_with_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """100,000 samples of 5 numbers, 40 examples: 80 MB if they were kept."""
    run, exact, x = linear_gaussian(widened=1.6)
    sizes, nll = [], run.model.nll
    run.model.nll = lambda z, batch: sizes.append(z.numel()) or nll(z, batch)  # type: ignore[method-assign, func-returns-value]
    monkeypatch.setattr("autoenc.apps.protocol.bounds.AT_ONCE", 200_000)
    found = bounds(run, Split(x[:40]), samples=100_000)
    assert max(sizes) <= 200_000
    np.testing.assert_allclose(found.nll, exact[:40], atol=0.02)


def test_the_script_takes_numbers_of_samples_and_examples(call: Callable, vae_run: Path, tmp_path: Path) -> None:
    import json

    args = ["--only", "bounds", "--samples", 7, "--examples", 20, "--output", tmp_path / "out"]
    assert call("evaluate", vae_run, *args)[0] == 0
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text())["bounds"]
    assert (numbers["samples"], numbers["examples"]) == (7, 20)
    code, _, err = call("evaluate", vae_run, "--samples", 0)
    assert (code, "argument --samples: 0 is not 1 or more" in err, err.count("\n")) == (2, True, 1)


def test_texts_come_back_in_their_order_and_padding_costs_nothing() -> None:
    """A decoder that ignores the code and gives every token the same probability: -log p = tokens * log V."""

    class Flat(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.zeros(*z.shape[:-2], int((x != 0).sum()), 7)

    class Features(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), K)

    model = Autoencoder(nn.Identity(), Features(), Known(1.0), Flat(), likelihoods.Tokens(7))
    model.decode = lambda z, batch: model.decoder(z, batch.x)  # type: ignore[method-assign, union-attr]
    lengths = torch.tensor([4, 1, 6, 2])
    x = torch.where(torch.arange(6) < lengths[:, None], 5, 0)
    found = bounds(in_memory(model, Ids((6,), 0.0, 7 - 1)), Split(x), samples=4)
    np.testing.assert_allclose(found.nll, lengths * math.log(7), rtol=1e-6)


def test_a_deterministic_code_has_no_bound(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    with pytest.raises(UserError, match="Gaussian codes"):
        bounds(run, run.data.test)
    assert mutual_information(run.model, run.data.test, 100) is None


def test_evaluate_reports_both(vae_run: Path) -> None:
    run = load_run(vae_run, "cpu")
    found = evaluate(run, ["bounds", "reconstruction", "latent"])
    numbers = found["bounds"]
    assert numbers["nll_importance"] < numbers["elbo"]
    loss = found["reconstruction"]["loss"]  # one draw of z for each example, where the bound has 100
    assert numbers["elbo"] == pytest.approx(loss, abs=0.02 * abs(loss))
    assert "mutual information" in found["latent"]["verdict"]
    assert 0.1 < found["latent"]["mutual_information"] <= math.log(len(run.data.test))


def information(means: Tensor, std: float) -> float:
    model = SimpleNamespace(
        encode=lambda batch: Known(std, batch.x.shape[1])(batch.x),
        parameters=lambda: iter([torch.zeros(1)]), training=False, eval=lambda: None, train=lambda on: None,
    )  # fmt: skip
    found = mutual_information(model, Split(means), 64)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_collapsed_posterior_says_nothing() -> None:
    assert information(torch.zeros(500, 4), 1.0) == pytest.approx(0, abs=1e-9)
    assert information(torch.full((500, 4), 3.0), 0.2) == pytest.approx(0, abs=1e-9), (
        "a KL of many nats, and no information"
    )


def test_a_posterior_that_tells_all_examples_apart_says_log_n() -> None:
    assert information(10 * torch.randn(500, 4), 0.01) == pytest.approx(math.log(500), abs=1e-6)
    assert information(10 * torch.randn(3_000, 4), 0.01) == pytest.approx(math.log(2_000), abs=1e-6), (
        "of the first 2,000"
    )


def test_mutual_information_of_gaussians() -> None:
    """z = m + s e with m ~ N(0, 1): log(1 + 1 / s^2) / 2 nats a dimension."""
    for dims, std in ((1, 0.5), (2, 1.0)):
        expected = dims * 0.5 * math.log(1 + 1 / std**2)
        assert information(torch.randn(2_000, dims), std) == pytest.approx(expected, abs=0.05)


def test_the_verdict_says_when_a_kl_carries_nothing() -> None:
    latent = {"dim": 4.0, "active_units": 3.0, "zeros": 0.0, "mean_active": 4.0, "dead_units": 0.0, "kl": 3.0}
    assert of_code(latent).healthy
    found = of_code(latent | {"mutual_information": 0.01})
    assert not found.healthy
    assert "mutual information of x and z 0.01 nats" in found.text
    assert of_code(latent | {"mutual_information": 2.0}).healthy


def test_a_finished_run_says_how_much_its_code_tells(vae_run: Path, copied: Callable[[Path], Path]) -> None:
    import json

    summary = json.loads((vae_run / "summary.json").read_text())
    run = load_run(vae_run, "cpu")
    again = mutual_information(run.model, replace(run.data.test), run.batch_size)
    assert summary["latent"]["mutual_information"] == pytest.approx(again)
    assert f"{again:.2f} nats" in summary["verdict"]
