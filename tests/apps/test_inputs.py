"""Files that people have: what is read, and the one line for what cannot be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoenc import load_run
from autoenc.apps import inputs
from autoenc.errors import DataError
from autoenc.loading import Run


@pytest.fixture(scope="module")
def images(vae_run: Path) -> Run:
    return load_run(vae_run, "cpu")


@pytest.fixture(scope="module")
def vectors(table_run: Path) -> Run:
    return load_run(table_run, "cpu")


def save(path: Path, size: tuple[int, int] = (8, 8), mode: str = "L", value: int = 100) -> Path:
    Image.new(mode, size, value if mode == "L" else (value,) * len(mode)).save(path)
    return path


def test_every_form_of_an_array_is_the_same_examples(images: Run, tmp_path: Path) -> None:
    x = images.data.test.take(slice(0, 6)).x.numpy()
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", X=x, other=np.zeros(3))
    np.savez(tmp_path / "c.npz", anything=x)
    np.savetxt(tmp_path / "d.csv", x.reshape(6, 64), delimiter=",")
    for name in ("a.npy", "b.npz", "c.npz", "d.csv"):
        found = inputs.read(images, tmp_path / name)
        assert found.split.take(slice(None)).x.numpy() == pytest.approx(x, abs=1e-6)
        assert found.names == ["0", "1", "2", "3", "4", "5"]


def test_images_are_read_in_grey_and_in_the_order_of_their_names(images: Run, tmp_path: Path) -> None:
    save(tmp_path / "b.png", value=51)
    save(tmp_path / "a.JPG", mode="RGB", value=102)
    (tmp_path / "notes.txt").write_text("no image")
    found = inputs.read(images, tmp_path)
    assert found.names == ["a.JPG", "b.png"]
    assert found.split.take(slice(None)).x.mean((1, 2, 3)).numpy() == pytest.approx([0.4, 0.2], abs=0.01)


def test_images_of_another_size_are_refused_or_scaled(images: Run, tmp_path: Path) -> None:
    path = save(tmp_path / "big.png", (28, 20))
    with pytest.raises(DataError, match=r"big.png: expected 8x8 pixels, found 28x20; --resize scales images"):
        inputs.read(images, path)
    assert inputs.read(images, path, resize=True).split.x.shape == (1, 1, 8, 8)


def test_a_table_with_and_without_a_header(vectors: Run, tmp_path: Path) -> None:
    rows = "\n".join(",".join(str(i + j / 10) for j in range(8)) for i in range(2))
    (tmp_path / "bare.csv").write_text(rows)
    (tmp_path / "named.csv").write_text("﻿" + ",".join("abcdefgh") + "\n" + rows + "\n\n")
    bare, named = (inputs.read(vectors, tmp_path / n).split.x.numpy() for n in ("bare.csv", "named.csv"))
    assert np.array_equal(bare, named)
    assert bare[1] == pytest.approx([1 + j / 10 for j in range(8)])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"a,b\n", "has no rows"),
        ("ragged.csv", b"1,2,3,4,5,6,7,8\n1,2\n", "line 2 has 2 columns, the first has 8"),
        ("word.csv", b"a,b\n1,2\n1,x\n", "line 3, column b: 'x' is not a number"),
        ("few.csv", b"1,2\n3,4\n", r"expected shape \(N, 8\), as in training, found \(2, 2\)"),
        ("hole.csv", b"1,2,3,4,5,6,7,8\n1,2,,4,5,6,7,8\n", "line 2, column 3: is empty"),
        ("slip.csv", b"1,2,3,4,5,6,7,x8\n1,2,3,4,5,6,7,8\n", "line 1, column 8: 'x8' is not a number"),
        ("semi.csv", b"1;2;3;4\n5;6;7;8\n", "'5;6;7;8' is not a number; columns are separated by commas"),
        ("gap.csv", b"1,2,3,4,5,6,7,nan\n", "1 value is NaN or infinite"),
        ("bytes.csv", b"\xff,1\n", r"is not utf-8 \(.*; convert it to UTF-8"),
        ("not.npy", b"hello", "is not a .npy or .npz file"),
        ("not.npz", b"PK\x03\x04broken", "cannot be read"),
        ("data.parquet", b"PAR1", r"expected .npy, .npz, .mat or .csv, found '.parquet'"),
        ("a.png", b"x", "expected .npy, .npz, .mat or .csv, found '.png'"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_one_line(
    vectors: Run, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        inputs.read(vectors, tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_damaged_archive_is_refused_wherever_the_damage_is(images: Run, tmp_path: Path) -> None:
    x = images.data.test.take(slice(0, 20)).x.numpy()
    np.savez_compressed(tmp_path / "whole.npz", x=x)
    whole, messages = (tmp_path / "whole.npz").read_bytes(), []
    for place in range(60, len(whole), 7):
        (tmp_path / "bad.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = inputs.read(images, tmp_path / "bad.npz").split.x.numpy()
        except DataError as error:
            messages.append(str(error))
        else:
            assert np.array_equal(found, x), "bytes that do not matter"
    assert len(messages) > 50
    assert all("bad.npz: " in message for message in messages)


def test_a_damaged_image_a_pickle_and_a_missing_file_are_named(images: Run, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "whole.png").read_bytes()[:40])
    with pytest.raises(DataError, match=r"cut.png: cannot be read as an image"):
        inputs.read(images, tmp_path / "cut.png")
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(DataError, match="has dtype object; save numbers"):
        inputs.read(images, tmp_path / "objects.npy")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(DataError, match="expected an array x, found a, b"):
        inputs.read(images, tmp_path / "two.npz")
    with pytest.raises(DataError, match="no such file or folder"):
        inputs.read(images, tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="folder: has no images"):
        inputs.read(images, tmp_path / "folder")
