"""Deep SVDD and Deep SAD: the center, who receives which gradient, the loss by hand, refusals."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import Normal

from autoenc.bottlenecks import Deterministic, Gaussian
from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split
from autoenc.errors import ConfigError
from autoenc.likelihoods import Gaussian as GaussianLikelihood
from autoenc.networks import mlp
from autoenc.noise import Identity
from autoenc.objectives import DeepSAD, OneClass
from autoenc.priors import Center, StandardNormal
from autoenc.training.evaluation import evaluate

CLASSES = ("ok", "broken", "lost")


def model_of(encoder_bias: bool = False, bias: bool = False, activation: str = "relu") -> Autoencoder:
    torch.manual_seed(0)
    pair = mlp((6,), 3, hidden=[5], encoder_bias=encoder_bias, activation=activation)
    bottleneck = Deterministic(pair.feature_shape, 3, bias=bias)
    bottleneck.prior = Center((3,))
    bottleneck.prior.center.copy_(torch.tensor([0.5, -0.5, 1.0]))
    return Autoencoder(Identity(), pair.encoder, bottleneck, pair.decoder, GaussianLikelihood())


def gradients(loss: torch.Tensor, part: torch.nn.Module) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(part.parameters()), retain_graph=True))


def test_the_center_is_the_mean_code_kept_away_from_zero() -> None:
    prior = Center((4,))
    codes = torch.tensor([[[2.0, 0.02, -0.02, -3.0]] * 2, [[4.0, 0.04, -0.06, -5.0]] * 2])  # (N, 2, K)
    prior.start(lambda n: codes[:, 0], lambda n: codes, print)
    torch.testing.assert_close(prior.center, torch.tensor([3.0, 0.1, -0.1, -4.0]))
    assert not list(prior.parameters())
    assert "center" in prior.state_dict()


def test_its_density_is_a_normal_with_variance_one_half() -> None:
    prior, z = Center((2, 3)), torch.randn(5, 4, 2, 3)
    prior.center.normal_()
    expected = Normal(prior.center, math.sqrt(0.5)).log_prob(z).sum((-1, -2))
    torch.testing.assert_close(prior.log_prob(z), expected)
    torch.testing.assert_close(prior.distance(z), (z - prior.center).square().sum((-1, -2)))
    assert torch.equal(prior.energy(z), prior.distance(z))
    drawn = prior.sample(20_000)
    torch.testing.assert_close(drawn.mean(0), prior.center, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.var(0), torch.full((2, 3), 0.5), atol=0.02, rtol=0)


def test_the_encoder_learns_the_distance_and_the_decoder_the_reconstruction() -> None:
    model, objective = model_of(), OneClass({})
    objective.check(model)
    x = torch.randn(8, 6)
    loss = objective(model, Batch(x), 0)
    z = model.encode(Batch(x)).z
    distance = (z - model.bottleneck.prior.center).square().sum(1).mean()
    for found, expected in zip(
        gradients(loss.total["model"], model.encoder), gradients(distance, model.encoder), strict=True
    ):
        torch.testing.assert_close(found, expected)
    nll = model.nll(z.detach(), Batch(x)).mean()
    for found, expected in zip(
        gradients(loss.total["model"], model.decoder), gradients(nll, model.decoder), strict=True
    ):
        torch.testing.assert_close(found, expected)
    assert float(loss.parts["loss"]) == pytest.approx(float(distance))
    assert float(loss.parts["distance"]) == pytest.approx(float(distance))


def test_deep_sad_weighs_labels_as_the_paper_does() -> None:
    model, objective = model_of(), DeepSAD({}, CLASSES, anomalies=["broken", "lost"], eta=2.0)
    x, y = torch.randn(4, 6), torch.tensor([UNLABELLED, 0, 1, 2])
    d = (model.encode(Batch(x)).z - model.bottleneck.prior.center).square().sum(1)
    expected = (d[0] + 2 * d[1] + 2 / (d[2] + 1e-6) + 2 / (d[3] + 1e-6)) / 4
    assert float(objective(model, Batch(x, y), 0).parts["loss"]) == pytest.approx(float(expected), rel=1e-5)
    objective.eval()
    assert float(objective(model, Batch(x, y), 0).parts["loss"]) == pytest.approx(float(d.mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: model_of(encoder_bias=True), "of the encoder has biases.*network.encoder_bias=false"),
        (lambda: model_of(bias=True), "has biases.*model.bottleneck.bias=false"),
        (lambda: model_of(activation="tanh"), "bounded activations.*network.activation=leaky_relu"),
    ],
)
def test_networks_that_collapse_are_refused(make: Callable[[], Autoencoder], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        OneClass({}).check(make())


def test_other_priors_and_posteriors_are_refused() -> None:
    model = model_of()
    model.bottleneck.prior = StandardNormal((3,))
    with pytest.raises(ConfigError, match="prior=center"):
        OneClass({}).check(model)
    model.bottleneck = Gaussian((5,), 3)
    with pytest.raises(ConfigError, match=r"deterministic codes .* Gaussian has a posterior; prior=default"):
        Center((3,)).bind(model)


@pytest.mark.parametrize(
    ("anomalies", "why"),
    [
        ([], "anomalies=\\[\\]: name the classes that are anomalies; there are ok, broken, lost"),
        (["borken"], "anomalies=borken: is not among the classes: ok, broken, lost"),
        (list(CLASSES), "one class or more must be normal"),
    ],
)
def test_the_anomalies_are_classes(anomalies: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        DeepSAD({}, CLASSES, anomalies)


def test_a_known_anomaly_is_no_class_that_is_left_out() -> None:
    with pytest.raises(ConfigError, match="anomalies=lost: has no training rows"):
        DeepSAD({}, CLASSES, ["broken", "lost"], left_out=("lost",))
    DeepSAD({}, CLASSES, ["broken"], left_out=("lost",))


def test_collapse_is_said() -> None:
    objective = OneClass({})
    assert not objective.diagnosis({"distance": 2.0, "distance_sd": 1e-4}).healthy
    assert not objective.diagnosis({"distance": 0.0, "distance_sd": 0.0}).healthy
    assert objective.diagnosis({"distance": 1e-6, "distance_sd": 1e-6}).healthy


def test_the_spread_of_the_distances_is_that_of_all_rows_whatever_the_batches() -> None:
    """A mean of the standard deviations of batches would be too small, most of all with a short last batch."""
    model, x = model_of().eval(), torch.randn(7, 6)
    spec = DataSpec("rows", Vector((6,), -4.0, 4.0))
    numbers = evaluate(model, OneClass({}).eval(), Split(x), spec, 3).numbers
    distance = model.bottleneck.prior.distance(model.encode(Batch(x)).z).detach().double()
    assert numbers["distance"] == pytest.approx(distance.mean().item(), rel=1e-5)
    assert numbers["distance_sd"] == pytest.approx(distance.std(correction=0).item(), rel=1e-5)
    assert "distance_square" not in numbers
