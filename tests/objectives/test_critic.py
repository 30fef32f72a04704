"""Health of critics on constructed logits, and the critic of images."""

import math

import pytest
import torch

from autoenc.build import build
from autoenc.config.composed import compose
from autoenc.errors import ConfigError
from autoenc.objectives.critic import Critic, WithCritic, accuracy, cross_entropy, watched
from autoenc.objectives.image_critic import ImageCritic

RIGHT, WRONG = (torch.ones(8), -torch.ones(8)), (-torch.ones(8), torch.ones(8))


@pytest.fixture
def objective() -> WithCritic:
    return WithCritic({}, Critic((3,)))


@pytest.mark.parametrize(
    ("real", "made", "share"),
    [
        ([2.0, 1.0], [-1.0, -3.0], 1.0),
        ([2.0, -1.0], [-1.0, 3.0, 1.0, -1.0], 0.5),
        ([0.0, 0.0], [0.0], 0.5),
        ([5.0, 5.0, 5.0, 5.0], [4.0], 0.5),
        ([[1.0, 1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]], 0.5),
    ],
)
def test_accuracy_is_the_share_told_apart_each_set_with_half_the_weight(real: list, made: list, share: float) -> None:
    assert float(accuracy(torch.tensor(real), torch.tensor(made))) == share


def test_the_loss_is_that_of_chance_where_the_critic_cannot_tell() -> None:
    assert float(cross_entropy(torch.zeros(3), torch.zeros(5))) == pytest.approx(2 * math.log(2))


def test_steps_in_which_a_critic_wins_are_counted_until_it_does_not(objective: WithCritic) -> None:
    loss = torch.tensor(0.0)
    for _ in range(200):
        objective.health(loss, *RIGHT)
    needed = math.ceil(math.log(0.1) / math.log(1 - 1 / 50))  # until 1 - 0.5 (1 - 1/50)^n is above 0.95
    assert (int(objective.won), int(objective.lost)) == (201 - needed, 0)
    objective.eval()
    assert objective.health(loss, *WRONG)["critic_accuracy"] == 0
    assert int(objective.won) == 201 - needed, "evaluation leaves no trace"
    objective.train()
    for _ in range(60):
        objective.health(loss, *WRONG)
    assert int(objective.won) == 0
    assert int(objective.lost) > 20


def test_the_record_is_saved_and_may_be_missing(objective: WithCritic) -> None:
    for _ in range(150):
        objective.health(torch.tensor(0.0), *RIGHT)
    other = WithCritic({}, Critic((3,)))
    other.load_state_dict(objective.state_dict())
    assert int(other.won) == int(objective.won) > 0
    old = {name: value for name, value in objective.state_dict().items() if name.startswith("critic.")}
    other.load_state_dict({name: torch.zeros_like(value) for name, value in old.items()})
    assert int(other.won) == int(objective.won), "without a record that of the module stays"
    assert not any(parameter.any() for parameter in other.critic.parameters())


def test_the_gradient_of_the_generator_is_that_of_its_term_alone() -> None:
    z = torch.randn(5, 3, requires_grad=True)
    codes = 2 * z
    seen, parts = watched(codes)
    assert parts["generator_gradient"] == 0, "filled in by the backward pass"
    weights = torch.tensor([1.0, 2.0, 2.0])
    (4 * (seen @ weights).mean() + codes.square().sum()).backward()
    assert float(parts["generator_gradient"]) == pytest.approx(4 * 3)
    with torch.no_grad():
        assert watched(2 * z)[1] == {}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 30), (1, 9, 64)])
def test_an_image_critic_takes_any_size(shape: tuple[int, ...]) -> None:
    x = torch.rand(5, *shape)
    critic = ImageCritic(shape, [4, 6, 8], layer=2)
    assert critic(x).shape == (5,)
    assert critic.features(x).shape == (5, 6, math.ceil(shape[1] / 4), math.ceil(shape[2] / 4))
    torch.testing.assert_close(critic.logits(critic.features(x)), critic(x))
    torch.testing.assert_close(critic(x[:2]), critic(x)[:2], msg="an image does not depend on others")
    patches = ImageCritic(shape, [4, 6], layer=1, patches=True)
    assert patches(x).shape == (5, math.ceil(shape[1] / 4), math.ceil(shape[2] / 4))


@pytest.mark.parametrize(
    ("shape", "channels", "layer", "message"),
    [
        ((12,), [4], 1, r"needs images or series; .* has shape \(12,\); model=vae"),
        ((1, 6, 20), [4], 1, r"the critic needs images of at least 8x8, got 6x20"),
        ((1, 8, 8), [4, 4, 4, 4], 1, r"^channels=\[4, 4, 4, 4\]: too many stages for images of 8x8"),
        ((1, 8, 8), [], 1, r"^channels=\[\]"),
        ((1, 8, 8), [4, 4], 3, r"^layer=3: must be from 1 to 2"),
    ],
)
def test_what_an_image_critic_cannot_take_is_refused(
    shape: tuple[int, ...], channels: list[int], layer: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageCritic(shape, channels, layer)


def test_a_last_batch_of_few_examples_teaches_the_critic_of_factorvae_nothing() -> None:
    parts = build(compose(["model=factorvae", "data=digits"]), torch.device("cpu"))
    for size, some in ((3, False), (4, True)):
        batch = parts.data.train.take(torch.arange(size))
        critic = parts.objective(parts.model, batch, 10_000).total["critic"]
        parameters = list(parts.objective.critic.parameters())
        gradients = torch.autograd.grad(critic, parameters, allow_unused=True)
        assert any(g is not None and bool(g.any()) for g in gradients) == some
