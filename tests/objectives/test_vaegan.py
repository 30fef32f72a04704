"""VAE/GAN: who of the three players receives which gradient, with which sign, against the formulas of algorithm 1."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoenc.bottlenecks import Deterministic, Gaussian
from autoenc.build import build
from autoenc.conditions import Labels
from autoenc.config.composed import compose
from autoenc.core import Autoencoder, Batch
from autoenc.errors import ConfigError
from autoenc.likelihoods import Gaussian as GaussianLikelihood
from autoenc.networks import conv
from autoenc.objective import train_step
from autoenc.objectives import VAEGAN
from autoenc.regularizers import KL

SHAPE, GAMMA = (1, 8, 9), 0.3


@pytest.fixture
def model(make_model: Callable[..., Autoencoder]) -> Autoencoder:
    likelihood = GaussianLikelihood(0.3, learned=True, output="sigmoid")
    options = {"channels": [3], "hidden": 5}
    return make_model(Gaussian, SHAPE, 2, network=conv, likelihood=likelihood, network_options=options)


@pytest.fixture
def objective() -> VAEGAN:
    return VAEGAN({"kl": KL(weight=0.5)}, SHAPE, gamma=GAMMA, channels=[2, 3], layer=1)


def optimizers(model: Autoencoder, objective: VAEGAN, lr: float = 0.0) -> dict[str, torch.optim.Optimizer]:
    return {
        name: torch.optim.SGD(module.parameters(), lr=lr if name != "critic" else 0.0)
        for name, module in objective.players(model).items()
    }


def by_hand(model: Autoencoder, objective: VAEGAN, x: Tensor) -> dict[str, Tensor]:
    """The terms of algorithm 1, written out."""
    code = model.encode(Batch(x))
    mean, std = code.posterior.mean, code.posterior.stddev
    x_hat, x_p = (model.decode(z).sigmoid() for z in (code.z, torch.randn(len(x), 2)))
    critic = objective.critic
    f, f_hat = critic.below(x).flatten(1), critic.below(x_hat).flatten(1)
    likelihood = -(0.5 * (f - f_hat).square() + 0.5 * math.log(2 * math.pi)).sum(1)
    log_d = critic(x).sigmoid().log() + (1 - critic(x_hat).sigmoid()).log() + (1 - critic(x_p).sigmoid()).log()
    sigma = model.likelihood.log_scale.exp()
    pixels = 0.5 * ((x - x_hat.detach()) / sigma).square() + sigma.log() + 0.5 * math.log(2 * math.pi)
    return {
        "kl": 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(1).mean(),
        "feature_nll": -likelihood.mean(),
        "critic": -log_d.mean(),
        "nll": pixels.flatten(1).sum(1).mean(),
        "x_p": x_p,
    }


def test_each_player_has_the_gradient_of_algorithm_1(model: Autoencoder, objective: VAEGAN) -> None:
    x = torch.rand(6, *SHAPE)
    torch.manual_seed(3)
    parts = train_step(model, objective, Batch(x), 0, optimizers(model, objective))
    torch.manual_seed(3)
    terms = by_hand(model, objective, x)
    goals = {
        "encoder": 0.5 * terms["kl"] + terms["feature_nll"],
        "decoder": GAMMA * terms["feature_nll"] - terms["critic"] + terms["nll"],
        "critic": terms["critic"],
    }
    for player, module in objective.players(model).items():
        expected = torch.autograd.grad(goals[player], list(module.parameters()), retain_graph=True)
        for p, gradient in zip(module.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, gradient, msg=player)
            assert gradient.any(), player
    for name in ("kl", "feature_nll", "critic", "nll"):
        torch.testing.assert_close(parts[name], terms[name].detach())
    torch.testing.assert_close(parts["loss"], goals["encoder"].detach())
    (at_images,) = torch.autograd.grad(-terms["critic"], terms["x_p"])
    assert float(parts["generator_gradient"]) == pytest.approx(float(at_images.flatten(1).norm(dim=1).sum()), rel=1e-4)


def test_the_decoder_moves_to_what_the_critic_takes_for_images(model: Autoencoder, objective: VAEGAN) -> None:
    objective.gamma, batch = 0.0, Batch(torch.rand(16, *SHAPE))
    losses = []
    for step in range(30):
        torch.manual_seed(5)
        losses.append(float(train_step(model, objective, batch, step, optimizers(model, objective, lr=0.1))["critic"]))
    assert losses[-1] > losses[0] + 0.01, "of a critic that does not learn"


def test_the_players_share_no_parameter_and_have_all_of_a_conditional_model(
    make_model: Callable[..., Autoencoder], objective: VAEGAN
) -> None:
    model = make_model(Gaussian, SHAPE, 2 + 4, network=conv, network_options={"channels": [3], "hidden": 5})
    model.condition = Labels(3, width=4)
    players = [{id(p) for p in module.parameters()} for module in objective.players(model).values()]
    assert sum(map(len, players)) == len(set.union(*players))
    assert set.union(*players) == {id(p) for module in (model, objective) for p in module.parameters()}


def test_the_losses_are_those_of_chance_where_the_critic_knows_nothing(model: Autoencoder, objective: VAEGAN) -> None:
    for parameter in objective.critic.parameters():
        nn.init.zeros_(parameter)
    batch = Batch(torch.rand(6, *SHAPE))
    parts = objective(model, batch, 0).parts
    assert next(iter(parts)) == "loss"
    assert parts["critic"].item() == pytest.approx(3 * math.log(2))
    assert parts["critic_accuracy"] == 0.5
    assert parts["feature_nll"].item() == pytest.approx(2 * 4 * 5 * 0.5 * math.log(2 * math.pi))
    torch.testing.assert_close(parts["loss"], 0.5 * parts["kl"] + parts["feature_nll"])


def test_the_verdict_has_a_remedy_for_each_side(objective: VAEGAN) -> None:
    numbers = {"critic_accuracy": 0.8, "psnr": 12.0}
    assert objective.diagnosis(numbers).healthy
    objective.won.fill_(500)
    assert "a smaller model.players.critic.lr or model.objective.gamma" in objective.diagnosis(numbers).text
    objective.won.zero_()
    objective.lost.fill_(500)
    lost = objective.diagnosis(numbers).text
    assert "a larger model.players.critic.lr or model.objective.gamma" in lost
    assert "12.0 dB" in lost
    assert objective.diagnosis(numbers | {"psnr": 20.0}).healthy, "reconstructions like the images: the equilibrium"


def test_the_loss_leaves_out_auxiliary_regularizers(model: Autoencoder) -> None:
    class Auxiliary(KL):
        auxiliary = True

    trained = VAEGAN({"kl": KL(), "help": Auxiliary()}, SHAPE, channels=[2, 3], layer=1)
    parts = trained(model, Batch(torch.rand(6, *SHAPE)), 0).parts
    assert parts["help"] > 0
    torch.testing.assert_close(parts["loss"], parts["kl"] + parts["feature_nll"])


def test_codes_without_a_posterior_are_refused(make_model: Callable[..., Autoencoder], objective: VAEGAN) -> None:
    with pytest.raises(ConfigError, match=r"needs a posterior.*Gaussian has one"):
        objective.check(make_model(Deterministic))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=linear_gaussian", "likelihood=gaussian", "network=mlp"],
            r"^model\.objective: VAEGAN needs images or series, and linear_gaussian has vectors; use model=vae",
        ),
        (["model.objective.gamma=-1.0"], r"^model\.objective\.gamma=-1\.0: must be 0 or more"),
        (["model.objective.layer=4"], r"^model\.objective\.layer=4: must be from 1 to 3, the number of stages"),
        (["model.objective.channels=[4,4,4,4]"], r"^model\.objective\.channels=\[4, 4, 4, 4\]: too many stages for"),
        (["+model.players.model.lr=0.1"], r"^model\.players\.model: there is no such player.*encoder, decoder, critic"),
    ],
)
def test_what_cannot_work_is_refused_before_training(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(compose(["model=vaegan", *overrides]), torch.device("cpu"))
