"""The loop: stops anywhere and goes on bit for bit; learning rates, early stopping, checkpoints, signals."""

import itertools
import math
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoenc import bottlenecks, noise
from autoenc.core import Autoencoder, Batch, Loss
from autoenc.data.dataset import Data
from autoenc.errors import Interrupted, NotFinite
from autoenc.objective import Objective
from autoenc.regularizers import KL
from autoenc.schedules import WarmUp
from autoenc.training import checkpoint
from autoenc.training.evaluation import Evaluation
from autoenc.training.settings import TrainerSettings
from autoenc.training.trainer import Trainer

MakeModel, MakeData = Callable[..., Autoencoder], Callable[..., Data]


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; here it is most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


class Record:
    """Tracker and progress in one, which keep what they are told."""

    def __init__(self) -> None:
        self.evaluations: list[tuple[str, int, float, dict[str, float]]] = []
        self.series: dict[str, list[tuple[int, float]]] = {}
        self.lines: list[str] = []

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.series.setdefault(f"{prefix}/{name}", []).append((step, value))

    def evaluation(self, split: str, step: int, epoch: float, values: Mapping[str, float]) -> None:
        self.evaluations.append((split, step, epoch, dict(values)))

    def of(self, split: str) -> list[tuple[int, float, dict[str, float]]]:
        return [(step, epoch, values) for s, step, epoch, values in self.evaluations if s == split]

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, *args: object) -> None: ...
    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *exc: object) -> None: ...


class Watching(Objective):
    """The objective, with a look at each training step: `at(step, batch)` is called before it."""

    def __init__(self, at: Callable[[int, Batch], None] = lambda step, batch: None, **regularizers: Any):
        super().__init__(regularizers)
        self.at = at

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        if model.training:
            self.at(int(step), batch)
        return super().forward(model, batch, step)


class Recording(torch.optim.SGD):
    """SGD that keeps the learning rates it was used with."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.used: list[float] = []

    def step(self, closure: None = None) -> None:
        self.used.append(self.param_groups[0]["lr"])
        super().step(closure)


def trainer(
    model: Autoencoder,
    data: Data,
    folder: Path,
    objective: Objective | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 3,
    pictures: Callable[[int, Evaluation], None] = lambda step, evaluation: None,
    **settings: Any,
) -> Trainer:
    settings = {"epochs": 3, "batch_size": 10, "eval_batch_size": 4} | settings
    return Trainer(
        model,
        objective or Objective({}),
        {"model": optimizer or torch.optim.Adam(model.parameters(), lr=0.01)},
        data,
        TrainerSettings(**settings),
        seed,
        torch.device("cpu"),
        Record(),
        folder,
        pictures=pictures,
        identity={"config": "seed: 3\n"},
    )


def fit(t: Trainer) -> Record:
    t.fit(t.tracker)
    return t.tracker


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def interrupt_at(when: int, signum: int = signal.SIGINT) -> Callable[[int, Batch], None]:
    return lambda step, batch: os.kill(os.getpid(), signum) if step == when else None


# --- resuming ---------------------------------------------------------------------------------------------------------


def denoising(make_model: MakeModel) -> Autoencoder:
    return make_model(corruption=noise.Gaussian(0, 1, std=0.3))


def variational(make_model: MakeModel) -> Autoencoder:
    return make_model(bottlenecks.Gaussian, corruption=noise.Masking(0.2), network_options={"norm": "batch"})


def sparse(make_model: MakeModel) -> Autoencoder:
    return make_model(bottlenecks.TopK, k=1, dead_after=25)


@pytest.mark.parametrize(
    ("kind", "terms", "settings"),
    [
        (denoising, {}, {}),
        (denoising, {}, {"lr_schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.3, "warmup": 0.1}),
        (sparse, {}, {"lr_schedule": "cosine", "warmup": 0.4, "clip": 0.5, "evaluate_every": 2}),
        (variational, {"kl": KL(weight=WarmUp(total_steps=18))}, {"patience": 4}),
    ],
    ids=["adam-noise", "plateau", "cosine-topk", "vae"],
)
def test_a_run_that_was_stopped_anywhere_ends_in_the_same_bits(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, kind, terms, settings
) -> None:
    settings, data = {"epochs": 6, **settings}, make_data()
    plateau = settings.get("lr_schedule") == "plateau"

    def start(folder: str, at: Callable[[int, Batch], None] = lambda step, batch: None) -> Trainer:
        torch.manual_seed(5)
        model = kind(make_model)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.5 if plateau else 0.05)  # so that the loss goes up again
        return trainer(model, data, tmp_path / folder, Watching(at, **terms), optimizer, **settings)

    whole = start("whole")
    fit(whole)
    assert not plateau or whole.optimizers["model"].param_groups[0]["lr"] < 0.5

    for stop in (1, 5, 6, 10, 13, 17):  # 24 examples in batches of 10: 3 steps an epoch, 18 in all
        stopped = start(f"stopped{stop}", interrupt_at(stop - 1))
        with pytest.raises(Interrupted):
            fit(stopped)
        resumed = start(f"stopped{stop}")
        torch.manual_seed(999)  # another process: nothing of the generator's state is left
        with torch.no_grad():
            for p in resumed.model.parameters():
                p.normal_()
        resumed.restore(checkpoint.load(tmp_path / f"stopped{stop}" / "last.pt"))
        assert resumed.step == stop
        fit(resumed)

        assert same(weights(resumed.model), weights(whole.model))
        assert resumed.best == whole.best
        assert resumed.stale == whole.stale
        assert resumed.examples == whole.examples
        assert resumed.optimizers["model"].param_groups[0]["lr"] == whole.optimizers["model"].param_groups[0]["lr"]
        together = stopped.tracker.evaluations + resumed.tracker.evaluations
        assert together == whole.tracker.evaluations, "means of the epoch that was cut in two included"
        for name in ("last.pt", "best.pt"):
            a, b = (checkpoint.load(tmp_path / folder / name) for folder in ("whole", f"stopped{stop}"))
            assert same(a["model"], b["model"])


def test_an_interruption_in_the_last_step_loses_nothing(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    t = trainer(make_model(), make_data(), tmp_path, Watching(interrupt_at(8)))
    with pytest.raises(Interrupted):
        fit(t)
    assert [step for step, *_ in t.tracker.of("val")] == [3, 6, 9], "evaluated before it stops"
    again = trainer(make_model(), make_data(), tmp_path)
    again.restore(checkpoint.load(tmp_path / "last.pt"))
    fit(again)
    assert again.tracker.evaluations == [], "nothing is left to do"
    assert same(weights(again.model), weights(t.model))


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_answered_after_the_step_with_a_checkpoint(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path, signum: int
) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    t = trainer(make_model(), make_data(), tmp_path, Watching(interrupt_at(4, signum)))
    with pytest.raises(Interrupted) as stopped:
        fit(t)
    assert stopped.value.signum == signum
    state = checkpoint.load(tmp_path / "last.pt")
    assert state["progress"]["step"] == t.step == 5
    assert same(state["model"], weights(t.model))
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before, "handlers are put back"


def test_a_signal_during_evaluation_is_answered_at_the_end_of_it(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    def pictures(step: int, evaluation: Evaluation) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    t = trainer(make_model(), make_data(), tmp_path, pictures=pictures, epochs=6, figures=1)
    with pytest.raises(Interrupted):
        fit(t)
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == t.step == 9
    assert len(t.tracker.lines) == 3


def test_a_second_signal_is_not_waited_for(make_model: MakeModel, make_data: MakeData, tmp_path: Path) -> None:
    def twice(step: int, batch: Batch) -> None:
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the second signal should have ended the step")

    t = trainer(make_model(), make_data(), tmp_path, Watching(twice))
    with pytest.raises(Interrupted) as stopped:
        fit(t)
    assert stopped.value.signum == signal.SIGTERM
    assert checkpoint.load(tmp_path / "last.pt")["progress"]["step"] == 3, "the last evaluation's"


# --- steps, epochs and the order of the data --------------------------------------------------------------------------


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


def test_pictures_are_drawn_so_many_times_and_not_at_the_end(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    for epochs, figures, expected in ((12, 2, [4, 8]), (12, 0, []), (1, 5, []), (2, 5, [1]), (3, 5, [1, 2])):
        drawn: list[int] = []
        pictures = lambda step, evaluation: drawn.append(step)  # noqa: E731, B023
        fit(trainer(make_model(), make_data(), tmp_path, pictures=pictures, epochs=epochs, figures=figures))
        assert drawn == [3 * epoch for epoch in expected], (epochs, figures)  # run.py draws those of the end


# --- learning rates ---------------------------------------------------------------------------------------------------


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


def constant_validation(monkeypatch: pytest.MonkeyPatch, values: list[float], monitor: str = "loss") -> None:
    """Evaluations find these numbers, whatever the model."""
    from autoenc.training import trainer as module

    real, left = module.evaluate, iter(values)

    def fake(*args: Any) -> Evaluation:
        result = real(*args)
        result.numbers[monitor] = next(left)
        return result

    monkeypatch.setattr(module, "evaluate", fake)


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


# --- the best weights, early stopping, what is refused ----------------------------------------------------------------


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


def test_schedules_of_weights_are_logged_and_depend_on_the_step_alone(
    make_model: MakeModel, make_data: MakeData, tmp_path: Path
) -> None:
    terms = {"kl": KL(weight=WarmUp(total_steps=9, fraction=1.0))}
    seen: list[float] = []
    objective = Watching(lambda step, batch: seen.append(terms["kl"].weight(step)), **terms)
    record = fit(trainer(make_model(bottlenecks.Gaussian), make_data(), tmp_path, objective))
    assert seen == pytest.approx([i / 9 for i in range(9)]), "not advanced by validation"
    assert record.series["train/weight/kl"] == [(3, pytest.approx(3 / 9)), (6, pytest.approx(6 / 9)), (9, 1.0)]


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
