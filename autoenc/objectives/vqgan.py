"""VQGAN (Esser et al. 2021): a critic of patches and a perceptual distance make reconstructions sharp."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from autoenc import parallel
from autoenc.core import Autoencoder, Batch, Loss, Output, Regularizer, Verdict, weight_at
from autoenc.data.kinds.kind import Kind
from autoenc.data.split import Split
from autoenc.errors import require
from autoenc.metrics import mmd
from autoenc.objectives.critic import WithCritic, watched
from autoenc.objectives.image_critic import ImageCritic
from autoenc.objectives.perceptual import TASKS, PerceptualNetwork

EPS, LARGEST = 1e-6, 1e4  # delta and the largest value of eq. 7


def hinge(real: Tensor, made: Tensor) -> Tensor:
    """Return the hinge loss of a critic from its logits of real and of made-up examples (Lim & Ye 2017)."""
    return relu(1 - real).mean() + relu(1 + made).mean()


def last_weight(module: nn.Module) -> nn.Parameter:
    """Return the weight of the last layer of a decoder."""
    return [p for p in module.parameters() if p.dim() > 1][-1]


def adaptive_weight(reconstruction: Tensor, generator: Tensor, weight: Tensor) -> Tensor:
    """Return lambda of eq. 7, the ratio of the norms of two gradients with respect to a weight, a constant ().

    At most 10,000, as in the authors' code: a critic that knows nothing has hardly any gradient.
    """
    gradients = [torch.autograd.grad(term, weight, retain_graph=True)[0] for term in (reconstruction, generator)]
    parallel.average(gradients)
    norms = [gradient.norm() for gradient in gradients]
    return (norms[0] / (norms[1] + EPS)).clamp(max=LARGEST)


def linearized(term: Tensor, params: Tensor) -> Tensor:
    """Return a scalar with the gradient of a term with respect to the output of the decoder, and with that only.

    Backward passes through it do not repeat that of the networks which the term is computed by.
    """
    if not torch.is_grad_enabled():
        return term
    return (params * torch.autograd.grad(term, params, retain_graph=True)[0]).sum()


class VQGAN(WithCritic):
    """Two players, updated simultaneously (Esser et al. 2021, sec. 3.1):

        model    nll + regularizers + perceptual * D d(x, x~) + weight * lambda * E[-C(x~)]
        critic   E[max(0, 1 - C(x))] + E[max(0, 1 + C(x~))]: the hinge loss, 2 where it cannot tell

    x~ is the reconstruction, d the distance in the features of a `PerceptualNetwork`, and D the number of dimensions of
    x, as nll is a sum over them. The adaptive weight (eq. 7) gives both terms gradients of the same norm in the last
    layer W of the decoder, so that `weight` is the ratio of the two:

        lambda = |grad_W [nll + perceptual * D d]| / (|grad_W E[-C(x~)]| + 1e-6)

    The critic takes part from the fraction `start` of the training on. `loss` leaves it out, since its terms are not
    comparable between steps. The perceptual network is trained on the training split before the first step.

    In evaluation, `feature_mmd` compares reconstructions with images in the perceptual network, whatever the critic.

    Args:
        weight: of the critic; a number or a schedule.
        start: fraction of the training steps.
        perceptual: weight of the perceptual distance.
        channels: of the critic, see `ImageCritic`.
        task, task_steps: how the perceptual network is trained; see `PerceptualNetwork.fit`.
    """

    critic: ImageCritic
    smallest_batch: ClassVar[int] = 2
    # a hinge loss, a mean of logits, and a sum with a distance
    units: ClassVar[Mapping[str, str]] = {"critic": "", "generator": "", "loss": ""}

    @classmethod
    def needed(cls, kind: Kind) -> str:
        return "" if len(kind.shape) > 1 else "images or series"

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        input_shape: tuple[int, ...],
        total_steps: int,
        class_names: tuple[str, ...] = (),
        left_out: Sequence[str] = (),
        weight: float | Callable[[float], float] = 0.5,
        start: float = 0.2,
        perceptual: float = 1.0,
        channels: Sequence[int] = (32, 64),
        task: Literal["auto", "classes", "rotations"] = "auto",
        task_steps: int = 1_000,
    ):
        super().__init__(regularizers, ImageCritic(input_shape, channels, patches=True), weight)
        require(0 <= start < 1, "start", start, "must lie in [0, 1): a fraction of the training steps")
        require(0 <= perceptual < math.inf, "perceptual", perceptual, "must be 0 or more")
        require(task in TASKS, "task", task, f"must be one of {', '.join(TASKS)}")
        require(task_steps >= 1, "task_steps", task_steps, "must be 1 or more")
        if task == "classes":
            classes = len(class_names) - len(left_out)
            why = f"needs labels of two classes or more, and the data have {classes}; rotations needs none"
            require(classes >= 2, "task", task, why)
        self.start_step, self.perceptual = start * total_steps, perceptual
        self.task, self.task_steps = task, task_steps
        self.network = PerceptualNetwork(input_shape)

    def networks(self) -> list[nn.Module]:
        return [self.critic.below, self.critic.above, self.network]

    def start(self, train: Split, say: Callable[[str], None]) -> None:
        self.network.fit(train, self.task, self.task_steps, say)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        x = model.likelihood.mean(out.params)
        distance = self.network.distance(x, batch.x).mean()
        weighted = self.perceptual * batch.x[0].numel() * distance
        parts = loss.parts | {"loss": loss.parts["loss"] + weighted.detach(), "perceptual": distance.detach()}
        if not self.training and len(batch) > 1:
            made, real = self.network.pooled(x), self.network.pooled(batch.x)
            scale = real.var(0).mean().sqrt() + EPS  # the kernels are meant for a variance of 1
            parts["feature_mmd"] = mmd(made / scale, real / scale)
        weighted = linearized(weighted, out.params)
        totals = {"model": loss.total["model"] + weighted}
        if step >= self.start_step:
            seen, gradient = watched(x)
            generator = -self.critic(seen).mean()
            real, made = self.critic(batch.x), self.critic(x.detach())
            totals["critic"] = hinge(real, made)
            parts |= {"generator": generator.detach(), **self.health(totals["critic"], real, made)}
            if torch.is_grad_enabled():
                generator = linearized(generator, out.params)
                adaptive = adaptive_weight(out.nll.mean() + weighted, generator, last_weight(model.decoder))
                factor = weight_at(self.weight, step) * adaptive
                totals["model"] = totals["model"] + factor * generator
                parts |= {"adaptive_weight": adaptive, "generator_gradient": factor * gradient["generator_gradient"]}
        return Loss(totals, parts)

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        won = "a smaller model.players.critic.lr or a smaller model.objective.start"
        return self.judged(numbers, "patches of images and of reconstructions", won)
