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


def spin_briefly() -> None:
    """Keep torch's threads from spinning for long while they wait for one another; before torch is imported.

    Where another program takes one of the cores, threads that spin waste the time that the last of them needs. OpenMP's
    spin 300,000 times by default: a step of a VAE took 300 ms, not 8, with one other program on two cores; with 2,000
    times it takes about 14, and as long as before where nothing else runs. What the environment says comes first.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def single_blas_thread() -> None:
    """Give numpy's linear algebra one thread, unless the environment says otherwise; before numpy is imported.

    The products of scikit-learn's solvers are small, and on a busy machine the threads of OpenBLAS spin while they wait
    for one another: a probe of 20,000 rows took 8 times as long. Torch's threads are `trainer.threads`.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
