"""Images in the layout of MVTec AD: what is read, what is learnt from, and what is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from autoenc.data.kinds.image import Image, contrast_normalized
from autoenc.data.readers.inspection_folders import Part, layout, read_mask
from autoenc.data.sets.defects import defects, read_image
from autoenc.errors import UserError


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(array.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight good images of constant grey 10, 20 ... 80 and different sizes; the test images are 200."""
    for i in range(8):
        save(tmp_path / f"train/good/{i}.png", np.full((20 + i, 40 - i), 10 * (i + 1)))
    save(tmp_path / "test/good/0.png", np.full((30, 30), 200))
    save(tmp_path / "test/hole/0.png", np.full((24, 20), 200))
    save(tmp_path / "test/hole/1.jpg", np.full((24, 20), 200))
    mask = np.zeros((24, 20))
    mask[3:6, 4:9] = 255
    save(tmp_path / "ground_truth/hole/0.png", mask)
    save(tmp_path / "ground_truth/hole/1_mask.png", mask)
    return tmp_path


def test_training_and_validation_share_no_image_and_have_none_of_the_test(folder: Path) -> None:
    data = defects(str(folder), size=16, patches=5, val_fraction=0.25)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 10, 15]
    shades = [set(split.tensor.flatten().tolist()) for split in (data.train, data.val, data.test)]
    assert (len(shades[0]), len(shades[1])) == (6, 2)
    assert shades[0] | shades[1] == set(range(10, 90, 10))
    assert shades[2] == {200}
    assert (data.spec.shape, data.spec.low, data.spec.high) == ((1, 16, 16), 0, 1)
    assert "6 good" in data.notes[0]
    found = layout(folder, 0.25)
    assert {int(p.stem) for p in found.held_out} == {shade // 10 - 1 for shade in shades[1]}, "in detect too"


def test_the_split_seed_fixes_images_and_places(folder: Path) -> None:
    random = np.random.default_rng(0)
    for i in range(8):
        save(folder / f"train/good/{i}.png", random.integers(0, 256, (40, 50)))
    first, again, other = (defects(str(folder), 16, 5, split_seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.tensor, again.train.tensor)
    assert not torch.equal(first.train.tensor, other.train.tensor)


def test_patches_are_cut_from_the_image_and_not_rearranged(folder: Path) -> None:
    rows, columns = np.mgrid[:40, :60]
    for i in range(8):
        save(folder / f"train/good/{i}.png", np.stack([3 * rows, 2 * columns, rows + columns], -1))
    data = defects(str(folder), size=16, patches=20)
    assert data.spec.shape == (3, 16, 16)
    red, green, blue = data.train.tensor.int().unbind(1)
    assert (red.diff(dim=1) == 3).all()
    assert (green.diff(dim=2) == 2).all()
    assert torch.equal(red // 3 + green // 2, blue)


def test_contrast_takes_out_light_and_scale() -> None:
    random = np.random.default_rng(0)
    texture = random.normal(size=(1, 60, 80))
    dark, bright = ((level * (1 + 0.2 * texture)).clip(0, 255).astype(np.uint8) for level in (80, 140))
    a, b = (contrast_normalized(x, 8.0).astype(float) for x in (dark, bright))
    assert np.abs(a - b).mean() < 2
    assert a.mean() == pytest.approx(127.5, abs=2)
    assert a.std() == pytest.approx(127.5 / 4, rel=0.05), "a standard deviation is a quarter of the way to the end"
    assert np.array_equal(Image((1, 16, 16), 0.0, 1.0).prepared(dark), dark)
    assert np.abs(contrast_normalized(np.full((1, 20, 20), 90, np.uint8), 8.0) - 127.5).max() <= 1, (
        "nothing from nothing"
    )


def test_masks_are_found_by_either_name_and_count_above_their_half(folder: Path) -> None:
    found = {part.name: part for part in layout(folder).test}
    assert list(found) == ["good/0.png", "hole/0.png", "hole/1.jpg"]
    assert found["good/0.png"].masks == ()
    assert found["hole/1.jpg"].masks == (folder / "ground_truth/hole/1_mask.png",)
    for name in ("hole/0.png", "hole/1.jpg"):
        mask = read_mask(found[name], (24, 20))
        assert (mask.sum(), mask[3:6, 4:9].all()) == (15, True)
    for high in (1, 255):  # masks of 0 and 1 are in use too
        path = save(folder / "mask.png", np.eye(5) * high)
        assert np.array_equal(read_mask(Part(path, "hole", (path,)), (5, 5)), np.eye(5, dtype=bool))
    assert not read_mask(found["good/0.png"], (30, 30)).any()


def test_an_image_is_read_in_grey_or_colour(folder: Path) -> None:
    path = save(folder / "rgb.png", np.full((10, 12, 3), (10, 20, 30)))
    assert read_image(path, Image((3, 16, 16), 0.0, 1.0)).shape == (3, 10, 12)
    assert read_image(path, Image((3, 16, 16), 0.0, 1.0))[:, 4, 4].tolist() == [10, 20, 30]
    assert read_image(path, Image((1, 16, 16), 0.0, 1.0)).shape == (1, 10, 12)


def remove(path: str) -> Callable[[Path], object]:
    return lambda folder: [p.rename(folder / "gone") for p in [folder / path]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (remove("train"), "{0}/train/good: no such folder; expected train/good/"),
        (remove("test"), "{0}: has no folder test/"),
        (lambda f: [p.unlink() for p in (f / "train/good").iterdir()], "{0}/train/good: has no images"),
        (
            lambda f: [p.unlink() for p in list((f / "train/good").iterdir())[1:]],
            "val_fraction=0.2: leaves nothing of 1 image of {0}/train/good",
        ),
        (remove("test/hole/0.png"), "{0}/ground_truth/hole/0.png: is a mask without an image; data.mask_suffix"),
        (lambda f: (f / "test/scratch").mkdir(), "{0}/test/scratch: has no images"),
        (
            lambda f: save(f / "ground_truth/scratch/1.png", np.eye(24)),
            "{0}/ground_truth/scratch/1.png: is a mask with",
        ),
        (
            lambda f: save(f / "ground_truth/hole/0.png", np.zeros((20, 24))),
            "{0}/ground_truth/hole/0.png: the mask has 24x20 pixels, {0}/test/hole/0.png has 20x24",
        ),
        (lambda f: (f / "train/good/3.png").write_text("no"), "{0}/train/good/3.png: cannot be read as an image ("),
        (lambda f: (f / "test/hole/0.png").write_text("no"), "{0}/test/hole/0.png: cannot be read as an image ("),
        (
            lambda f: save(f / "train/good/3.png", np.zeros((9, 50))),
            "{0}/train/good/3.png: has 50x9 pixels, a patch 16x16; lower data.size",
        ),
    ],
)
def test_another_layout_is_one_line(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError) as caught:
        defects(str(folder), size=16, patches=2)
    assert str(caught.value).startswith(message.format(folder))
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_one_line(folder: Path) -> None:
    path = save(folder / "train/good/3.jpg", np.random.default_rng(0).integers(0, 256, (60, 60)))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"3\.jpg: cannot be read as an image \(.*truncated"):
        defects(str(folder), size=16, patches=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "path: name a folder with train/good"),
        ({"size": 8}, "size=8: must be 16 or more"),
        ({"patches": 0}, "patches=0: must be 1 or more"),
        ({"masks": "gone"}, "masks=gone: "),
        ({"white": 0}, "white=0: must be above 0"),
        ({"good": "fine"}, "{0}/train/fine: no such folder; expected"),
        ({"contrast": -1}, "contrast=-1: must be 0 or more"),
        ({"val_fraction": 1.0}, "val_fraction=1.0: must lie between 0 and 1"),
    ],
)
def test_values_out_of_range_are_refused(folder: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        defects(**({"path": str(folder)} | options))  # type: ignore[arg-type]
    assert str(caught.value).startswith(message.format(folder))


@pytest.mark.skipif(not Path("data/magnetic_tile").is_dir(), reason="data/magnetic_tile is missing")
def test_magnetic_tiles() -> None:
    data = defects("data/magnetic_tile", patches=2)
    assert [len(split) for split in (data.train, data.val, data.test)] == [416, 104, 320]
    assert data.spec.shape == (1, 32, 32)
