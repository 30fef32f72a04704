"""The training loop: steps, epochs, the order of the data, what is logged and what is rejected."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from trainers import (
    MakeData,
    MakeModel,
    Watching,
    fit,
    trainer,
)

from autoenc import bottlenecks
from autoenc.core import Autoencoder, Batch, Loss
from autoenc.data.dataset import Data
from autoenc.errors import NotFinite
from autoenc.objective import Objective
from autoenc.regularizers import KL
from autoenc.schedules import WarmUp
from autoenc.training import checkpoint


def orders(make_model: MakeModel, data: Data, folder: Path, seed: int, **settings: Any) -> list[list[int]]:
    """The labels of each batch, in the order of training."""
    seen: list[list[int]] = []
    fit(trainer(make_model(), data, folder, Watching(lambda s, b: seen.append(b.y.tolist())), seed=seed, **settings))
    return seen


def test_each_epoch_has_every_example_once_in_an_order_of_its_own(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    seen = orders(make_model, make_data(), tmp_path, seed=3)
    assert [len(batch) for batch in seen] == [10, 10, 4] * 3
    epochs = [list(itertools.chain(*seen[i : i + 3])) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(24)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(24))


def test_the_order_is_a_function_of_the_seed_and_the_epoch(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data()
    first = orders(make_model, data, tmp_path, seed=3)
    torch.manual_seed(77)
    assert orders(make_model, data, tmp_path, seed=3, evaluate_every=3) == first
    other = orders(make_model, data, tmp_path, seed=4)
    assert other != first
    assert other[:3] != first[3:6], "epochs of neighbouring seeds are not shared"
    assert next(data.train.shuffled(10, 3, epoch=1, start=2)).y.tolist() == first[5]


def test_steps_limit_the_run_in_the_middle_of_an_epoch_and_the_end_is_evaluated(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    record = fit(trainer(make_model(), make_data(), tmp_path, steps=7, epochs=99))
    assert [(step, round(epoch, 3)) for step, epoch, _ in record.of("val")] == [(3, 1), (6, 2), (7, 2.333)]
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 7


def test_evaluations_come_every_so_many_epochs_and_at_the_end(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    record = fit(trainer(make_model(), make_data(), tmp_path, epochs=5, evaluate_every=2))
    assert [step for step, *_ in record.of("val")] == [6, 12, 15]
    assert [step for step, *_ in record.of("train")] == [6, 12, 15]


def test_train_numbers_are_means_over_the_examples_since_the_last_evaluation(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    seen: list[tuple[float, int]] = []

    class Noting(Objective):
        def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
            loss = super().forward(model, batch, step)
            if model.training:
                seen.append((loss.parts["nll"].item(), len(batch)))
            return loss

    record = fit(trainer(make_model(), make_data(), tmp_path, Noting({})))
    for i, (_, _, values) in enumerate(record.of("train")):
        epoch = seen[3 * i : 3 * i + 3]
        assert values["nll"] == pytest.approx(sum(v * n for v, n in epoch) / 24, rel=1e-6)


def test_validation_numbers_are_of_the_validation_split_with_the_weights_of_that_step(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    model, data = make_model(), make_data()
    record = fit(trainer(model, data, tmp_path))
    batch = data.val.take(slice(None))
    mse = (model.eval().reconstruct(batch) - batch.x).square().mean().item()
    assert record.of("val")[-1][2]["mse"] == pytest.approx(mse, rel=1e-5)
    assert record.series["val/mse"][-1] == (9, record.of("val")[-1][2]["mse"])


def test_figures_are_drawn_so_many_times_and_not_at_the_end(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    for epochs, figures, expected in (
        (12, 3, [4, 8]),
        (12, 1, []),
        (12, 0, []),
        (1, 5, []),
        (2, 5, [1]),
        (3, 5, [1, 2]),
    ):
        drawn: list[int] = []
        draw = lambda step, evaluation: drawn.append(step)  # noqa: E731, B023
        fit(trainer(make_model(), make_data(), tmp_path, draw=draw, epochs=epochs, figures=figures))
        assert drawn == [3 * epoch for epoch in expected], (epochs, figures)  # run.py draws those of the end


def test_a_loss_that_is_not_finite_stops_training_and_the_last_good_checkpoint_stays(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    def poison(step: int, batch: Batch) -> None:
        if step == 4:
            batch.x.mul_(math.nan)

    t = trainer(make_model(), make_data(), tmp_path, Watching(poison))
    with pytest.raises(NotFinite, match=r"^step 5: nll is not finite$"):
        fit(t)
    state = checkpoint.load(tmp_path / "last.pt")
    assert state["progress"]["step"] == 3
    assert all(v.isfinite().all() for v in state["model"].values())


def test_weights_that_are_not_finite_replace_no_checkpoint(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    t = trainer(make_model(), make_data(), tmp_path, Watching())
    fit(t)
    step = t.step
    next(t.model.parameters()).grad = torch.full_like(next(t.model.parameters()), math.nan)
    t.step += 1
    with pytest.raises(NotFinite, match=rf"^step {step + 1}: the gradient is not finite$"):
        t.save()
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == step


def test_schedules_of_weights_are_logged_and_depend_on_the_step_alone(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    terms = {"kl": KL(weight=WarmUp(total_steps=9, fraction=1.0))}
    seen: list[float] = []
    objective = Watching(lambda step, batch: seen.append(terms["kl"].weight(step)), **terms)
    record = fit(trainer(make_model(bottlenecks.Gaussian), make_data(), tmp_path, objective))
    assert seen == pytest.approx([i / 9 for i in range(9)]), "not advanced by validation"
    assert record.series["train/weight/kl"] == [(3, pytest.approx(3 / 9)), (6, pytest.approx(6 / 9)), (9, 1.0)]
