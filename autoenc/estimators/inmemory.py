"""Training in memory, without files and, by default, without output."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoenc import build
from autoenc.config.composed import compose as compose
from autoenc.core import Autoencoder
from autoenc.data.dataset import Data
from autoenc.errors import Interrupted
from autoenc.run import check_monitor
from autoenc.seeds import seeded
from autoenc.start import start_prior
from autoenc.training import checkpoint
from autoenc.training.process import torch_settings
from autoenc.training.settings import TrainerSettings
from autoenc.training.tracking import Progression, Tracker
from autoenc.training.trainer import Trainer


def train(checked: Mapping[str, Any], data: Data, verbose: bool = False) -> tuple[Autoencoder, list[dict[str, Any]]]:
    """Train the model of a checked config. Return it with its best weights, and the metrics of each evaluation.

    Leaves no files and restores the random generators.

    Raises:
        UserError: the config does not suit the data. NotFinite: training diverged.
        KeyboardInterrupt, SystemExit: SIGINT or SIGTERM was received.
    """
    settings = TrainerSettings(**checked["trainer"])
    device = build.pick_device(settings.device, "device")
    with (
        torch_settings(settings),
        seeded(checked["seed"], device),
        tempfile.TemporaryDirectory(prefix="autoenc-") as folder,
    ):
        parts = build.build(checked, device, data)
        check_monitor(parts)
        progress = Progression(settings.total_steps(len(parts.data.train)), quiet=not verbose)
        start_prior(parts.model, parts.data.train, parts.settings.eval_batch_size, device, progress.line)
        parts.objective.start(parts.data.train, progress.line)
        history = _History()
        trainer = _Trainer(
            parts.model, parts.objective, parts.optimizers, parts.data, settings, checked["seed"], device, history,
            Path(folder),
        )  # fmt: skip
        try:
            trainer.fit(progress)
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
