"""VQGAN (Esser et al. 2021): a critic of patches and a perceptual distance make reconstructions sharp."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, weight_at
from autoenc.data.split import Split
from autoenc.errors import ConfigError, require
from autoenc.metrics import mmd
from autoenc.objective import Objective
from autoenc.objectives.perceptual import PerceptualNetwork, Task

KERNEL = 4
EPS = 1e-6  # delta of eq. 7


class PatchCritic(nn.Module):
    """PatchGAN (Isola et al. 2017): images (B, C, H, W) -> (B, H', W') logits, one for each of overlapping patches.

    Convolutions of stride 2, one for each entry of `channels` but the last, then two of stride 1; kernels of 4 with a
    padding of 1. Patches have 16 pixels with two entries, 34 with three and 70, as in the paper, with four.

    Args:
        channels: of each convolution but the last, which gives the logits.
    """

    def __init__(self, input_shape: tuple[int, ...], channels: Sequence[int] = (32, 64)):
        super().__init__()
        require(len(channels) >= 2 and min(channels) >= 1, "channels", list(channels), "must be two widths or more")
        if len(input_shape) != 3:
            raise ConfigError("", None, "the critic of patches needs images; model=vqvae does without")
        depth, *size = input_shape
        strides = [2] * (len(channels) - 1) + [1]
        height, width = (math.floor(side / 2 ** (len(channels) - 1)) - 2 for side in size)
        why = f"too many for images of {size[0]}x{size[1]}, which no patch would be left of; leave out the last"
        require(min(height, width) >= 1, "channels", list(channels), why)
        layers: list[nn.Module] = []
        for i, (n_in, n_out) in enumerate(itertools.pairwise((depth, *channels))):
            layers.append(nn.Conv2d(n_in, n_out, KERNEL, strides[i], padding=1))
            layers += [nn.GroupNorm(math.gcd(8, n_out), n_out)] if i > 0 else []
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, KERNEL, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1).float()


def last_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of the last layer of a decoder."""
    return [p for p in module.parameters() if p.dim() > 1][-1]


def adaptive_weight(reconstruction: Tensor, generator: Tensor, weight: Tensor) -> Tensor:
    """Return lambda of eq. 7, the ratio of the norms of two gradients with respect to a weight, a constant ()."""
    norms = [torch.autograd.grad(term, weight, retain_graph=True)[0].norm() for term in (reconstruction, generator)]
    return norms[0] / (norms[1] + EPS)


def linearized(term: Tensor, params: Tensor) -> Tensor:
    """Return a scalar with the gradient of a term with respect to the output of the decoder, and with that only.

    Backward passes through it do not repeat that of the networks which the term is computed by.
    """
    if not torch.is_grad_enabled():
        return term
    return (params * torch.autograd.grad(term, params, retain_graph=True)[0]).sum()


class VQGAN(Objective):
    """Two players, updated simultaneously (Esser et al. 2021, sec. 3.1):

        model    nll + regularizers + perceptual * D d(x, x~) + weight * lambda * E[-C(x~)]
        critic   E[max(0, 1 - C(x))] + E[max(0, 1 + C(x~))]: the hinge loss, 2 where it cannot tell

    x~ is the reconstruction, d the distance in the features of a `PerceptualNetwork`, and D the number of dimensions of
    x, as nll is a sum over them. The adaptive weight (eq. 7) gives both terms gradients of the same norm in the last
    layer W of the decoder:

        lambda = |grad_W [nll + perceptual * D d]| / (|grad_W E[-C(x~)]| + 1e-6)

    The critic takes part from the fraction `start` of the training on. `loss` leaves it out, since its terms are not
    comparable between steps. The perceptual network is trained on the training split before the first step.

    In evaluation, `feature_mmd` compares reconstructions with images in the perceptual network, whatever the critic.

    Args:
        weight: of the critic; a number or a schedule.
        start: fraction of the training steps.
        perceptual: weight of the perceptual distance.
        channels: of the critic, see `PatchCritic`.
        task, task_steps: how the perceptual network is trained; see `PerceptualNetwork.fit`.
    """

    smallest_batch: ClassVar[int] = 2

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        input_shape: tuple[int, ...],
        total_steps: int,
        class_names: tuple[str, ...] = (),
        left_out: Sequence[str] = (),
        weight: float | Callable[[float], float] = 1.0,
        start: float = 0.2,
        perceptual: float = 1.0,
        channels: Sequence[int] = (32, 64),
        task: Task = "auto",
        task_steps: int = 1_000,
    ):
        super().__init__(regularizers)
        require(0 <= start < 1, "start", start, "must lie in [0, 1): a fraction of the training steps")
        require(0 <= perceptual < math.inf, "perceptual", perceptual, "must be 0 or more")
        require(task_steps >= 1, "task_steps", task_steps, "must be 1 or more")
        if task == "classes":
            classes = len(class_names) - len(left_out)
            why = f"needs labels of two classes or more, and the data have {classes}; rotations needs none"
            require(classes >= 2, "task", task, why)
        self.weight, self.start_step, self.perceptual = weight, start * total_steps, perceptual
        self.task, self.task_steps = task, task_steps
        self.critic = PatchCritic(input_shape, channels)
        self.network = PerceptualNetwork(input_shape)

    def players(self, model: Autoencoder) -> dict[str, nn.Module]:
        return {"model": model, "critic": self.critic}

    def start(self, train: Split, say: Callable[[str], None]) -> None:
        self.network.fit(train, self.task, self.task_steps, say)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        x = model.likelihood.mean(out.params)
        distance = self.network.distance(x, batch.x).mean()
        weighted = self.perceptual * batch.x[0].numel() * distance
        parts = loss.parts | {"loss": loss.parts["loss"] + weighted.detach(), "perceptual": distance.detach()}
        if not self.training and len(batch) > 1:
            parts["feature_mmd"] = mmd(self.network.pooled(x), self.network.pooled(batch.x))
        weighted = linearized(weighted, out.params)
        totals = {"model": loss.total["model"] + weighted}
        if step >= self.start_step:
            generator = -self.critic(x).mean()
            real, made = self.critic(batch.x), self.critic(x.detach())
            totals["critic"] = relu(1 - real).mean() + relu(1 + made).mean()
            parts |= {"generator": generator.detach(), "critic": totals["critic"].detach()}
            if torch.is_grad_enabled():
                generator = linearized(generator, out.params)
                adaptive = adaptive_weight(out.nll.mean() + weighted, generator, last_weight(model.decoder))
                parts["adaptive_weight"] = adaptive
                totals["model"] = totals["model"] + weight_at(self.weight, step) * adaptive * generator
        return Loss(totals, parts)
