"""Damaged and malicious files of a run: bounded, and rejected in one line."""

from __future__ import annotations

import itertools
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run, reference
from autoenc.config.stored import parse_config
from autoenc.data.kinds.estimator_json import from_plain
from autoenc.data.storage import cache
from autoenc.errors import DataError
from autoenc.training import checkpoint

LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in itertools.pairwise("abcdefg"))


@pytest.mark.parametrize("text", [LAUGHS, "[" * 5_000, "a: " + "{a: " * 80 + "}" * 80, "a: b: c", "- 1"])
def test_a_config_that_would_explode_is_rejected(text: str) -> None:
    with pytest.raises(DataError, match=r"config.yaml: (cannot be read|has no settings|holds no settings)"):
        parse_config(text, Path("config.yaml"))


@pytest.mark.parametrize("name", ["run.json", "kind/kind.json", "config.yaml"])
@pytest.mark.parametrize(
    "text", ["[" * 100_000, "9" * 10_000, '{"shape": [1000000000000], "kind": "vector"}', "\0", ""]
)
def test_damaged_text_files_are_one_line(name: str, text: str, ae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(ae_run)
    (path / name).write_text(text)
    with pytest.raises(DataError) as raised:
        load_run(path)
    assert "\n" not in str(raised.value)


def test_a_shape_that_does_not_fit_into_memory(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(ae_run)
    kind = json.loads((path / "kind" / "kind.json").read_text())
    (path / "kind" / "kind.json").write_text(json.dumps(kind | {"shape": [1, 10**7, 10**6]}))
    with pytest.raises(DataError, match="cannot be built"):
        load_run(path)


def test_estimators_of_a_file_start_no_processes_and_fill_no_memory() -> None:
    state = {"n_jobs": 10**9, "transformers": []}
    assert from_plain({"estimator": "ColumnTransformer", "state": state}).n_jobs is None
    with pytest.raises(ValueError, match="bytes"):
        from_plain({"array": ["a"], "shape": [1], "of": "<U500000000"})


def test_archives_that_decompress_to_too_much(tmp_path: Path, ae_run: Path) -> None:
    bomb = tmp_path / "reference.npz"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w") as member:
        for _ in range(600):
            member.write(bytes(2**20))
    run = load_run(ae_run)
    with pytest.raises(DataError, match=r"reference.npz: damaged .*bytes"):
        reference.load(bomb, run.spec.kind, run.latent_dim)
    torch.save({"model": {}}, tmp_path / "good.pt")
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as good,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bad,
    ):
        for name in good.namelist():
            bad.writestr(name, good.read(name))
    with pytest.raises(DataError, match="compressed"):
        checkpoint.load(tmp_path / "b.pt")


def test_checkpoints_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    torch.save(torch.zeros(2), tmp_path / "tensor.pt")
    for name in ("pipe.pt", "zero.pt", "tensor.pt"):
        with pytest.raises(DataError, match=name):
            checkpoint.load(tmp_path / name)


@pytest.mark.parametrize("damage", ["flipped", "longer", "cut"])
def test_a_damaged_cache_entry_is_written_again(damage: str, tmp_path: Path) -> None:
    rows = np.arange(1000, dtype=np.float32).reshape(100, 10)
    calls = []

    def write(writer: cache.Writer) -> None:
        calls.append(1)
        writer.append(rows)

    entry = cache.cached({"a": 1}, tmp_path, write)
    content = bytearray((entry.path / "x.npy").read_bytes())
    if damage == "flipped":
        content[2000] ^= 1
    (entry.path / "x.npy").write_bytes({"longer": content + b"x", "cut": content[:-1]}.get(damage, content))
    assert np.array_equal(cache.cached({"a": 1}, tmp_path, write).rows()[:].numpy(), rows)
    assert len(calls) == 2
    assert (tmp_path / "CACHEDIR.TAG").exists()
