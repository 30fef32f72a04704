"""Layers by name: the activations are those of the model, with gradients of the input."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autoenc import bottlenecks, load_run, networks
from autoenc.apps.seeing import layers
from autoenc.core import Autoencoder, Batch
from autoenc.errors import UserError


def test_activations_are_those_of_the_modules_and_have_gradients(make_model: Callable[..., Autoencoder]) -> None:
    model = make_model(shape=(6,), latent_dim=3).eval()
    x = torch.randn(4, 6, requires_grad=True)
    found = layers.activations(model, Batch(x))
    assert list(found) == ["encoder.0", "encoder.1", "encoder.2", "code"]
    hidden = model.encoder[1](model.encoder[0](x))
    torch.testing.assert_close(found["encoder.1"], hidden)
    torch.testing.assert_close(found["code"], model.encode(Batch(x)).mean)
    (gradient,) = torch.autograd.grad(found["encoder.1"][:, 5].sum(), x)
    torch.testing.assert_close(gradient, model.encoder[1].weight[5].expand(4, -1))
    assert list(layers.activations(model, Batch(x), ["encoder.2"])) == ["encoder.2"]
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_a_unit_that_is_off_has_the_gradient_of_its_input_if_asked(
    make_model: Callable[..., Autoencoder], activation: str
) -> None:
    model = make_model(shape=(4,), latent_dim=2, network=networks.linear, activation=activation)
    with torch.no_grad():
        model.bottleneck.linear.weight.copy_(torch.tensor([[1.0, 2, 3, 4], [1, 0, 0, 0]]))
        model.bottleneck.linear.bias.copy_(torch.tensor([-1.0, 5.0]))
    x = torch.zeros(1, 4, requires_grad=True)
    for wake in (False, True):
        code = layers.activations(model, Batch(x), ["code"], wake=wake)["code"]
        assert code.tolist() == [[0.0 if activation == "relu" else -1.0, 5.0]]
        off, on = (torch.autograd.grad(code[0, k], x, retain_graph=True)[0] for k in (0, 1))
        dead = activation == "relu" and not wake
        assert off.tolist() == ([[0.0] * 4] if dead else [[1, 2, 3, 4]])
        assert on.tolist() == [[1, 0, 0, 0]]


@pytest.mark.parametrize(("shape", "units"), [((1, 2, 3, 1), 1), ((1, 3, 2), 2)], ids=["map", "sequence"])
def test_a_unit_is_off_if_it_is_at_all_positions(shape: tuple[int, ...], units: int) -> None:
    """Of two units at three positions, one is off everywhere, and the other at one position."""
    x = torch.tensor([[-1.0, -2, -3], [4, -5, 6]]).view(1, 2, 3, 1)
    x = (x if len(shape) == 4 else x[..., 0].mT.contiguous()).requires_grad_()
    assert x.shape == shape
    (gradient,) = torch.autograd.grad(layers.woken(x.relu(), x, units).sum(), x)
    assert gradient.movedim(units, 1).flatten().tolist() == [1, 1, 1, 1, 0, 1]


def test_the_units_of_a_map_are_channels_and_those_of_a_sequence_features() -> None:
    x = torch.arange(24.0).view(1, 2, 3, 4)
    torch.testing.assert_close(layers.unit_values("encoder.0", x), x.mean((2, 3)))
    torch.testing.assert_close(layers.unit_values("encoder.0", x[:, 0]), x[:, 0].mean(1))
    torch.testing.assert_close(layers.unit_values("code", x[:, 0]), x[:, 0].mean(2))


def test_layers_and_units_that_do_not_exist_are_named_with_those_that_do(ae_run: Path) -> None:
    run = load_run(ae_run, "cpu")
    assert layers.check_units(run, "code", [0, 7]) == 8
    with pytest.raises(UserError, match=r"^--layer encoder\.9: .*encoder\.1 \(64\), encoder\.2 \(64\), code \(8\)$"):
        layers.check_layer(run, "encoder.9")
    for unit in (-1, 64):
        with pytest.raises(UserError, match=rf"^--unit {unit}: encoder\.1 has units 0 to 63$"):
            layers.check_units(run, "encoder.1", [3, unit])


def test_convolutions_and_token_ids_have_layers(make_model: Callable[..., Autoencoder]) -> None:
    options = {"channels": [4, 6], "hidden": 10}
    model = make_model(shape=(1, 8, 8), latent_dim=2, network=networks.conv, network_options=options)
    found = layers.activations(model.eval(), Batch(torch.rand(2, 1, 8, 8)))
    assert found["encoder.0"].shape == (2, 4, 4, 4)
    assert found["encoder.5"].shape == (2, 6, 2, 2)
    options = {"vocabulary": 9, "embedding": 4, "width": 6}
    model = make_model(bottlenecks.Gaussian, (5,), 2, networks.sequence, network_options=options)
    found = layers.activations(model.eval(), Batch(torch.tensor([[5, 6, 7, 2, 0]])))
    assert found["encoder.ahead"].shape == (1, 5, 3)
