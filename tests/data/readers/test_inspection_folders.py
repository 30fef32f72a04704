"""Layouts of folders to inspect: all known ones find the same images and masks."""

from pathlib import Path

import numpy as np
import pytest
from image_files import error_message, save
from PIL import Image

from autoenc.data.readers.inspection_folders import Layout, Part, layout, read_mask
from autoenc.data.sets.defects import defects
from autoenc.errors import DataError

SIZE = (24, 20)
MASK = np.zeros(SIZE, bool)
MASK[3:6, 4:9] = True
RNG = np.random.default_rng(0)


def image() -> np.ndarray:
    return RNG.integers(0, 256, SIZE, dtype=np.uint8)


def good(folder: Path, n: int = 6, suffix: str = "png") -> None:
    for i in range(n):
        save(folder / f"{i:03}.{suffix}", image())


# Layout: the folders of good images for training and to inspect, of defective images, and the mask of image 001.
LAYOUTS = {
    "MVTec AD": ("train/good", "test/good", "test/hole", "ground_truth/hole/001_mask.png"),
    "BTAD": ("train/ok", "test/ok", "test/ko", "ground_truth/ko/001.png"),
    "upper case": ("Train/Normal", "Test/Normal", "Test/Defect", "Ground_Truth/Defect/001_GT.png"),
    "VisA in folders": ("train/good", "test/good", "test/bad", "ground_truth/bad/001.png"),
    "mask": ("train/normal", "test/normal", "test/hole", "mask/hole/001.png"),
    "masks of test": ("train/good", "test/good", "test/hole", "masks/test/hole/001_label.png"),
    "masks in test": ("train/good", "test/good", "test/hole", "test/masks/hole/001.png"),
    "masks without kinds": ("train/good", "test/good", "test/hole", "gt/001_gt.png"),
    "LOCO": ("train/good", "test/good", "test/hole", "ground_truth/hole/001/000.png"),
    "folder of the image": ("train/good", "test/good", "test/hole", "gt/001/000.png"),
    "beside": ("train/good", "test/good", "test/hole", "test/hole/001_label.bmp"),
    "beside the kind": ("train/good", "test/good", "test/hole", "test/hole_gt/001.png"),
    "in the kind": ("train/good", "test/good", "test/hole", "test/hole/gt/001.png"),
    "images in train": ("train", "test/good", "test/hole", "ground_truth/hole/001.png"),
}


@pytest.mark.parametrize("suffix", ["png", "bmp"])
@pytest.mark.parametrize("name", list(LAYOUTS))
def test_known_layouts_are_found(tmp_path: Path, name: str, suffix: str) -> None:
    train, test, bad, mask = LAYOUTS[name]
    good(tmp_path / train, suffix=suffix)
    good(tmp_path / test, 3, suffix)
    good(tmp_path / bad, 3, suffix)
    save(tmp_path / mask, np.uint8(255) * MASK)
    (tmp_path / bad / "._001.png").write_bytes(b"\0")
    (tmp_path / Path(bad).parent / "__MACOSX").mkdir()
    found = layout(tmp_path)
    assert (len(found.train), len(found.held_out), len(found.test), found.masks) == (4, 2, 6, True)
    assert [part.kind for part in found.test].count("good") == 3
    with_mask = [part for part in found.test if part.masks]
    assert [(part.name, part.masks) for part in with_mask] == [(f"{Path(bad).name}/001.{suffix}", (tmp_path / mask,))]
    np.testing.assert_array_equal(read_mask(with_mask[0], SIZE), MASK)
    assert found.notes == ("2 of 3 defective images have no mask: pixels are measured on the rest",)
    assert found.notes[0] in defects(str(tmp_path), 16, 2).notes


@pytest.mark.parametrize("root", ["Data/Images", "Images", "."])
def test_a_part_of_the_good_images_is_inspected_where_there_is_no_split(tmp_path: Path, root: str) -> None:
    """VisA as it is distributed; its masks have numbers of classes."""
    good(tmp_path / root / "Normal", 10)
    good(tmp_path / root / "Anomaly", 3)
    masks = tmp_path / root / ("Masks" if root == "." else "../Masks")
    save(masks / "Anomaly/001.png", 3 * MASK.astype(np.uint8))
    found = layout(tmp_path)
    inspected = [part.file for part in found.test if part.kind == "good"]
    assert (len(found.train), len(found.held_out), len(inspected)) == (6, 2, 2)
    assert len({*found.train, *found.held_out, *inspected}) == 10
    assert sum(part.kind == "Anomaly" for part in found.test) == 3
    np.testing.assert_array_equal(read_mask(next(part for part in found.test if part.masks), SIZE), MASK)


def test_a_folder_for_validation_is_used(tmp_path: Path) -> None:
    for folder in ("train/good", "validation/good", "test/good", "test/logical_anomalies"):
        good(tmp_path / folder, 4)
    found = layout(tmp_path)
    assert (len(found.train), len(found.held_out), found.masks) == (4, 4, False)
    assert {path.parent for path in found.held_out} == {tmp_path / "validation/good"}


def test_several_masks_are_united(tmp_path: Path) -> None:
    good(tmp_path / "train/good")
    good(tmp_path / "test/hole", 2)
    other = np.zeros(SIZE, bool)
    other[15:, :3] = True
    for i, mask in enumerate((MASK, other)):
        save(tmp_path / f"ground_truth/hole/000/{i:03}.png", np.uint8(255) * mask)
    np.testing.assert_array_equal(read_mask(layout(tmp_path).test[0], SIZE), MASK | other)


def masked(folder: Path) -> Layout:
    good(folder / "training/fine")
    good(folder / "testing/fine", 2)
    good(folder / "testing/hole", 2)
    save(folder / "drawn/hole/000-seg.png", np.uint8(255) * MASK)
    return layout(folder, good=["fine"], masks="drawn", mask_suffix="-SEG")


def test_other_names_are_options(tmp_path: Path) -> None:
    found = masked(tmp_path)
    assert [part.kind for part in found.test] == ["good", "good", "hole", "hole"]
    assert [len(part.masks) for part in found.test] == [0, 0, 1, 0]
    data = defects(str(tmp_path), 16, 2, good="fine", masks="drawn", mask_suffix=["-seg"])
    assert [len(split) for split in (data.train, data.val, data.test)] == [8, 4, 8]
    assert "mask without an image" in error_message(DataError, lambda: layout(tmp_path, good="fine", masks="drawn"))


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [
        (Image.fromarray(MASK), MASK),
        (Image.fromarray(MASK.astype(np.uint8)), MASK),
        (Image.fromarray(2 * MASK.astype(np.uint8) + np.eye(*SIZE, dtype=np.uint8)), MASK | np.eye(*SIZE, dtype=bool)),
        (Image.fromarray(MASK.astype(np.uint16)), MASK),
        (Image.fromarray(np.uint16(65_535) * MASK), MASK),
        (Image.fromarray(np.dstack([np.full((*SIZE, 3), 255, np.uint8), np.uint8(255) * MASK])), MASK),
        (Image.fromarray(np.dstack([128 * MASK.astype(np.uint8)] + 2 * [np.zeros(SIZE, np.uint8)])), MASK),
        (Image.fromarray(np.uint8(255) * MASK).convert("RGB").quantize(2), MASK),
    ],
    ids=["bits", "ones", "classes", "deep ones", "deep", "alpha", "red", "palette"],
)
def test_masks_of_all_modes_mark_the_same_pixels(tmp_path: Path, mask: Image.Image, wanted: np.ndarray) -> None:
    path = save(tmp_path / "mask.png", mask)
    np.testing.assert_array_equal(read_mask(Part(path, "hole", (path,)), SIZE), wanted)


def test_a_mask_that_fits_several_images_is_one_line(tmp_path: Path) -> None:
    good(tmp_path / "train/good")
    for kind in ("crack", "hole"):
        good(tmp_path / "test" / kind, 2)
    save(tmp_path / "masks/000.png", np.uint8(255) * MASK)
    assert "could be of several images" in error_message(DataError, lambda: layout(tmp_path))


def test_inspected_images_of_12_bits_are_scaled_or_remarked(tmp_path: Path) -> None:
    for folder, n in (("train/ok", 6), ("test/ok", 2), ("test/ko", 2)):
        for i in range(n):
            save(tmp_path / folder / f"{i}.png", RNG.integers(0, 4_096, SIZE).astype(np.uint16))
    assert "data.white=4095" in defects(str(tmp_path), 16, 2).notes[-1]
    data = defects(str(tmp_path), 16, 2, white=4_095)
    assert int(data.train.tensor.max()) > 250
    assert not any("Attention" in note for note in data.notes)


def test_what_a_folder_has_besides_is_refused_named_or_left_out(tmp_path: Path) -> None:
    for folder in ("train/good", "test/good", "test/hole", "train/hole"):
        good(tmp_path / folder)
    save(tmp_path / "train" / "good" / "000_gt.png", MASK.astype(np.uint8) * 255)
    found = layout(tmp_path)
    assert len(found.train) + len(found.held_out) == 6, "a mask is no good image"
    assert any(f"{tmp_path / 'train' / 'hole'}: is not used" in note for note in found.notes)
    save(tmp_path / "test" / "007.png", image())
    why = error_message(DataError, lambda: layout(tmp_path))
    assert why.startswith(f"{tmp_path / 'test' / '007.png'}: lies in no folder of a kind")
