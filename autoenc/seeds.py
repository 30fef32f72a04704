"""Seeds of torch's generators, which leave those of the caller as they were."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed the generators of the CPU and of a device, and restore them afterwards; no other GPU is touched.

    Args:
        device: None: numbers are drawn on the CPU only.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def derived(seed: int) -> int:
    """Return the seed of other numbers, which do not depend on those that are drawn with the seed itself."""
    return int(np.random.SeedSequence((seed, 1)).generate_state(1, np.uint64)[0] >> 1)
