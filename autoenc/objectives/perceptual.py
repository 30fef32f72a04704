"""Perceptual distance (Johnson et al. 2016): in the features of a network that is trained on the same examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import UNLABELLED
from autoenc.data.split import Split
from autoenc.errors import ConfigError
from autoenc.networks.conv import CONV
from autoenc.seeds import seeded

TASKS = ("auto", "classes", "rotations")
TURNS = 4
BATCH, LR, SEED = 128, 1e-3, 0
LAST = 50  # steps over which the accuracy is averaged
EPS = 1e-3  # least norm that is scaled to 1: features of an empty region are noise


class PerceptualNetwork(nn.Module):
    """Stages of convolutions, each after the first halving height and width; frozen once `fit` has trained them.

    In the papers the network is a VGG of ImageNet; this one learns from the training split, and is stored with the
    weights of the objective. It does not depend on the seed or the sizes of the model, so that runs of the same data
    and task share it.

    Args:
        channels: of each stage.
    """

    @seeded(SEED)
    def __init__(self, input_shape: tuple[int, ...], channels: Sequence[int] = (16, 32, 64)):
        super().__init__()
        self.dims = len(input_shape) - 1
        if self.dims not in CONV:
            raise ConfigError("", None, "a perceptual distance needs images or series")
        self.stages = nn.ModuleList(
            nn.Sequential(CONV[self.dims](n_in, n_out, 3, stride=1 if i == 0 else 2, padding=1), nn.ReLU())
            for i, (n_in, n_out) in enumerate(itertools.pairwise((input_shape[0], *channels)))
        )
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of each stage: (B, *input_shape) -> (B, C, H, W) each."""
        return list(itertools.accumulate(self.stages, lambda h, stage: stage(h), initial=x))[1:]

    def distance(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the squared distance of features of length 1 at each position: (B, *input_shape) twice -> (B,).

        A mean over positions and stages, from 0 to 2: LPIPS (Zhang et al. 2018, eq. 1) with equal weights. The target
        gets no gradient.
        """
        with torch.no_grad():
            targets = self(target)
        pairs = zip(self(x), targets, strict=True)
        units = ((F.normalize(a.float(), eps=EPS), F.normalize(b.float(), eps=EPS)) for a, b in pairs)
        return torch.stack([(a - b).square().sum(1).flatten(1).mean(1) for a, b in units]).mean(0)

    def pooled(self, x: Tensor) -> Tensor:
        """Return means over the positions of the last stage: (B, *input_shape) -> (B, C)."""
        return self(x)[-1].float().flatten(2).mean(2)

    def fit(self, train: Split, task: str, steps: int, say: Callable[[str], None]) -> None:
        """Train the stages, then freeze them.

        Args:
            task: classes: of the labelled rows; rotations: which of the four ways of `turned` an example is turned
                (Gidaris et al. 2018), which needs no labels; auto: classes if all rows are labelled, and not the same.
        """
        with seeded(SEED, next(self.parameters()).device):
            self._fit(train, task, steps, say)

    def _fit(self, train: Split, task: str, steps: int, say: Callable[[str], None]) -> None:
        y = train.y
        if task == "auto":
            labelled = y is not None and len(y) > 0 and bool((y != UNLABELLED).all()) and bool((y != y[0]).any())
            task = "classes" if labelled else "rotations"
        outputs = TURNS
        if task == "classes":
            assert y is not None, "see VQGAN"
            train, outputs = train.labelled(), int(y.max()) + 1
        say(f"perceptual network: training on {task}, {steps:,} steps")
        weight = next(self.parameters())
        width = self.stages[-1][0].out_channels  # type: ignore[index, union-attr]
        pool = nn.AdaptiveAvgPool2d(2) if self.dims == 2 else nn.AdaptiveAvgPool1d(4)
        head = nn.Sequential(pool, nn.Flatten(), nn.Linear(4 * int(width), outputs)).to(weight.device)
        self.requires_grad_(True)
        optimizer = torch.optim.Adam([*self.parameters(), *head.parameters()], lr=LR, fused=True)
        turns = 1 if task == "classes" else TURNS
        epochs = (train.shuffled(BATCH // turns, SEED, epoch) for epoch in itertools.count())
        hits: list[Tensor] = []
        for batch in itertools.islice(itertools.chain.from_iterable(epochs), steps):
            logits = torch.cat([head(self(turned(batch.x, k))[-1]) for k in range(turns)])
            turn = torch.arange(turns, device=logits.device).repeat_interleave(len(batch))
            labels = batch.y if task == "classes" else turn
            assert labels is not None
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            hits.append((logits.argmax(1) == labels).float().mean().detach())
        self.requires_grad_(False)
        say(f"perceptual network: accuracy {float(torch.stack(hits[-LAST:]).mean()):.3f} in the last steps")


def turned(x: Tensor, k: int) -> Tensor:
    """Return images (B, C, H, W) turned by k times 90 degrees; series (B, C, T) as they are, backwards, upside down, or
    both."""
    if x.dim() == 4:
        return torch.rot90(x, k, (2, 3))
    x = x.flip(2) if k % 2 else x
    return -x if k >= 2 else x
