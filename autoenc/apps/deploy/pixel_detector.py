"""Detectors of defects as torch modules that read raw images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.anomaly.pixels import inspection
from autoenc.apps.anomaly.pixels.metrics import image_score
from autoenc.apps.anomaly.pixels.scores import SCORES, Inspector
from autoenc.apps.anomaly.pixels.way import Pixels
from autoenc.apps.deploy.detectors import ALARM, P_VALUE, Given, PortableDetector, Values
from autoenc.apps.deploy.maps import Maps, image_scores
from autoenc.apps.deploy.scoring import PValue
from autoenc.data.sets.defects import read_image

RARE = 1e-3  # share of pixels
COMPARED = 10  # images to inspect; those of training and calibration tie with stored responses and the threshold


class PortablePixels(PortableDetector):
    """The scores of images and of their pixels, and the p-values and decisions of images."""

    meanings: ClassVar[dict[str, str]] = {
        "score": "the deciding score of the image: the mean of the highest thousandth of its pixels",
        "p_value": P_VALUE.format("held-out images"),
        "alarm": ALARM,
        **{f"{name}_map": f"{name} of each pixel" for name in SCORES},
        "reconstruction": "the reconstruction of the image as the model is fed it",
    }

    def __init__(self, way: Pixels):
        run, files = way.run, way.layout
        inspector, options = Inspector(run, files.train), way.options
        judged = inspection.inspect(run, [], files, options.score, options.rule, inspector=inspector)
        super().__init__(run, run.spec.kind.raw_whole(), judged)
        self.inspector = inspector
        self.files = [part.file for part in files.test[:: -(-len(files.test) // COMPARED)]]
        self.maps = Maps(self.inspector)
        self.p_value = PValue(judged.calibration.scores[self.score])
        self.outputs = ("score", "p_value", "alarm", *SCORES, *list(self.meanings)[3:])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        found = self.maps(self.raw(*tensors))
        reconstruction = found.pop("reconstruction")
        scores = image_scores(torch.stack(list(found.values()), 1))
        score = scores[:, list(found).index(self.score)]
        return score, self.p_value(score), self.alarm(score), *scores.unbind(1), *found.values(), reconstruction

    def given(self) -> list[Given]:
        """Return at most ten of the images to inspect."""
        groups: dict[tuple[int, ...], list[np.ndarray]] = {}
        for file in self.files:
            image = read_image(file, self.run.spec.kind)
            groups.setdefault(image.shape, []).append(image)
        return [Given([images := np.stack(group)], images) for group in groups.values()]

    def expected(self, images: np.ndarray) -> Values:
        fed = [self.inspector.fed(image) for image in images]
        return self.inspected(images, fed, [self.inspector.reconstruct(x) for x in fed])

    def inspected(self, images: np.ndarray, fed: Sequence[Tensor], reconstructions: Sequence[Tensor]) -> Values:
        """Return the outputs for images (N, C, H, W), given what the model is fed and their reconstructions."""
        each = zip(images, fed, reconstructions, strict=True)
        maps = [self.inspector.maps(image, x=x, x_hat=x_hat) for image, x, x_hat in each]
        scores = {name: np.array([image_score(each[name]) for each in maps]) for name in SCORES}
        found = self.decided(scores) | {f"{name}_map": np.stack([each[name] for each in maps]) for name in SCORES}
        return found | {"reconstruction": np.stack([x.numpy() for x in reconstructions])}

    def shape(self, values: np.ndarray) -> tuple[int | str, ...]:
        return (*values.shape[1:-2], "H", "W") if values.ndim > 2 else values.shape[1:]

    def explained(self, found: Values, arrays: Sequence[np.ndarray]) -> Values:
        """Return all scores for the exported reconstruction: `ssim` multiplies its rounding by a thousand.

        Rounding also decides where contrast normalization places a pixel between two of its 256 levels, as in flat
        areas. If few pixels differ by one level, what the model is fed is that of the exported file.
        """
        images, exported = arrays[0], list(torch.from_numpy(found["reconstruction"]))
        fed = [self.inspector.fed(image) for image in images]
        own = list(self.raw(torch.from_numpy(images)))
        levels = 255 * (torch.stack(own) - torch.stack(fed)).abs()
        if not 0 < float((levels > 0.5).double().mean()) <= RARE or levels.max() > 1.5:
            return {k: v for k, v in self.inspected(images, fed, exported).items() if k != "reconstruction"}
        reconstructions = np.stack([self.inspector.reconstruct(x).numpy() for x in own])
        return self.inspected(images, own, exported) | {"reconstruction": reconstructions}
