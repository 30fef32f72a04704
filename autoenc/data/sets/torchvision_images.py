"""Standard image data sets, downloaded by torchvision if their files are missing.

torchvision takes seconds to import; the three data sets in IDX format are read without it.
"""

from __future__ import annotations

import gzip
import http.client
import math
import os
import socket
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split, hold_out
from autoenc.data.storage.binarized import BinarizedImages
from autoenc.errors import DataError, require

TIMEOUT = 20.0  # seconds without an answer from a server


def torchvision_images(
    dataset: str = "MNIST",
    root: str = "data",
    val_fraction: float = 0.1,
    split_seed: int = 0,
    download: bool = True,
    binarize: bool = False,
) -> Data:
    """Load MNIST, FashionMNIST, KMNIST: (1, 28, 28); CIFAR10, SVHN: (3, 32, 32). Values in [0, 1]; 10 classes.

    The test split is the official one.

    Args:
        dataset: name of the class in torchvision.datasets.
        root: folder of the files, in torchvision's layout; IDX files may be gzipped.
        val_fraction: fraction of the official training rows that is held out for validation.
        split_seed: seed of the validation rows.
        download: download missing files.
        binarize: pixels of grey images are 1 with the grey value as the probability, drawn anew at each step of
            training, and once, from a fixed seed, for everything else (Salakhutdinov & Murray 2008).

    Raises:
        ConfigError: an unknown `dataset`, a fraction outside (0, 1), `binarize` for images in colour.
        DataError: files are missing and cannot be downloaded, or are truncated or damaged.
    """
    require(dataset in _SOURCES, "dataset", dataset, f"must be one of {', '.join(_SOURCES)}")
    folder, source = Path(root).expanduser(), _SOURCES[dataset]
    missing = [name for name in source.files if not _locate(folder, name).is_file()]
    if missing and download:
        _download(dataset, folder, missing)
    elif missing:
        raise DataError(f"{dataset}: {_put(folder, missing)}, or set data.download=true")
    everything, test = source.read(dataset, folder, True), source.read(dataset, folder, False)
    if binarize:
        require(everything.tensor.shape[1] == 1, "binarize", True, f"is for grey images; {dataset} has colours")
        everything, test = (BinarizedImages.of(split, seed) for seed, split in enumerate((everything, test)))
    train, val = hold_out(everything, val_fraction, split_seed, "val_fraction")
    spec = DataSpec(dataset, Image(tuple(train.tensor.shape[1:]), 0.0, 1.0), source.classes)
    return Data(spec, train, val, test)


def _locate(folder: Path, name: str) -> Path:
    """Return the path of a file, or of its gzipped form, in which IDX files are distributed, if only that exists."""
    path, gzipped = folder / name, folder / f"{name}.gz"
    return gzipped if name.endswith("-ubyte") and gzipped.is_file() and not path.is_file() else path


def _put(folder: Path, names: list[str]) -> str:
    return f"put {', '.join(names)} into {folder}/"


def _read_idx_pair(dataset: str, folder: Path, train: bool) -> Split:
    part = f"{dataset}/raw/{'train' if train else 't10k'}"
    x = _read_idx(_locate(folder, f"{part}-images-idx3-ubyte"), ndim=3)
    labels = _locate(folder, f"{part}-labels-idx1-ubyte")
    y = _read_idx(labels, ndim=1)
    if len(x) != len(y):
        raise DataError(f"{labels}: {len(y)} labels for {len(x)} images")
    return Split(x.unsqueeze(1), y.long(), scale=1 / 255)


def _read_idx(path: Path, ndim: int) -> Tensor:
    """Read an IDX file: bytes 0, 0, 8 (uint8), ndim, each dimension as a big-endian uint32, then the values."""
    again = "delete it to download it again"
    try:
        if path.suffix == ".gz":
            raw = np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8)
        else:
            raw = np.fromfile(path, np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); {again}") from None
    start = 4 + 4 * ndim
    if len(raw) < start or raw[:4].tolist() != [0, 0, 8, ndim]:
        raise DataError(f"{path}: not an IDX file of bytes in {ndim} dimensions; {again}")
    shape = [int(size) for size in raw[4:start].view(">u4")]
    if len(raw) != start + math.prod(shape):
        size = start + math.prod(shape)
        raise DataError(f"{path}: {len(raw)} bytes where {size} are expected: truncated or damaged; {again}")
    return torch.from_numpy(raw[start:].reshape(shape))


def _read_arrays(dataset: str, folder: Path, train: bool) -> Split:
    source = _open(dataset, folder, train)
    if dataset == "SVHN":
        x, y = source.data, source.labels  # (N, C, H, W)
    else:
        x, y = source.data.transpose(0, 3, 1, 2), np.array(source.targets)  # (N, H, W, C)
    return Split(torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(y), scale=1 / 255)


def _open(dataset: str, folder: Path, train: bool, download: bool = False) -> Any:
    """Return the torchvision data set. Checksums are verified before anything is unpickled."""
    from torchvision import datasets
    from torchvision.datasets.utils import check_integrity

    kind = getattr(datasets, dataset)
    part = {"split": "train" if train else "test"} if dataset == "SVHN" else {"train": train}
    try:
        return kind(folder, download=download, **part)
    except (RuntimeError, OSError) as error:
        if download:
            raise
        if isinstance(error, OSError):
            raise DataError(f"{dataset}: {error}") from None
        if dataset == "SVHN":
            checksums = {name: md5 for _, name, md5 in kind.split_list.values()}
        else:
            listed = [*kind.train_list, *kind.test_list, (kind.meta["filename"], kind.meta["md5"])]
            checksums = {f"{kind.base_folder}/{name}": md5 for name, md5 in listed}
        bad = [name for name in _SOURCES[dataset].files if not check_integrity(folder / name, checksums[name])]
        raise DataError(
            f"{', '.join(str(folder / name) for name in bad)}: truncated or damaged (md5 differs); "
            "delete it to download it again"
        ) from None


def _download(dataset: str, folder: Path, missing: list[str]) -> None:
    """Download the missing files, first into a temporary folder.

    A failed attempt leaves no files, and parallel runs of a sweep do not write into the same files.
    """
    created = [path for path in (folder, *folder.parents) if not path.exists()]  # the deepest first
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none: a lost connection would hang forever
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as aside:
            for train in (True, False):
                _open(dataset, Path(aside), train, download=True)
            for name in missing:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(aside) / name, folder / name)
    except (OSError, RuntimeError, EOFError, zlib.error, tarfile.TarError, http.client.HTTPException) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip("<>")
        raise DataError(f"{dataset} cannot be downloaded ({reason}); {_put(folder, missing)}") from None
    finally:
        socket.setdefaulttimeout(timeout)
        for path in created:
            with suppress(OSError):  # rmdir removes empty folders only
                path.rmdir()


@dataclass(frozen=True)
class _Source:
    files: tuple[str, ...]  # what must lie under root
    classes: tuple[str, ...]
    read: Callable[[str, Path, bool], Split]  # (dataset, folder, train) -> x (N, C, H, W) uint8, y (N,) int64


def _idx(dataset: str, *classes: str) -> _Source:
    names = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return _Source(tuple(f"{dataset}/raw/{name}" for name in names), classes, _read_idx_pair)


_CIFAR10 = [f"cifar-10-batches-py/{name}" for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")]

_SOURCES = {
    "MNIST": _idx("MNIST", *"0123456789"),
    "FashionMNIST": _idx(
        "FashionMNIST",
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "KMNIST": _idx("KMNIST", "o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "CIFAR10": _Source(
        (*_CIFAR10, "cifar-10-batches-py/batches.meta"),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        _read_arrays,
    ),
    "SVHN": _Source(("train_32x32.mat", "test_32x32.mat"), tuple("0123456789"), _read_arrays),
}
