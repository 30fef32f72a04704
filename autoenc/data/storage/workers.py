"""Worker processes of torch's DataLoader as a parallel `map`."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from autoenc.errors import UserError

AHEAD = 3  # prefetched tasks per worker

Task = TypeVar("Task")
Result = TypeVar("Result")


class Pool:
    """Persistent worker processes, forked when the first task is given.

    Args:
        workers: number of processes; 0: run tasks in this process. Daemonic processes cannot have children and run them
            themselves.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._idle: list[DataLoader[Any]] = []
        self._pid = 0  # of the process that the workers belong to
        # Loaders that were collected with a pool in a cycle would lose their pipes first, and wait 5 s for each worker.
        weakref.finalize(self, self._idle.clear).atexit = False

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Generator[Result, None, None]:
        """Yield function(task) for each task, in order, `AHEAD` tasks per worker in advance.

        `function`, tasks and results are pickled. Iterations may be interleaved and left early: each has workers of its
        own, which the next one takes over.

        Raises:
            UserError: a worker process was killed.
        """
        if self.workers == 0 or multiprocessing.current_process().daemon:
            yield from map(function, tasks)
            return
        if self._pid != os.getpid():
            self._idle.clear()
            self._pid = os.getpid()
        loader = self._idle.pop() if self._idle else _start(self.workers)
        assert isinstance(loader.sampler, _Tasks)
        loader.sampler.tasks = calls = ((function, task) for task in tasks)
        try:
            with _unchanged_signal_handler():
                results = iter(loader)
            yield from results
        except GeneratorExit:
            self._idle.append(loader)
            raise
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            remedy = "if memory ran out, lower data.workers; data.workers=0 needs no processes"
            raise UserError(f"data.workers={self.workers}: {error}; {remedy}") from None
        finally:
            calls.close()  # the loader keeps it; whatever the tasks refer to would be in a cycle with this pool
        self._idle.append(loader)


class _Apply(Dataset[Any]):
    def __getitem__(self, task: tuple[Callable[[Any], Any], Any]) -> Any:
        function, argument = task
        return function(argument)


class _Tasks(Sampler[Any]):
    """Yield the tasks of the current iteration: persistent workers keep the sampler that they were started with."""

    tasks: Iterable[Any] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tasks)


def _start(workers: int) -> DataLoader[Any]:
    loader: DataLoader[Any] = DataLoader(
        _Apply(),
        sampler=_Tasks(),
        batch_size=None,  # tasks are not collated
        num_workers=workers,
        collate_fn=_unchanged,  # NumPy arrays: tensors would be sent through /dev/shm, which is small in containers
        multiprocessing_context="fork",
        worker_init_fn=_initialize,
        prefetch_factor=AHEAD,
        persistent_workers=True,
        generator=torch.Generator(),  # the global one belongs to training
    )
    _loaders.add(loader)
    return loader


def _unchanged(result: Any) -> Any:
    return result


def _initialize(worker: int) -> None:
    """Leave the process group, so that neither Ctrl-C nor a signal to the job reaches workers, and be quiet."""
    os.setsid()
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff's warnings
    threading.Thread(target=_exit_with, args=(os.getppid(),), daemon=True).start()


def _exit_with(parent: int) -> None:
    """Exit when the parent does. DataLoader's own check is not reached while a full pipe blocks the worker."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


@contextlib.contextmanager
def _unchanged_signal_handler() -> Iterator[None]:
    """Undo DataLoader's SIGCHLD handler: it raises where the main thread happens to be, and not in `map` alone."""
    handler = signal.getsignal(signal.SIGCHLD)
    yield
    if threading.current_thread() is threading.main_thread() and handler is not None:
        signal.signal(signal.SIGCHLD, handler)


# A fork has copies of the loaders, whose destructors would end the workers of its parent: it keeps them forever.
_loaders: weakref.WeakSet[DataLoader[Any]] = weakref.WeakSet()
_inherited: list[DataLoader[Any]] = []
os.register_at_fork(after_in_child=lambda: _inherited.extend(_loaders))
