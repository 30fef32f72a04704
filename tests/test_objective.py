"""One training step: who receives which gradient; and the meter, which no NaN gets past."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoenc.core import Autoencoder, Batch, Loss
from autoenc.errors import NotFinite
from autoenc.objective import Meter, Objective, gradient_norm, parameters_of, train_step

MakeModel = Callable[..., Autoencoder]


class TwoPlayers(Objective):
    """A model that pleases a critic of its codes, and a critic that does not like them; nobody detaches anything."""

    def __init__(self, latent_dim: int):
        super().__init__({})
        self.critic = nn.Sequential(nn.Linear(latent_dim, 5), nn.Tanh(), nn.Linear(5, 1))

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": model, "critic": self.critic}

    def totals(self, model: Autoencoder, batch: Batch) -> dict[str, Tensor]:
        out = model(batch)
        verdict = self.critic(out.code.z).mean()
        return {"model": out.nll.mean() + 3 * verdict, "critic": verdict.square() - 2 * verdict}

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        total = self.totals(model, batch)
        return Loss(total=total, parts={name: term.detach() for name, term in total.items()})


@pytest.mark.parametrize("order", [("model", "critic"), ("critic", "model")])
def test_each_player_descends_its_own_loss_and_no_other(make_model: MakeModel, order: tuple[str, str]) -> None:
    model, objective, batch = make_model(), TwoPlayers(3), Batch(torch.randn(4, 6))
    totals = objective.totals
    objective.totals = lambda *args: {player: totals(*args)[player] for player in order}
    players = objective.players(model)
    before = {p: [w.detach().clone() for w in module.parameters()] for p, module in players.items()}
    gradients = {  # of the player's own loss, at the weights before the step: updates are simultaneous
        player: torch.autograd.grad(totals(model, batch)[player], list(module.parameters()))
        for player, module in players.items()
    }
    optimizers = {player: torch.optim.SGD(module.parameters(), lr=0.1) for player, module in players.items()}
    parts = train_step(model, objective, batch, 0, optimizers)
    assert list(parts) == list(order)
    for player, module in players.items():
        for weight, old, gradient in zip(module.parameters(), before[player], gradients[player], strict=True):
            assert gradient.any()
            torch.testing.assert_close(weight.detach(), old - 0.1 * gradient)


def test_a_player_left_out_of_a_step_stays_where_it_is(make_model: MakeModel) -> None:
    model, objective, batch = make_model(), TwoPlayers(3), Batch(torch.randn(4, 6))
    totals = objective.totals
    optimizers = {p: torch.optim.Adam(m.parameters(), lr=0.1) for p, m in objective.players(model).items()}
    train_step(model, objective, batch, 0, optimizers)  # so that Adam has momentum to go on with
    objective.totals = lambda *args: {"critic": totals(*args)["critic"]}
    before = [p.detach().clone() for p in model.parameters()]
    train_step(model, objective, batch, 1, optimizers)
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_gradients_of_the_last_step_do_not_add_up(make_model: MakeModel) -> None:
    model, batch = make_model(), Batch(torch.randn(4, 6))
    optimizers = {"model": torch.optim.SGD(model.parameters(), lr=0.0)}
    norms = []
    for step in range(3):
        train_step(model, Objective({}), batch, step, optimizers)
        norms.append(gradient_norm(optimizers))
    assert norms[0] == norms[1] == norms[2] > 0
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item()
    assert norms[0] == pytest.approx(expected, rel=1e-6)


def test_the_objective_is_given_the_step(make_model: MakeModel) -> None:
    seen = []

    class Noting(Objective):
        def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
            seen.append(step)
            return super().forward(model, batch, step)

    model = make_model()
    train_step(model, Noting({}), Batch(torch.randn(4, 6)), 17, {"model": torch.optim.SGD(model.parameters())})
    assert seen == [17]


@pytest.mark.parametrize("clip", [0.01, 1e6])
def test_clip_limits_the_norm_of_each_players_gradient_and_keeps_its_direction(
    make_model: MakeModel, clip: float
) -> None:
    model, objective, batch = make_model(), TwoPlayers(3), Batch(torch.randn(4, 6))
    players = objective.players(model)
    before = {p: nn.utils.parameters_to_vector(m.parameters()).detach().clone() for p, m in players.items()}
    gradients = {
        p: torch.cat(
            [g.flatten() for g in torch.autograd.grad(objective.totals(model, batch)[p], list(m.parameters()))]
        )
        for p, m in players.items()
    }
    optimizers = {p: torch.optim.SGD(m.parameters(), lr=1.0) for p, m in players.items()}
    train_step(model, objective, batch, 0, optimizers, clip=clip)
    for player, module in players.items():
        moved = before[player] - nn.utils.parameters_to_vector(module.parameters()).detach()
        expected = gradients[player] * min(1.0, clip / gradients[player].norm().item())
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)


def test_parameters_of_an_optimizer_are_those_of_all_its_groups() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(2))
    assert parameters_of(torch.optim.SGD([{"params": [a]}, {"params": [b]}])) == [a, b]
    assert gradient_norm({"model": torch.optim.SGD([a])}) == 0


def parts(loss: float, **terms: float) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in {"loss": loss, **terms}.items()}


def test_the_mean_of_an_epoch_weighs_examples_and_not_batches() -> None:
    meter = Meter()
    meter.add(1, 100, parts(1.0, kl=2.0))
    meter.add(2, 100, parts(3.0, kl=2.0))
    assert meter.read() == {"loss": 2.0, "kl": 2.0}
    meter.add(3, 10, parts(9.0, kl=2.0))
    assert meter.epoch() == pytest.approx({"loss": (100 + 300 + 90) / 210, "kl": 2.0})
    assert meter.read() == {}
    meter.add(4, 10, parts(5.0, kl=1.0))
    assert meter.epoch() == {"loss": 5.0, "kl": 1.0}, "an epoch starts anew"


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_never_averages_away(broken: float) -> None:
    meter = Meter()
    for step in range(10):
        meter.add(step, 8, parts(1.0, nll=1.0, kl=1.0))
    meter.add(10, 8, parts(broken, nll=1.0, kl=broken))
    meter.add(11, 8, parts(1.0, nll=1.0, kl=1.0))
    with pytest.raises(NotFinite, match=r"^step 10: kl is not finite$"):
        meter.read()


def test_a_loss_that_overflows_by_itself_is_named() -> None:
    meter = Meter()
    meter.add(3, 8, parts(math.inf, nll=1.0))
    with pytest.raises(NotFinite, match=r"^step 3: loss is not finite$"):
        meter.epoch()


def test_parts_are_kept_exactly_until_they_are_read() -> None:
    """A sum in float32 on the device would lose what is small beside what is large."""
    meter = Meter()
    for _ in range(3):
        meter.add(0, 1, parts(2.0**24))
    meter.add(0, 1, parts(1.0))
    assert meter.epoch()["loss"] == (3 * 2**24 + 1) / 4


def test_a_meter_goes_on_from_its_state() -> None:
    meter, other = Meter(), Meter()
    meter.add(1, 100, parts(1.0, kl=2.0))
    meter.read()
    other.load_state_dict(meter.state_dict())
    for m in (meter, other):
        m.add(2, 50, parts(4.0, kl=8.0))
    assert other.epoch() == meter.epoch() == {"loss": 2.0, "kl": 4.0}


def test_terms_that_are_missing_from_some_steps_are_averaged_over_the_others() -> None:
    """An objective may leave a player out of some steps; a term that comes later is checked for NaN too."""
    meter = Meter()
    meter.add(1, 10, parts(1.0, critic=4.0))
    meter.add(2, 10, parts(3.0))
    means = meter.epoch()
    assert means == {"loss": 2.0, "critic": 4.0}
    meter.add(3, 10, parts(1.0))
    meter.add(4, 10, parts(1.0, late=math.nan))
    with pytest.raises(NotFinite, match="step 4: late"):
        meter.read()
