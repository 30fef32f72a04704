"""Files that are damaged, or made to fill a memory: each reader refuses them in one line."""

from __future__ import annotations

import gzip
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from autoenc import memory
from autoenc.data.readers import arrays, paths, texts
from autoenc.data.readers.recordings import Format, Reader
from autoenc.data.readers.tables import Source
from autoenc.errors import DataError, UserError

Read = Callable[[Path], object]


def series(path: Path) -> object:
    return list(Reader(Format(window=4)).recordings(path))


FRAME = pd.DataFrame({"a": np.arange(60) / 7, "b": np.arange(60) % 5})
READERS: dict[str, tuple[Read, ...]] = {
    "x.csv": (Source().read, texts.read, arrays.numbers_of_file, series),
    "x.csv.gz": (Source().read, texts.read, arrays.numbers_of_file, series),
    "x.jsonl.gz": (Source().read, texts.read),
    "x.parquet": (Source().read, texts.read, series),
    "x.feather": (Source().read, series),
    "x.npy": (Source().read, arrays.numbers_of_file, series),
    "x.npz": (Source().read, arrays.numbers_of_file, series),
    "x.mat": (Source().read, arrays.numbers_of_file),
}


def write(path: Path) -> bytes:
    """Write two columns of numbers in the format of the name."""
    if ".csv" in path.name:
        FRAME.to_csv(path, index=False)
    elif ".jsonl" in path.name:
        FRAME.to_json(path, orient="records", lines=True)
    elif path.suffix in (".parquet", ".feather"):
        (FRAME.to_parquet if path.suffix == ".parquet" else FRAME.to_feather)(path)
    elif path.suffix == ".mat":
        savemat(path, {"x": FRAME.to_numpy(), "note": {"of": "a struct"}}, do_compression=True)
    else:
        np.save(path, FRAME.to_numpy()) if path.suffix == ".npy" else np.savez(path, x=FRAME.to_numpy())
    return path.read_bytes()


@pytest.mark.parametrize("name", READERS)
def test_whatever_is_damaged_is_one_line(name: str, tmp_path: Path) -> None:
    path, rng = tmp_path / name, random.Random(0)
    whole = write(path)
    for _ in range(25):
        damaged = bytearray(whole)
        start = rng.choice([len(whole), 120])  # headers are at the beginning
        for _ in range(rng.choice([1, 4, 20])):
            damaged[rng.randrange(min(start, len(whole)))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice([len(whole), rng.randrange(1, len(whole))])])
        for read in READERS[name]:
            try:
                read(path)
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("read", [Source().read, texts.read, arrays.numbers_of_file, series])
def test_archives_that_unpack_to_too_much_are_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SMALL", 2**20)
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1" * 2**22))
    with pytest.raises(DataError, match=r"x\.csv\.gz: unpacks to more than 500 times its size"):
        read(path)


@pytest.mark.parametrize("read", [Source().read, arrays.numbers_of_file, series])
def test_arrays_that_unpack_to_too_much_are_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SMALL", 2**20)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((2**17, 2)))
    with pytest.raises(DataError, match=r"x\.npz: unpacks to more than 500 times its size"):
        read(tmp_path / "x.npz")


@pytest.mark.parametrize("read", [Source().read, texts.read, series])
def test_columns_that_unpack_to_too_much_are_refused(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SMALL", 2**20)
    monkeypatch.setattr(paths, "RATIO", 50)
    path = tmp_path / "x.parquet"
    pd.DataFrame({"a": np.zeros(2**21, np.int8)}).to_parquet(path)
    with pytest.raises(DataError, match=r"x\.parquet: unpacks to more than 50 times its size"):
        read(path)


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.parquet", "x.feather", "x.npz", "x.mat"])
def test_files_that_unpack_to_more_than_the_memory_are_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / name)
    monkeypatch.setattr(memory, "total", lambda: 500)  # bytes
    for read in READERS[name]:
        with pytest.raises(DataError, match=rf"{name}: needs .* GB of memory, of which this machine has"):
            read(tmp_path / name)


def test_an_archive_named_as_an_array_is_no_recording(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npy", "w"):
        pass
    with pytest.raises(DataError, match=r"x\.npy: is an archive of arrays"):
        series(tmp_path / "x.npy")


def test_as_many_names_as_an_array_has_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    with pytest.raises(DataError, match=r"x\.npy: has 2 columns, data\.names has 3"):
        Source(header=False, names=("a", "b", "c")).read(tmp_path / "x.npy")
