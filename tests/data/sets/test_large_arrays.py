"""Vectors that stay on disk: .npy and Parquet give the same splits as in memory, in bounded memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc import load_run
from autoenc import run as training
from autoenc.data import arrays
from autoenc.data.sets import arrays_on_disk as module
from autoenc.data.storage import number_rows
from autoenc.data.storage.mapped import MappedRows
from autoenc.errors import ConfigError, DataError
from autoenc.estimators import inmemory


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, size=(300, 5)).astype(np.float32)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every .npy file on disk."""
    monkeypatch.setattr(module, "LARGE", 0)


def rows(data) -> list[np.ndarray]:
    return [split.take(slice(None)).x.numpy() for split in (data.train, data.val, data.test)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int16", "uint8"])
@pytest.mark.parametrize("normalize", [False, True])
def test_npy_on_disk_is_npy_in_memory(
    x: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, normalize: bool
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, (x.clip(0) * 20).astype(dtype))
    memory = arrays(str(path), normalize=normalize)
    monkeypatch.setattr(module, "LARGE", 0)
    disk = arrays(str(path), normalize=normalize, cache=str(tmp_path / "cache"))
    assert isinstance(disk.train.x, MappedRows)
    for a, b in zip(rows(memory), rows(disk), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert disk.example_names("train") == memory.example_names("train")
    assert disk.spec.kind.white_value == memory.spec.kind.white_value
    assert (disk.spec.low, disk.spec.high) == pytest.approx((memory.spec.low, memory.spec.high))
    assert (tmp_path / "cache").exists() == (dtype not in ("float32", "uint8")), "no copy where none is needed"
    if normalize:
        assert np.square(rows(disk)[0]).sum(1).mean() == pytest.approx(5, rel=1e-4)


def parquet(path: Path, **columns: object) -> str:
    pd.DataFrame(columns).to_parquet(path, row_group_size=64)
    return str(path)


def test_parquet_of_columns_and_of_lists(x: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", x)
    wanted, cache = arrays(str(tmp_path / "x.npy")), str(tmp_path / "cache")
    y = [f"c{i % 3}" for i in range(300)]
    columns = parquet(tmp_path / "columns.parquet", **{f"f{i}": x[:, i] for i in range(5)}, y=y)
    lists = parquet(tmp_path / "lists.parquet", name=y, embedding=list(x), y=y)
    for path in (columns, lists):
        found = arrays(path, cache=cache)
        for a, b in zip(rows(wanted), rows(found), strict=True):
            np.testing.assert_array_equal(a, b)
        assert found.spec.classes == ("c0", "c1", "c2")
        numbers = [int(name) - 1 for name in found.example_names("test")]
        assert found.test.y.tolist() == [i % 3 for i in numbers]
    one = arrays(columns, array="f2", label=None, cache=cache)
    np.testing.assert_array_equal(rows(one)[0][:, 0], rows(wanted)[0][:, 2])
    assert one.spec.classes == ()


def test_labels_of_parquet_are_classes_or_missing_and_must_exist(x: np.ndarray, tmp_path: Path) -> None:
    frame = pd.DataFrame(x).add_prefix("c")
    frame["kind"] = np.where(np.arange(len(x)) % 3 == 0, np.nan, np.arange(len(x)) % 2)
    frame.to_parquet(tmp_path / "rows.parquet")
    data = arrays(str(tmp_path / "rows.parquet"), label="kind", cache=str(tmp_path / "cache"))
    assert data.spec.classes == ("0", "1")
    found = torch.cat([split.y for split in (data.train, data.val, data.test) if split.y is not None])
    assert torch.bincount(found + 1).tolist() == np.bincount(frame["kind"].fillna(-1).astype(int) + 1).tolist()
    with pytest.raises(ConfigError, match=r"^label=kond: .*rows\.parquet has no such column"):
        arrays(str(tmp_path / "rows.parquet"), label="kond", cache=str(tmp_path / "cache"))
    pd.concat([frame.drop(columns="kind")] * 5).assign(y=np.arange(5 * len(x)) / 7).to_parquet(
        tmp_path / "many.parquet"
    )
    with pytest.raises(DataError, match=r"data\.label=y: more than 1,000 different values"):
        arrays(str(tmp_path / "many.parquet"), cache=str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"^test_path=b\.npz: must be \.npy or \.parquet"):
        arrays(str(tmp_path / "rows.parquet"), "b.npz", cache=str(tmp_path / "cache"))


def test_a_second_file_has_the_test_rows(x: np.ndarray, tmp_path: Path, large: None) -> None:
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "b.npy", x[:20])
    data = arrays(str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    np.testing.assert_array_equal(rows(data)[2], x[:20])
    assert len(data.train) + len(data.val) == 300


def test_what_cannot_be_read_is_one_line(x: np.ndarray, tmp_path: Path, large: None) -> None:
    y = [f"c{i}" for i in range(300)]
    ragged = [row[: 4 + i % 2] for i, row in enumerate(x)]
    bad = x.copy()
    bad[250, 1] = np.nan
    np.save(tmp_path / "nan.npy", bad)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(x))
    np.save(tmp_path / "good.npy", x)
    (tmp_path / "no.parquet").write_bytes(b"PAR1 no")
    made = tmp_path / "made.parquet"
    for path, options, message in (
        ("nan.npy", {}, r"nan\.npy: row 250 has values that are NaN"),
        ("fortran.npy", {}, "Fortran order"),
        ("no.parquet", {}, r"no\.parquet: cannot be read as Parquet"),
        (parquet(made, a=x[:, 0], b=y), {}, "column b has .*string.*, not numbers.*data.array=NAME"),
        (parquet(tmp_path / "r.parquet", a=ragged), {}, "lists of a have different lengths"),
        (parquet(tmp_path / "n.parquet", a=[None, *x[1:, 0]]), {}, r"missing values|row 0 has values that are NaN"),
        (
            parquet(tmp_path / "two.parquet", a=list(x), b=list(x)),
            {},
            r"several columns of lists, a, b; data\.array=NAME",
        ),
        (made, {"array": "z"}, r"data\.array=z: .*no such column; it has a, b"),
    ):
        with pytest.raises(DataError, match=message) as refused:
            arrays(str(tmp_path / path), cache=str(tmp_path / "cache"), **options)
        assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"^white=2\.0: .*stays on disk"):
        arrays(str(tmp_path / "good.npy"), white=2.0)


def test_images_are_not_normalized(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.random.default_rng(0).random((20, 8, 8)))
    with pytest.raises(ConfigError, match=r"^normalize=True: .*images"):
        arrays(str(tmp_path / "images.npy"), normalize=True)


def test_new_data_of_a_normalized_run_is_scaled_and_decoded_back(x: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", 100 * x)
    path = f"data.path={tmp_path / 'x.npy'}"
    options = (
        "data=arrays",
        path,
        "data.normalize=true",
        "model=batch_topk",
        "model.latent_dim=8",
        "model.bottleneck.k=4",
    )
    training.train(inmemory.compose([*options, "trainer.epochs=2", "trainer.figures=0"]), tmp_path / "run", {})
    run = load_run(tmp_path / "run", "cpu")
    raw = (100 * x)[[int(name) - 1 for name in run.data.example_names("test")]]
    new = run.inputs(raw)
    torch.testing.assert_close(new.take(slice(None)).x, run.data.test.take(slice(None)).x)
    np.testing.assert_allclose(run.spec.kind.decode(new.take(slice(None)).x), raw, rtol=1e-5)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """307 MB of float64, converted, measured and read in random order, beside 38 MB; pages of the file do not count."""
    code = (
        "import sys, threading, time\n"
        "from autoenc.data import arrays\n"
        "from autoenc.data.sets import arrays_on_disk as module\n"
        "module.LARGE = 0\n"
        "def resident(): return next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('RssAnon'))\n"
        "def watch():\n"
        "    while True: peak[0] = max(peak[0], resident()); time.sleep(0.005)\n"
        "peak = [0]\n"
        "threading.Thread(target=watch, daemon=True).start()\n"
        "for name in sys.argv[2:]:\n"
        "    data = arrays(name, normalize=True, cache=sys.argv[1])\n"
        "    for batch in data.train.shuffled(500, 0, 0): batch.x.sum()\n"
        "    print(peak[0])\n"
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("needs /proc")
    for n in (10_000, 80_000):
        file = np.lib.format.open_memmap(tmp_path / f"{n}.npy", "w+", np.float64, (n, 480))
        for start in range(0, n, 1_000):
            file[start : start + 1_000] = start + np.arange(480_000).reshape(1_000, 480) / 1e5
        file.flush()
    names = [str(tmp_path / f"{n}.npy") for n in (10_000, 80_000)]
    call = [sys.executable, "-c", code, str(tmp_path / "cache"), *names]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    small, large = (int(line) / 1024 for line in done.stdout.split())
    assert large < small + 90, "in memory, 269 MB more, or 134 MB of float32"


def test_damaged_pages_of_parquet_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pd.DataFrame(np.random.default_rng(0).random((2_000, 3)), columns=list("abc")).to_parquet(path)
    content = bytearray(path.read_bytes())
    content[100 : len(content) // 2] = bytes(len(content) // 2 - 100)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as Parquet"):
        list(number_rows.parquet(path))
