"""Semi-supervised model M2 (Kingma et al. 2014): labels where there are any, the sum over classes elsewhere."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.conditions import InferredLabels
from autoenc.core import UNLABELLED, Autoencoder, Batch, Loss, Output, Regularizer, weight_at
from autoenc.errors import ConfigError, require
from autoenc.objective import Objective


class SemiSupervised(Objective):
    """The bound of Kingma et al. 2014, eq. 6 to 9, with a uniform p(y) over C classes:

        L(x, y) = nll(x | z, y) + regularizers (the KL) + log C                   of labelled rows
        U(x)    = sum_y q(y|x) (L(x, y) + log q(y|x))                             of all others
        loss    = mean of L and U over all rows + alpha * mean of -log q(y|x) over the labelled rows

    Labelled rows reach the classifier by the last term alone. In evaluation, every row counts as unlabelled: `loss` is
    the bound U, whatever labels a split has.

    Args:
        alpha: weight of the classification loss; 0.1 in the paper.
        labelled: fraction of the training rows that have a label.
    """

    infers_labels = True

    def __init__(self, regularizers: Mapping[str, Regularizer], alpha: float = 10.0, labelled: float = 1.0):
        super().__init__(regularizers)
        require(alpha >= 0, "alpha", alpha, "must be 0 or more")
        self.alpha, self.labelled = alpha, labelled

    def check(self, model: Autoencoder) -> None:
        if not isinstance(model.condition, InferredLabels):
            raise ConfigError("", None, "needs a condition that infers labels, as model=m2 has")
        if not model.bottleneck.has_posterior:
            raise ConfigError("", None, "needs a posterior; the bottleneck Gaussian has one")
        for name, term in self.regularizers.items():
            if term.double_backward:
                raise ConfigError("", None, f"cannot sum regularizer {name} over classes, which encodes by itself")
            if term.smallest_batch > 1:
                raise ConfigError(
                    "", None, f"cannot sum regularizer {name} over classes: it compares the codes of a batch"
                )

    def forward(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        """Corrupt the batch in training mode, and return the loss, which runs the model once for each class."""
        return self.of_classes(model, self.corrupted(model, batch), step)

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        return self.of_classes(model, batch, step)

    def of_classes(self, model: Autoencoder, batch: Batch, step: float) -> Loss:
        """Return the loss of a corrupted batch."""
        condition = model.condition
        assert isinstance(condition, InferredLabels), "see check"
        log_q = condition.log_q(model.visible(batch))  # (B, C)
        y = None if batch.y is None or not self.training else batch.y
        weight = log_q.exp()
        class_term = math.log(condition.classes) + (weight * log_q).sum(1)  # log C - H(q(y|x))
        if y is not None:
            known = y != UNLABELLED
            given = F.one_hot(y.clamp(min=0), condition.classes).to(weight.dtype)
            weight = torch.where(known[:, None], given, weight)
            class_term = torch.where(known, math.log(condition.classes), class_term)
        terms = {name: (weight * term).sum(1).mean() for name, term in self.terms(model, batch, step).items()}
        terms["class_kl"] = class_term.mean()
        scale = {name: weight_at(self.regularizers[name].weight, step) for name in self.regularizers}
        if y is not None:
            chosen = log_q.gather(1, y.clamp(min=0)[:, None]).squeeze(1)
            # Divided by the expected number of labelled rows of a batch: few batches may have one.
            terms["classification"] = -torch.where(known, chosen, 0.0).sum() / (self.labelled * len(batch))
            scale["classification"] = self.alpha
        loss = functools.reduce(torch.add, (scale.get(name, 1.0) * term for name, term in terms.items()))
        parts = {"loss": loss} | terms
        return Loss(total={"model": loss}, parts={name: term.detach() for name, term in parts.items()})

    def terms(self, model: Autoencoder, batch: Batch, step: float) -> dict[str, Tensor]:
        """Return nll, the bottleneck's losses and the regularizers given each class: name -> (B, C)."""
        condition = model.condition
        assert condition is not None, "see check"
        size, count = len(batch), condition.classes
        y = torch.arange(count, device=batch.x.device).repeat(size)  # row i stands at i * C to i * C + C - 1
        every = Batch(batch.x.repeat_interleave(count, 0), y)
        if batch.corrupted is not None:
            every = replace(every, corrupted=batch.corrupted.repeat_interleave(count, 0))
        features = model.encoder(model.visible(batch).input).repeat_interleave(count, 0)
        code = model.bottleneck(condition.join(features, y, features.dim() - 1))
        params = model.decode(code.z, every, y)
        out = Output(code, params, model.likelihood.nll(params.float(), every.x))
        found = {"nll": out.nll} | code.losses
        found |= {name: term(model, every, out, step) for name, term in self.regularizers.items()}
        for name, values in found.items():
            if values.shape != (size * count,):
                why = "is a number of the whole batch, and the objective sums over the classes of each example"
                raise ConfigError(f"regularizer={name}", None, why)
        return {name: values.unflatten(0, (size, count)) for name, values in found.items()}
