"""Gaussian filters of images of any size, and images as a model is fed patches of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.data.kinds.raw.inputs import Raw, RawInput


class Gaussians(nn.Module):
    """Gaussian filters of images of any size, and derivatives of them, as scipy.ndimage computes them.

    Filters are matrices, since onnxruntime convolves no float64, and scipy rounds to float32 only after each axis.

    Args:
        widths: standard deviations in pixels. order: of the highest derivative. truncate: radius / width.
    """

    def __init__(self, *widths: float, order: int = 0, truncate: float = 4.0):
        super().__init__()
        from scipy import ndimage

        self.radius = int(truncate * max(widths) + 0.5)
        impulse = np.zeros(2 * self.radius + 3)  # with a zero on either side, for pixels out of reach
        impulse[self.radius + 1] = 1
        kernels = [
            ndimage.gaussian_filter1d(impulse, width, order=i, mode="constant", truncate=truncate)
            for width in widths
            for i in range(order + 1)
        ]
        self.kernels: Tensor
        self.register_buffer("kernels", torch.from_numpy(np.stack(kernels)))  # (K, ...), by width and order

    def matrices(self, side: int) -> Tensor:
        """Return what each kernel does along an axis that `padded` has extended: (K, side, side + 2 radius) float64."""
        offset = torch.arange(side)[:, None] - torch.arange(side + 2 * self.radius)  # -radius at the centre
        return self.kernels[:, offset.clamp(-2 * self.radius - 1, 1) + 2 * self.radius + 1]

    def padded(self, x: Tensor) -> Tensor:
        """Return float64 images extended by the radius on all sides: (..., H, W) -> (..., H + 2 r, W + 2 r).

        They are reflected at their edges (d c b a | a b c d | d c b a), repeatedly if they are smaller than the radius.
        """
        places = []
        for side in x.shape[-2:]:
            period = 2 * torch.arange(side).amax(0) + 2  # a tensor: ONNX has no remainder of a length
            place = (torch.arange(side + 2 * self.radius) - self.radius).remainder(period)
            places.append(place.minimum(period - 1 - place))
        return x.double().index_select(-2, places[0]).index_select(-1, places[1])

    def forward(self, x: Tensor) -> Tensor:
        """Return images smoothed by the first filter: (..., H, W), of float64 if they are, otherwise float32."""
        padded, rows, columns = self.padded(x), self.matrices(x.shape[-2])[0], self.matrices(x.shape[-1])[0]
        return rows @ padded @ columns.mT if x.dtype == torch.float64 else filtered(padded, rows, columns)


def filtered(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows x columns^T of padded images, rounded to float32 after each product."""
    return ((rows @ x).float().double() @ columns.mT).float()


class RawImages(Raw):
    """Images (N, C, H, W) uint8 of any size -> float32 in [0, 1].

    Args:
        white: value that becomes 1; other ones than 255 are scaled and rounded.
        window: of `contrast_normalized`; 0: none. floor, reach: see there.
    """

    def __init__(self, given: RawInput, white: float, window: float, floor: float, reach: float):
        super().__init__(given)
        self.white, self.floor, self.reach = white, floor, reach
        self.around = Gaussians(window) if window else None

    def forward(self, *tensors: Tensor) -> Tensor:
        x = tensors[0].float()
        if self.white != 255:
            x = ((x.double() / self.white).clamp(max=1) * 255 + 0.5).floor().float()
        if self.around is not None:
            x = x / 255
            x = x - self.around(x)
            x = x / (self.around(x * x) + self.floor**2).sqrt()
            x = ((x / self.reach + 1) * 127.5).clamp(0, 255).round()
        return x / 255
