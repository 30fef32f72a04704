"""The user's own arrays: how they are read, and what is refused, in one line each."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from autoenc.data import Split, arrays
from autoenc.errors import ConfigError, DataError, UserError

RNG = np.random.default_rng(0)


def npy(folder: Path, array: np.ndarray, name: str = "own.npy") -> str:
    np.save(folder / name, array, allow_pickle=True)
    return str(folder / name)


def npz(folder: Path, name: str = "own.npz", **named: np.ndarray) -> str:
    np.savez(folder / name, **named)  # type: ignore[arg-type]
    return str(folder / name)


def fed(*splits: Split) -> torch.Tensor:
    return torch.cat([split.take(slice(None)).x for split in splits])


def refusal(kind: type[UserError], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        arrays(*args, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_splits_cover_each_row_once_and_split_seed_fixes_them(tmp_path: Path) -> None:
    path = npy(tmp_path, np.arange(100.0).reshape(100, 1))
    data, again, other = arrays(path), arrays(path), arrays(path, split_seed=1)
    assert [len(split) for split in (data.train, data.val, data.test)] == [81, 9, 10]
    assert sorted(fed(data.train, data.val, data.test).flatten().tolist()) == list(range(100))
    assert torch.equal(data.train.x, again.train.x)
    assert not torch.equal(data.train.x, other.train.x)
    assert (data.spec.name, data.spec.classes, data.train.y) == ("own", (), None)


@pytest.mark.parametrize(
    ("stored", "kind", "shape"),
    [
        ((20, 7), "vector", (7,)),
        ((20, 9, 8), "image", (1, 9, 8)),
        ((20, 1, 9, 8), "image", (1, 9, 8)),
        ((20, 3, 9, 8), "image", (3, 9, 8)),
        ((20, 9, 8, 1), "image", (1, 9, 8)),
        ((20, 9, 8, 3), "image", (3, 9, 8)),
        ((20, 3, 9, 3), "image", (3, 9, 3)),  # both would do: channels first
    ],
)
def test_the_number_of_dimensions_says_what_the_rows_are(
    tmp_path: Path, stored: tuple[int, ...], kind: str, shape: tuple[int, ...]
) -> None:
    data = arrays(npy(tmp_path, RNG.random(stored)))
    assert (data.spec.kind.name, data.spec.shape, tuple(data.train.x.shape[1:])) == (kind, shape, shape)


def test_channels_last_is_turned_and_not_reshaped(tmp_path: Path) -> None:
    images = RNG.random((20, 9, 8, 3)).astype(np.float32)
    data = arrays(npz(tmp_path, x=images, x_test=images))
    assert torch.equal(data.test.x, torch.from_numpy(images).permute(0, 3, 1, 2))


def test_uint8_is_fed_in_the_unit_interval_and_stored_as_it_is(tmp_path: Path) -> None:
    images = RNG.integers(0, 200, (50, 8, 8), dtype=np.uint8)
    data = arrays(npz(tmp_path, x=images, x_test=images))
    assert data.train.x.dtype == torch.uint8
    assert (data.spec.low, data.spec.high) == (0, 1)
    torch.testing.assert_close(fed(data.test)[:, 0], torch.from_numpy(images) / 255)


@pytest.mark.parametrize(
    ("high", "dtype", "white", "note"),
    [
        (1, "uint8", None, ""),
        (255, "uint8", None, ""),
        (15, "uint8", 15, ""),
        (40, "uint8", None, "data.white=40 "),
        (1, "uint16", None, ""),
        (65_535, ">u2", None, ""),
        (4_095, "uint16", None, "data.white=4095 "),
        (4_095, "uint16", 4_095, ""),
        (255, "int32", 255, ""),
        (255, "float64", 255, ""),
    ],
)
def test_new_images_are_scaled_as_in_training(
    tmp_path: Path, high: int, dtype: str, white: float | None, note: str
) -> None:
    x = RNG.integers(0, high + 1, (20, 5, 4)).astype(dtype)
    x[0, 0] = [0, high, 0, high]
    full = white or (high if high == 1 else {"uint8": 255, "uint16": 65_535, ">u2": 65_535}[dtype])
    data = arrays(npz(tmp_path, x=x, x_test=x), white=white)
    assert (data.spec.low, data.spec.high) == (0, 1)
    torch.testing.assert_close(fed(data.test)[:, 0], torch.from_numpy((x / full).astype(np.float32)))
    assert [note in each for each in data.notes] == [True] * bool(note)
    kind = data.spec.kind
    kind.save(tmp_path)
    kind = type(kind).load(tmp_path, json.loads((tmp_path / "kind.json").read_text()))
    assert torch.equal(fed(kind.encode(x[:7])), fed(data.test)[:7])
    assert torch.equal(fed(kind.encode(fed(data.test))), fed(data.test)), "numbers in [0, 1] are what models are fed"
    again = arrays(npz(tmp_path, x=x, x_test=x), kind=kind)
    assert torch.equal(fed(again.train, again.test), fed(data.train, data.test))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_images_that_are_not_scaled_are_remarked(tmp_path: Path, dtype: str) -> None:
    x = RNG.integers(0, 256, (20, 5, 4)).astype(dtype)
    data = arrays(npy(tmp_path, x))
    assert [each.startswith("Attention: ") and "data.white=255 scales" in each for each in data.notes] == [True]
    assert data.spec.high == data.train.x.max()
    assert torch.equal(fed(data.spec.kind.encode(x.astype(np.uint8)))[:, 0], torch.from_numpy(x).float())
    assert not arrays(npy(tmp_path, x.reshape(20, 20))).notes, "columns have units"
    why = f"{tmp_path}/own.npy: values from {x.min():g} to {x.max():g} do not lie in 0 to 15; data.white=255"
    assert refusal(DataError, npy(tmp_path, x), white=15).startswith(why)
    assert refusal(ConfigError, npy(tmp_path, x), white=-1).startswith("white=-1: must be above 0")


def test_masks_of_0_and_1_as_vectors_are_scaled_alike_in_new_data(tmp_path: Path) -> None:
    x = RNG.integers(0, 2, (20, 6), dtype=np.uint8)
    data = arrays(npz(tmp_path, x=x, x_test=x))
    assert torch.equal(fed(data.test), torch.from_numpy(x).float())
    assert torch.equal(fed(data.spec.kind.encode(x)), fed(data.test))


@pytest.mark.parametrize(
    ("stored", "layout", "shape"),
    [
        ((20, 2, 9, 8), "auto", (2, 9, 8)),
        ((20, 9, 8, 4), "auto", (4, 9, 8)),
        ((20, 8, 12, 12), "auto", (8, 12, 12)),
        ((20, 8, 8, 8), "hwc", (8, 8, 8)),
        ((20, 8, 8, 8), "chw", (8, 8, 8)),
        ((20, 3, 9, 8), "hwc", (8, 3, 9)),
        ((20, 20, 9, 8), "chw", (20, 9, 8)),
        ((20, 9, 8), "chw", (1, 9, 8)),
        ((20, 9, 8), "rows", (72,)),
        ((20, 2, 3, 4, 5), "rows", (120,)),
    ],
)
def test_the_layout_says_which_axis_is_that_of_the_channels(
    tmp_path: Path, stored: tuple[int, ...], layout: str, shape: tuple[int, ...]
) -> None:
    x = RNG.random(stored).astype(np.float32)
    data = arrays(npz(tmp_path, x=x, x_test=x), layout=layout)  # type: ignore[arg-type]
    assert data.spec.shape == shape
    last = stored[1:] != shape and len(stored) == 4
    wanted = torch.from_numpy(x.transpose(0, 3, 1, 2) if last or layout == "hwc" else x).reshape(20, *shape)
    assert torch.equal(fed(data.test), wanted)
    if len(stored) < 5 and layout != "rows":
        assert torch.equal(fed(data.spec.kind.encode(x)), wanted), "new arrays too"


def test_a_shape_that_leaves_it_open_needs_a_layout(tmp_path: Path) -> None:
    assert "data.layout=chw, hwc or rows" in refusal(DataError, npy(tmp_path, np.zeros((5, 8, 8, 8))))
    assert "layout=chw" in refusal(ConfigError, npy(tmp_path, np.zeros((5, 8))), layout="chw")


@pytest.mark.parametrize("dtype", ["float64", "float16", ">f4", "int64", "int8", "uint16", "bool"])
def test_other_numbers_are_fed_as_they_are(tmp_path: Path, dtype: str) -> None:
    x = (RNG.random((50, 4)) * 100).astype(dtype)
    data = arrays(npz(tmp_path, x=x, x_test=x))
    assert data.train.x.dtype == torch.float32
    assert torch.equal(fed(data.test), torch.from_numpy(x.astype("float32")))
    assert (data.spec.low, data.spec.high) == (data.train.x.min().item(), data.train.x.max().item())


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([7, -2, 30] * 10), ("-2", "7", "30")),
        (np.array([7.0, -2.0, 30.0] * 10), ("-2", "7", "30")),
        (np.array([[7], [-2], [30]] * 10), ("-2", "7", "30")),
        (np.array(["ox", "cat", "élan"] * 10), ("cat", "ox", "élan")),
        (np.array([b"ox", b"cat", b"dog"] * 10), ("cat", "dog", "ox")),
        (np.array([True, False, True] * 10), ("False", "True")),
    ],
)
def test_labels_become_places_in_the_classes(tmp_path: Path, labels: np.ndarray, classes: tuple[str, ...]) -> None:
    x = np.arange(30.0).reshape(30, 1)
    data = arrays(npz(tmp_path, x=x, y=labels))
    assert data.spec.classes == classes
    flat = [v.decode() if isinstance(v, bytes) else str(v).removesuffix(".0") for v in labels.ravel()]
    for split in (data.train, data.val, data.test):
        assert split.y is not None
        assert split.y.dtype == torch.int64
        assert [classes[i] for i in split.y.tolist()] == [flat[int(row)] for row in split.x.flatten()]


def test_test_rows_come_from_the_file_or_from_a_second_one(tmp_path: Path) -> None:
    x, y, x_test, y_test = np.arange(20.0)[:, None], np.arange(20) % 2, np.arange(90.0, 95)[:, None], np.full(5, 3)
    one = arrays(npz(tmp_path, x=x, y=y, x_test=x_test, y_test=y_test))
    two = arrays(npz(tmp_path, "a.npz", x=x, y=y), test_path=npz(tmp_path, "b.npz", x=x_test, y=y_test))
    for data in (one, two):
        assert fed(data.test).flatten().tolist() == [90, 91, 92, 93, 94]  # in their order
        assert sorted(fed(data.train, data.val).flatten().tolist()) == list(range(20))
        assert data.spec.classes == ("0", "1", "3")  # those that only the test has among them
        assert data.test.y is not None
        assert data.test.y.tolist() == [2] * 5


def test_labels_may_have_another_name_or_be_left_out(tmp_path: Path) -> None:
    path = npz(tmp_path, X=np.zeros((20, 2)), y=np.full(20, 0.5), kind=np.arange(20) % 3)
    assert arrays(path, label="kind").spec.classes == ("0", "1", "2")
    assert arrays(path, label=None).train.y is None
    assert refusal(ConfigError, path, label="sort") == f"label=sort: {path} has no array of this name"
    assert refusal(DataError, path) == (
        f"{path}: labels have dtype float64; must be integers or strings; data.label=null ignores them"
    )


def test_no_path_is_refused_with_the_key() -> None:
    assert refusal(ConfigError) == "path: name a file: data.path=file.npy"


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.npy").touch()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert refusal(DataError, str(tmp_path / "no.npy")) == f"{tmp_path}/no.npy: no such file"
    assert refusal(DataError, str(tmp_path)) == f"{tmp_path}: is a folder, not a file"
    assert refusal(DataError, str(tmp_path / "empty.npy")) == f"{tmp_path}/empty.npy: is empty"
    assert refusal(DataError, str(tmp_path / "table.csv")) == (
        f"{tmp_path}/table.csv: is not a .npy or .npz file; write it with numpy.save or numpy.savez"
    )
    path = npy(tmp_path, np.zeros((10, 2)))
    assert refusal(DataError, path, test_path=str(tmp_path / "no.npy")) == f"{tmp_path}/no.npy: no such file"


@pytest.mark.parametrize("keep", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, keep: float) -> None:
    x = RNG.random((100, 10))
    for path in (npy(tmp_path, x), npz(tmp_path, x=x)):
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: int(keep * len(whole))])
        assert refusal(DataError, path).startswith(f"{path}: cannot be read: truncated or damaged (")


def test_pickles_are_refused_without_being_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    bomb = np.array([Bomb()] * 5, dtype=object)
    for path in (npy(tmp_path, bomb), npz(tmp_path, x=bomb)):
        assert refusal(DataError, path).startswith(f"{path}: has dtype object; save numbers")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(5), "has shape (5,); must be (N, D) for vectors; "),
        (np.zeros((5, 8, 8, 8)), "has shape (5, 8, 8, 8); must be (N, D) for vectors; "),
        (np.zeros((5, 1, 1, 4, 4)), "has shape (5, 1, 1, 4, 4); must be (N, D) for vectors; "),
        (np.zeros((0, 4)), "has shape (0, 4): no rows"),
        (np.zeros((4, 0)), "has shape (4, 0): no values"),
        (np.zeros((2, 4)), "has 2 rows, too few for training, validation and test"),
        (np.zeros((9, 4), complex), "has dtype complex128; must be numbers"),
        (np.full((9, 4), "a"), "has dtype <U1; must be numbers"),
        (np.full((9, 4), 1e300), "36 values are NaN or infinite (in float32), the first at index (0, 0)"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_refused(tmp_path: Path, array: np.ndarray, why: str) -> None:
    path = npy(tmp_path, array)
    assert refusal(DataError, path).startswith(f"{path}: {why}")


def test_the_first_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    x = RNG.random((10, 4, 4))
    x[3, 2, 1], x[7, 0, 0] = np.nan, -np.inf
    path = npy(tmp_path, x)
    assert refusal(DataError, path) == (
        f"{path}: 2 values are NaN or infinite (in float32), the first at index (3, 2, 1)"
    )


def test_arrays_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    x = np.zeros((10, 4))
    path = npz(tmp_path, x=x, y=np.zeros(9, int))
    assert (
        refusal(DataError, path)
        == f"{path}: labels have shape (9,), x has 10 rows; must be (10,); data.label=null ignores them"
    )
    path = npz(tmp_path, x=x, x_test=np.zeros((3, 5)))
    assert refusal(DataError, path) == (
        f"{path}: test rows are float32 of shape (5,), training rows float32 of shape (4,)"
    )
    path = npz(tmp_path, x=x, x_test=np.zeros((3, 4), np.uint8))  # one would be scaled, the other not
    assert refusal(DataError, path).startswith(f"{path}: test rows are uint8")
    assert refusal(ConfigError, path, test_path=path) == (f"test_path={path}: {path} has test rows already (x_test)")
    path = npz(tmp_path, first=x, second=x)
    assert refusal(DataError, path).startswith(f"{path}: has no array x, only first, second; data.array=NAME")


def test_archives_as_they_come(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60)[:, None] % 3
    medical = npz(
        tmp_path, train_images=images[:40], val_images=images[40:50], test_images=images[50:],
        train_labels=labels[:40], val_labels=labels[40:50], test_labels=labels[50:],
    )  # fmt: skip
    data = arrays(medical)
    assert [len(split) for split in (data.train, data.val, data.test)] == [40, 10, 10]
    assert torch.equal(data.val.tensor[:, 0], torch.from_numpy(images[40:50]))
    assert data.val.y is not None
    assert data.val.y.tolist() == labels[40:50, 0].tolist()
    keras = arrays(npz(tmp_path, x_train=images, y_train=labels, x_test=images[:5], y_test=labels[:5]))
    assert keras.spec.classes == ("0", "1", "2")
    assert len(keras.test) == 5
    sprites = npz(tmp_path, imgs=images % 2, latents_classes=np.zeros((60, 6)), metadata=np.array({"a": 1}, object))
    data = arrays(sprites)
    assert data.spec.classes == ()
    assert set(data.train.take(slice(None)).x.unique().tolist()) == {0, 1}


def test_one_of_several_arrays_is_named_and_rows_are_numbered(tmp_path: Path) -> None:
    rows = np.arange(1.0, 61).reshape(60, 1)
    path = npz(tmp_path, rows=rows, other=np.zeros((3, 2)))
    assert "has no array x, only rows, other; data.array=NAME" in refusal(DataError, path)
    assert "data.array=z: " in refusal(DataError, path, array="z")
    data = arrays(path, array="rows")
    for name, split in (("train", data.train), ("test", data.test)):
        assert data.example_names(name) == [str(int(row)) for row in split.rows()[:, 0]]
    scipy.io.savemat(tmp_path / "a.mat", {"X": rows, "y": np.arange(60) % 2})
    assert torch.equal(arrays(str(tmp_path / "a.mat")).train.tensor, data.train.tensor)
