"""The range of image files: scaled where it is certain, otherwise a remark or an error that names data.white."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import RNG, error_message, noise, read_all, save, write_images
from PIL import Image

from autoenc.data.dataset import Data
from autoenc.data.readers import images
from autoenc.errors import ConfigError, DataError

SHAPE = (8, 10)


def fill(folder: Path, high: float, dtype: str, suffix: str = "png", n: int = 12) -> np.ndarray:
    """Write n images with values from 0 to `high`; return them (n, H, W)."""
    arrays = RNG.integers(0, int(high) + 1, (n, *SHAPE)) if high >= 1 else RNG.random((n, *SHAPE)) * high
    arrays[:, 0, 0], arrays[:, 0, 1] = 0, high
    for i, array in enumerate(arrays):
        save(folder / f"{i:02}.{suffix}", array.astype(dtype))
    return arrays


def pixels(data: Data) -> torch.Tensor:
    """Return the images in the order of the files; the folder has all of them in train, val and test."""
    return read_all(data.train, data.val, data.test)[:, 0]


def same(found: torch.Tensor, wanted: np.ndarray) -> None:
    ours, theirs = (np.sort(np.asarray(x).reshape(len(x), -1), axis=0) for x in (found, wanted))
    np.testing.assert_allclose(ours, theirs, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ("high", "dtype", "suffix", "white", "note"),
    [
        (1, "uint8", "png", None, "1 is white"),
        (1, "uint8", "png", 1, "1 is white"),
        (1, "uint16", "png", None, "1 is white"),
        (1, "int32", "tif", None, "1 is white"),
        (1, "float32", "tif", None, ""),
        (255, "uint8", "png", 4_095, ""),
        (255, "float32", "tif", 255, ""),
        (255, "int32", "tif", 255, ""),
        (4_095, "uint16", "tif", 4_095, ""),
        (65_535, "uint16", "png", None, ""),
        (100_000, "int32", "tif", 100_000, ""),
    ],
)
def test_the_highest_value_becomes_1(
    tmp_path: Path, read: Callable[..., Data], high: float, dtype: str, suffix: str, white: float | None, note: str
) -> None:
    arrays = fill(tmp_path / "own", high, dtype, suffix)
    data = read(tmp_path / "own", white=white)
    same(pixels(data), arrays / high)
    notes = [each for each in data.notes if "white" in each or "Attention" in each]
    assert len(notes) == bool(note)
    assert all(note in each for each in notes)
    kind = data.spec.kind
    new = kind.read(tmp_path / "own" / f"00.{suffix}").split.take(slice(None)).x
    same(new[:, 0], arrays[:1] / high)
    assert torch.equal(read(tmp_path / "own", kind=kind).train.tensor, data.train.tensor)


@pytest.mark.parametrize(
    ("high", "dtype", "option"),
    [(4_095, "uint16", "4095"), (900, "uint16", "1023"), (255, "int32", "255"), (40, "uint8", "data.white sets")],
)
def test_dark_data_are_remarked(tmp_path: Path, read: Callable[..., Data], high: int, dtype: str, option: str) -> None:
    fill(tmp_path / "own", high, dtype, "tif")
    for options in ({}, {"size": 8, "mode": "grey"}):
        note = next(note for note in read(tmp_path / "own", **options).notes if note.startswith("Attention"))
        assert "data.white" in note
        assert option in note


@pytest.mark.parametrize(
    ("high", "dtype", "option"),
    [(254, "float32", "data.white=255"), (100_000, "int32", "data.white=100000"), (0, "uint8", "black")],
)
def test_what_cannot_be_scaled_is_one_line(
    tmp_path: Path, read: Callable[..., Data], high: int, dtype: str, option: str
) -> None:
    fill(tmp_path / "own", high, dtype, "tif")
    assert option in error_message(DataError, lambda: read(tmp_path / "own"))
    assert "white=0: must be above 0" in error_message(ConfigError, lambda: read(tmp_path / "own", white=0))


def test_some_masks_of_ones_among_others_are_remarked(tmp_path: Path, read: Callable[..., Data]) -> None:
    fill(tmp_path / "own", 255, "uint8")
    for i in range(2):
        save(tmp_path / "own" / f"{i:02}.png", RNG.integers(0, 2, SHAPE).astype(np.uint8))
    assert "Attention: 2 of 12 images are black" in read(tmp_path / "own").notes[-1]


def test_the_first_page_is_read_and_files_of_macos_are_not(tmp_path: Path, read: Callable[..., Data]) -> None:
    arrays = fill(tmp_path / "own", 255, "uint8", "tif")
    first = Image.fromarray(arrays[3].astype(np.uint8))
    save(tmp_path / "own" / "03.tif", first, save_all=True, append_images=[Image.new("L", SHAPE[::-1])])
    (tmp_path / "own" / "._03.tif").write_bytes(b"\0\5\26\7")
    (tmp_path / "own" / "__MACOSX").mkdir()
    (tmp_path / "own" / "__MACOSX" / "03.tif").write_bytes(b"\0\5\26\7")
    data = read(tmp_path / "own")
    same(pixels(data), arrays / 255)
    assert "1 of 12 images has several pages; the first is read" in data.notes
    with pytest.warns(UserWarning, match="1 of 1 image has several pages; the first is read"):
        same(data.spec.kind.read(tmp_path / "own" / "03.tif").split.take(slice(None)).x[:, 0], arrays[3:4] / 255)


@pytest.mark.parametrize(("high", "dtype"), [(1, "uint8"), (4_095, "uint16")])
def test_new_files_that_are_black_by_the_range_of_training_are_remarked(
    tmp_path: Path, read: Callable[..., Data], high: int, dtype: str
) -> None:
    fill(tmp_path / "own", 255, "uint8")
    kind = read(tmp_path / "own").spec.kind
    fill(tmp_path / "new", high, dtype, n=2)
    for new in (tmp_path / "new", tmp_path / "new" / "01.png"):
        with pytest.warns(UserWarning, match=r"almost black: values up to 1?[16] of 255"):
            kind.read(new)


def bomb(path: Path, side: int) -> None:
    """Write the header of a PNG of side x side pixels, and a part of its rows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(side + 1))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("workers", [0, 1])
def test_bombs_pipes_and_devices_are_left_out(tmp_path: Path, read: Callable[..., Data], workers: int) -> None:
    root = tmp_path / "own"
    write_images(root, height=8, width=8)
    for name, side in (("bomb", 20_000), ("large", 12_000)):
        bomb(root / "a" / f"{name}.png", side)
    (root / "a" / "short.png").write_bytes((root / "a" / "00.png").read_bytes()[:150])
    (root / "a" / "empty.png").touch()
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "zero.png").symlink_to("/dev/zero")
    data = read(root, workers=workers)
    assert sum(map(len, (data.train, data.val, data.test))) == 12
    assert "Attention: 6 of 18 files cannot be read" in data.notes[0]
    reasons = {"bomb": "exceeds limit", "large": "too many", "short": "truncated", "empty": "is empty"}
    for name, why in (reasons | {"pipe": "regular file", "zero": "regular file"}).items():
        file = root / "a" / f"{name}.png"
        for one in (lambda file=file: data.spec.kind.read(file), lambda file=file: data.spec.kind.encode(str(file))):  # type: ignore[misc]
            message = error_message(DataError, one)
            assert message.startswith(f"{file}: cannot be read as an image (")
            assert why in message


def test_other_files_under_the_name_of_an_image_run_no_program(tmp_path: Path) -> None:
    """Pillow decodes PostScript with Ghostscript."""
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(Exception, match="cannot identify"):
        images.open_image(tmp_path / "a.png")


def test_colour_of_another_range_is_scaled_in_each_channel(tmp_path: Path, read: Callable[..., Data]) -> None:
    arrays = [noise(8, 8) // 17 for _ in range(6)]
    for i, array in enumerate(arrays):
        save(tmp_path / "own" / f"{i}.png", array)
    found = read_all(*(lambda data: (data.train, data.val, data.test))(read(tmp_path / "own", white=15)))
    same(found, np.stack(arrays).transpose(0, 3, 1, 2) / 15)
