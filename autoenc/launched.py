"""How this process was started: its place among those of torchrun, and its threads. Imports no torch."""

from __future__ import annotations

import os
from typing import ClassVar

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Meeting:
    """Whether this process has joined the others once."""

    held: ClassVar[bool] = False


def processes() -> int:
    """Return the number of processes that train one run; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in NAMES) else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ["RANK"]) if processes() > 1 else 0


def local_rank() -> int:
    """Return the number of this process among those of its machine, from 0: its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank())) if processes() > 1 else 0


def single_blas_thread() -> None:
    """Give numpy's linear algebra one thread, unless the environment says otherwise; before numpy is imported.

    The products of scikit-learn's solvers are small, and on a busy machine the threads of OpenBLAS spin while they wait
    for one another: a probe of 20,000 rows took 8 times as long. Torch's threads are `trainer.threads`.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
