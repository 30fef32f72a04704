"""Small models and small data, and a generator that starts the same for every test."""

import atexit
import functools
import gc
import os
import runpy
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Two workers of two threads each wait for one another more than they compute. Read when numpy and torch are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Containers often set it: every command that a test starts would compile the package anew, for a second each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import composition
import hydra
import numpy as np
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.ensemble import IsolationForest
from torch import nn

from autoenc import bottlenecks, likelihoods, networks, noise, report, run
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.core import Autoencoder, Bottleneck, Likelihood
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split

sys.dont_write_bytecode = False
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a shell, whose jobs ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # started by nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


modules = 0  # that had been imported when garbage was collected last, see below
gc.disable()  # until the tests are collected
atexit.register(gc.unfreeze)  # otherwise libraries report leaks


def pytest_collection_finish() -> None:
    gc.enable()


def pytest_runtest_setup() -> None:
    """Exempt imported modules from garbage collection, which else spends a fifth of the tests' time walking them."""
    global modules
    if len(sys.modules) > modules + 100:
        modules = len(sys.modules)
        gc.collect()
        gc.freeze()


if not torch.cuda.is_available():  # seeds are kept for it, with the stack of each call: milliseconds under pytest
    torch.cuda.manual_seed_all = torch.xpu.manual_seed_all = torch.mtia.manual_seed_all = lambda seed: None

LAYOUT = ConstrainedLayoutEngine.execute
FOREST = IsolationForest.__init__.__kwdefaults__
TREES = FOREST["n_estimators"]
DRAW, CURVES = report.draw, report.figures.curves  # see `without_figures`
SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs scripts/NAME.py with arguments, in this process, since importing torch takes long: its exit code."""

    def called(name: str, *args: object) -> int:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        before, shown = signal.getsignal(signal.SIGTERM), warnings.showwarning  # which scripts replace
        try:
            with pytest.raises(SystemExit) as left:
                runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        finally:
            signal.signal(signal.SIGTERM, before)
            warnings.showwarning = shown
        return int(left.value.code or 0)

    return called


@pytest.fixture
def call(run_script: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`run_script`: its exit code, stdout, stderr."""

    def called(name: str, *args: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_script(name, *args)
        return code, *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def without_figures() -> Iterator[None]:
    """Runs end without figures, which take longer than the training of small models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw", lambda *_: None)
        patch.setattr(report.figures, "curves", lambda *_: np.zeros((1, 1, 3), np.uint8))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    """That files are flushed is tested with checkpoints; elsewhere it takes most of the time of small runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _figures_and_forests_are_rough() -> Iterator[None]:
    """Texts are not measured to lay figures out, and isolation forests have few trees: see `as_for_users`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda *_: None)
        patch.setitem(FOREST, "n_estimators", 20)
        yield


@pytest.fixture
def as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are laid out, and isolation forests have all their trees."""
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", LAYOUT)
    monkeypatch.setitem(FOREST, "n_estimators", TREES)


@pytest.fixture(scope="session", autouse=True)
def _configs_are_composed_from_kept_files() -> Iterator[None]:
    """See composition.py."""
    with pytest.MonkeyPatch.context() as patch:
        composition.from_kept_files(patch)
        yield


@pytest.fixture(scope="session")
def operators() -> Iterator[None]:
    """The exporter parses the source of its 500 operators once: half the time of exporting a small model to ONNX."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture(scope="module")
def quick_classifiers() -> Iterator[None]:
    """Classifiers that measure codes have a fixed penalty, one draw of labels and few trees; they have their tests."""
    from autoenc.apps.codes import disentanglement, features
    from autoenc.apps.generation import augment

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (features, "PENALTIES", (1.0,)),
            (augment, "PENALTIES", (1.0,)),
            (augment, "SEEDS", 1),
            (disentanglement, "TREES", 3),
        ):
            patch.setattr(module, name, value)
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def _make_model(
    bottleneck: type[Bottleneck] = bottlenecks.Deterministic,
    shape: Sequence[int] = (6,),
    latent_dim: int = 3,
    network: Callable[..., networks.Pair] = networks.mlp,
    likelihood: Likelihood | None = None,
    corruption: nn.Module | None = None,
    network_options: dict[str, object] | None = None,
    **options: object,
) -> Autoencoder:
    """A model; `options` are the bottleneck's. The mlp has one hidden layer of 8 with a smooth activation."""
    if network is networks.mlp:
        network_options = {"hidden": [8], "activation": "tanh"} | (network_options or {})
    pair = network(tuple(shape), latent_dim, **(network_options or {}))
    return Autoencoder(
        noise=corruption or noise.Identity(),
        encoder=pair.encoder,
        bottleneck=bottleneck(pair.feature_shape, latent_dim, **options),
        decoder=pair.decoder,
        likelihood=likelihood or likelihoods.Gaussian(),
    )


def _make_data(n: int = 24, val: int = 10, shape: Sequence[int] = (6,), low: float = 0.0, high: float = 1.0) -> Data:
    """Uniform random examples; the label of an example is its number in its split."""
    generator = torch.Generator().manual_seed(7)

    def split(size: int) -> Split:
        x = low + (high - low) * torch.rand(size, *shape, generator=generator)
        return Split(x, torch.arange(size))

    kind = (Image if len(shape) == 3 else Vector)(tuple(shape), low, high)
    return Data(DataSpec("tiny", kind), split(n), split(val), split(val))


@pytest.fixture
def make_model() -> Callable[..., Autoencoder]:
    return _make_model


@pytest.fixture
def make_data() -> Callable[..., Data]:
    return _make_data


def _train(folder: Path, *overrides: str) -> Path:
    schema.register()
    hidden = [] if "data=text" in overrides else ["network.hidden=[64]"]
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        checked: dict[str, Any] = config.check(
            hydra.compose("config", overrides=[*hidden, "trainer.figures=0", *overrides])
        )
    choices = {"model": overrides[0].partition("=")[2]}
    run.train(checked, folder, choices)
    return folder


@pytest.fixture(scope="session")
def train_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a run with these overrides, the first of them `model=...`; with figures by `trainer.figures=1` only."""

    def trained(*overrides: str) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "draw", DRAW)
            patch.setattr(report.figures, "curves", CURVES)
            return _train(tmp_path_factory.mktemp("runs") / "run", *overrides)

    return trained


@pytest.fixture(scope="session")
def vae_run(train_run: Callable[..., Path]) -> Path:
    return train_run("model=vae", "model.latent_dim=8", "trainer.epochs=20", "trainer.figures=1")


@pytest.fixture(scope="session")
def ae_run(train_run: Callable[..., Path]) -> Path:
    return train_run("model=ae", "model.latent_dim=8", "trainer.epochs=20", "trainer.figures=1")


@pytest.fixture(scope="session")
def dae_run(train_run: Callable[..., Path]) -> Path:
    return train_run("model=dae", "model.latent_dim=32", "trainer.epochs=20", "noise.std=0.3")


@pytest.fixture(scope="session")
def cvae_run(train_run: Callable[..., Path]) -> Path:
    small = ["network.hidden=[32]", "model.latent_dim=2", "trainer.device=cpu", "optimizer.lr=0.003"]
    return train_run("model=cvae", *small, "trainer.epochs=15")


@pytest.fixture(scope="session")
def table_run(train_run: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors with labels: 8 columns on a 3-dimensional subspace, standard deviation near 1, two classes."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 600)
    z = random.normal(size=(600, 3)) + 2 * y[:, None]
    x = z @ random.normal(size=(3, 8)) / 2 + 0.05 * random.normal(size=(600, 8))
    path = tmp_path_factory.mktemp("data") / "table.npz"
    np.savez(path, x=x.astype(np.float32), y=y)
    return train_run(
        "model=ae", "model.latent_dim=3", "data=arrays", f"data.path={path}", "likelihood=gaussian", "trainer.epochs=60"
    )


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a run that a test may write into."""
    return lambda path: Path(shutil.copytree(path, tmp_path / "copy"))
