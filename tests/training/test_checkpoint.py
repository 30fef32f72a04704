"""Checkpoints: whole or absent, and reading one runs nothing that it contains."""

import errno
import os
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from autoenc.errors import DataError
from autoenc.files import atomic, write_json
from autoenc.training import checkpoint

STATE = {
    "model": {"weight": torch.arange(6.0).reshape(2, 3), "idle": torch.tensor([1, 2])},
    "progress": {"step": 7, "best": {"value": float("inf")}, "done": False, "config": "a: 1\n"},
    "rng": {"cpu": torch.get_rng_state()},
}


class Evil:
    """Unpickling it creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol")


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as refused:
        checkpoint.load(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "checkpoints" / "last.pt", STATE)
    loaded = checkpoint.load(tmp_path / "checkpoints" / "last.pt")
    assert loaded["progress"] == STATE["progress"]
    assert torch.equal(loaded["model"]["weight"], STATE["model"]["weight"])
    assert loaded["model"]["idle"].dtype == torch.int64
    assert torch.equal(loaded["rng"]["cpu"], STATE["rng"]["cpu"])


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE)
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(path, STATE | {"broken": lambda: None})  # fails after the first bytes
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_full_disk_at_any_moment_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def write() -> None:
        with atomic(path) as file:
            file.write(b"half")
            if moment == "write":
                full()

    if moment != "write":
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    path.write_text("old")
    with atomic(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644, "others may read it"


def test_an_interruption_leaves_no_temporary_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "last.pt"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["torch", "torch-old", "pickle"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, planted = tmp_path / "last.pt", tmp_path / "planted"
    content = {"model": Evil(planted)}
    if form == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch")
    assert "refused" in refusal(path)
    assert not planted.exists()
    torch.load(path, weights_only=False) if form != "pickle" else pickle.loads(path.read_bytes())
    assert planted.exists(), "the file is as dangerous as it is meant to be"


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, STATE | {"more": torch.randn(2000)})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        b"not a checkpoint\n" * 100,
        b"\x80\x02}q\x00.",
        b"\x80\x04\x95",
        b"PK\x03\x04",
        bytes(500),
        b"\x93NUMPY",
    ],
    ids=repr,
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    refusal(path)


def test_a_number_that_was_changed_on_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    torch.save({"weights": torch.arange(1000.0)}, path)
    content = path.read_bytes()
    place = content.index(torch.arange(500.0, 510.0).numpy().tobytes())
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    assert "checksum" in refusal(path)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_whatever_is_damaged_is_refused_in_one_line(tmp_path: Path, old: bool) -> None:
    path, rng = tmp_path / "last.pt", random.Random(0)
    torch.save(STATE, path, _use_new_zipfile_serialization=not old)
    whole = path.read_bytes()
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[rng.randrange(len(whole))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(whole), rng.randrange(len(whole))])])
        try:
            checkpoint.load(path)  # the old format has no checksums
        except DataError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "last.pt").endswith("no such checkpoint")
    refusal(tmp_path)  # a folder


def test_rng_state_goes_on_where_it_was() -> None:
    cpu = torch.device("cpu")
    torch.rand(3)
    state = checkpoint.rng_state(cpu)
    expected = torch.rand(5)
    torch.rand(100)
    checkpoint.set_rng_state(state, cpu)
    assert torch.equal(torch.rand(5), expected)


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"nll": float("nan"), "of": [1, float("-inf"), {"x": 0.5}]})
    text = (tmp_path / "a.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert text.endswith("}\n")
