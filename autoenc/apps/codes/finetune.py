"""Fine-tuning of an encoder as a classifier, compared with the same network trained from scratch."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc import build
from autoenc.apps.codes.features import few_labels, need_labels
from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.screen import track
from autoenc.seeds import seeded
from autoenc.training.process import as_trained

LABELS = (100, 1_000)  # numbers of labels to compare with


class Classifier(nn.Module):
    """Encoder, deterministic code, batch normalization, linear layer."""

    def __init__(self, model: Autoencoder, latent_dim: int, classes: int):
        super().__init__()
        self.model = model
        self.head = nn.Sequential(nn.BatchNorm1d(latent_dim), nn.Linear(latent_dim, classes))

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.model.encode(batch).mean.flatten(1))


@dataclass(frozen=True)
class Comparison:
    """Test accuracies with `labels` labels, one for each seed of labels, initial weights and batches."""

    labels: int
    pretrained: list[float]
    scratch: list[float]

    def numbers(self) -> dict[str, float]:
        """Return means and standard deviations over the seeds, and the mean margin with its 95% interval.

        margin_half_width is half the width of Student's interval of the paired differences. With one seed there is
        neither a standard deviation nor an interval.
        """
        from scipy.stats import t

        margins, n = np.subtract(self.pretrained, self.scratch), len(self.pretrained)
        numbers = {
            "pretrained": float(np.mean(self.pretrained)),
            "scratch": float(np.mean(self.scratch)),
            "margin": float(margins.mean()),
        }
        if n < 2:
            return numbers
        return numbers | {
            "pretrained_std": float(np.std(self.pretrained, ddof=1)),
            "scratch_std": float(np.std(self.scratch, ddof=1)),
            "margin_half_width": float(t.ppf(0.975, n - 1) * margins.std(ddof=1) / np.sqrt(n)),
        }


def default_labels(run: Run) -> list[int]:
    """Return the numbers in LABELS, each at most half of the labels that the run's data has."""
    most = int((need_labels(run)[0] != UNLABELLED).sum()) // 2
    return sorted({min(size, most) for size in LABELS})


def finetune(
    run: Run, labels: Sequence[int] = (100, 1_000), seeds: int = 5, steps: int = 300, lr: float = 1e-3
) -> list[Comparison]:
    """Train classifiers on few labels, from the run's weights and from new ones; everything else is the same.

    Adam with batches of up to 64 for `steps` steps and a cosine schedule. Draws of labels are stratified by class.
    Precision and threads are those of the run's training.

    Raises:
        UserError: no labels, or too few.
    """
    y, _ = need_labels(run)
    jobs = []
    for size in labels:
        draws = few_labels(y, size, seeds, most=1.0)
        if len(draws) < seeds:
            known = y[y != UNLABELLED]
            classes = len(np.unique(known))
            why = f"{len(known):,} labelled training examples of {classes} classes, each of which needs two"
            most = f"{len(known) - classes:,}"
            raise UserError(f"--labels {size}: must lie in {classes} to {most}: {run.spec.name} has {why}")
        jobs += [(size, seed, index) for seed, index in enumerate(draws)]
    comparisons = {size: Comparison(size, [], []) for size in labels}
    mean = run.data.mean()
    with as_trained(run.config, run.device) as precision:
        for size, seed, index in track(jobs, "fine-tuning"):
            split, found = run.data.train.subset(torch.from_numpy(index)), comparisons[size]
            for start, accuracies in (("pretrained", found.pretrained), ("scratch", found.scratch)):
                with seeded(seed, run.device):
                    pretrained = start == "pretrained"
                    model = copy.deepcopy(run.model) if pretrained else build.build_model(run.config, run.spec, mean)
                    accuracies.append(_accuracy(run, model, split, steps, lr, precision))
    return list(comparisons.values())


def _accuracy(
    run: Run, model: Autoencoder, split: Split, steps: int, lr: float, precision: AbstractContextManager[Any]
) -> float:
    """Return the test accuracy of a classifier trained on the split, its forward passes in a precision."""
    network = Classifier(model, run.latent_dim, len(run.spec.classes)).to(run.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    on_device = split.on(run.device)
    seed = int(torch.randint(2**31, ()))
    batches = (batch for epoch in itertools.count() for batch in on_device.shuffled(64, seed, epoch))
    # Batch normalization needs two examples.
    for batch in itertools.islice((batch for batch in batches if len(batch) > 1), steps):
        assert batch.y is not None
        with precision:
            logits = network(batch)
        loss = F.cross_entropy(logits.float(), batch.y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    hits = run.over(run.known_test(), lambda batch: (network(batch).argmax(1) == batch.y).float())
    return float(hits.mean())
