"""What a run sets for the whole process while it lasts, and puts back."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from autoenc.training.settings import TrainerSettings


@contextlib.contextmanager
def torch_settings(settings: TrainerSettings) -> Iterator[None]:
    """Settings of the process, put back afterwards: the jobs of a sweep share it.

    Numbers below 1e-38 are taken for 0. A unit that has died, a word that is rare: their gradients are 0, Adam's
    averages of these halve every seven steps, and after some 800 steps they are so small that the processor takes
    several times as long for each: whole steps took twice as long. Threads that are there already keep their setting.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    flushed = _flushes_denormal()
    try:
        torch.set_flush_denormal(True)  # False on a processor that cannot: then it is slower
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


def _flushes_denormal() -> bool:
    """Whether the calling thread takes numbers below the smallest normal one for 0; torch has no word for it."""
    return float(torch.tensor([1e-39]).mul(1.0)) == 0


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The seed, set before the model is built; the generators of the caller are put back."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
