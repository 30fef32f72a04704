"""Images of every mode have the same pixels and codes in training, by path, as Pillow images and in scripts."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import RNG, noise, save
from PIL import Image

from autoenc import load_run
from autoenc.data.kinds.image import Image as ImageKind
from autoenc.data.readers.images import ImageFormat
from autoenc.data.sets.defects import read_image

SIZE = 12


def write_modes(folder: Path) -> list[str]:
    """Write an image of each mode in grey and colour; return the names."""
    grey, alpha, rgb = noise(SIZE, SIZE, 1), noise(SIZE, SIZE, 1), noise(SIZE, SIZE)
    deep = RNG.integers(0, 65_536, (SIZE, SIZE))
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = Image.fromarray(rgb).quantize(16)
    opaque = Image.fromarray(alpha)
    images: dict[str, Image.Image] = {
        "bits.png": Image.fromarray(grey > 127),
        "grey.png": Image.fromarray(grey),
        "grey_alpha.png": Image.merge("LA", [Image.fromarray(grey), opaque]),
        "palette.png": palette,
        "palette_alpha.tif": palette.convert("PA"),
        "rgb.bmp": Image.fromarray(rgb),
        "rgb.webp": Image.fromarray(rgb),
        "rgba.png": Image.fromarray(np.dstack([rgb, alpha])),
        "cmyk.jpg": Image.fromarray(rgb).convert("CMYK"),
        "cmyk.tif": Image.fromarray(rgb).convert("CMYK"),
        "deep.png": Image.fromarray(deep.astype(np.uint16)),
        "deep.tif": Image.fromarray(deep.astype(">u2")),
        "int32.tif": Image.fromarray(deep.astype(np.int32)),
        "float.tif": Image.fromarray((deep / 65_535).astype(np.float32)),
    }
    for name, image in images.items():
        save(folder / name, image)
    save(folder / "transparent.png", palette, transparency=3)
    save(folder / "deep_transparent.png", Image.fromarray(deep.astype(np.uint16)), transparency=int(deep[0, 0]))
    for suffix in ("jpg", "png", "tif", "webp"):
        save(folder / f"turned.{suffix}", Image.fromarray(rgb), exif=exif)
    large = Image.fromarray(noise(16, 16)).resize((200, 200), Image.Resampling.BICUBIC)
    save(folder / "large.jpg", large.crop((0, 0, 200, 198)))
    return sorted(path.name for path in folder.iterdir())


def test_an_image_of_each_mode_has_one_code(
    tmp_path: Path, train_run: Callable[..., Path], call: Callable[..., tuple[int, str, str]]
) -> None:
    names = write_modes(tmp_path / "own")
    overrides = (f"data.path={tmp_path / 'own'}", f"data.cache_folder={tmp_path / 'cache'}", f"data.size={SIZE}")
    overrides += ("network=mlp", "network.hidden=[8]", "model.latent_dim=3", "trainer.epochs=1", "data.workers=0")
    run = load_run(train_run("model=ae", "data=image_folder", *overrides), "cpu")
    files = [tmp_path / "own" / name for name in names]
    fed = run.inputs(files).tensor
    for i, file in enumerate(files):
        with Image.open(file) as opened, Image.open(file) as loaded:
            assert torch.equal(run.inputs(opened).tensor[0], fed[i]), file
            if file.name != "large.jpg":  # its pixels were decoded in full
                loaded.load()
                assert torch.equal(run.inputs([loaded]).tensor[0], fed[i]), file
            assert opened.size == Image.open(file).size, "the caller's image stays as it is"
    for part, split in (("train", run.data.train), ("test", run.data.test)):
        for name, pixels in zip(run.data.example_names(part), split.tensor, strict=True):
            assert torch.equal(pixels, fed[names.index(name)]), name
    code, _, _ = call("embed", run.path, "--input", tmp_path / "own", "--output", tmp_path / "codes")
    assert code == 0
    codes = np.load(next((tmp_path / "codes").glob("*.npz")))
    np.testing.assert_array_equal(next(codes[key] for key in codes if codes[key].ndim == 2), run.encode(files))


def test_images_to_inspect_have_the_same_pixels(tmp_path: Path) -> None:
    for channels in (1, 3):
        kind = ImageKind((channels, 16, 16), 0.0, 1.0)
        whole = ImageKind((channels, SIZE, SIZE), 0.0, 1.0, ImageFormat(channels, SIZE, SIZE))
        for name in write_modes(tmp_path):
            if name != "large.jpg":
                fed = whole.read(tmp_path / name).split.tensor[0].numpy()
                np.testing.assert_array_equal(read_image(tmp_path / name, kind), fed, name)


@pytest.mark.parametrize("white", [None, 4_095.0])
def test_arrays_of_integers_have_the_pixels_of_files(tmp_path: Path, white: float | None) -> None:
    kind = ImageKind((1, SIZE, SIZE), 0.0, 1.0, ImageFormat(1, SIZE, SIZE, white=white))
    deep = RNG.integers(0, 4_096, (SIZE, SIZE)).astype(np.uint16)
    of_file = kind.read(save(tmp_path / "deep.png", deep)).split.take(slice(None)).x
    assert torch.equal(kind.encode(deep[None]).take(slice(None)).x, of_file)
    torch.testing.assert_close(of_file[0, 0], torch.from_numpy(deep / np.float32(white or 65_535)), atol=0.002, rtol=0)


def test_integers_of_another_range_are_not_scaled_as_bytes() -> None:
    """Trained on integers 0 to 200 without scaling: the same numbers as uint8 are those numbers."""
    x = RNG.integers(0, 200, (4, 1, 5, 5))
    kind = ImageKind((1, 5, 5), 0.0, 200.0)
    assert torch.equal(
        kind.encode(x.astype(np.uint8)).take(slice(None)).x, kind.encode(x.astype(np.int64)).take(slice(None)).x
    )
