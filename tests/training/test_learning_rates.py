"""Learning rates: schedules, plateaus, players and clipping."""

import itertools
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from trainers import (
    MakeData,
    MakeModel,
    Record,
    Recording,
    Watching,
    constant_validation,
    fit,
    trainer,
)

from autoenc.core import Autoencoder, Batch, Loss
from autoenc.objective import Objective
from autoenc.training import checkpoint
from autoenc.training.settings import TrainerSettings
from autoenc.training.trainer import Trainer


@pytest.mark.parametrize("lr_schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_the_learning_rate_of_each_step(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, lr_schedule: str, warmup: float
) -> None:
    model = make_model()
    optimizer = Recording(model.parameters(), lr=0.02)
    settings = {"epochs": 5, "lr_schedule": lr_schedule, "warmup": warmup}
    record = fit(trainer(model, make_data(), tmp_path, optimizer=optimizer, **settings))
    ramp, total = round(warmup * 15), 15

    def factor(step: int) -> float:
        if step < ramp:
            return (step + 1) / ramp
        return 1.0 if lr_schedule == "constant" else 0.5 * (1 + math.cos(math.pi * (step - ramp) / (total - ramp)))

    assert optimizer.used == pytest.approx([0.02 * factor(step) for step in range(15)])
    assert record.series["train/lr"][-1] == (15, pytest.approx(0.02 * factor(14)))


@pytest.mark.parametrize("offset", [0.0, 100.0, -100.0])
def test_plateau_lowers_the_rate_where_the_monitored_number_stands_still(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: float
) -> None:
    """Below zero too: the nll of a density often is."""
    constant_validation(monkeypatch, [offset + v for v in (5.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0)])
    model = make_model()
    optimizer = Recording(model.parameters(), lr=0.08)
    settings = {"epochs": 7, "lr_schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.5}
    fit(trainer(model, make_data(), tmp_path, optimizer=optimizer, **settings))
    # Best after epoch 2; one evaluation of patience; lowered after the second bad one, in epoch 4, and so on.
    assert optimizer.used[::3] == pytest.approx([0.08, 0.08, 0.08, 0.08, 0.04, 0.04, 0.02])


def test_plateau_warms_up_first(make_model: MakeModel, make_data: MakeData, tmp_path: Path) -> None:
    model = make_model()
    optimizer = Recording(model.parameters(), lr=0.08)
    settings = {"epochs": 2, "lr_schedule": "plateau", "warmup": 4 / 6}
    fit(trainer(model, make_data(), tmp_path, optimizer=optimizer, **settings))
    assert optimizer.used == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.08, 0.08])


def test_every_players_rate_follows_the_schedule_from_its_own_base(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    class Two(Objective):
        def __init__(self) -> None:
            super().__init__({})
            self.critic = nn.Linear(3, 1)

        def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
            loss = super().forward(model, batch, step)
            critic = self.critic(model.encode(batch).z).square().mean()
            return Loss(loss.total | {"critic": critic}, loss.parts | {"critic": critic.detach()})

    objective, model = Two(), make_model()
    t = trainer(model, make_data(), tmp_path, objective, epochs=1)
    optimizers = {
        "model": Recording(model.parameters(), lr=0.1),
        "critic": Recording(objective.critic.parameters(), lr=0.3),
    }
    t = Trainer(
        model, objective, optimizers, t.data, TrainerSettings(epochs=1, batch_size=10, lr_schedule="cosine"), 0,
        torch.device("cpu"), Record(), tmp_path,
    )  # fmt: skip
    fit(t)
    assert optimizers["critic"].used == pytest.approx([3 * lr for lr in optimizers["model"].used])
    assert t.tracker.series["train/lr/critic"][-1][1] == pytest.approx(0.3 * 0.25)
    state = checkpoint.load(tmp_path / "last.pt")
    torch.testing.assert_close(state["objective"]["critic.weight"], objective.critic.weight.detach())


def test_clip_limits_the_step(make_model: MakeModel, make_data: MakeData, tmp_path: Path) -> None:
    model = make_model()
    path = [nn.utils.parameters_to_vector(model.parameters()).detach().clone()]
    look = Watching(lambda s, b: path.append(nn.utils.parameters_to_vector(model.parameters()).detach().clone()))
    record = fit(trainer(model, make_data(), tmp_path, look, torch.optim.SGD(model.parameters(), lr=1.0), clip=0.01))
    steps = [(b - a).norm().item() for a, b in itertools.pairwise(path[1:])]
    assert steps == pytest.approx([0.01] * 8, rel=1e-2)
    assert [norm for _, norm in record.series["train/gradient_norm"]] == pytest.approx([0.01] * 3, rel=1e-3)
