"""The scores of pixels of a run as a torch module, for export: maps of images of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.apps.anomaly.pixels import scores
from autoenc.apps.anomaly.pixels.metrics import TOP
from autoenc.apps.anomaly.pixels.scores import REACH, SCALES, SMOOTH, STEP, Inspector, Memory
from autoenc.apps.deploy.scoring import constant
from autoenc.core import Autoencoder, Batch
from autoenc.data.kinds.raw.filters import Gaussians, filtered

ORDERS = (0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1)  # of derivatives down and across
BLOCK = 500  # stored responses that positions are compared with at once


class Reconstructions(nn.Module):
    """Images (N, C, H, W) -> their reconstructions, joined from all windows at once; see `Inspector.reconstruct`."""

    def __init__(self, model: Autoencoder, size: int):
        super().__init__()
        self.model, self.size, self.stride = model, size, size // 2
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(size + 2, periodic=False)[1:-1])

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        size, rows, columns = self.size, self.places(height), self.places(width)  # (down, size), (across, size)
        down, across = rows.shape[0], columns.shape[0]  # not len(), which the exporter takes for a constant
        windows = x[:, :, reflected(rows, height)][..., reflected(columns, width)]  # (N, C, down, size, across, size)
        windows = windows.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
        images = self.model.reconstruct(Batch(windows)).float().reshape(n, down, across, channels, size, size)
        images = images.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, down * size, across * size)
        return self.joining(rows, height) @ images @ self.joining(columns, width).T

    def places(self, side: int) -> Tensor:
        """Return the pixels of each window along a side, negative ones before the first: (windows, size)."""
        count = (side - 1) // self.stride + 2 - self.size % 2
        return torch.arange(count)[:, None] * self.stride + torch.arange(self.size) - self.stride

    def joining(self, places: Tensor, side: int) -> Tensor:
        """Return the weights of the pixels of all windows in each pixel of a side: (side, windows * size)."""
        weights = (torch.arange(side)[:, None, None] == places) * self.window
        return (weights / weights.sum((1, 2), keepdim=True)).flatten(1)


def reflected(places: Tensor, side: int) -> Tensor:
    """Return places in [0, side) of those up to `side` - 1 beyond an edge, which are reflected without the edge."""
    return side - 1 - (side - 1 - places.abs()).abs()


class Distances(nn.Module):
    """Images (N, C, H, W) -> whitened distances (N, H, W) of their filter responses from stored ones; see `Memory`."""

    def __init__(self, memory: Memory):
        super().__init__()
        self.filters = Gaussians(*SCALES, order=2)
        self.mean: Tensor
        self.whiten: Tensor
        self.codes: Tensor
        self.register_buffer("mean", torch.from_numpy(memory.mean))
        self.register_buffer("whiten", torch.from_numpy(memory.whiten))
        self.register_buffer("codes", memory.index.codes)

    def forward(self, x: Tensor) -> Tensor:
        found = self.responses(x)
        codes = ((found.flatten(2).mT - self.mean).double() @ self.whiten).float().double()  # (N, positions, K)
        nearest = torch.full_like(codes[..., 0], torch.inf)
        for stored in self.codes.double().split(BLOCK):
            nearest = nearest.minimum((stored.square().sum(1) - 2 * codes @ stored.T).amin(-1))
        distance = (nearest + codes.square().sum(-1)).clamp(min=0).sqrt().float().reshape(-1, *found.shape[2:])
        height, width = x.shape[2:]
        return enlarging(height, found.shape[2]) @ distance @ enlarging(width, found.shape[3]).T

    def responses(self, x: Tensor) -> Tensor:
        """Return the responses of `scores.responses`: (N, 28 C, H / 4, W / 4)."""
        rows, columns = self.filters.matrices(x.shape[2]), self.filters.matrices(x.shape[3])  # (scales * 3, ...)
        few = rows[:, STEP // 2 :: STEP], columns[:, STEP // 2 :: STEP]
        first = torch.arange(len(SCALES)) * 3  # the kernel that only smooths, of each scale
        down, across = (first[:, None] + torch.tensor(orders) for orders in zip(*ORDERS, strict=True))  # (scales, 6)
        padded = self.filters.padded(x)[:, :, None]
        normal = torch.tensor(SCALES)[:, None] ** torch.tensor(ORDERS).sum(1)
        bank = filtered(padded, few[0][down.flatten()], few[1][across.flatten()]) * normal.flatten()[:, None, None]
        local = (x[:, :, None] - filtered(padded, rows[first], columns[first])).square()
        local = filtered(self.filters.padded(local), few[0][first], few[1][first]).sqrt()
        bank = torch.cat([bank.unflatten(2, down.shape), local[:, :, :, None]], 3)
        return bank.flatten(1, 3)


def enlarging(side: int, count: int) -> Tensor:
    """Return the weights of linear interpolation between `count` pixels, 4 apart: (side, count)."""
    place = ((torch.arange(side).clamp(max=STEP * count - 1) + 0.5) / STEP - 0.5).clamp(0, count - 1)
    return (1 - (place[:, None] - torch.arange(count)).abs()).clamp(min=0)


class Maps(nn.Module):
    """Images (N, C, H, W) as the model is fed patches of them -> name of the map -> (N, H, W), and `reconstruction`."""

    def __init__(self, inspector: Inspector):
        super().__init__()
        size = inspector.run.spec.shape[-1]
        self.reconstructions = Reconstructions(inspector.run.model, size)
        self.distances = Distances(inspector.memory)
        self.smooth = Gaussians(SMOOTH)
        self.ssim = Gaussians(1.5, truncate=3.5)  # as Wang et al. 2004
        self.strokes: Tensor
        self.edge: Tensor
        self.register_buffer("strokes", torch.from_numpy(scores.strokes()).float()[:, None])
        self.register_buffer("edge", torch.from_numpy(inspector.edge).float())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x_hat, memory = self.reconstructions(x), self.distances(x)
        shift = self.shift(x - x_hat)
        return {
            "error": self.smooth((x - x_hat).square().mean(1)),
            "ssim": 1 - self.similarity(x, x_hat).mean(1),
            "shift": shift,
            "memory": memory,
            "combined": (shift * memory).sqrt(),
            "reconstruction": x_hat,
        }

    def shift(self, error: Tensor) -> Tensor:
        """Return `scores.deviation`, relative to good images: (N, C, H, W) -> (N, H, W)."""
        n, channels, height, width = error.shape
        padded = F.pad(error, [REACH] * 4, "reflect").flatten(0, 1)[:, None]
        found = F.conv2d(padded, self.strokes).abs().reshape(n, channels, -1, height, width).mean(1)  # (N, angles, ...)
        ordered, count = found.flatten(2).sort(-1).values, height * width
        median = (ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2
        highest = (found / (median[..., None, None] + scores.QUIET)).amax(1)
        down, across = (torch.arange(side).minimum(side - 1 - torch.arange(side)) for side in (height, width))
        return highest / self.edge[down[:, None].minimum(across).clamp(max=len(self.edge) - 1)]

    def similarity(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """Return the structural similarity (Wang et al. 2004), as scikit-image computes it: (N, C, H, W) float32."""
        x, x_hat = x.double(), x_hat.double()  # differences of nearly equal moments, relative to 0.001
        moments = self.ssim(torch.stack([x, x_hat, x * x, x_hat * x_hat, x * x_hat]))
        mean, mean_hat = moments[0], moments[1]
        variance, variance_hat = moments[2] - mean * mean, moments[3] - mean_hat * mean_hat
        covariance = moments[4] - mean * mean_hat
        c1, c2 = 0.01**2, 0.03**2
        above = (2 * mean * mean_hat + c1) * (2 * covariance + c2)
        return (above / ((mean**2 + mean_hat**2 + c1) * (variance + variance_hat + c2))).float()


def image_scores(maps: Tensor) -> Tensor:
    """Return `metrics.image_score` of maps: (N, S, H, W) -> (N, S) float64."""
    ordered = maps.flatten(2).sort(-1, descending=True).values.double()
    rank = torch.arange(ordered.shape[2]).double()
    count = (constant(TOP) * (rank[-1] + 1)).round().clamp(min=1)
    return ordered.where(rank < count, 0).sum(-1) / count
