"""Dreams: images that excite a unit or a whole layer of the encoder, by gradient ascent on the pixels.

Erhan et al. 2009, "Visualizing higher-layer features of a deep network", maximize a unit over images of a given norm;
Mordvintsev et al. 2015, "Inceptionism" (DeepDream), add octaves, jitter and the normalized gradient, and start from
noise or from an image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as V

from autoenc.apps.seeing import layers
from autoenc.apps.seeing.units import Tiles, Unit, rows_of_images, stored_rows
from autoenc.canvas import titled
from autoenc.core import Batch
from autoenc.loading import Run

NOISE = 0.1  # norm of the noise that a dream starts from, as a fraction of the contrast
RATE = 0.2  # length of the first step of an octave, as a fraction of the contrast; it decreases linearly to 0
SMALLEST = 8  # pixels of the shorter side in the first octave


@dataclass(frozen=True)
class Settings:
    """Settings of the ascent.

    Args:
        steps: in each octave.
        octaves: number of resolutions, from coarse to fine; the last is that of the images.
        scale: ratio of the resolutions of two octaves.
        jitter: in the first half of the steps of an octave, the image is shifted by up to so many pixels, and the
            gradient is shifted back.
        blur: standard deviation of the Gaussian that smooths the gradient, in pixels; 0: none.
        seed: of noise and jitter.
    """

    steps: int = 64
    octaves: int = 4
    scale: float = 1.4
    jitter: int = 1
    blur: float = 0.5
    seed: int = 0

    @classmethod
    def usual(cls, shape: Sequence[int], image: bool) -> Settings:
        """Return the defaults for images (C, H, W), in proportion to their size, with few steps from a given image."""
        side = min(shape[-2:])
        return cls(steps=12 if image else 64, jitter=side // 14, blur=round(side / 28, 2))


@dataclass(frozen=True)
class Space:
    """The images that a dream may become.

    Args:
        low, high: range of the pixels.
        grey: their mean.
        contrast: the largest Euclidean distance of an image from `grey`.
    """

    low: float
    high: float
    grey: float
    contrast: float

    def norm(self, x: Tensor) -> Tensor:
        """Return the distance of images (B, *shape) from grey, (B, 1, ...)."""
        return (x - self.grey).flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, *[1] * (x.dim() - 1))

    def nearest(self, x: Tensor, least: Tensor) -> Tensor:
        """Return images (B, *shape) scaled to a contrast from `least` to the largest, with pixels in the range."""
        norm = self.norm(x)
        scale = norm.maximum(least).clamp(max=self.contrast) / norm
        return (self.grey + (x - self.grey) * scale).clamp(self.low, self.high)


@dataclass(frozen=True)
class Dreams:
    """Images that excite units.

    Args:
        units: their numbers; None: one image, of a whole layer.
        x: (U, *shape). start: (*shape).
        begin, end: (U,) activations of `start` and `x`.
        trace: (T, U) activations before each step, of the shifted image.
    """

    units: Sequence[int] | None
    x: Tensor
    start: Tensor
    begin: np.ndarray
    end: np.ndarray
    trace: np.ndarray


def resolutions(size: tuple[int, int], octaves: int, scale: float) -> list[tuple[int, int]]:
    """Return the heights and widths of the octaves, from coarse to fine; the last is `size`, none below 8 pixels."""
    found = [(round(size[0] / scale**k), round(size[1] / scale**k)) for k in range(octaves)]
    return [each for each in found if each == size or min(each) >= SMALLEST][::-1]


def band(gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the part of images (B, C, H, W) that a resolution can show, at the size that they have."""
    full = gradient.shape[-2:]
    if size == tuple(full):
        return gradient
    small = F.interpolate(gradient, size, mode="bilinear", antialias=True)
    return F.interpolate(small, full, mode="bicubic")


def smoothed(gradient: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, H, W) blurred by a Gaussian."""
    if sigma == 0:
        return gradient
    reach = min(math.ceil(3 * sigma), min(gradient.shape[-2:]) - 1)  # the padding reflects the image
    return V.gaussian_blur(gradient, [2 * reach + 1] * 2, [sigma] * 2)


def ascend(
    value: Callable[[Tensor], Tensor], start: Tensor, space: Space, settings: Settings
) -> tuple[Tensor, np.ndarray]:
    """Return images (B, C, H, W) that maximize a function, and its values (T, B) before each step.

    The networks of a run read images of one size. So the octaves differ in the resolution of the steps, not in that of
    the images: the coarse structure is found first, as in DeepDream.

    Args:
        value: images (B, C, H, W) -> (B,), each depending on its own image.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    x, trace = start.clamp(space.low, space.high), []
    for size in resolutions((start.shape[-2], start.shape[-1]), settings.octaves, settings.scale):
        for step in range(settings.steps):
            # Units of strided layers differ between shifts: the second half is for the image as it stays.
            reach = settings.jitter if step < settings.steps / 2 else 0
            shift = torch.randint(-reach, reach + 1, (2,), generator=generator).tolist()
            moved = x.roll(shift, (-2, -1)).requires_grad_()
            values = value(moved)
            (gradient,) = torch.autograd.grad(values.sum(), moved)
            gradient = gradient.roll([-s for s in shift], (-2, -1))
            gradient = smoothed(band(gradient, size), settings.blur)
            stuck = ((x <= space.low) & (gradient < 0)) | ((x >= space.high) & (gradient > 0))
            gradient = gradient.masked_fill(stuck, 0)  # pixels at the end of their range, which the step would lose
            norm = gradient.flatten(1).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1, 1)
            rate = RATE * space.contrast * (1 - step / settings.steps)
            # Steps do not scale the contrast down, as networks with normalization see the same in almost grey images;
            # only clipping pixels to their range lowers it.
            x = space.nearest(x + rate * gradient / norm, space.norm(x))
            trace.append(values.detach().cpu())
    return x, torch.stack(trace).numpy()


def space_of(run: Run) -> Space:
    """Return the range of pixels of the data, and the mean and the typical contrast of the stored training rows."""
    spec, rows = run.spec, stored_rows(run)
    x = rows.sample(2_000).take(slice(None)).x
    grey = float(x.mean())
    return Space(spec.low, spec.high, grey, float((x - grey).flatten(1).square().sum(1).mean().sqrt()))


def dreams(
    run: Run,
    layer: str,
    units: Sequence[int] | None,
    settings: Settings,
    image: Tensor | None = None,
    y: int | None = None,
) -> Dreams:
    """Return a dream of each unit of a layer, or one of the squared norm of the layer.

    Args:
        units: numbers of units that exist; None: the whole layer.
        image: (*shape) to start from; None: noise.
        y: class that a conditional model is given.
    """
    space = space_of(run)
    if image is None:
        generator = torch.Generator().manual_seed(settings.seed)
        noise = torch.randn(run.spec.shape, generator=generator)
        start = space.grey + NOISE * space.contrast * noise / noise.norm()
    else:
        start = image
        space = Space(space.low, space.high, space.grey, max(space.contrast, float((image - space.grey).norm())))
    count = 1 if units is None else len(units)
    labels = None if y is None else torch.full((count,), y, device=run.device)

    def value(x: Tensor) -> Tensor:
        activation = layers.activations(run.model, Batch(x, labels), [layer], wake=True)[layer]
        return layers.value_of(layer, activation, units).diagonal()  # image i is the dream of unit i

    x, trace = ascend(value, start.to(run.device).expand(count, *start.shape), space, settings)
    with torch.no_grad():
        begin, end = (value(each).cpu().numpy() for each in (start.to(run.device).expand_as(x), x))
    return Dreams(units, x.cpu(), start.cpu(), begin, end, trace)


def sheet(run: Run, found: Sequence[Unit], dreamt: Dreams, examples: int, layer: str, given: bool) -> np.ndarray:
    """Draw a row for each unit: the given image, the dream, and the training examples that excite it most.

    Args:
        given: whether the dreams start from an image.
    """
    columns: list[Tiles] = [(dreamt.x, [f"{value:.3g}" for value in dreamt.end])]
    if given:
        columns.insert(0, (dreamt.start.expand_as(dreamt.x), [f"{value:.3g}" for value in dreamt.begin]))
    names = [layer] if dreamt.units is None else [f"unit {number}" for number in dreamt.units]
    image = rows_of_images(run, found, examples, names, columns)
    of = "the squared norm of a layer" if dreamt.units is None else f"units of {layer}"
    first = "the given image, its dream" if given else "dreams"
    return titled(image, f"{first} and the training examples that excite {of} most; below: activation")
