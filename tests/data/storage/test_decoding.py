"""Worker processes that decode pictures: when they end, and what their end does."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from picture_files import everything, filled, refusal

from autoenc.data.dataset import Data
from autoenc.errors import DataError


def children() -> set[int]:
    return {int(p) for t in Path("/proc/self/task").iterdir() for p in (t / "children").read_text().split()}


def test_workers_end_with_the_data_and_with_an_epoch_left_half_way(tmp_path: Path, read: Callable[..., Data]) -> None:
    filled(tmp_path / "many", 200)
    before = children()
    data = read(tmp_path / "many", cache=False, workers=2)
    for _ in range(3):
        half, whole = data.train.shuffled(20, 0, 0), data.train.shuffled(20, 0, 0)
        assert torch.equal(next(half).x, next(whole).x)
        assert torch.equal(next(half).x, next(whole).x)  # by turns
        half.close()
        assert len(list(whole)) == 7
    assert len(children() - before) == 2
    del data, whole, half
    for _ in range(100):
        if not children() - before:
            break
        time.sleep(0.05)
    assert not children() - before


def test_a_worker_that_dies_and_a_file_that_goes_are_told_of(tmp_path: Path, read: Callable[..., Data]) -> None:
    filled(tmp_path / "many", 60)
    before = children()
    data = read(tmp_path / "many", cache=False, workers=1)
    wanted = everything(data.train)
    for pid in children() - before:
        os.kill(pid, 9)
    with pytest.raises(RuntimeError, match="a process that decodes pictures failed"):
        everything(data.train)
    assert torch.equal(everything(data.train), wanted)
    for path in (tmp_path / "many").rglob("*.png"):
        path.write_bytes(b"")
    assert "cannot be decoded any more" in refusal(DataError, lambda: everything(data.train))


KILLED = """
import sys, time
from autoenc.data import image_folder
data = image_folder(sys.argv[1], cache=False, workers=2)
batches = data.train.shuffled(20, 0, 0)
next(batches)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_no_worker_outlives_the_process(tmp_path: Path) -> None:
    filled(tmp_path / "many", 200)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "many")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        workers = [int(p) for t in Path(f"/proc/{process.pid}/task").iterdir()
                   for p in (t / "children").read_text().split()]  # fmt: skip
        assert len(workers) == 2
        process.kill()
        process.wait(20)
    for _ in range(100):
        if not any(_alive(pid) for pid in workers):
            break
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_other_threads_do_not_matter(tmp_path: Path, read: Callable[..., Data]) -> None:
    filled(tmp_path / "many", 100)
    data = read(tmp_path / "many", cache=False, workers=2)
    wanted, found = everything(data.train), []
    threads = [threading.Thread(target=lambda: found.append(everything(data.train))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert all(torch.equal(x, wanted) for x in found)
