"""Initial weights."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from autoenc import bottlenecks, likelihoods, networks
from autoenc.core import Autoencoder, Batch, Likelihood
from autoenc.initialization import initialize, start_at_mean, start_tied
from autoenc.networks.linear import UnitNormLinear

MakeModel = Callable[..., Autoencoder]


def test_weights_are_orthogonal_with_the_gain_and_biases_zero() -> None:
    layers = [nn.Linear(9, 4), nn.Linear(4, 9), nn.Conv2d(2, 6, 3), nn.ConvTranspose2d(5, 2, 3), UnitNormLinear(3, 7)]
    initialize(nn.Sequential(*layers))
    for layer in layers:
        flat = layer.weight.detach().flatten(1)
        gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram)), rtol=0, atol=1e-5)
        assert not layer.bias.any()


def test_uniform_weights_fill_the_interval_of_their_inputs_and_biases_are_zero() -> None:
    layers = [nn.Linear(400, 300), nn.Conv2d(16, 64, 5)]  # 400 inputs each
    initialize(nn.Sequential(*layers), "uniform")
    for layer in layers:
        assert 0.0499 < layer.weight.abs().max() <= 1 / 20
        assert layer.weight.std().item() == pytest.approx(1 / 20 / 3**0.5, rel=0.01)
        assert not layer.bias.any()


def test_norm_layers_and_layers_without_bias_are_left_alone() -> None:
    norm = nn.BatchNorm1d(4)
    nn.init.constant_(norm.weight, 0.3)
    initialize(nn.Sequential(nn.Linear(4, 4, bias=False), norm))
    assert (norm.weight == 0.3).all()


@pytest.mark.parametrize("unit_norm", [True, False])
@pytest.mark.parametrize("bottleneck", [bottlenecks.Deterministic, bottlenecks.TopK])
def test_one_layer_models_start_with_the_directions_of_the_decoder_and_go_their_own_way(
    make_model: MakeModel, bottleneck: type, unit_norm: bool
) -> None:
    options = {"k": 2} if bottleneck is bottlenecks.TopK else {}
    network_options = {"unit_norm": unit_norm}
    model = make_model(bottleneck, latent_dim=9, network=networks.linear, network_options=network_options, **options)
    start_tied(model)
    z = torch.eye(9)
    atoms = model.decode(z) - model.decode(0 * z)  # (9, 6): what each unit adds
    torch.testing.assert_close(model.bottleneck.linear.weight, atoms / atoms.norm(dim=1, keepdim=True))
    before = model.decode(z).clone()
    with torch.no_grad():
        model.bottleneck.linear.weight.zero_()
    assert torch.equal(model.decode(z), before), "tied at the start, not afterwards"


@pytest.mark.parametrize(
    ("bottleneck", "network"), [(bottlenecks.Gaussian, networks.linear), (bottlenecks.Deterministic, networks.mlp)]
)
def test_other_models_are_not_tied(make_model: MakeModel, bottleneck: type, network: Callable) -> None:
    model = make_model(bottleneck, network=network)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    start_tied(model)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "likelihood",
    [likelihoods.Bernoulli(), likelihoods.Gaussian(), likelihoods.Gaussian(output="sigmoid"), likelihoods.Laplace()],
)
@pytest.mark.parametrize("network", [networks.linear, networks.mlp, networks.conv])
def test_the_first_reconstruction_is_the_mean_of_the_data(
    make_model: MakeModel, network: Callable, likelihood: Likelihood
) -> None:
    network_options = {"channels": [4], "hidden": 8} if network is networks.conv else {}
    model = make_model(shape=(3, 8, 8), network=network, likelihood=likelihood, network_options=network_options)
    initialize(model)
    mean = 0.1 + 0.8 * torch.rand(3, 8, 8)
    start_at_mean(model, mean)
    shown = likelihood.mean(model.decode(torch.zeros(1, 3)))[0]
    if network is networks.conv:  # one bias a channel
        torch.testing.assert_close(shown.std((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(shown.mean((1, 2)), mean.mean((1, 2)), atol=0.02, rtol=0)
    else:
        torch.testing.assert_close(shown, mean)


def test_the_encoder_reads_what_differs_from_the_mean_and_loading_keeps_it(make_model: MakeModel) -> None:
    x = torch.rand(5, 6)
    centered, plain = make_model(), make_model(network_options={"normalize": "none"})
    start_at_mean(centered, x.mean(0))
    plain.load_state_dict({k: v for k, v in centered.state_dict().items() if not k.endswith(".mean")})
    assert torch.equal(centered.encode(Batch(x=x)).mean, plain.encode(Batch(x=x - x.mean(0))).mean)
    again = make_model()
    again.load_state_dict(centered.state_dict())
    assert torch.equal(again.encode(Batch(x=x)).mean, centered.encode(Batch(x=x)).mean)
    assert all(p.requires_grad for p in centered.parameters()), "the mean is no parameter"


def test_units_stay_alive_where_all_pixels_are_bright(make_model: MakeModel) -> None:
    """Adam's first steps move every pre-activation by the sum of the pixels, unless these are centred."""
    x = 0.5 + 0.1 * torch.randn(64, 500)

    def silent(normalize: str) -> float:
        torch.manual_seed(0)
        options = {"hidden": [32], "activation": "relu", "normalize": normalize}
        model = make_model(shape=(500,), network_options=options)
        initialize(model)
        start_at_mean(model, x.mean(0))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(50):
            optimizer.zero_grad()
            model(Batch(x=x)).nll.mean().backward()
            optimizer.step()
        return float((model.encoder(x) <= 0).all(0).float().mean())

    assert silent("center") < 0.1
    assert silent("none") > 0.5


@pytest.mark.parametrize("likelihood", [likelihoods.Bernoulli(), likelihoods.Gaussian(output="sigmoid")])
def test_pixels_that_are_always_black_do_not_make_infinite_biases(likelihood: Likelihood) -> None:
    assert likelihood.params_of(torch.tensor([0.0, 1.0])).abs().max() < 10
