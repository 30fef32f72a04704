"""Conditions: the labels that encoder and decoder are conditioned on; see core.Condition."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import UNLABELLED, Batch, Condition
from autoenc.errors import ConfigError, UserError, require


class Labels(Condition):
    """q(z|x, y) and p(x|z, y), with an embedding of the given label (Sohn et al. 2015).

    p(z) does not depend on y, as in model M2 of Kingma et al. 2014: z is what the class does not determine, the style.
    Codes are computed from the labels, so that measures of how well they predict the labels mean nothing.

    Args:
        width: of the embedding.
    """

    def __init__(self, num_classes: int, width: int = 16):
        super().__init__()
        require(width >= 1, "width", width, "must be 1 or more")
        self.size, self.classes = width, num_classes
        self.embedding = nn.Embedding(num_classes, width)

    def embed(self, y: Tensor) -> Tensor:
        return self.embedding(y)

    def labels(self, batch: Batch) -> Tensor:
        if batch.y is None:
            raise UserError(
                "the model is conditional and needs the label of every row; these rows have none: new files have them "
                "as an array y beside x (.npz), or in the column of data.label"
            )
        return batch.y

    def check(self, labels: dict[str, Tensor | None]) -> None:
        for name, y in labels.items():
            if y is None:
                raise ConfigError("", None, f"needs the label of every row; the {name} rows have none")
            if missing := int((y == UNLABELLED).sum()):
                why = f"needs the label of every row; {missing:,} of {len(y):,} {name} rows have none"
                raise ConfigError("", None, f"{why}; labels=null keeps all of the data, model=m2 infers them")


class InferredLabels(Labels):
    """The same, with labels inferred by a classifier q(y|x), so that data need none (Kingma et al. 2014, model M2).

    The classifier has the network of the encoder, with weights of its own, and an affine map of its features, which
    starts at zero: q(y|x) must be uniform as long as nothing is known of the classes. Outside the
    objective, which knows better in training, the model is conditioned on the most likely class of each example,
    whether its label is known or not: codes and errors of new data and of training data are computed alike.

    Args:
        width: of the embedding.
        make_network: returns a new network with an `encoder` and its `feature_shape`.
    """

    inferred = True

    def __init__(self, num_classes: int, make_network: Callable[[], Any], width: int = 16):
        super().__init__(num_classes, width)
        network = make_network()
        self.classifier = network.encoder
        self.weight = nn.Parameter(torch.zeros(num_classes, math.prod(network.feature_shape)))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def log_q(self, batch: Batch) -> Tensor:
        features = self.classifier(batch.input).flatten(1)
        return F.linear(features, self.weight, self.bias).float().log_softmax(-1)

    def labels(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.log_q(batch).argmax(-1)

    def check(self, labels: dict[str, Tensor | None]) -> None:
        y = labels["training"]
        known = [] if y is None else y[y != UNLABELLED].unique().tolist()
        if len(known) < 2:
            raise ConfigError("", None, f"needs labelled training rows of two classes or more, found {len(known)}")

    def tally(self, batch: Batch) -> dict[str, Tensor]:
        if batch.y is None:
            return {}
        known = batch.y != UNLABELLED
        return {"wrong": ((self.labels(batch) != batch.y) & known).sum(), "known": known.sum()}

    def metrics(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        if not sums or sums["known"] == 0:
            return {}
        return {"classification_error": sums["wrong"] / sums["known"]}
