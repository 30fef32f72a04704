"""Worker processes: order, interleaved iterations, and how they end."""

import contextlib
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import forks
import pytest
import torch
from image_files import error_message, read_all, write_images
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from autoenc.data.dataset import Data
from autoenc.data.storage.workers import Pool
from autoenc.errors import DataError, UserError

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")


def children(pid: int | str = "self") -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


def running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def assert_end(pids: set[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(running, pids))


def square(x: int) -> tuple[int, int]:
    time.sleep(0.01 * (x % 3))
    return x * x, torch.get_num_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_results_are_in_the_order_of_the_tasks(workers: int) -> None:
    threads = 1 if workers else torch.get_num_threads()
    assert list(Pool(workers).map(square, range(20))) == [(x * x, threads) for x in range(20)]


def test_the_random_numbers_of_training_do_not_depend_on_workers() -> None:
    pool = Pool(1)
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    for _ in range(2):
        assert len(list(pool.map(square, range(3)))) == 3
    assert torch.equal(torch.rand(3), wanted)


def test_workers_are_kept_and_end_with_the_data(tmp_path: Path, read: Callable[..., Data]) -> None:
    write_images(tmp_path / "many", 200)
    before = children()
    data = read(tmp_path / "many", cache=False, workers=2)
    for _ in range(3):
        partial, whole = data.train.shuffled(20, 0, 0), data.train.shuffled(20, 0, 0)
        assert torch.equal(next(partial).x, next(whole).x)
        assert torch.equal(next(partial).x, next(whole).x)
        partial.close()
        assert len(list(whole)) == 7
    workers = children() - before
    assert len(workers) == 4, "two for each of two iterations at once"
    assert {os.getsid(pid) for pid in workers} == workers, "a signal to the process group does not reach them"
    del data, whole, partial
    gc.collect()
    assert_end(workers)


def test_workers_of_a_pool_in_a_cycle_end_at_once() -> None:
    before, pool = children(), Pool(1)
    list(pool.map(square, range(2)))
    workers = children() - before
    cycle: list[object] = [pool]
    cycle.append(cycle)
    del pool, cycle
    start = time.monotonic()
    gc.collect()
    assert time.monotonic() - start < 4, "DataLoader waits 5 s for a worker that it cannot reach"
    assert workers
    assert_end(workers)


def test_errors_name_a_killed_worker_and_an_unreadable_file(
    tmp_path: Path, read: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))  # seconds; it is 5
    write_images(tmp_path / "many", 60)
    before, handler = children(), signal.getsignal(signal.SIGCHLD)
    data = read(tmp_path / "many", cache=False, workers=1)
    wanted = read_all(data.train)
    (worker,) = children() - before
    assert signal.getsignal(signal.SIGCHLD) == handler
    os.kill(worker, signal.SIGKILL)
    message = error_message(UserError, lambda: read_all(data.train))
    assert message.startswith(f"data.workers=1: DataLoader worker (pid(s) {worker}) exited unexpectedly; ")
    assert "data.workers=0" in message
    assert torch.equal(read_all(data.train), wanted)
    for path in (tmp_path / "many").rglob("*.png"):
        path.write_bytes(b"")
    message = error_message(DataError, lambda: read_all(data.train))
    assert ".png: could be decoded before and no longer can" in message


RUN = """
import sys, time
from autoenc.data import image_folder
if __name__ == "__main__":
    data = image_folder(sys.argv[1], cache=False, workers=2)
    batches = data.train.shuffled(20, 0, 0)
    next(batches)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_workers_end_quietly_with_a_process_that_ctrl_c_stops(tmp_path: Path) -> None:
    write_images(tmp_path / "many", 120, height=60, width=60)  # more than a pipe holds
    command = [sys.executable, "-c", RUN, str(tmp_path / "many")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        workers = children(process.pid)
        assert len(workers) == 2
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
        assert_end(workers)
        assert process.stderr.read().count("Traceback") == 1, "that of the process itself"


def test_workers_end_quietly_with_a_process_that_is_killed(tmp_path: Path, read: Callable[..., Data]) -> None:
    write_images(tmp_path / "many", 120, height=60, width=60)

    def run() -> None:
        batches = read(tmp_path / "many", cache=False, workers=2).train.shuffled(20, 0, 0)
        next(batches)
        (tmp_path / "ready").touch()
        time.sleep(60)

    process = forks.start(tmp_path / "out", tmp_path, [], before=os.setsid, run=run)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = children(process.pid)
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(20).stderr == ""
    assert_end(workers)


def test_threads_may_iterate_at_once(tmp_path: Path, read: Callable[..., Data]) -> None:
    write_images(tmp_path / "many", 100)
    data = read(tmp_path / "many", cache=False, workers=1)
    wanted, results = read_all(data.train), []
    threads = [threading.Thread(target=lambda: results.append(read_all(data.train))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 3
    assert all(torch.equal(x, wanted) for x in results)


def in_a_fork(pool: Pool, send: Callable[[object], None]) -> None:
    results = [x for x, _ in pool.map(square, range(4))]
    pool._idle.clear()
    gc.collect()
    send(results)


@pytest.mark.parametrize("daemon", [False, True])
def test_a_fork_has_its_own_workers(daemon: bool) -> None:
    before, pool = children(), Pool(1)
    list(pool.map(square, range(2)))
    workers = children() - before
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=in_a_fork, args=(pool, sender.send), daemon=daemon)
    process.start()
    assert receiver.poll(20)
    assert receiver.recv() == [0, 1, 4, 9]
    process.join(20)
    assert process.exitcode == 0
    assert [x for x, _ in pool.map(square, range(3))] == [0, 1, 4]
    assert children() - before == workers, "those of the parent are still there"
