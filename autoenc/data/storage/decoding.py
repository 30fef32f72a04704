"""Pictures that stay files: decoded by worker processes, batches ahead of where they are needed."""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import weakref
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.data.readers import images as pictures
from autoenc.data.readers.images import Look
from autoenc.errors import DataError

TASK, TASK_BYTES = 64, 2**24  # pictures, and bytes of pixels, that a worker is given at a time
AHEAD = 3  # tasks for each worker that are on their way
FEW = 16  # pictures that are not worth a process
PIPE = 2**20  # bytes that a worker can hand over without being waited for

Task = tuple[Sequence[str], Look | None, np.ndarray]
Queue = queue.SimpleQueue[tuple[Future[Any], Task] | None]


class Pool:
    """Worker processes that decode pictures, and a thread for each that talks to it.

    They are programs of their own (`python pictures.py`), not forks: this process may have threads, locks and a GPU in
    whatever state. They end when the pipe to them closes, which it does however this process ends. Ctrl-C in a terminal
    does not reach them.

    Args:
        workers: 0 decodes in this process.
    """

    def __init__(self, workers: int):
        self.workers = workers
        self._queue: Queue = queue.SimpleQueue()
        self._pid = 0  # of the process that the threads are in: forks of it start their own

    def submit(self, files: Sequence[str], look: Look | None, out: np.ndarray) -> Future[Any]:
        """`pictures.decode_all` into `out`, or `pictures.look_at_all` where there is no look."""
        future: Future[Any] = Future()
        if self.workers == 0:
            future.set_result(pictures.decode_all(files, look, out) if look else pictures.look_at_all(files))
            return future
        if self._pid != os.getpid():
            self._queue, self._pid = queue.SimpleQueue(), os.getpid()
            for _ in range(self.workers):
                threading.Thread(target=_talk, args=(self._queue,), daemon=True).start()
            weakref.finalize(self, _stop, self._queue, self.workers)
        self._queue.put((future, (files, look, out)))
        return future

    def map(self, files: Sequence[str], look: Look | None) -> Iterator[tuple[Any, np.ndarray]]:
        """`submit` of all files, some at a time, working ahead: answers and pixels (n, C, H, W), in order."""
        waiting: deque[tuple[Future[Any], np.ndarray]] = deque()
        step = self.step(look)
        try:
            for start in range(0, len(files), step):
                part = files[start : start + step]
                out = np.empty((len(part), *look.shape) if look else 0, np.uint8)
                waiting.append((self.submit(part, look, out), out))
                if len(waiting) > AHEAD * self.workers:
                    future, pixels = waiting.popleft()
                    yield future.result(), pixels
            while waiting:
                future, pixels = waiting.popleft()
                yield future.result(), pixels
        finally:
            for future, _ in waiting:
                future.cancel()

    def step(self, look: Look | None) -> int:
        """How many pictures a worker is given at a time."""
        return max(1, min(TASK, TASK_BYTES // look.nbytes)) if look else TASK


def _stop(tasks: Queue, workers: int) -> None:
    for _ in range(workers):
        tasks.put(None)


def _talk(tasks: Queue) -> None:
    """Hand tasks to a worker process of its own, one at a time, until told to stop."""
    worker: subprocess.Popen[bytes] | None = None
    while (item := tasks.get()) is not None:
        future, task = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            worker = worker or _start()
            future.set_result(_ask(worker, task))
        except BaseException as error:
            code = worker.poll() if worker is not None else None
            end = f"; it ended with code {code}" if code else ""
            failure = RuntimeError(f"a process that decodes pictures failed: {type(error).__name__} {error}{end}")
            if worker is not None:
                worker.kill()
                worker.wait()
            worker = None
            future.set_exception(failure)
    if worker is not None:
        with contextlib.suppress(OSError):
            worker.communicate()  # closes the pipe, and waits for the end


def _start() -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", pictures.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libtiff's warnings
        env=environment,
        start_new_session=True,
        pipesize=PIPE,
    )


def _ask(worker: subprocess.Popen[bytes], task: Task) -> Any:
    files, look, out = task
    assert worker.stdin is not None
    assert worker.stdout is not None
    request = pickle.dumps((list(files), look))
    worker.stdin.write(struct.pack("<Q", len(request)) + request)
    worker.stdin.flush()
    said, size = pictures.HEAD.unpack(worker.stdout.read(pictures.HEAD.size))
    answer = pickle.loads(worker.stdout.read(said))
    if size and worker.stdout.readinto(out.reshape(-1).data) != size:  # type: ignore[attr-defined]
        raise EOFError("the pixels are not complete")
    return answer


class PictureRows:
    """Picture files as rows (C, H, W) of uint8, decoded when they are asked for. Implements `spec.Rows`.

    Args:
        files: paths. crc: of the decoded rows of all of them, in this order.
    """

    def __init__(self, files: Sequence[str], look: Look, pool: Pool, crc: int, index: Tensor | None = None):
        self.files, self.look, self.pool, self._crc = files, look, pool, crc
        self._index = torch.arange(len(files)) if index is None else index

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the rows together: (N, C, H, W)."""
        return (len(self), *self.look.shape)

    @property
    def dtype(self) -> torch.dtype:
        """uint8."""
        return torch.uint8

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return next(self.fetch([index]))

    def select(self, index: Tensor | slice) -> PictureRows:
        """The rows at `index`, which may be places, a mask or a slice; decodes none."""
        return PictureRows(self.files, self.look, self.pool, self._crc, self._index[index])

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        """self[index] for each, in order; the workers are kept busy with those that come next.

        Raises:
            DataError: a file cannot be decoded any more.
        """
        remaining = iter(indexes)
        waiting: deque[tuple[Tensor, list[tuple[Future[Any], list[str]]]]] = deque()
        try:
            while True:
                while len(waiting) < 2 or sum(len(tasks) for _, tasks in waiting) < AHEAD * self.pool.workers:
                    if (index := next(remaining, None)) is None:
                        break
                    waiting.append(self._submit(index))
                    if self.pool.workers == 0:
                        break
                if not waiting:
                    return
                batch, tasks = waiting.popleft()
                for future, files in tasks:
                    for place, why in future.result().items():
                        raise DataError(f"{files[place]}: cannot be decoded any more ({why}); it could be before")
                yield batch
        finally:
            for _, tasks in waiting:
                for future, _ in tasks:
                    future.cancel()

    def fingerprint(self) -> int:
        """CRC-32 of the rows of all files, and of which of them are selected."""
        return zlib.crc32(self._index.numpy().data, self._crc)

    def _submit(self, index: Tensor | slice) -> tuple[Tensor, list[tuple[Future[Any], list[str]]]]:
        files = [self.files[i] for i in self._index[index].tolist()]
        batch = torch.empty(len(files), *self.shape[1:], dtype=torch.uint8)
        pixels, tasks = batch.numpy(), []
        pool = self.pool if len(files) > FEW else Pool(0)
        step = pool.step(self.look)
        for start in range(0, len(files), step):
            part = files[start : start + step]
            tasks.append((pool.submit(part, self.look, pixels[start : start + step]), part))
        return batch, tasks
