"""The adversarial objective: which player receives which gradient, with which sign, and what it brings about."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from autoenc.core import Autoencoder, Batch
from autoenc.errors import ConfigError
from autoenc.objective import train_step
from autoenc.objectives import Adversarial
from autoenc.priors import StandardNormal

MakeModel = Callable[..., Autoencoder]


@pytest.fixture
def model(make_model: MakeModel) -> Autoencoder:
    model = make_model()
    model.bottleneck.prior = StandardNormal((3,))
    return model


def gradients(loss: torch.Tensor, module: nn.Module) -> list[torch.Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True))


def test_the_critics_loss_gives_the_autoencoder_no_gradient(model: Autoencoder) -> None:
    objective = Adversarial({}, (3,))
    loss = objective(model, Batch(torch.randn(8, 6)), 0)
    assert set(loss.total) == set(objective.players(model)) == {"model", "critic"}
    assert all(g is None for g in gradients(loss.total["critic"], model))
    assert all(g is not None and g.any() for g in gradients(loss.total["critic"], objective.critic)[:-1])


def test_the_autoencoders_loss_moves_no_critic(model: Autoencoder) -> None:
    """The generator's loss depends on the critic's weights; the step does not follow that gradient."""
    objective, batch = Adversarial({}, (3,), weight=100.0), Batch(torch.randn(8, 6))
    optimizers = {
        "model": torch.optim.SGD(model.parameters(), lr=0.1),
        "critic": torch.optim.SGD(objective.critic.parameters(), lr=0.0),
    }
    torch.manual_seed(3)
    expected = gradients(objective(model, batch, 0).total["critic"], objective.critic)
    torch.manual_seed(3)
    train_step(model, objective, batch, 0, optimizers)
    for parameter, gradient in zip(objective.critic.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_generator_moves_codes_to_where_the_critic_sees_the_prior(model: Autoencoder) -> None:
    objective, batch = Adversarial({}, (3,), weight=1.0), Batch(torch.randn(64, 6))
    with torch.no_grad():  # D(z) rises along z_0
        for layer in objective.critic.layers[1:-1]:
            if isinstance(layer, nn.Linear):
                layer.weight.zero_()
                layer.bias.zero_()
                layer.weight[0, 0] = 1
                layer.bias[0] = 10 if layer.in_features == 3 else 0
        objective.critic.layers[-1].weight.zero_()
        objective.critic.layers[-1].weight[0, 0] = 1
    loss = objective(model, batch, 0)
    generator = loss.total["model"] - model(batch).nll.mean()
    before = model.encode(batch).mean[:, 0].mean()
    weights = list(model.bottleneck.parameters())
    for w, g in zip(weights, torch.autograd.grad(generator, weights), strict=True):
        w.data -= 1e4 * g  # the generator's gradient is small where the critic is sure: sigmoid(-10)
    assert model.encode(batch).mean[:, 0].mean() > before


def test_the_losses_are_those_of_the_equilibrium_where_the_critic_knows_nothing(model: Autoencoder) -> None:
    objective, batch = Adversarial({}, (3,), weight=5.0), Batch(torch.randn(8, 6))
    for parameter in objective.critic.parameters():
        nn.init.zeros_(parameter)
    loss = objective(model, batch, 0)
    parts = loss.parts
    assert next(iter(parts)) == "loss"
    assert parts["generator"].item() == pytest.approx(math.log(2))
    assert parts["critic"].item() == pytest.approx(2 * math.log(2))
    torch.testing.assert_close(parts["loss"], parts["nll"])  # what a weak critic says chooses no weights
    torch.testing.assert_close(loss.total["model"], parts["nll"] + 5 * parts["generator"])


def test_a_model_without_a_prior_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(ConfigError, match=r"prior=standard"):
        Adversarial({}, (3,)).check(make_model())
