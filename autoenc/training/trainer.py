"""The training loop, the same for all models."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from autoenc import parallel, schedules
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import Data
from autoenc.errors import STOPS, DataError, Interrupted, NotFinite, out_of_memory
from autoenc.metric_table import headline, metric
from autoenc.objective import Meter, Objective, gradient_norm, train_step
from autoenc.training import checkpoint
from autoenc.training.compiled import CompiledStep
from autoenc.training.evaluation import Evaluation, evaluate
from autoenc.training.process import half_precision
from autoenc.training.profiling import DATA, EVALUATION, FORWARD, LOGGING, Profile
from autoenc.training.settings import TrainerSettings
from autoenc.training.tracking import CODE, SPEED, Progression, Tracker, varying

log = logging.getLogger("autoenc")
SAVE_EVERY = 300.0  # seconds between checkpoints within long epochs, or where evaluations are far apart
AGREE_EVERY = 10  # steps between exchanges about signals, where several processes train
ECHO = 1.0  # seconds in which a signal that is received again is the same one
LOG_EVERY = 50  # steps between synchronisations with the device: logging, the check for NaN, signals
T = TypeVar("T")
# Yields the trainer and what its next step takes, and is sent the parts of the loss of that step.
Steps = Generator[tuple["Trainer", Batch | Tensor], dict[str, Tensor], T]


@dataclass(frozen=True)
class Watch:
    """A look at the validation metrics during training.

    Args:
        metrics: names that the evaluation must have.
        see: called with (epoch, validation metrics) after each evaluation but the last; may raise Pruned.
    """

    metrics: tuple[str, ...] = ()
    see: Callable[[int, Mapping[str, float]], None] = lambda epoch, numbers: None


NOBODY = Watch()


class Trainer:
    """Training loop that can be interrupted at any step and resumed bit for bit.

    `steps` is the loop, a generator that leaves the step itself to its caller: `alone` makes the steps of one trainer,
    replicas.py those of several at once.

    Args:
        optimizers: one for each player of the objective.
        folder: for checkpoints: last.pt at each evaluation and interruption, best.pt if the monitored metric has
            improved.
        draw: called with (step, evaluation) `settings.figures` - 1 times during training.
        watch: called after evaluations.
        identity: plain values that are stored with each checkpoint, to check that it belongs to the run.
        started: time of `time.perf_counter` when the run began or resumed; None: now.
    """

    at_work: ClassVar[list[Trainer]] = []  # trainers that signals stop
    handlers: ClassVar[dict[signal.Signals, Any]] = {}  # what signals did before

    def __init__(
        self,
        model: Autoencoder,
        objective: Objective,
        optimizers: dict[str, Optimizer],
        data: Data,
        settings: TrainerSettings,
        seed: int,
        device: torch.device,
        tracker: Tracker,
        folder: Path,
        draw: Callable[[int, Evaluation], None] = lambda step, evaluation: None,
        watch: Watch = NOBODY,
        identity: dict[str, Any] | None = None,
        started: float | None = None,
    ):
        self.model, self.objective, self.optimizers, self.data = model, objective, optimizers, data
        self.settings, self.seed, self.device = settings, seed, device
        self.tracker, self.folder, self.identity = tracker, folder, identity or {}
        self.draw, self.watch = draw, watch
        self.steps_per_epoch = settings.steps_per_epoch(len(data.train))
        self.total_steps = settings.total_steps(len(data.train))
        kinds: dict[str, Callable[[int, float], Callable[[float], float]]]
        kinds = {"cosine": schedules.Cosine, "staged": schedules.Staged}
        self.lr_factor = kinds.get(settings.lr_schedule, schedules.Constant)(self.total_steps, settings.warmup)
        self.base_lrs = {name: o.param_groups[0]["lr"] for name, o in optimizers.items()}
        # An absolute threshold: for negative losses, the relative default accepts worse values as improvement.
        plateau: dict[str, Any] = {"factor": settings.plateau_factor, "patience": settings.plateau_patience}
        plateau |= {"threshold": 0.0, "threshold_mode": "abs"}
        reduced = optimizers if settings.lr_schedule == "plateau" else {}
        self.plateaus = {name: ReduceLROnPlateau(o, **plateau) for name, o in reduced.items()}
        self.bf16 = half_precision(settings, device)
        self.compiled: CompiledStep | None = None
        if settings.compile:
            self.compiled = CompiledStep(model, objective, optimizers, device, settings.clip, self.bf16)
        self.profile = Profile(folder.parent, device, self.total_steps, objective, optimizers, settings)
        self.meter = Meter()
        self.step = 0  # training steps done
        self.best: dict[str, float] = {"value": math.inf, "step": -1}
        self.stale = 0  # evaluations since the best
        self.started = time.perf_counter() if started is None else started
        self.earlier_seconds = 0.0  # until the checkpoint that the run has resumed from
        self.training_seconds = 0.0
        self.examples = 0
        self._mark = (0, 0.0)  # examples and seconds at the last line on the console
        self._saved = time.perf_counter()  # of the last checkpoint
        self._signal: int | None = None
        # Evaluations with figures, spread over the run without its end, for which report.py draws them.
        evaluations = math.ceil(self.total_steps / (self.steps_per_epoch * settings.evaluate_every))
        self._drawn = {round(i * evaluations / settings.figures) for i in range(1, settings.figures)}
        self._drawn -= {0, evaluations}

    def fit(self, progress: Progression) -> None:
        """Train to the end or until early stopping; see `steps`."""
        alone(self.steps(progress))

    def steps(self, progress: Progression) -> Steps[None]:
        """Yield the batch of each step to the end or until early stopping.

        Raises:
            Interrupted: SIGINT or SIGTERM was received; a checkpoint has been written.
        """
        self.model.train()
        self.objective.train()
        networks = [*self.model.networks(), *map(parallel.Network, self.objective.networks())]
        with self._signals(), progress, parallel.divided(networks):
            while self.step < self.total_steps and not self._exhausted():
                yield from self._epoch(progress)
            for line in self.profile.finish():
                progress.line(line)

    def take_step(self, batch: Batch | Tensor) -> dict[str, Tensor]:
        """Update every player with a batch, or with the indices of its rows, and return the parts of the loss."""
        if self.compiled is not None:
            return self.compiled(batch, self.step)
        assert isinstance(batch, Batch)
        with self.precision():
            return train_step(self.model, self.objective, batch, self.step, self.optimizers, clip=self.settings.clip)

    def precision(self) -> torch.autocast:
        """Return the context of the forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _exhausted(self) -> bool:
        return self.settings.patience is not None and self.stale >= self.settings.patience

    def _epoch(self, progress: Progression) -> Steps[None]:
        """Train for the rest of the current epoch, and evaluate."""
        epoch, done = divmod(self.step, self.steps_per_epoch)
        clock = time.perf_counter()
        self.profile.begin(DATA)
        for batch in self._batches(epoch, done):
            self.profile.begin(FORWARD)
            self._set_learning_rate()
            parts = yield self, batch
            self.profile.begin(LOGGING)
            self.step += 1
            self.examples += len(batch)
            self.meter.add(self.step, len(batch), parts)
            if self.step == self.total_steps:
                break
            if self.step % LOG_EVERY == 0:
                clock = self._log(progress, epoch, clock)
                if time.perf_counter() - self._saved > SAVE_EVERY:
                    self.save()
            for line in self.profile.after_step():
                progress.line(line)
            self.profile.begin(DATA)
            if self.step % self.steps_per_epoch and self._stopped(self.step % AGREE_EVERY == 0):
                self.training_seconds += time.perf_counter() - clock
                self._stop()
        self._log(progress, epoch, clock)
        self.profile.begin(EVALUATION)
        if self.step == self.total_steps or (epoch + 1) % self.settings.evaluate_every == 0:
            self._evaluate(progress, epoch + 1)
        elif time.perf_counter() - self._saved > SAVE_EVERY:
            self.save()
        if self._stopped():  # at the end of an epoch: after its evaluation, which resuming would skip
            self._stop()

    def _batches(self, epoch: int, start: int) -> Iterator[Batch | Tensor]:
        """Yield the batches of an epoch from number `start` on; compiled steps may take the indices of their rows."""
        split, size = self.data.train, self.settings.batch_size
        if self.compiled is None:
            return split.shuffled(size, self.seed, epoch, start=start)
        return self.compiled.batches(split, size, self.seed, epoch, start)

    def _stopped(self, exchange: bool = True) -> bool:
        """Return whether to stop for a signal; several processes stop after the same step, at an exchange."""
        if parallel.count() > 1:
            if not exchange:
                return False
            if agreed := parallel.largest(self._signal or 0):  # a signal that comes meanwhile is for the next exchange
                self._signal = agreed
            return agreed > 0
        return self._signal is not None

    def _stop(self) -> NoReturn:
        assert self._signal is not None
        if parallel.count() > 1:  # the signal may still be on its way to this process
            Trainer.handlers = dict.fromkeys(Trainer.handlers, signal.SIG_IGN)
        self.save()
        raise Interrupted(self._signal)

    def _set_learning_rate(self) -> None:
        if self.plateaus and self.step >= self.settings.warmup * self.total_steps:
            return  # ReduceLROnPlateau sets it from here on
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.base_lrs[name] * self.lr_factor(self.step)

    def _log(self, progress: Progression, epoch: int, clock: float) -> float:
        """Log the means since the last call, and return the time."""
        numbers = self.meter.read()
        now = time.perf_counter()
        self.training_seconds += now - clock
        if numbers:
            logged, several = numbers | {"gradient_norm": gradient_norm(self.optimizers)}, len(self.optimizers) > 1
            for name, optimizer in self.optimizers.items():
                logged[f"lr/{name}" if several else "lr"] = optimizer.param_groups[0]["lr"]
            for name, term in self.objective.regularizers.items():
                if callable(term.weight):
                    logged[f"weight/{name}"] = term.weight(self.step)
            self.tracker.scalars("train", logged, self.step)
            self.tracker.scalars(SPEED, {"examples_per_second": self.examples_per_second}, self.step)
            progress.update(self.step, epoch + 1, numbers, self.examples_per_second)
        return now

    @property
    def seconds(self) -> float:
        """Seconds of the whole run, without the time in which it was interrupted."""
        return self.earlier_seconds + time.perf_counter() - self.started

    @property
    def examples_per_second(self) -> float:
        """Training examples per second of training steps, including logging but not evaluation."""
        return self.examples / max(self.training_seconds, 1e-9)

    def _recent_speed(self) -> float:
        """Return training examples per second since the last call."""
        (examples, seconds), self._mark = self._mark, (self.examples, self.training_seconds)
        return (self.examples - examples) / max(self.training_seconds - seconds, 1e-9)

    def _evaluate(self, progress: Progression, epoch: int) -> None:
        """Evaluate on the validation split, and write checkpoints."""
        trained = self.meter.epoch()
        parallel.align(self.model, self.objective)
        result = evaluate(self.model, self.objective, self.data.val, self.data.spec, self.settings.eval_batch_size)
        monitor = self.settings.monitor
        value = parallel.shared(result.numbers[monitor]) * metric(monitor).sign  # lower is better
        if not math.isfinite(value):
            raise NotFinite(f"step {self.step}: {monitor} of the validation split is not finite")
        position = self.step / self.steps_per_epoch
        self.tracker.evaluation("train", self.step, position, trained)
        kl = {} if result.stats.kl is None else {"kl_per_dim": result.stats.kl.tolist()}
        self.tracker.evaluation("val", self.step, position, {**result.numbers, **result.latent, **kl})
        self.tracker.scalars("val", result.numbers, self.step)
        self.tracker.scalars(CODE, varying(result.latent), self.step)
        for plateau in self.plateaus.values():
            plateau.step(value)
        self.stale += 1
        if value < self.best["value"]:
            self.best, self.stale = {"value": value, "step": self.step}, 0
            self.save_best()
        if math.ceil(self.step / (self.steps_per_epoch * self.settings.evaluate_every)) in self._drawn:
            with parallel.undivided():
                self.draw(self.step, result)
        self.save()  # after all that is written at this step, or a run that resumes here would lack it
        shown = dict.fromkeys(("loss", headline(result.numbers), monitor))
        progress.line(
            f"epoch {epoch:>3}  step {self.step:>6}  train loss {trained['loss']:.6g}  val "
            + "  ".join(f"{name} {result.numbers[name]:.{6 if name == 'loss' else 5}g}" for name in shown)
            + f"  {self._recent_speed():,.0f} ex/s"
            + ("  *" if self.stale == 0 else "")
        )
        if self.step < self.total_steps:
            self.watch.see(epoch, result.numbers)

    def save_best(self) -> None:
        """Write best.pt: model and objective."""
        if not parallel.is_first():
            return
        weights = {"model": self.model.state_dict(), "objective": self.objective.state_dict()}
        checkpoint.save(self.folder / "best.pt", weights | {"step": self.step, **self.identity})

    def save(self) -> None:
        """Write last.pt, which has everything that is needed to resume bit for bit.

        Raises:
            NotFinite: the gradient of the last step was, and the weights are, infinite or NaN; nothing is written.
        """
        if not math.isfinite(gradient_norm(self.optimizers)):
            raise NotFinite(f"step {self.step}: the gradient is not finite")
        if parallel.is_first():
            checkpoint.save(self.folder / "last.pt", self.state() | self.identity)
            self._saved = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return the state of training, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
            "plateaus": {name: p.state_dict() for name, p in self.plateaus.items()},
            "meter": self.meter.state_dict(),
            "rng": checkpoint.rng_state(self.device),
            "progress": {
                "step": self.step,
                "best": self.best,
                "stale": self.stale,
                "seconds": self.seconds,
                "training_seconds": self.training_seconds,
                "examples": self.examples,
                "written": self.tracker.written(),
            },
        }

    def adopt(self, state: dict[str, Any]) -> None:
        """Set a state that `state` has returned."""
        self.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])
        for name, plateau in self.plateaus.items():
            plateau.load_state_dict(state["plateaus"][name])
        self.meter.load_state_dict(state["meter"])
        for name in ("step", "best", "stale", "training_seconds", "examples"):
            setattr(self, name, state["progress"][name])
        # Checkpoints of earlier versions have no seconds of the whole run.
        self.earlier_seconds = state["progress"].get("seconds", self.training_seconds)
        self._mark = (self.examples, self.training_seconds)
        checkpoint.set_rng_state(state["rng"], self.device)

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state that `save` has written; DataError if it does not fit."""
        try:
            self.adopt(state)
            for optimizer in self.optimizers.values():
                checkpoint.check_step(optimizer)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            why = checkpoint.mismatch(error)
            raise DataError(f"{self.folder / 'last.pt'}: does not match config.yaml ({why})") from None
        best, wrong = self.folder / "best.pt", ""
        try:
            if self.best["step"] >= 0 and (found := checkpoint.load(best)["step"]) != self.best["step"]:
                # Evaluations write best.pt before last.pt: the run was killed in between.
                wrong = f"has the weights of step {found}, and last.pt names step {self.best['step']} as the best"
        except (DataError, KeyError):
            wrong = "is missing or damaged"
        if wrong:  # the best weights are lost: those of last.pt take their place until better ones are found
            log.warning("%s %s; replaced by the weights of step %d", best, wrong, self.step)
            if self.step != self.best["step"]:
                self.best = {"value": math.inf, "step": self.step}
            self.save_best()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop after the current step at the first SIGINT, SIGTERM or SIGHUP, and at once at the second.

        Ignored signals stay ignored, as `nohup` and shells arrange it for processes in the background.
        """

        received = -math.inf

        def stop(signum: int, frame: object) -> None:
            nonlocal received
            now = time.monotonic()
            # Of several processes, some stop before they get the signal; torchrun passes on what they get already.
            again = now - received < ECHO or received == -math.inf
            if any(trainer._signal is not None for trainer in Trainer.at_work) and not (parallel.count() > 1 and again):
                raise Interrupted(signum)
            received = now
            for trainer in Trainer.at_work:
                trainer._signal = signum

        with suppress(ValueError):  # not the main thread, where Python has no signal handlers
            if not Trainer.at_work:
                handled = [s for s in STOPS if signal.getsignal(s) != signal.SIG_IGN]
                Trainer.handlers = {s: signal.signal(s, stop) for s in handled}
        Trainer.at_work.append(self)
        try:
            yield
        finally:
            Trainer.at_work.remove(self)
            if not Trainer.at_work:
                for s, handler in Trainer.handlers.items():
                    signal.signal(s, handler)
                Trainer.handlers = {}


def alone(training: Steps[T]) -> T:
    """Make the steps of one training, and return its result."""
    resume: Callable[[Any], tuple[Trainer, Batch | Tensor]] = training.send
    outcome: Any = None
    while True:
        try:
            trainer, batch = resume(outcome)
        except StopIteration as end:
            return end.value
        try:
            resume, outcome = training.send, trainer.take_step(batch)
        except BaseException as error:  # the training notes what has stopped it
            resume, outcome = training.throw, error
