"""Settings of the process for the duration of a run."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from autoenc.training.settings import TrainerSettings

log = logging.getLogger("autoenc")


def half_precision(settings: TrainerSettings, device: torch.device) -> bool:
    """Return whether networks run in bfloat16; where the device only emulates it, they do not, which is logged."""
    if settings.precision != "bf16":
        return False
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    else:
        native = True
    if not native:
        log.warning("trainer.precision=bf16: this device has no bfloat16 arithmetic; training runs in float32")
    return native


@contextlib.contextmanager
def torch_settings(settings: TrainerSettings) -> Iterator[None]:
    """Set threads and determinism, and restore them afterwards, since the jobs of a sweep share the process.

    Denormal numbers, below 1e-38, are flushed to 0. The gradients of dead units and rare words are 0, so that Adam's
    averages of them decay to denormal numbers after about 800 steps. These are slow on CPUs: steps took twice as long.
    Threads that already exist keep their setting.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    flushed = _flushes_denormal()
    try:
        torch.set_flush_denormal(True)  # without effect on processors that do not support it
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
        if settings.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


@contextlib.contextmanager
def as_trained(config: Mapping[str, Any], device: torch.device) -> Iterator[torch.autocast]:
    """Set threads and determinism of a run's config, and yield the context of forward passes in its precision."""
    settings = TrainerSettings(**config["trainer"])
    with torch_settings(settings):
        yield torch.autocast(device.type, torch.bfloat16, enabled=half_precision(settings, device))


def _flushes_denormal() -> bool:
    """Return whether the calling thread flushes denormal numbers to 0; torch has no getter."""
    return float(torch.tensor([1e-39]).mul(1.0)) == 0
