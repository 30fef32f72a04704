"""Rows on disk, and the cache that writes them."""

import errno
import json
import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc.data.split import Split
from autoenc.data.storage import cache
from autoenc.data.storage.mapped import MappedRows
from autoenc.errors import DataError

RNG = np.random.default_rng(0)


def saved(folder: Path, array: np.ndarray) -> Path:
    np.save(folder / "x.npy", array)
    return folder / "x.npy"


@pytest.mark.parametrize("dtype", ["uint8", "float32", "int64"])
def test_mapped_rows_are_those_of_the_array(tmp_path: Path, dtype: str) -> None:
    array = RNG.integers(0, 200, (50, 6)).astype(dtype)
    rows, x = MappedRows(saved(tmp_path, array)), torch.from_numpy(array)
    index = torch.tensor([7, 3, 3, 49])
    assert torch.equal(rows[index], x[index])
    assert torch.equal(rows[10:20], x[10:20])
    selected = rows.select(index).select(slice(1, None))
    assert (len(selected), selected.shape) == (3, (3, 6))
    assert torch.equal(selected[:], x[index[1:]])
    assert torch.equal(rows.select(x[:, 0] > 100)[:], x[x[:, 0] > 100])
    for batch, part in zip(rows.fetch(torch.arange(50).split(8)), x.split(8), strict=True):
        assert torch.equal(batch, part)
    a, b = (Split(rows_or_x).shuffled(8, seed=1, epoch=2) for rows_or_x in (rows, x))
    assert all(torch.equal(p.x, q.x) for p, q in zip(a, b, strict=True))


def test_writing_to_a_batch_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = saved(tmp_path, np.zeros((4, 2), np.float32))
    rows = MappedRows(path)
    rows[:].add_(1)
    rows[torch.tensor([0])].add_(1)
    assert rows[:].sum() == 0
    assert np.load(path).sum() == 0


def test_the_fingerprint_depends_on_content_and_selection(tmp_path: Path) -> None:
    array = RNG.normal(size=(50, 3)).astype(np.float32)
    rows = MappedRows(saved(tmp_path, array))
    (tmp_path / "again").mkdir()
    assert MappedRows(saved(tmp_path / "again", array)).fingerprint() == rows.fingerprint()
    array[40, 1] += 1
    assert MappedRows(saved(tmp_path / "again", array)).fingerprint() != rows.fingerprint()
    prints = {rows.select(torch.tensor(i)).fingerprint() for i in ([0, 1], [1, 0], [0])}
    assert len(prints | {rows.fingerprint()}) == 4


@pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY\x01\x00"])
def test_errors_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"x.npy: cannot be read") as caught:
        MappedRows(tmp_path / "x.npy")
    assert "\n" not in str(caught.value)


MEASURE = """
import sys, torch
from autoenc.data.storage.mapped import MappedRows
def resident():
    return sum(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(("RssAnon", "RssFile"))) / 1024
rows = MappedRows(sys.argv[1])
rows[:1]
before, most = resident(), 0
for i, x in enumerate(rows.fetch([slice(i, i + 500) for i in range(0, len(rows), 500)])):
    most = max(most, resident())
for i, x in enumerate(rows.fetch(torch.randperm(len(rows)).split(128))):
    most = max(most, resident()) if i % 10 == 0 else most
rows.fingerprint()
print(most - before, resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_resident_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    with (tmp_path / "x.npy").open("wb") as file:  # a sparse file of 400 MB
        header = {"descr": "<f4", "fortran_order": False, "shape": (100_000, 1_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 400_000_000)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "x.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    most, after = map(float, done.stdout.split())
    assert most < 120, f"{most} MB"
    assert after < 120, f"{after} MB"


def append_rows(writer: cache.Writer) -> None:
    for start in range(0, 10, 4):
        writer.append(np.arange(start, min(start + 4, 10), dtype=np.float32)[:, None])
    writer.append(np.zeros((1, 2), np.uint8), "other")
    writer.values["bad"] = [3]


def test_an_entry_is_written_once_and_read_afterwards(tmp_path: Path) -> None:
    calls: list[int] = []

    def write(writer: cache.Writer) -> None:
        calls.append(1)
        append_rows(writer)

    first, second = (cache.cached({"v": 1}, tmp_path, write) for _ in range(2))
    assert len(calls) == 1
    assert second.rows()[:].flatten().tolist() == list(range(10))
    assert (second.rows("other").shape, second.values) == ((1, 2), {"bad": [3]})
    assert first.rows().fingerprint() == MappedRows(first.path / "x.npy").fingerprint()
    cache.cached({"v": 2}, tmp_path, write)
    assert len(calls) == 2
    assert {p.name for p in tmp_path.iterdir() if p.is_dir()} == {
        p.name for p in (first.path, cache.cached({"v": 2}, tmp_path, write).path)
    }


@pytest.mark.parametrize("name", ["x.npy", "entry.json"])
def test_a_damaged_entry_is_written_again(tmp_path: Path, name: str) -> None:
    entry = cache.cached({"v": 1}, tmp_path, append_rows)
    content = (entry.path / name).read_bytes()
    (entry.path / name).write_bytes(content[:-20])
    assert cache.find({"v": 1}, tmp_path) is None
    assert cache.cached({"v": 1}, tmp_path, append_rows).rows()[:].flatten().tolist() == list(range(10))


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(writer: cache.Writer) -> None:
        append_rows(writer)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.cached({"v": 1}, tmp_path, interrupted)

    def full(self: object, rows: np.ndarray) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache._Growing, "append", full)
    with pytest.raises(cache.CacheError, match=r"written \(No space left on device\); choose another"):
        cache.cached({"v": 1}, tmp_path, append_rows)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(cache.CacheError, match="cannot be written"):
        cache.cached({"v": 1}, tmp_path / "file", append_rows)


def write_slowly(folder: Path, log: Path) -> None:
    def write(writer: cache.Writer) -> None:
        with log.open("a") as file:
            file.write("written\n")
        time.sleep(0.5)
        append_rows(writer)

    assert len(cache.cached({"v": 1}, folder, write).rows()) == 10


def test_one_of_several_processes_writes_an_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_slowly, args=(tmp_path / "c", tmp_path / "log")) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "written\n"
    assert len([p for p in (tmp_path / "c").iterdir() if p.is_dir()]) == 1


def test_remains_of_a_killed_process_are_deleted(tmp_path: Path) -> None:
    entry = cache.cached({"v": 1}, tmp_path, append_rows)
    (tmp_path / f".{entry.path.name}-abc").mkdir()
    (entry.path / "entry.json").write_text(json.dumps({}))
    cache.cached({"v": 1}, tmp_path, append_rows)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == [entry.path.name]
