"""Images: one reader for training and new data, and contrast that is always applied."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from autoenc.data.kinds.image import Image, contrast_normalized
from autoenc.errors import DataError

GREY = Image((1, 16, 16), 0.0, 1.0)
CONTRAST = Image((1, 16, 16), 0.0, 1.0, contrast=4.0)
RAMP = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))


@pytest.mark.parametrize("as_float", [False, True])
def test_new_images_get_the_contrast_of_the_training_images(as_float: bool) -> None:
    raw = RAMP[None, None] / np.float32(255) if as_float else RAMP[None, None]
    fed = CONTRAST.encode(raw).take(slice(None)).x
    expected = contrast_normalized(RAMP[None], 4.0).astype(np.float32) / 255
    np.testing.assert_allclose(fed[0].numpy(), expected, atol=1e-6)
    assert not torch.allclose(fed, GREY.encode(raw).take(slice(None)).x, atol=0.1)


def test_files_and_arrays_of_the_same_pixels_are_fed_alike(tmp_path: Path) -> None:
    Pillow.fromarray(RAMP).save(tmp_path / "a.png")
    for kind in (GREY, CONTRAST):
        assert torch.equal(
            kind.read(tmp_path / "a.png").split.take(slice(None)).x, kind.encode(RAMP[None, None]).take(slice(None)).x
        )


def test_files_in_other_modes_are_read_as_in_training(tmp_path: Path) -> None:
    """16 bits keep their upper 8; what is transparent lies on white; EXIF turns the image."""
    Pillow.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Pillow.fromarray(np.stack([RAMP, np.zeros_like(RAMP)], -1), "LA").save(tmp_path / "clear.png")
    exif = Pillow.Exif()
    exif[0x0112] = 6  # the camera was held sideways
    Pillow.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)

    def fed(name: str) -> np.ndarray:
        return GREY.read(tmp_path / name).split.tensor[0, 0].numpy()

    np.testing.assert_array_equal(fed("sixteen.png"), RAMP)
    np.testing.assert_array_equal(fed("clear.png"), 255)
    np.testing.assert_array_equal(fed("turned.png"), np.rot90(RAMP, -1))


def test_another_size_is_refused_unless_it_is_to_be_resized(tmp_path: Path) -> None:
    Pillow.fromarray(RAMP.repeat(2, 0)).save(tmp_path / "tall.png")
    with pytest.raises(DataError, match=r"tall\.png: expected 16x16 pixels, found 16x32; --resize"):
        GREY.read(tmp_path / "tall.png")
    assert GREY.read(tmp_path / "tall.png", resize=True).split.tensor.shape == (1, 1, 16, 16)


def test_the_state_survives_saving(tmp_path: Path) -> None:
    import json

    CONTRAST.save(tmp_path)
    assert Image.load(tmp_path, json.loads((tmp_path / "kind.json").read_text())) == CONTRAST
