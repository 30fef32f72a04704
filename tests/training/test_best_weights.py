"""The best weights, the direction of the monitored metric, and early stopping."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from trainers import MakeData, MakeModel, Watching, constant_validation, fit, interrupt_at, same, trainer, weights

from autoenc.core import Autoencoder
from autoenc.data.dataset import Data
from autoenc.errors import Interrupted
from autoenc.training import checkpoint


def test_best_weights_are_those_of_the_lowest_monitored_number(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant_validation(monkeypatch, [3.0, 1.0, 2.0, 1.0], monitor="mse")
    history: dict[int, dict[str, torch.Tensor]] = {}
    model = make_model()
    look = Watching(lambda step, batch: history.setdefault(step, weights(model)))
    t = trainer(model, make_data(), tmp_path, look, epochs=4, monitor="mse")
    fit(t)
    best = checkpoint.load(tmp_path / "best.pt")
    assert best["step"] == 6
    assert t.best == {"value": 1.0, "step": 6}
    assert same(best["model"], history[6])
    assert best.keys() == {"model", "objective", "step", "config"}, "no optimizer: these weights are for use"
    last = checkpoint.load(tmp_path / "last.pt")
    assert same(last["model"], weights(model))
    assert last["config"] == "seed: 3\n"


def test_a_monitored_psnr_is_better_where_it_is_higher(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant_validation(monkeypatch, [10.0, 30.0, 20.0], monitor="psnr")
    fit(trainer(make_model(shape=(1, 4, 4)), make_data(shape=(1, 4, 4)), tmp_path, monitor="psnr"))
    assert checkpoint.load(tmp_path / "best.pt")["step"] == 6


def test_early_stopping_waits_for_its_patience(make_model: MakeModel, make_data: MakeData, tmp_path: Path) -> None:
    model = make_model()
    standing = torch.optim.SGD(model.parameters(), lr=0.0)
    t = trainer(model, make_data(), tmp_path, optimizer=standing, epochs=50, patience=2)
    record = fit(t)
    assert [step for step, *_ in record.of("val")] == [3, 6, 9], "the best, and two that are no better"
    assert t.best["step"] == 3


def test_early_stopping_counts_from_the_last_best(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant_validation(monkeypatch, [3.0, 4.0, 2.0, 2.5, 2.5, 0.0])
    record = fit(trainer(make_model(), make_data(), tmp_path, epochs=50, patience=2))
    assert len(record.of("val")) == 5


def test_early_stopping_and_the_best_survive_an_interruption(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant_validation(monkeypatch, [1.0, 3.0, 2.0, 2.0, 0.0])
    with pytest.raises(Interrupted):
        fit(trainer(make_model(), make_data(), tmp_path, Watching(interrupt_at(6)), epochs=50, patience=3))
    best = (tmp_path / "best.pt").read_bytes()
    again = trainer(make_model(), make_data(), tmp_path, epochs=50, patience=3)
    again.restore(checkpoint.load(tmp_path / "last.pt"))
    assert [step for step, *_ in fit(again).of("val")] == [9, 12], "one was stale before, and two more"
    assert (tmp_path / "best.pt").read_bytes() == best


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [("accuracy", [0.1, 0.7, 0.5], 1), ("denoise_psnr", [3.0, 2.0, 4.0], 2), ("mse", [3, 1, 2], 1)],
)
def test_the_table_of_metrics_says_which_weights_are_best(
    make_model: Callable[..., Autoencoder],
    make_data: Callable[..., Data],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    monitor: str,
    values: list[float],
    best: int,
) -> None:
    constant_validation(monkeypatch, [float(v) for v in values], monitor=monitor)
    t = trainer(make_model(), make_data(), tmp_path, epochs=3, monitor=monitor)
    fit(t)
    assert t.best["step"] == (best + 1) * t.steps_per_epoch
