"""Training in memory, without files and, by default, without output."""

from __future__ import annotations

import copy
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf.errors import OmegaConfBaseException

from autoenc import build
from autoenc.config import checks as config
from autoenc.config.messages import hydra_message
from autoenc.core import Autoencoder
from autoenc.data.dataset import Data
from autoenc.errors import Interrupted, UserError
from autoenc.run import check_monitor
from autoenc.training import checkpoint
from autoenc.training.process import seeded, torch_settings
from autoenc.training.settings import TrainerSettings
from autoenc.training.tracking import Progression, Tracker
from autoenc.training.trainer import Trainer


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose and check the config for these overrides, as train.py does.

    Raises:
        UserError: an invalid key, option or value.
    """
    return copy.deepcopy(_compose(tuple(overrides)))


@lru_cache(maxsize=128)
def _compose(overrides: tuple[str, ...]) -> dict[str, Any]:
    """Cached: composing takes 0.25 s, as long as a small training, and all folds of a search use the same config."""
    config.register()
    with _hydra_aside():
        try:
            with hydra.initialize_config_dir(str(config.CONFIGS), version_base="1.3"):
                composed = hydra.compose("config", overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise UserError(hydra_message(error, list(overrides))) from None
    checked = config.check(composed)
    config.check_terms(checked["regularizer"], overrides)
    return checked


_lock = threading.Lock()


@contextmanager
def _hydra_aside() -> Iterator[None]:
    """Reset Hydra's global state, and restore it afterwards for callers that use Hydra."""
    kinds: tuple[type, ...] = (GlobalHydra, VersionBase, JobRuntime)
    with _lock:
        before = {kind: Singleton._instances.pop(kind) for kind in kinds if kind in Singleton._instances}
        try:
            yield
        finally:
            for kind in kinds:
                Singleton._instances.pop(kind, None)
            Singleton._instances.update(before)


def train(checked: Mapping[str, Any], data: Data, verbose: bool = False) -> tuple[Autoencoder, list[dict[str, Any]]]:
    """Train the model of a checked config. Return it with its best weights, and the metrics of each evaluation.

    Leaves no files and restores the random generators.

    Raises:
        UserError: the config does not suit the data. NotFinite: training diverged.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM was received.
    """
    settings = TrainerSettings(**checked["trainer"])
    device = build.pick_device(settings.device, "device")
    with torch_settings(settings), seeded(checked["seed"]), tempfile.TemporaryDirectory(prefix="autoenc-") as folder:
        parts = build.build(checked, device, data)
        check_monitor(parts)
        history = _History()
        trainer = _Trainer(
            parts.model, parts.objective, parts.optimizers, parts.data, settings, checked["seed"], device, history,
            Path(folder),
        )  # fmt: skip
        try:
            trainer.fit(Progression(trainer.total_steps) if verbose else _Silence())
        except Interrupted as error:
            raise (KeyboardInterrupt if error.signum == signal.SIGINT else SystemExit(128 + error.signum)) from None
        parts.model.load_state_dict(checkpoint.load(Path(folder) / "best.pt", device)["model"])
    return parts.model.eval(), history.lines


class _Trainer(Trainer):
    def save(self) -> None:
        """Do nothing: this training is never resumed."""


class _History(Tracker):
    """A tracker that keeps the lines of metrics.jsonl in memory."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def scalars(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        pass

    def evaluation(self, split: str, step: int, epoch: float, values: Mapping[str, float | list[float]]) -> None:
        self.lines.append({"step": step, "epoch": epoch, "split": split, **values})


class _Silence(Progression):
    """A progress display without output."""

    def __init__(self) -> None:
        pass

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def update(self, step: int, epoch: int, numbers: Mapping[str, float], rate: float) -> None:
        pass

    def line(self, text: str) -> None:
        pass
