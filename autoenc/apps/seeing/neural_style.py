"""Style transfer by optimisation: the content of one image and the style of another, in the layers of an encoder.

Gatys et al. 2016, "Image style transfer using convolutional neural networks", section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.seeing.layers import activations, shapes
from autoenc.core import Batch
from autoenc.errors import UserError, require
from autoenc.loading import Run

TINY = 1e-12


@dataclass(frozen=True)
class Settings:
    """Layers and weights of the loss.

    Args:
        content_layer: whose features are kept; None: the last feature maps.
        style_layers: of the Gram matrices; empty: all feature maps.
        style_weight, variation_weight: of the style loss and of the total variation; the content loss has weight 1.
        steps: iterations of L-BFGS.
    """

    content_layer: str | None = None
    style_layers: Sequence[str] = ()
    style_weight: float = 1.0
    variation_weight: float = 0.1
    steps: int = 300

    def __post_init__(self) -> None:
        for name in ("style_weight", "variation_weight"):
            value = getattr(self, name)
            require(0 <= value < np.inf, f"--{name.replace('_', '-')}", value, "must be 0 or more")


@dataclass(frozen=True)
class Stylized:
    """Images (*shape) and losses of each, 0 where it is reached and 1 for the other image, see `Losses`."""

    x: np.ndarray
    content_loss: float
    style_loss: float


def chosen_layers(run: Run, settings: Settings) -> tuple[str, list[str]]:
    """Return the names of the layers of content and style.

    Raises:
        UserError: the encoder has no feature maps, or one of the layers is none.
    """
    maps = {name: shape for name, shape in shapes(run).items() if len(shape) == 3} if run.spec.kind.images else {}
    if not maps:
        why = "its encoder has no feature maps to compare content and style in; network=conv has"
        raise UserError(f"--content: {run.path} is of {run.spec.kind.noun}, and {why}")
    for option, names in (
        ("--content-layer", [settings.content_layer] if settings.content_layer else []),
        ("--style-layers", settings.style_layers),
    ):
        for name in names:
            if name not in maps:
                raise UserError(f"{option} {name}: is no feature map of the encoder, which has {', '.join(maps)}")
    return settings.content_layer or [*maps][-1], list(settings.style_layers) or [*maps]


def gram(features: Tensor) -> Tensor:
    """Return the inner products of the feature maps (C, H, W), eq. 3: (C, C)."""
    flat = features.flatten(1)
    return flat @ flat.T


def style_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return E_l, eq. 4, of feature maps (C, H, W) and a Gram matrix (C, C)."""
    maps, positions = len(features), features[0].numel()
    return (gram(features) - target).square().sum() / (4 * maps**2 * positions**2)


def content_distance(features: Tensor, target: Tensor) -> Tensor:
    """Return half the squared distance of features, eq. 1."""
    return (features - target).square().sum() / 2


def roughness(x: Tensor) -> Tensor:
    """Return the total variation of an image (C, H, W), the squared differences of neighbours, over its variance.

    Relative, since networks with normalization do not see the contrast, and a dim image would have the least variation.
    """
    variation = x.diff(dim=1).square().sum() + x.diff(dim=2).square().sum()
    return variation / (x - x.mean((1, 2), keepdim=True)).square().sum().clamp(min=TINY)


class Losses:
    """The losses of an image, given those whose content and style it should have.

    The content loss (eq. 1) is divided by that of the style image, the style loss of each layer (eq. 4) by that of the
    content image: both are 0 where the aim is reached, and 1 for the other image. The weights hence mean the same for
    any network and pair of images; they set alpha and w_l of eq. 5 and 7. The total variation is divided by the
    mean of both images.
    """

    def __init__(self, run: Run, content: Tensor, style: Tensor, settings: Settings):
        self.run, self.settings = run, settings
        self.content_layer, self.style_layers = chosen_layers(run, settings)
        with torch.no_grad():
            ours, theirs = self.features(content), self.features(style)
            self.content = ours[self.content_layer]
            self.content_scale = content_distance(theirs[self.content_layer], self.content).clamp(min=TINY)
            self.grams = {name: gram(theirs[name]) for name in self.style_layers}
            scales = {name: style_distance(ours[name], self.grams[name]) for name in self.style_layers}
            self.style_scales = {name: scale.clamp(min=TINY) for name, scale in scales.items()}
            self.roughness = (roughness(content) + roughness(style)).clamp(min=TINY) / 2

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the activations of an image (C, H, W) in the layers."""
        found = activations(self.run.model, Batch(x[None]), [self.content_layer, *self.style_layers])
        return {name: value[0].float() for name, value in found.items()}

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the content loss and the style loss of an image."""
        found = self.features(x)
        style = [style_distance(found[name], self.grams[name]) / scale for name, scale in self.style_scales.items()]
        return content_distance(found[self.content_layer], self.content) / self.content_scale, torch.stack(style).mean()

    def total(self, x: Tensor) -> Tensor:
        """Return the weighted sum that is minimized, eq. 7 with total variation."""
        content, style = self(x)
        variation = roughness(x) / self.roughness
        return content + self.settings.style_weight * style + self.settings.variation_weight * variation


def stylized(run: Run, content: Tensor, style: Tensor, settings: Settings) -> Stylized:
    """Minimize the losses of an image, starting at the content image, by L-BFGS with pixels in the range of the data.

    Args:
        content, style: (C, H, W).

    Raises:
        UserError: the encoder has no feature maps, or one of the layers is none.
    """
    from scipy.optimize import Bounds, minimize

    content, style = content.to(run.device), style.to(run.device)
    losses = Losses(run, content, style, settings)

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = torch.from_numpy(flat).to(content).view_as(content).requires_grad_()
        loss = losses.total(x)
        (slope,) = torch.autograd.grad(loss, x)
        return float(loss.detach()), slope.flatten().double().cpu().numpy()

    start = content.flatten().double().cpu().numpy()
    bounds = Bounds(run.spec.low, run.spec.high)  # type: ignore[arg-type]  # one for all pixels
    found = minimize(value, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": settings.steps})
    x = torch.from_numpy(found.x).to(content).view_as(content)
    with torch.no_grad():
        reached = losses(x)
    return Stylized(x.cpu().numpy(), *map(float, reached))


def grid(contents: Tensor, styles: Tensor, results: np.ndarray) -> Tensor:
    """Return the tiles of a figure with S + 1 columns: the styles (S, *shape) first, then a row for each content.

    Args:
        contents: (N, *shape). results: (N, S, *shape).
    """
    first = torch.cat([torch.full_like(styles[:1], float(styles.max())), styles])
    rows = torch.cat([contents[:, None], torch.from_numpy(results)], 1)
    return torch.cat([first, rows.flatten(0, 1)])
