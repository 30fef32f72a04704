"""Defect scores of pixels, by a run trained on patches of good images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.apps.codes.neighbours import Index
from autoenc.core import Batch
from autoenc.data.sets.defects import read_image
from autoenc.errors import DataError
from autoenc.loading import Run
from autoenc.training.evaluation import evaluation_mode

SMOOTH = 2.0  # pixels: defects are larger than a pixel, most deviations of a good texture are not
LONG, THIN = 6.0, 1.5  # pixels, along and across the strokes that the error is averaged over: cracks are long and thin
ANGLES = 8  # of these strokes, in half a turn
REACH = 15  # pixels of a stroke on either side of its centre: 2.5 LONG
QUIET = 0.005  # of the range: smaller deviations are treated as equal
SCALES = (1.0, 2.0, 4.0, 8.0)  # pixels, of the filter bank
STEP = 4  # pixels between the positions of responses
MEMORY = 10_000  # stored responses
FLOOR = 1e-3  # of the largest variance: lower bound of the variance of a direction
EDGE = 50  # good images, at most, for the deviation near the edges
TINY = 1e-6  # added to deviations, which are 0 if a run copies its input
SEED = 0


@dataclass(frozen=True)
class Seen:
    """An image and its reconstruction: x, x_hat (C, H, W) in [0, 1].

    Args:
        distance: (H, W), of `Memory`. edge: (H, W) mean deviation of good images, relative to that far from the edges.
    """

    x: np.ndarray
    x_hat: np.ndarray
    distance: np.ndarray
    edge: np.ndarray


def _smoothed(x: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return ndimage.gaussian_filter(x, (*[0] * (x.ndim - 2), SMOOTH, SMOOTH))


def _ssim(seen: Seen) -> np.ndarray:
    from skimage.metrics import structural_similarity

    options = {"data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False, "full": True}
    x, x_hat = seen.x.astype(np.float64), seen.x_hat.astype(np.float64)  # float32 errs by 0.001 where images are flat
    return 1 - structural_similarity(x, x_hat, channel_axis=0, **options)[1].mean(0)


def strokes() -> np.ndarray:
    """Return elongated Gaussian windows of sum 1, one for each angle: (ANGLES, side, side)."""
    side = np.arange(-REACH, REACH + 1, dtype=np.float32)
    angle = np.arange(ANGLES, dtype=np.float32)[:, None, None] * (np.pi / ANGLES)
    along = side * np.cos(angle) + side[:, None] * np.sin(angle)
    across = side[:, None] * np.cos(angle) - side * np.sin(angle)
    found = np.exp(-((along / LONG) ** 2 + (across / THIN) ** 2) / 2)
    return found / found.sum((1, 2), keepdims=True)


def deviation(x: np.ndarray, x_hat: np.ndarray) -> np.ndarray:
    """Return the difference in brightness of image and reconstruction: (C, H, W) -> (H, W).

    The mean along a stroke through each pixel, relative to the median of all strokes of that angle in the image, since
    oriented textures differ most along their direction; maximum over angles.
    """
    from scipy import signal

    error = np.pad(x - x_hat, ((0, 0), (REACH, REACH), (REACH, REACH)), "reflect")
    highest = np.zeros(x.shape[1:], np.float32)
    for stroke in strokes():
        found = np.abs(signal.fftconvolve(error, stroke[None], "valid", axes=(1, 2))).mean(0)
        np.maximum(highest, found / (np.median(found) + QUIET), out=highest)
    return highest


def _shift(seen: Seen) -> np.ndarray:
    return deviation(seen.x, seen.x_hat) / seen.edge


# name -> (H, W), higher is more defective
SCORES: dict[str, Callable[[Seen], np.ndarray]] = {
    "error": lambda seen: _smoothed(np.square(seen.x - seen.x_hat).mean(0)),  # squared error
    "ssim": _ssim,  # 1 - structural similarity of image and reconstruction (Bergmann et al. 2019)
    "shift": _shift,  # deviation along a short stroke, relative to good images
    "memory": lambda seen: seen.distance,  # distance from the filter responses of good images
    "combined": lambda seen: np.sqrt(_shift(seen) * seen.distance),  # geometric mean of shift and memory
}
BEST = "combined"  # see docs/inspection.md: limits
REASON = "the default for data=defects: chosen on painted defects and on cracks in tiles, see docs/inspection.md"


def responses(x: np.ndarray) -> np.ndarray:
    """Return the responses of a bank of filters every 4 pixels: (C, H, W) -> (28 C, H / 4, W / 4).

    Derivatives of Gaussians up to second order at four scales, normalized by scale (Lindeberg 1998), and the local
    contrast at each scale.
    """
    from scipy import ndimage

    found = []
    for channel in x:
        for scale in SCALES:
            bank = [
                ndimage.gaussian_filter(channel, scale, order) * scale ** sum(order)
                for order in ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1))
            ]
            bank.append(np.sqrt(ndimage.gaussian_filter((channel - bank[0]) ** 2, scale)))
            found += [image[STEP // 2 :: STEP, STEP // 2 :: STEP] for image in bank]
    return np.stack(found)


class Memory:
    """Responses at 10,000 positions of good images; similar to PatchCore (Roth et al. 2022) with fixed filters.

    Args:
        images: (C, H, W) in [0, 1], as models are fed them. count: their number.
    """

    def __init__(self, images: Iterable[np.ndarray], count: int):
        random, stored = np.random.default_rng(SEED), []
        for x in images:
            found = responses(x)
            found = found.reshape(len(found), -1).T
            stored.append(random.permutation(found)[: -(-MEMORY // count)])
        rows = np.concatenate(stored)
        self.mean = rows.mean(0)
        variances, directions = np.linalg.eigh(np.cov(rows - self.mean, rowvar=False))
        self.whiten = directions / np.sqrt(variances + FLOOR * variances.max())
        self.index = Index((rows - self.mean) @ self.whiten, "euclidean")

    def distance(self, x: np.ndarray) -> np.ndarray:
        """Return the whitened distance of each position from the nearest stored one: (C, H, W) -> (H, W)."""
        found = responses(x)
        codes = (found.reshape(len(found), -1).T - self.mean) @ self.whiten
        coarse = torch.from_numpy(self.index.search(codes, 1).scores).reshape(1, 1, *found.shape[1:])
        height, width = found.shape[1] * STEP, found.shape[2] * STEP  # the size of the image, or up to 3 pixels less
        fine = F.interpolate(coarse, size=(height, width), mode="bilinear")
        fine = F.pad(fine, (0, max(0, x.shape[2] - width), 0, max(0, x.shape[1] - height)), mode="replicate")
        return fine[0, 0, : x.shape[1], : x.shape[2]].numpy()


def edge_distance(size: Sequence[int], most: int) -> np.ndarray:
    """Return the distance in pixels of each pixel (H, W) from the nearest edge: 0 at the edge, up to `most`."""
    down, across = (np.minimum(np.arange(side), np.arange(side)[::-1]) for side in size)
    return np.minimum(np.minimum.outer(down, across), most)


class Inspector:
    """Defect maps of one run, fitted to the good images that it was trained on."""

    def __init__(self, run: Run, good: Sequence[Path]):
        self.run = run

        def fed(files: Sequence[Path]) -> Iterator[Tensor]:
            return (self.fed(read_image(file, run.spec.kind)) for file in files)

        self.memory = Memory((x.numpy() for x in fed(good)), len(good))
        self.edge = self._at_the_edge(fed(good[:: -(-len(good) // EDGE)]))

    def fed(self, image: np.ndarray) -> Tensor:
        """Return an image (C, H, W) uint8 of any size as the model is fed patches of it."""
        return torch.from_numpy(self.run.spec.kind.prepared(image)).float() / 255

    def _at_the_edge(self, images: Iterable[Tensor]) -> np.ndarray:
        """Return the mean deviation of good images at 0, 1, 2, ... pixels from an edge, relative to that inside.

        Rims and backgrounds near the edges are not defects, but too rare to be learned well. The last value, 1, is for
        all pixels that no window covers together with an edge.
        """
        size = self.run.spec.shape[-1]
        total, count = np.zeros(size + 1), np.zeros(size + 1)
        for x in images:
            distance = edge_distance(x.shape[1:], size).ravel()
            total += np.bincount(distance, deviation(x.numpy(), self.reconstruct(x).numpy()).ravel(), size + 1)
            count += np.bincount(distance, minlength=size + 1)
        mean = total[count > 0] / count[count > 0]  # small images have no pixels so far inside
        return ((mean + TINY) / (mean[-1] + TINY)).clip(
            0.5
        )  # on plain backgrounds there is hardly any deviation: bounded amplification

    def maps(
        self, image: np.ndarray, name: str = "image", x_hat: Tensor | None = None, x: Tensor | None = None
    ) -> dict[str, np.ndarray]:
        """Return the scores of each pixel: (C, H, W) uint8 -> name of the score -> (H, W) float32.

        Args:
            x_hat: the reconstruction of the image, if it is known. x: the same of what `fed` returns.

        Raises:
            DataError: the image, called `name`, is smaller than a patch.
        """
        size = self.run.spec.shape[-1]
        if min(image.shape[1:]) < size:
            found = f"{image.shape[2]}x{image.shape[1]}"
            raise DataError(f"{name}: has {found} pixels, smaller than the patches of the run, {size}x{size}")
        x = self.fed(image) if x is None else x
        x_hat = self.reconstruct(x) if x_hat is None else x_hat
        edge = self.edge[edge_distance(x.shape[1:], len(self.edge) - 1)]
        seen = Seen(x.numpy(), x_hat.numpy(), self.memory.distance(x.numpy()), edge)
        return {key: score(seen).astype(np.float32) for key, score in SCORES.items()}

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the reconstruction of an image: (C, H, W) -> (C, H, W).

        Windows of the size of a patch, half a window apart, averaged with the weights of a Hann window. Memory: the
        image, and a batch of windows.
        """
        run, size = self.run, self.run.spec.shape[-1]
        height, width = x.shape[1:]
        stride = size // 2
        # Reflected beyond the edges, so that all pixels are in as many windows; otherwise edges score highest.
        bottom, right = (stride + -side % stride for side in (height, width))
        padded = F.pad(x[None], (stride, right, stride, bottom), mode="reflect")[0]
        window = torch.hann_window(size + 2, periodic=False)[1:-1]
        weights = torch.outer(window, window)  # (size, size)
        x_hat, total = torch.zeros_like(padded), torch.zeros(padded.shape[1:])
        with evaluation_mode(run.model), torch.no_grad():
            for top, rows in self._strips(padded, stride):
                slab = padded[:, top : top + size + (rows - 1) * stride]
                windows = F.unfold(slab[None], size, stride=stride)[0].T.unflatten(1, (len(padded), size, size))
                images = run.model.reconstruct(Batch(x=windows.to(run.device))).float().cpu()
                parts = torch.cat([images * weights, weights.expand(len(images), 1, -1, -1)], 1)
                joined = F.fold(parts.flatten(1).T[None], slab.shape[1:], size, stride=stride)[0]
                covered = slice(top, top + slab.shape[1])
                x_hat[:, covered] += joined[:-1]
                total[covered] += joined[-1]
        return (x_hat / total)[:, stride : stride + height, stride : stride + width]

    def _strips(self, padded: Tensor, stride: int) -> Iterator[tuple[int, int]]:
        """Yield the first pixel and the number of rows of windows of each batch."""
        down, across = ((side - self.run.spec.shape[-1]) // stride + 1 for side in padded.shape[1:])
        step = max(1, self.run.batch_size // across)
        for first in range(0, down, step):
            yield first * stride, min(step, down - first)
