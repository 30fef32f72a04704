"""Where the time of training steps goes: `trainer.profile=true`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import record_function
from torch.optim import Optimizer

from autoenc.training.settings import TrainerSettings

TRACE = "trace.json.gz"
STEPS = 50  # that are recorded: logging is among them
DATA, FORWARD, BACKWARD, OPTIMIZER, LOGGING, EVALUATION = (
    "data", "forward", "backward", "optimizer", "logging", "evaluation"
)  # fmt: skip


class Profile:
    """A trace of `STEPS` training steps by torch.profiler, and the time of the phases of a step.

    The steps before are not recorded, as their compilations and first allocations are no part of the others; in a short
    run, all steps are. At the end of each phase the device is waited for, so that its work counts where it belongs. The
    phases of compiled steps cannot be told apart, but for the optimizer, if that is not compiled, too.

    Args:
        folder: the run directory, for the trace. total: number of steps of the run.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        total: int,
        objective: nn.Module,
        optimizers: Mapping[str, Optimizer],
        settings: TrainerSettings,
    ):
        self.folder, self.device, self.objective, self.optimizers = folder, device, objective, optimizers
        self.computing = "compiled step" if settings.compile else FORWARD
        self.wanted = settings.profile
        self.before = STEPS if total > 2 * STEPS else 1  # steps to go until recording begins
        self.steps = 0  # recorded so far
        self.seconds: dict[str, float] = {}
        self.hooks: list[Any] = []
        self.recorder: torch.profiler.profile | None = None
        self.phase, self.since = "", 0.0
        self.label: record_function | None = None

    def begin(self, phase: str) -> None:
        """End the phase before, and begin another."""
        if self.recorder is None:
            return
        self._end()
        self.steps += phase == FORWARD
        self.phase, self.since = self.computing if phase == FORWARD else phase, time.perf_counter()
        self.label = record_function(self.phase)
        self.label.__enter__()

    def _end(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.label is not None:
            self.label.__exit__(None, None, None)
            self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + time.perf_counter() - self.since

    def after_step(self) -> list[str]:
        """Note that a step is done, and return lines to print: a table at the end of the recording."""
        if not self.wanted:
            return []
        if self.recorder is not None:
            return self.finish() if self.steps == STEPS else []
        self.before -= 1
        if self.before == 0:
            self._start()
        return []

    def finish(self) -> list[str]:
        """Stop recording, also if the run ends before, write the trace, and return the lines of the table."""
        if self.recorder is None:
            return []
        self._end()
        self.recorder.stop()
        for hook in self.hooks:
            hook.remove()
        whole = self.folder / f".{TRACE}"
        self.recorder.export_chrome_trace(str(whole))
        os.replace(whole, self.folder / TRACE)
        self.recorder = self.label = None
        return self._table()

    def _start(self) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if self.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        if self.computing == FORWARD:
            self.hooks.append(self.objective.register_forward_hook(lambda *args: self.begin(BACKWARD)))
        for optimizer in self.optimizers.values():
            self.hooks.append(optimizer.register_step_pre_hook(lambda *args: self.begin(OPTIMIZER)))
        self.recorder = torch.profiler.profile(activities=activities)
        self.recorder.start()

    def _table(self) -> list[str]:
        order = (DATA, self.computing, BACKWARD, OPTIMIZER, LOGGING, EVALUATION)
        if not self.steps:
            return []
        times = {name: 1e3 * self.seconds[name] / self.steps for name in order if name in self.seconds}
        total = sum(times.values())
        lines = [f"  {name:<14}{value:>9.3f} ms{value / total:>8.1%}" for name, value in times.items()]
        title = f"profile of {self.steps} steps, {total:.3f} ms each with the profiler; trace: {self.folder / TRACE}"
        return [title, *lines]
