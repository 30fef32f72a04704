"""A classifier of a data set, in whose features samples are compared with data."""

from __future__ import annotations

import itertools
import math
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from autoenc.apps.codes.features import known_labels
from autoenc.core import UNLABELLED
from autoenc.data.split import shuffled_indices
from autoenc.errors import DataError, UserError, one_line
from autoenc.files import shortened, write_json
from autoenc.loading import Run
from autoenc.screen import track
from autoenc.seeds import seeded
from autoenc.training import checkpoint

FOLDER = Path("outputs", "classifiers")  # a folder for each training split, named by its fingerprint
FEATURES = 128
BATCH, LR, SEED = 128, 1e-3, 0


def network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Return layers from x (N, *shape) to features (N, 128), and from these to logits: two parts, initialized."""
    with seeded(SEED):
        if len(shape) == 3:
            depth, *sides = shape
            height, width = (min(7, -(-side // 4)) for side in sides)
            layers: list[nn.Module] = [nn.Conv2d(depth, 32, 5, stride=2, padding=2), nn.ReLU()]
            layers += [nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d((height, width))]
            layers += [nn.Flatten(), nn.Linear(64 * height * width, FEATURES), nn.ReLU()]
        else:
            layers = [nn.Flatten(), nn.Linear(math.prod(shape), 256), nn.ReLU(), nn.Linear(256, FEATURES), nn.ReLU()]
        return nn.Sequential(nn.Sequential(*layers), nn.Linear(FEATURES, classes))


@dataclass(frozen=True)
class Classifier:
    """A network trained on the training split of a data set, with its accuracy on the test split."""

    layers: nn.Sequential
    accuracy: float
    name: str  # of the data set

    @property
    def numbers(self) -> dict[str, Any]:
        """The contents of classifier.json."""
        return {"data": self.name, "accuracy": self.accuracy, "features": FEATURES}

    @property
    def text(self) -> str:
        """Name for messages."""
        return f"{FEATURES} features of a classifier of {self.name}, test accuracy {self.accuracy:.4f}"

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Return the most likely classes: (N, *shape) -> (N,)."""
        device = next(self.layers.parameters()).device
        return self.layers[1](torch.from_numpy(self.features(x)).to(device)).argmax(1).cpu().numpy()

    @torch.no_grad()
    def features(self, x: np.ndarray) -> np.ndarray:
        """Return the last hidden layer: (N, *shape) -> (N, 128)."""
        device = next(self.layers.parameters()).device
        parts = torch.from_numpy(x).float().split(1_000)
        return torch.cat([self.layers[0](part.to(device)).cpu() for part in parts]).numpy()


def folder(run: Run) -> Path:
    """Return where the classifier of the run's training split and its labels, those of the reference, is kept."""
    fingerprint = run.data.train.fingerprint() if run.fingerprint is None else run.fingerprint
    if (y := run.reference.labels) is not None:
        labels = zlib.crc32(y.astype(np.int64).tobytes(), fingerprint)
        fingerprint = zlib.crc32("\n".join(run.spec.classes).encode(), labels)
    name = re.sub(r"[^\w.-]+", "_", run.spec.name)  # of a run from another person, it may be a path
    return FOLDER / f"{shortened(name[:80])}_{fingerprint:08x}"


def inputs(run: Run, x: np.ndarray) -> np.ndarray:
    """Return rows (N, D) as the classifier is fed them: (N, *shape)."""
    return run.spec.kind.comparable(x).reshape(-1, *run.spec.shape)


def train(run: Run, steps: int = 2_000) -> Classifier:
    """Train a classifier on the data of a run: two convolutions for images, a hidden layer of 256 for other data.

    Adam with a cosine schedule, without augmentation; nothing is chosen on the test split.

    Raises:
        UserError: no labels, or token ids.
    """
    if not run.spec.kind.continuous:
        raise UserError(f"{run.path}: {run.spec.name} has token ids; the classifier is for numbers")
    y, y_test = (torch.from_numpy(labels) for labels in known_labels(run))
    known = y != UNLABELLED
    x, x_test = (torch.from_numpy(inputs(run, split.rows())) for split in (run.data.train, run.known_test()))
    x, y = x[known], y[known]
    layers = network(run.spec.shape, len(run.spec.classes)).to(run.device)
    optimizer = torch.optim.Adam(layers.parameters(), lr=LR, fused=True)
    epochs = (shuffled_indices(len(x), BATCH, SEED, epoch) for epoch in itertools.count())
    batches = itertools.islice(itertools.chain.from_iterable(epochs), steps)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for index in track(list(batches), "training the classifier"):
        loss = F.cross_entropy(layers(x[index].to(run.device)), y[index].to(run.device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    classifier = Classifier(layers.eval().requires_grad_(False), 0.0, run.spec.name)
    return replace(classifier, accuracy=float((classifier.predict(x_test.numpy()) == y_test.numpy()).mean()))


def save(classifier: Classifier, where: Path) -> None:
    """Write classifier.pt, whole or not at all, and its numbers as JSON."""
    where.mkdir(parents=True, exist_ok=True)
    checkpoint.save(where / "classifier.pt", {"layers": classifier.layers.state_dict(), **classifier.numbers})
    write_json(where / "classifier.json", classifier.numbers)


def load(run: Run) -> Classifier | None:
    """Return the classifier of the run's data; None if none was trained.

    Raises:
        DataError: it is damaged, or does not fit the data.
    """
    path = folder(run) / "classifier.pt"
    if not path.exists():
        return None
    state = checkpoint.load(path)
    layers = network(run.spec.shape, len(run.spec.classes))
    try:
        layers.load_state_dict(state["layers"])
        found = Classifier(layers.to(run.device).eval(), float(state["accuracy"]), str(state["data"]))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(f"{path}: does not fit {run.spec.name} ({one_line(error)}); delete it") from None
    return found
