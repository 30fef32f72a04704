"""Training of several runs at once, each of which has the weights, noise, samples and batches that it has alone.

All but the gradients of a step (optimizer, evaluation, checkpoints, logging, early stopping) is that of each run.
"""

from __future__ import annotations

import contextlib
import contextvars
import copy
import math
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Generic, NoReturn, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW

from autoenc.core import Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import ConfigError, Interrupted, one_line
from autoenc.objective import Objective, apply_gradients
from autoenc.training.settings import TrainerSettings
from autoenc.training.stack import Random, Stack
from autoenc.training.trainer import Steps, Trainer

T = TypeVar("T")
ELEMENTWISE = (Adam, AdamW, SGD)  # an update of stacked parameters is that of each
KEY = "trainer.replicas"
TOLERANCE = 1e-2  # relative; what vmap computes differently is wrong by much more, float32 by much less


class _Run(Generic[T]):
    """A training that waits for its next step, or has ended with a result or an exception."""

    def __init__(self, training: Steps[T], device: torch.device):
        self.training, self.random, self.context = training, Random(device), contextvars.copy_context()
        self.waiting: tuple[Trainer, Batch | Tensor] | None = None
        self.since = time.perf_counter()  # when it began to wait
        self.result: T | BaseException | None = None
        self.resume(training.send, None)

    def resume(self, how: Callable[[Any], tuple[Trainer, Batch | Tensor]], outcome: Any, seconds: float = 0.0) -> None:
        """Go on to the next step.

        Args:
            seconds: that the step took; in the rest of the time since the last call, other runs worked.
        """
        if self.waiting is not None:
            self.trainer.training_seconds -= time.perf_counter() - self.since - seconds
        self.waiting = None
        try:
            with self.random:
                self.waiting = self.context.run(how, outcome)
        except StopIteration as end:
            self.result = end.value
        except (Exception, Interrupted, KeyboardInterrupt) as error:
            self.result = error
        self.since = time.perf_counter()

    @property
    def trainer(self) -> Trainer:
        """The trainer that waits."""
        assert self.waiting is not None
        return self.waiting[0]

    @property
    def batch(self) -> Batch:
        """The batch of its next step."""
        assert self.waiting is not None
        assert isinstance(self.waiting[1], Batch), "see check"
        return self.waiting[1]


class _Update:
    """The update of the parameters of all trainers: one step of an optimizer of the stacked ones where they agree.

    The state of the optimizer of each run is then a view of the stacked state.
    """

    def __init__(self, trainers: Sequence[Trainer], stack: Stack):
        self.trainers, self.stack, self.whole = trainers, stack, None
        self.own = [next(iter(trainer.optimizers.values())) for trainer in trainers]
        first = self.own[0]
        settings = [{k: v for k, v in o.param_groups[0].items() if k not in ("params", "lr")} for o in self.own]
        lrs = [(trainer.base_lrs, trainer.lr_factor) for trainer in trainers]
        agree = all(each == settings[0] for each in settings) and all(each == lrs[0] for each in lrs)
        apart = any(trainer.plateaus or trainer.settings.clip is not None for trainer in trainers)
        if type(first) in ELEMENTWISE and agree and not apart:
            self.whole = type(first)(stack.learning, **first.defaults)
            for p, copies in zip(stack.learning, zip(*stack.own, strict=True), strict=True):
                states = [o.state[own] for o, own in zip(self.own, copies, strict=True) if own in o.state]
                for name, value in states[0].items() if states else ():
                    merged = torch.stack([s[name] for s in states]) if _apart(name, value) else copy.deepcopy(value)
                    self.whole.state[p][name] = merged
            self._share()

    def __call__(self) -> None:
        """Apply the gradients."""
        if self.whole is None:
            for trainer in self.trainers:
                apply_gradients(trainer.optimizers, trainer.settings.clip)
            return
        began = bool(self.whole.state)
        self.whole.param_groups[0]["lr"] = self.own[0].param_groups[0]["lr"]
        self.whole.step()
        if not began:
            self._share()

    def _share(self) -> None:
        """Make the states of the runs views of the stacked state."""
        assert self.whole is not None
        for p, copies in zip(self.stack.learning, zip(*self.stack.own, strict=True), strict=True):
            for i, (optimizer, own) in enumerate(zip(self.own, copies, strict=True)):
                if state := self.whole.state.get(p):
                    optimizer.state[own] = {k: v[i] if _apart(k, v) else v for k, v in state.items()}


def _apart(name: str, value: Any) -> bool:
    """Return whether a value of the state of an optimizer differs between runs that are at the same step."""
    return isinstance(value, Tensor) and name != "step"


def together(trainings: Sequence[Steps[T]], device: torch.device) -> list[T | BaseException]:
    """Make the steps of several trainings at once. Return the result of each, or what has ended it.

    Those that have resumed from an earlier step than others catch up first.

    Raises:
        Interrupted, KeyboardInterrupt: one was interrupted, and so are the others.
    """
    runs: list[_Run[T]] = []
    for training in trainings:
        if (stop := _interruption(runs)) is None:
            runs.append(_Run(training, device))
    stacked: list[Trainer] = []
    while waiting := [run for run in runs if run.waiting is not None]:
        if (stop := _interruption(runs)) is not None:
            for run in waiting:
                run.resume(run.training.throw, stop)
            continue
        step = min(run.trainer.step for run in waiting)
        active = [run for run in waiting if run.trainer.step == step]
        trainers, began = [run.trainer for run in active], time.perf_counter()
        try:
            if trainers != stacked:
                stack, stacked = Stack([(t.model, t.objective) for t in trainers]), trainers
                update = _Update(trainers, stack)
            randoms, precision = [run.random for run in active], trainers[0].precision()
            parts = stack.backward([run.batch for run in active], step, randoms, precision)
            update()
        except BaseException as error:
            for run in active:
                run.resume(run.training.throw, error)
        else:
            seconds = time.perf_counter() - began
            for run, own in zip(active, parts, strict=True):
                run.resume(run.training.send, own, seconds)
    if (stop := _interruption(runs)) is not None:
        raise stop
    return [run.result for run in runs]  # type: ignore[misc]


def _interruption(runs: Sequence[_Run[T]]) -> BaseException | None:
    """Return what has interrupted one of the runs; None: nothing."""
    return next((run.result for run in runs if isinstance(run.result, Interrupted | KeyboardInterrupt)), None)


def check(count: int, model: Autoencoder, objective: Objective, train: Split, settings: TrainerSettings) -> None:
    """Raise ConfigError, with the name of the part, unless training at once computes what training alone does.

    Gradients of two copies of the model on one batch are compared with those of the same copies alone.
    """

    def refuse(what: str) -> NoReturn:
        raise ConfigError(KEY, count, f"{what}; train the seeds one by one: -m seed=0,1,2") from None

    name, players = type(objective).__name__, objective.players(model)
    if len(players) > 1:
        refuse(f"the objective {name} has several players ({', '.join(players)}), which cannot train at once")
    if not isinstance(train.x, Tensor):
        refuse(f"examples that are read from disk ({type(train.x).__name__}) cannot train at once")
    for option, what in (("compile", "compiles"), ("profile", "measures")):
        if getattr(settings, option):
            refuse(f"trainer.{option}=true {what} the steps of one run")
    batch = next(train.shuffled(settings.batch_size, 0, 0))
    copies = [copy.deepcopy((model.train(), objective.train())) for _ in range(2)]
    with torch.no_grad():
        for p in (p for module in copies[1] for p in module.parameters()):
            p.mul_(0.9)
    alone = copy.deepcopy(copies)
    expected = [_alone(*each, batch, Random(batch.x.device, i)) for i, each in enumerate(alone)]
    randoms = [Random(batch.x.device, i) for i in range(2)]
    try:
        at_once = Stack(copies).backward([batch, batch], 0, randoms, contextlib.nullcontext())
    except Exception as error:
        why = one_line(error).partition(". ")[0]
        refuse(f"{_part(error) or name} cannot train at once ({why})")
    for parts, own, both, each in zip(expected, alone, at_once, copies, strict=True):
        scale = 1e-3 * math.sqrt(sum(float(grad.square().sum()) for grad in _tensors(own, True).values()))
        for found, wanted, least in (
            (both, parts, 1e-3),
            (_tensors(each, True), _tensors(own, True), scale),
            (_tensors(each, False), _tensors(own, False), 1e-3),
        ):
            for key, value in wanted.items():
                difference = float((found[key].double() - value.double()).norm())
                if not difference <= TOLERANCE * float(value.double().norm()) + least:
                    refuse(f"{key} of the objective {name} is not the same at once as alone")


def _alone(model: Autoencoder, objective: Objective, batch: Batch, random: Random) -> dict[str, Tensor]:
    """Compute the gradients of one model, and return the parts of its loss."""
    with random:
        loss = objective(model, batch, 0)
        torch.stack(list(loss.total.values())).sum().backward()
    return loss.parts


def _tensors(modules: Sequence[nn.Module], gradients: bool) -> dict[str, Tensor]:
    """Return the gradients of the parameters of some modules, or their buffers."""
    if not gradients:
        return {name: buffer for module in modules for name, buffer in module.named_buffers()}
    return {name: p.grad for module in modules for name, p in module.named_parameters() if p.grad is not None}


def _part(error: BaseException) -> str:
    """Return the class of the innermost part in which an exception was raised; empty if there is none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    inside = [f for f in frames if f.f_globals.get("__name__", "").startswith("autoenc.") and "self" in f.f_locals]
    inside = [f for f in inside if f.f_globals["__name__"] not in (__name__, Stack.__module__)]
    return type(inside[-1].f_locals["self"]).__name__ if inside else ""
