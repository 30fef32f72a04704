"""Image folders: files, splits and labels; cached and uncached images are the same."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import error_message, noise, read_all, save, write_images
from PIL import Image
from torchvision.transforms import v2

from autoenc import load_run
from autoenc.apps import inputs
from autoenc.data.dataset import Data
from autoenc.data.readers import folders, images
from autoenc.data.split import Split
from autoenc.data.storage.image_files import ImageFileRows
from autoenc.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


def test_pixels_and_labels_are_those_of_the_files(folder: Path, read: Callable[..., Data]) -> None:
    data = read(folder)
    assert (data.spec.shape, data.spec.classes, data.spec.low, data.spec.high) == ((3, 12, 16), ("a", "b"), 0.0, 1.0)
    assert [len(split) for split in (data.train, data.val, data.test)] == [9, 1, 2]
    arrays = {p: np.asarray(Image.open(p)).transpose(2, 0, 1) / 255 for p in folder.rglob("*.png")}
    for split in (data.train, data.val, data.test):
        batch = split.take(slice(None))
        assert batch.y is not None
        for x, y in zip(batch.x, batch.y, strict=True):
            name = next(p.parent.name for p, array in arrays.items() if np.allclose(array, x, atol=1e-6))
            assert data.spec.classes[y] == name


def test_mixed_sizes_need_a_size_and_one_colour_image_makes_all_rgb(tmp_path: Path, read: Callable[..., Data]) -> None:
    root = tmp_path / "mixed"
    for i in range(6):
        save(root / f"{i}.png", noise(10 + i, 12, channels=1))
    message = error_message(ConfigError, lambda: read(root))
    assert message == "size: the images have 12x10 to 12x15 pixels; set a common size: data.size=64"
    assert read(root, size=8).spec.shape == (1, 8, 8)
    assert read(root, size=[6, 9], mode="rgb").spec.shape == (3, 6, 9)
    save(root / "c.png", noise())
    data = read(root, size=8)
    assert (data.spec.shape, data.spec.classes, data.train.y) == ((3, 8, 8), (), None)


def test_folders_of_splits_and_other_files(tmp_path: Path, read: Callable[..., Data]) -> None:
    root = tmp_path / "root"
    arrays = {part: write_images(root / part, n) for part, n in (("train", 8), ("valid", 2), ("test", 4))}
    write_images(root / "extra", 2)
    (root / "train" / "notes.txt").write_text("not an image")
    (root / "train" / "a" / ".hidden.png").write_text("not an image")
    (root / "train" / "a" / "loop").symlink_to(root / "train")
    (root / "train" / "nowhere.png").symlink_to(root / "gone.png")
    data = read(root)
    assert [len(s) for s in (data.train, data.val, data.test)] == [8, 2, 4]
    wanted = np.stack([arrays["test"][name] for name in sorted(arrays["test"])]).transpose(0, 3, 1, 2) / 255
    assert read_all(data.test).numpy() == pytest.approx(wanted, abs=1e-6)
    assert any("extra" in note for note in data.notes)
    assert "already has test images" in error_message(ConfigError, lambda: read(root, test_path=str(root / "extra")))
    assert len(read(root / "train", test_path=str(root / "extra")).test) == 2
    inside = error_message(ConfigError, lambda: read(root / "extra", test_path=str(root / "extra" / "a")))
    assert f"test_path={root}/extra/a: has images that are trained on: {root}/extra" in inside
    (root / "train").rename(root / "cats")
    without = error_message(DataError, lambda: read(root))
    assert "has valid/, but no train/; move the folders of the training images into it" in without


def test_a_folder_that_contains_a_link_to_itself_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    entered: list[str] = []
    listed = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: entered.append(str(path)) or listed(path))
    assert "has no images" in error_message(DataError, lambda: folders.check(tmp_path))
    assert sorted(set(entered)) == [str(tmp_path), str(tmp_path / "a")]


def broken(folder: Path, n: int) -> list[Path]:
    paths = []
    for i in range(n):
        path = save(folder / "a" / f"x{i}.jpg", noise(40, 40))
        path.write_bytes(path.read_bytes()[: 1000 if i % 2 == 0 else 0])
        paths.append(path)
    return paths


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_left_out_up_to_a_limit(
    folder: Path, read: Callable[..., Data], cache: bool, workers: int
) -> None:
    options: dict[str, Any] = {"size": 8, "cache": cache, "workers": workers}
    good = read_all(*_splits(read(folder, **options)))
    paths = broken(folder, 3)
    data = read(folder, max_bad=3, **options)
    note = next(note for note in data.notes if note.startswith("Attention"))
    assert note.startswith(f"Attention: 3 of 15 files cannot be read, left out; the first: {paths[0]}: ")
    assert torch.equal(read_all(*_splits(data)), good)
    assert [int(s.y.sum()) for s in _splits(data) if s.y is not None] == [
        int(s.y.sum()) for s in _splits(read(folder, max_bad=3, **options)) if s.y is not None
    ]
    message = error_message(DataError, lambda: read(folder, max_bad=2, **options))
    assert message.startswith(f"{paths[0]}: ")
    assert "data.max_bad=2 of 15 files" in message


def _splits(data: Data) -> tuple[Split, Split, Split]:
    return data.train, data.val, data.test


def test_errors_are_one_line(tmp_path: Path, folder: Path, read: Callable[..., Data]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.png").write_text("x")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.png").write_text("not an image")
    save(tmp_path / "one" / "a.png", noise())
    for name, why in (
        ("none", "no such folder"),
        ("file.png", "is a file, not a folder"),
        ("empty", "has no images (.png, .jpg"),
        ("text", "a.png: is not an image; none of 1 file can be read"),
        ("one", "has 1 readable image, too few"),
    ):
        assert why in error_message(DataError, lambda name=name: read(tmp_path / name))  # type: ignore[misc]
        if name not in ("none", "file.png", "empty"):
            assert why in error_message(DataError, lambda name=name: read(tmp_path / name, size=8, mode="rgb"))  # type: ignore[misc]
    options: list[tuple[dict[str, Any], str]] = [
        ({"size": 0}, "size=0: must be a side in pixels"),
        ({"size": [8, 8, 8]}, "size=[8, 8, 8]: must be"),
        ({"shift": 12}, "shift=12: must be less than 12"),
        ({"val_fraction": 1.0}, "val_fraction=1.0: must lie between 0 and 1"),
        ({"transforms": [{"RandomCrop": {"size": 8}}], "size": 8}, "with a name among CenterCrop"),
        ({"transforms": [{"CenterCrop": {"siz": 8}}], "size": 8}, "unexpected keyword argument 'siz'"),
    ]
    for given, why in options:
        assert why in error_message(ConfigError, lambda given=given: read(folder, **given))  # type: ignore[misc]


def batches(data: Data, epoch: int = 0, start: int = 0) -> list[torch.Tensor]:
    return [batch.x for batch in data.train.shuffled(4, seed=3, epoch=epoch, start=start)]


def test_cached_and_uncached_images_are_the_same(
    folder: Path, read: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"size": 8, "flip": True, "shift": 2}
    files = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.png")}
    uncached, cached = read(folder, cache=False, **options), read(folder, cache=True, **options)
    with_workers = read(folder, cache=False, **options, workers=2)
    monkeypatch.setattr("autoenc.data.storage.image_cache.IN_MEMORY", 0)
    mapped = read(folder, cache=True, **options)
    assert not isinstance(mapped.train.x, torch.Tensor)
    for epoch in (0, 1):
        wanted = batches(uncached, epoch)
        for other in (cached, with_workers, mapped):
            assert all(torch.equal(a, b) for a, b in zip(wanted, batches(other, epoch), strict=True))
            assert torch.equal(read_all(other.val, other.test), read_all(uncached.val, uncached.test))
            assert torch.equal(other.train.mean(), uncached.train.mean())
        resumed = batches(with_workers, epoch, start=1)
        assert all(torch.equal(a, b) for a, b in zip(wanted[1:], resumed, strict=True))
    assert mapped.train.fingerprint() == uncached.train.fingerprint()
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.png")} == files

    def fail(*args: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(images, "decode", fail)
    monkeypatch.setattr(images, "read_header", fail)
    assert any("read from the cache" in note for note in read(folder, cache=True, **options).notes)
    with pytest.raises(DataError, match="decoded again"):
        read(folder, cache=True, size=9)


def test_a_changed_file_is_decoded_again(folder: Path, read: Callable[..., Data]) -> None:
    before = read_all(*_splits(read(folder)))
    path = folder / "a" / "00.png"
    save(path, np.zeros((12, 16, 3), np.uint8))
    os.utime(path, ns=(1, 1))
    after = read_all(*_splits(read(folder)))
    changed = (before != after).flatten(1).any(1)
    assert int(changed.sum()) == 1
    assert float(after[changed].sum()) == 0


def test_augmentation_is_a_function_of_seed_epoch_and_row(folder: Path, read: Callable[..., Data]) -> None:
    plain, data = read(folder), read(folder, flip=True, shift=2)
    assert all(torch.equal(a, b) for a, b in zip(batches(data), batches(data), strict=True))
    assert not torch.equal(torch.cat(batches(data, 0)), torch.cat(batches(data, 1)))
    # The batch size does not matter.
    other = torch.cat([batch.x for batch in data.train.shuffled(5, seed=3, epoch=0)])
    assert torch.equal(torch.cat(batches(data)), other)
    # Each is one of the 2 x 5 x 5 results of padding, cropping and mirroring by torchvision.
    moved = 0
    for x, y in zip(torch.cat(batches(plain)), torch.cat(batches(data)), strict=True):
        padded = v2.functional.pad(x, [2, 2, 2, 2], padding_mode="reflect")
        views = [padded[:, i : i + 12, j : j + 16] for i in range(5) for j in range(5)]
        assert any(torch.equal(y, view) or torch.equal(y, view.flip(2)) for view in views)
        moved += not torch.equal(x, y)
    assert moved >= 6
    # Only `shuffled` augments.
    assert torch.equal(read_all(*_splits(data)), read_all(*_splits(plain)))


def test_a_cache_that_would_fill_the_disk_is_not_written_by_default(
    folder: Path, tmp_path: Path, read: Callable[..., Data], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1_000})()
    monkeypatch.setattr("autoenc.data.storage.image_cache.shutil.disk_usage", lambda path: usage)
    data = read(folder)
    assert isinstance(data.train.x, ImageFileRows)
    assert "would take more than half" in data.notes[-1]
    assert not list((tmp_path / "cache").rglob("*.npy"))
    (tmp_path / "file").write_text("")
    monkeypatch.undo()
    assert "the cache cannot be written" in read(folder, cache_folder=str(tmp_path / "file")).notes[-1]
    assert "cannot be written" in error_message(
        DataError, lambda: read(folder, cache=True, cache_folder=str(tmp_path / "file"))
    )


def test_a_run_trains_loads_and_reads_new_images_of_other_sizes(tmp_path: Path, train_run: Callable[..., Path]) -> None:
    write_images(tmp_path / "own", 40, height=20, width=30)
    overrides = (f"data.path={tmp_path / 'own'}", f"data.cache_folder={tmp_path / 'cache'}", "data.size=16")
    overrides += ("network=mlp", "network.hidden=[16]", "model.latent_dim=4", "trainer.epochs=2", "data.flip=true")
    runs = [
        train_run("model=ae", "data=image_folder", *overrides, f"data.cache={cache}", "data.workers=2")
        for cache in ("true", "false")
    ]
    cached, uncached = (load_run(path, "cpu") for path in runs)
    for a, b in zip(cached.model.parameters(), uncached.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert "decoded" in (runs[0] / "train.log").read_text()
    new = noise(50, 70)
    save(tmp_path / "new" / "deep" / "x.png", new)
    save(tmp_path / "new" / "y.jpg", noise(16, 16, channels=1))
    examples = inputs.read(cached, tmp_path / "new")
    assert examples.names == ["deep/x.png", "y.jpg"]
    wanted = v2.Compose([v2.Resize(16), v2.CenterCrop(16)])(Image.fromarray(new))
    x = examples.split.take(slice(None)).x
    assert x[0].numpy() == pytest.approx(np.asarray(wanted).transpose(2, 0, 1) / 255, abs=1e-6)
    assert cached.codes(examples.split).shape == (2, 4)
    assert torch.equal(inputs.read(cached, tmp_path / "new" / "y.jpg").split.take(slice(None)).x[0], x[1])
    assert torch.equal(read_all(cached.data.test), read_all(uncached.data.test))
    np.save(tmp_path / "x.npy", x.numpy())
    assert torch.equal(inputs.read(cached, tmp_path / "x.npy").split.take(slice(None)).x, x)
    (tmp_path / "new" / "z.png").write_text("not an image")
    with pytest.warns(UserWarning, match=r"1 of 3 files is left out: .*z.png: cannot be read as an image"):
        assert torch.equal(inputs.read(cached, tmp_path / "new").split.take(slice(None)).x, x)
    wrong = tmp_path / "new" / "z.png"
    assert "z.png: cannot be read as an image" in error_message(DataError, lambda: inputs.read(cached, wrong))
    assert torch.equal(cached.inputs(str(tmp_path / "new" / "y.jpg")).take(slice(None)).x[0], x[1])
    assert "found none" in error_message(DataError, lambda: cached.inputs([]))
    for part, split in (("train", cached.data.train), ("test", cached.data.test)):
        files = [tmp_path / "own" / name for name in cached.data.example_names(part)]
        assert torch.equal(split.take(slice(0, 3)).x, cached.inputs(files[:3]).take(slice(None)).x)
