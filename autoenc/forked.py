"""Jobs of a sweep in processes of their own, and the signals that end a sweep."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from autoenc.errors import STOPS, Interrupted, one_line

T = TypeVar("T")
# Imported once before the jobs of a sweep are forked, instead of in every job: several seconds. None starts threads.
PRELOADED = (
    *("autoenc.run", "autoenc.data", "torch.utils.tensorboard", "torch._dynamo", "sklearn.datasets"),
    *("sklearn.decomposition", "matplotlib.figure", "matplotlib.backends.backend_agg", "PIL.PngImagePlugin"),
)
CLEAR = "\r\x1b[2K"  # what a line begins with on a terminal that other processes write to: it replaces a live line


class Sweep:
    """State of the sweep that this process runs."""

    stopped: ClassVar[int | None] = None  # signal that ends the sweep


def preload() -> None:
    """Import what the jobs of a sweep need, where they are forked."""
    if sys.platform == "linux":
        for module in PRELOADED:
            importlib.import_module(module)


def isolated(attempt: Callable[[], T], killed: Callable[[str], None], limit: int = 0) -> T | None:
    """Return the result of a function, plain values, that runs in a process of its own; None if it has none.

    A job that is killed, for want of memory for instance, does not end the sweep, and leaves no memory to it. Signals
    that end the sweep are passed on to the job, which writes a checkpoint. So is the signal by which a cluster
    announces the end of its time, if submitit handles it: the job is queued again after the checkpoint.

    Args:
        killed: called with the reason if the process was killed.
        limit: seconds after which the process is killed; 0: none.
    """
    if sys.platform != "linux":  # elsewhere, forking a process that has loaded system libraries is not safe
        return attempt()
    preload()
    child, last = 0, 0.0
    queued_again, announced = _cluster_handlers(), 0

    def stop(signum: int, frame: object) -> None:
        nonlocal last
        Sweep.stopped = signum
        if child and time.monotonic() - last > 1:  # Ctrl-C reaches a worker from the terminal and from its parent
            last = time.monotonic()
            os.kill(child, signal.SIGTERM)
        elif not child and orphaned():
            os._exit(128 + signum)

    def announce(signum: int, frame: object) -> None:
        nonlocal announced
        announced = signum
        if child:
            os.kill(child, signal.SIGTERM)

    handled = [s for s in STOPS if signal.getsignal(s) != signal.SIG_IGN]
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    previous = {s: signal.signal(s, stop) for s in handled}
    previous |= {s: signal.signal(s, announce) for s in queued_again}
    child = os.fork()
    if child == 0:
        for s in queued_again:  # a cluster signals every process of a job
            signal.signal(s, signal.SIG_IGN)
        signal.alarm(limit)
        _child(attempt, writer)
    if Sweep.stopped is not None:  # by a signal that another thread received before `child` was known
        stop(Sweep.stopped, None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    child = 0
    if orphaned():  # a worker whose sweep was killed: nobody takes its result, or gives it another job
        os._exit(1)
    if multiprocessing.parent_process() is None:  # a worker of joblib keeps them for the time between jobs
        for s, handler in previous.items():
            signal.signal(s, handler)
    with open(reader) as result:
        text = result.read()
    if os.WIFSIGNALED(status):
        killed(f"killed by signal {os.WTERMSIG(status)}")
    if announced and status:  # the job has not finished
        try:
            queued_again[announced](announced, None)  # exits
        except Exception as error:  # too often, see hydra.launcher.max_num_timeout
            killed(one_line(error))
    if Sweep.stopped is not None and multiprocessing.parent_process() is None:
        raise Interrupted(Sweep.stopped)
    return json.loads(text) if text else None


def _cluster_handlers() -> dict[int, Callable[[int, Any], object]]:
    """Return the handlers of signals that announce the end of the time of this process on a cluster."""
    found = {s: signal.getsignal(s) for s in (signal.SIGUSR1, signal.SIGUSR2)}
    return {s: handler for s, handler in found.items() if callable(handler)}


def _child(attempt: Callable[[], object], writer: int) -> NoReturn:
    """Run a job in a forked process; its parent alone listens to the terminal."""
    code = 1
    try:
        stop_with_parent()
        for s in STOPS:
            signal.signal(s, interrupt if s == signal.SIGTERM else signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
        value = attempt()
        os.write(writer, json.dumps(value).encode())
        code = 0
    except Interrupted as error:
        code = 128 + error.signum
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def stop_with_parent() -> None:
    """Let this process receive SIGTERM when its parent is killed, on Linux."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def orphaned() -> bool:
    """Whether the process that started this worker has ended."""
    parent = multiprocessing.parent_process()
    return parent is not None and os.getppid() != parent.pid


def interrupt(signum: int, frame: object) -> None:
    """Stop; the workers of a parallel sweep write checkpoints first."""
    if workers := multiprocessing.active_children():
        Sweep.stopped = signum
        for worker in workers:
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)
        return
    raise Interrupted(signum)
