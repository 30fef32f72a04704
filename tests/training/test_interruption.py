"""Interruption: a run stops after a step, with a checkpoint, and resumes bit for bit."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from trainers import MakeData, MakeModel, Watching, fit, interrupt_at, same, trainer, weights

from autoenc import bottlenecks, noise
from autoenc.core import Autoencoder, Batch
from autoenc.errors import Interrupted
from autoenc.regularizers import KL
from autoenc.schedules import WarmUp
from autoenc.training import checkpoint
from autoenc.training.evaluation import Evaluation
from autoenc.training.trainer import Trainer


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
    def draw(step: int, evaluation: Evaluation) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    t = trainer(make_model(), make_data(), tmp_path, draw=draw, epochs=6, figures=2)
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
