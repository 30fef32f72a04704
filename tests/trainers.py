"""A trainer on tiny data, and what watches it; imported by the tests of training."""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autoenc.core import Autoencoder, Batch, Loss
from autoenc.data.dataset import Data
from autoenc.objective import Objective
from autoenc.training.evaluation import Evaluation
from autoenc.training.settings import TrainerSettings
from autoenc.training.trainer import Trainer

MakeModel, MakeData = Callable[..., Autoencoder], Callable[..., Data]


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

    def written(self) -> dict[str, int]:
        return {}

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
    draw: Callable[[int, Evaluation], None] = lambda step, evaluation: None,
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
        draw=draw,
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


def constant_validation(monkeypatch: pytest.MonkeyPatch, values: list[float], monitor: str = "loss") -> None:
    """Evaluations find these numbers, whatever the model."""
    from autoenc.training import trainer as module

    real, left = module.evaluate, iter(values)

    def fake(*args: Any) -> Evaluation:
        result = real(*args)
        result.numbers[monitor] = next(left)
        return result

    monkeypatch.setattr(module, "evaluate", fake)
