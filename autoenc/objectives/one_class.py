"""One-class objectives: codes of normal examples lie near a fixed center, and the distance is the anomaly score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from autoenc.core import UNLABELLED, Autoencoder, Batch, Loss, Output, Regularizer, Verdict
from autoenc.errors import ConfigError, require
from autoenc.objective import Objective
from autoenc.priors import Center

BOUNDED = (nn.Sigmoid, nn.Tanh)
EPS = 1e-6  # in the inverse distance, as in the authors' code
CONSTANT = 1e-3  # relative spread of the distances


class OneClass(Objective):
    """Deep SVDD: the mean of |z - c|^2 (Ruff et al. 2018, eq. 4; the weight decay is the optimizer's).

    The constant code z = c has no error, and is what a network with biases or bounded activations learns (propositions
    2 and 3): both are refused. The decoder learns to reconstruct from the code without changing it, so that one can see
    what the code still holds; `nll` is no part of the loss.
    """

    reads_prior = "density"
    score = "prior"
    judges_code = True
    units: ClassVar[Mapping[str, str]] = {"loss": ""}  # a squared distance
    meaningless = ("active_units",)  # small codes are what it trains

    def check(self, model: Autoencoder) -> None:
        if not isinstance(model.bottleneck.prior, Center):
            raise ConfigError("", None, "needs a fixed center: prior=center")
        for part in (model.encoder, model.bottleneck):
            for name, module in part.named_modules():
                if getattr(module, "bias", None) is not None:
                    why = f"layer {name} of the encoder has biases, with which the code collapses to the center"
                    remedy = "network.encoder_bias=false network.norm=none model.bottleneck.bias=false"
                    raise ConfigError("", None, f"{why}; {remedy}")
                if isinstance(module, BOUNDED):
                    why = "the encoder has bounded activations, with which the code collapses"
                    raise ConfigError("", None, f"{why}; network.activation=leaky_relu")

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        prior = model.bottleneck.prior
        assert isinstance(prior, Center), "see check"
        apart = replace(out, nll=model.nll(out.code.z.detach(), batch))
        loss = super().losses(model, batch, apart, step)
        distance = prior.distance(out.code.z)
        term = self.of_distance(distance, batch).mean()
        nll = apart.nll.mean().detach()
        parts = loss.parts | {"loss": loss.parts["loss"] - nll + term.detach()}
        if self.training:
            parts |= {"distance": distance.mean().detach(), "distance_sd": distance.std(correction=0).detach()}
        else:
            wide = distance.detach().double()
            parts |= {"distance": wide.mean(), "distance_square": wide.square().mean()}
        return Loss(total={"model": loss.total["model"] + term}, parts=parts)

    def of_all(self, means: dict[str, float]) -> dict[str, float]:
        variance = means.pop("distance_square") - means["distance"] ** 2
        return means | {"distance_sd": math.sqrt(max(variance, 0.0))}

    def of_distance(self, distance: Tensor, batch: Batch) -> Tensor:
        """Return the loss of each example, (B,)."""
        return distance

    def diagnosis(self, numbers: Mapping[str, float]) -> Verdict:
        mean, spread = numbers["distance"], numbers["distance_sd"]
        relative = spread / mean if mean > 0 else 0.0
        text = f"distance from the center {mean:.3g}, standard deviation {spread:.2g}"
        if relative < CONSTANT:
            why = "all examples have the same distance, and the scores say nothing"
            return Verdict(False, f"The code has collapsed: {text}; {why}; try a smaller optimizer.lr or fewer epochs")
        return Verdict(True, f"The distances differ between examples: {text}")


class DeepSAD(OneClass):
    """Deep SAD: Deep SVDD with some labels (Ruff et al. 2020, eq. 7).

        unlabelled examples     |z - c|^2
        labelled normal ones    eta |z - c|^2
        labelled anomalies      eta / |z - c|^2

    `labels=N` keeps the labels of N training rows. In evaluation every example counts as unlabelled.

    Args:
        class_names: those of the data.
        anomalies: those of them that are anomalies.
        left_out: those of them that have no training rows.
        eta: weight of the labelled examples.
    """

    def __init__(
        self,
        regularizers: Mapping[str, Regularizer],
        class_names: tuple[str, ...],
        anomalies: Sequence[str | int] = (),
        eta: float = 1.0,
        left_out: Sequence[str] = (),
    ):
        super().__init__(regularizers)
        names = [str(name) for name in anomalies]
        known = ", ".join(class_names) or "none: the data have no labels"
        require(len(names) > 0, "anomalies", list(anomalies), f"name the classes that are anomalies; there are {known}")
        for name in names:
            require(name in class_names, "anomalies", name, f"is not among the classes: {known}")
        for name in names:
            why = "has no training rows, as anomaly_classes or normal_classes leave it out; a known anomaly stays in"
            require(name not in left_out, "anomalies", name, why)
        require(len(set(names)) < len(class_names), "anomalies", names, "one class or more must be normal")
        require(eta > 0, "eta", eta, "must be above 0")
        self.eta, self.anomalies = eta, tuple(names)
        self.register_buffer("anomalous", torch.tensor([name in names for name in class_names]), persistent=False)

    def of_distance(self, distance: Tensor, batch: Batch) -> Tensor:
        if batch.y is None or not self.training:
            return distance
        assert isinstance(self.anomalous, Tensor)
        anomaly = self.anomalous[batch.y.clamp(min=0)]
        labelled = self.eta * torch.where(anomaly, 1 / (distance + EPS), distance)
        return torch.where(batch.y == UNLABELLED, distance, labelled)
