"""Standard image data sets: the real MNIST if its files exist, small files in the same formats for the others."""

import gzip
import hashlib
import pickle
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc.data import torchvision_images
from autoenc.data.split import shuffled_indices
from autoenc.errors import ConfigError, DataError

ROOT = Path(__file__).parents[3] / "data"
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
RNG = np.random.default_rng(0)


def idx(array: np.ndarray) -> bytes:
    """The format of yann.lecun.com/exdb/mnist, written independently of the reader."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def small_mnist(folder: Path, name: str = "MNIST", rows: tuple[int, int] = (60, 20)) -> dict[str, np.ndarray]:
    """Write the four files, small and complete, and return their content."""
    arrays = {}
    for part, n in zip(("train", "t10k"), rows, strict=True):
        arrays[f"{part}-images-idx3-ubyte"] = RNG.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = RNG.integers(0, 10, n, dtype=np.uint8)
    (folder / name / "raw").mkdir(parents=True)
    for file, array in arrays.items():
        (folder / name / "raw" / file).write_bytes(idx(array))
    return arrays


def refusal(**options: object) -> str:
    with pytest.raises(DataError) as caught:
        torchvision_images(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(not (ROOT / "MNIST").is_dir(), reason="data/MNIST is not there (../shared/data/prepare.sh data)")
def test_real_mnist() -> None:
    data = torchvision_images("MNIST", root=str(ROOT), val_fraction=0.0833333)
    assert [len(data.train), len(data.val), len(data.test)] == [55_000, 5_000, 10_000]
    train = data.train.take(slice(None)).x
    assert train.shape == (55_000, *data.spec.shape)
    assert (train.min(), train.max()) == (data.spec.low, data.spec.high) == (0, 1)
    both = torch.cat([data.train.x, data.val.x])  # the well-known mean of the 60,000
    assert both.float().mean().item() / 255 == pytest.approx(0.1307, abs=1e-4)
    assert data.test.y is not None
    assert data.test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "KMNIST"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_and_the_training_rows_split(tmp_path: Path, name: str, zipped: bool) -> None:
    arrays = small_mnist(tmp_path, name)
    if zipped:
        for file in (tmp_path / name / "raw").iterdir():
            (file.parent / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    data = torchvision_images(name, root=str(tmp_path), val_fraction=0.25, download=False)
    assert np.array_equal(data.test.x[:, 0].numpy(), arrays["t10k-images-idx3-ubyte"])
    assert data.train.y is not None
    assert data.val.y is not None
    pairs = [
        (image.tobytes(), label)
        for split in (data.train, data.val)
        for image, label in zip(split.x.numpy(), split.y.tolist(), strict=True)  # type: ignore[union-attr]
    ]
    images, labels = arrays["train-images-idx3-ubyte"], arrays["train-labels-idx1-ubyte"].tolist()
    assert sorted(pairs) == sorted(zip([image.tobytes() for image in images], labels, strict=True))
    assert (len(data.train), len(data.val), len(data.spec.classes)) == (45, 15, 10)


def test_split_seed_fixes_the_validation_rows_and_leaves_the_test_alone(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    first, again, other = (torchvision_images("MNIST", root=str(tmp_path), split_seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.val.x, again.val.x)
    assert not torch.equal(first.val.x, other.val.x)
    assert torch.equal(first.test.x, other.test.x)


def test_pixels_are_drawn_anew_at_each_step_and_once_for_evaluation(tmp_path: Path) -> None:
    arrays = small_mnist(tmp_path, rows=(400, 40))
    data, again = (torchvision_images(root=str(tmp_path), val_fraction=0.25, binarize=True) for _ in range(2))
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        assert set(split.take(slice(None)).x.unique().tolist()) == {0.0, 1.0}
        assert split.fingerprint() == getattr(again, name).fingerprint(), "fixed draws"
    grey = arrays["t10k-images-idx3-ubyte"] / 255
    assert np.corrcoef(data.test.rows().ravel(), grey.ravel())[0, 1] == pytest.approx(1 / np.sqrt(3), abs=0.02)
    train = data.train
    assert train.grey is not None

    def batches(epoch: int, start: int = 0) -> list[torch.Tensor]:
        return [batch.x for batch in train.shuffled(100, seed=1, epoch=epoch, start=start)]

    first = batches(0)
    assert torch.equal(batches(0, start=2)[0], first[2]), "a run that resumes"
    order = shuffled_indices(len(train), 100, 1, 0)
    assert not torch.equal(first[0], train.take(order[0]).x), "not the fixed draws"
    white = torch.stack([batches(epoch)[0].mean() for epoch in range(20)]).mean()
    assert float(white) == pytest.approx(0.5, abs=0.005)
    p = train.grey[order[0]] / 255
    assert np.corrcoef(first[0].flatten(), p.flatten())[0, 1] == pytest.approx(1 / np.sqrt(3), abs=0.01)
    part = train.subset(torch.tensor([3, 5])).on(torch.device("cpu"))
    assert torch.equal(part.grey, train.grey[[3, 5]])
    assert next(part.shuffled(2, 0, 0)).y is not None


def test_unknown_data_sets_are_rejected() -> None:
    with pytest.raises(ConfigError) as caught:
        torchvision_images("EMNIST")
    assert str(caught.value) == "dataset=EMNIST: must be one of MNIST, FashionMNIST, KMNIST, CIFAR10, SVHN"


@pytest.mark.parametrize("file", IDX)
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda raw: raw[:-1], "bytes where"),
        (lambda raw: raw + b"0", "bytes where"),
        (lambda raw: raw[:6], "not an IDX file"),
        (lambda raw: b"", "not an IDX file"),
        (lambda raw: b"<html>" + raw, "not an IDX file"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, file: str, damage, why: str) -> None:  # type: ignore[no-untyped-def]
    small_mnist(tmp_path)
    path = tmp_path / "MNIST" / "raw" / file
    path.write_bytes(damage(path.read_bytes()))
    message = refusal(dataset="MNIST", root=str(tmp_path))
    assert message.startswith(f"{path}: ")
    assert why in message


def test_truncated_gzip_and_missing_labels_are_named(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    (raw / IDX[1]).write_bytes(idx(np.zeros(59, np.uint8)))
    assert refusal(dataset="MNIST", root=str(tmp_path)) == f"{raw / IDX[1]}: 59 labels for 60 images"
    (raw / f"{IDX[0]}.gz").write_bytes(gzip.compress((raw / IDX[0]).read_bytes())[:-100])
    (raw / IDX[0]).unlink()
    assert refusal(dataset="MNIST", root=str(tmp_path)).startswith(f"{raw / IDX[0]}.gz: cannot be read (")


def test_missing_files_are_named_without_download(tmp_path: Path) -> None:
    small_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / IDX[2]).unlink()
    assert refusal(dataset="MNIST", root=str(tmp_path), download=False) == (
        f"MNIST: put MNIST/raw/{IDX[2]} into {tmp_path}/, or set data.download=true"
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve a folder with the four gzipped files as the mirror of Fashion-MNIST."""
    from torchvision.datasets import FashionMNIST

    folder = tmp_path / "mirror"
    small_mnist(folder, "FashionMNIST")
    resources = []
    for name in IDX:
        packed = gzip.compress((folder / "FashionMNIST" / "raw" / name).read_bytes())
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        monkeypatch.setattr(FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def test_a_download_leaves_only_the_files(tmp_path: Path, mirror: Path) -> None:
    root = tmp_path / "new" / "root"
    data = torchvision_images("FashionMNIST", root=str(root))
    assert len(data.test) == 20
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == sorted(IDX)
    assert [path.name for path in root.iterdir()] == ["FashionMNIST"]
    (mirror / f"{IDX[0]}.gz").unlink()
    torchvision_images("FashionMNIST", root=str(root))  # from the files: the server has lost one


@pytest.mark.parametrize("broken", ["missing", "damaged"])
def test_a_failed_download_leaves_nothing(tmp_path: Path, mirror: Path, broken: str) -> None:
    last = mirror / f"{IDX[3]}.gz"  # three files arrive before it fails
    if broken == "missing":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:-5])
    root = tmp_path / "new" / "root"
    message = refusal(dataset="FashionMNIST", root=str(root))
    assert message.startswith("FashionMNIST cannot be downloaded (")
    assert message.endswith(f"put {', '.join(f'FashionMNIST/raw/{name}' for name in IDX)} into {root}/")
    assert not (tmp_path / "new").exists()
    (tmp_path / "there").mkdir()
    refusal(dataset="FashionMNIST", root=str(tmp_path / "there"))
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize("name", ["CIFAR10", "SVHN"])
def test_without_network_the_missing_files_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def no_network(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    message = refusal(dataset=name, root=str(tmp_path / "root"))
    assert "Name or service not known" in message
    assert ("cifar-10-batches-py/test_batch" if name == "CIFAR10" else "test_32x32.mat") in message
    assert not (tmp_path / "root").exists()


def test_a_root_that_is_a_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "root").touch()
    assert refusal(dataset="FashionMNIST", root=str(tmp_path / "root")).startswith(
        "FashionMNIST cannot be downloaded ("
    )


def test_cifar10_is_channels_first_and_checked_before_unpickling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: object) -> tuple[str, str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return name, hashlib.md5((folder / name).read_bytes()).hexdigest()

    planes = RNG.integers(0, 256, (6, 4, 3072), dtype=np.uint8)  # a row: 1024 red, 1024 green, 1024 blue
    batches = [
        write("test_batch" if i == 5 else f"data_batch_{i + 1}", {"data": planes[i], "labels": [i] * 4})
        for i in range(6)
    ]
    name, md5 = write("batches.meta", {"label_names": []})
    monkeypatch.setattr(CIFAR10, "train_list", batches[:5])
    monkeypatch.setattr(CIFAR10, "test_list", batches[5:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})

    data = torchvision_images("CIFAR10", root=str(tmp_path))
    assert np.array_equal(data.test.x.numpy(), planes[5].reshape(4, 3, 32, 32))
    assert data.test.y is not None
    assert data.test.y.tolist() == [5] * 4
    assert (len(data.train), len(data.val), data.spec.classes[5]) == (18, 2, "dog")
    with pytest.raises(ConfigError, match=r"^binarize=True: is for grey images; CIFAR10 has colours"):
        torchvision_images("CIFAR10", root=str(tmp_path), binarize=True)

    (folder / "data_batch_3").write_bytes((folder / "data_batch_3").read_bytes()[:-1])
    assert refusal(dataset="CIFAR10", root=str(tmp_path)) == (
        f"{folder / 'data_batch_3'}: truncated or damaged (md5 differs); delete it to download it again"
    )


def test_svhn_is_read_with_the_digit_0_as_class_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import scipy.io
    from torchvision.datasets import SVHN

    images = RNG.integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)  # as in the file: H, W, C, N
    split_list = {}
    for part in ("train", "test"):
        file = tmp_path / f"{part}_32x32.mat"
        scipy.io.savemat(file, {"X": images, "y": np.arange(20)[:, None] % 10 + 1})
        split_list[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(SVHN, "split_list", split_list)
    data = torchvision_images("SVHN", root=str(tmp_path))
    assert np.array_equal(data.test.x.numpy(), images.transpose(3, 2, 0, 1))
    assert data.test.y is not None
    assert data.test.y.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 2
    (tmp_path / "test_32x32.mat").write_bytes(b"")
    assert refusal(dataset="SVHN", root=str(tmp_path)).startswith(f"{tmp_path / 'test_32x32.mat'}: truncated")
