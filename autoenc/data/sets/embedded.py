"""Data sets that scikit-learn includes; they need no download."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split, hold_out, three_way
from autoenc.errors import require

LUMA = (0.299, 0.587, 0.114)  # grey from red, green and blue (ITU-R BT.601)
F0 = 200 / 512  # cycles per pixel: 200 cycles per image of 512 pixels
PAD = 32  # pixels: several times the reach of the whitening filter
FLAT = 0.2  # patches with less than this fraction of the typical contrast are dropped
MAX_SIZE = 64  # pixels: the strip of the test patches is 128 wide


def digits(val_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0) -> Data:
    """Load 1,797 handwritten digits, (1, 8, 8) grey in [0, 1], 10 classes (UCI optdigits, Alpaydin & Kaynak 1998).

    Args:
        val_fraction: fraction of the rows without the test rows that is held out for validation.
        test_fraction: fraction of all rows that is held out for testing.
        split_seed: seed of both draws.

    Raises:
        ConfigError: a fraction outside (0, 1), or one that leaves nothing to train on.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)  # (N, 1, 8, 8), whole numbers 0 to 16
    everything = Split(x, torch.from_numpy(bunch.target).long(), scale=1 / 16)
    train, val, test = three_way(everything, val_fraction, test_fraction, split_seed)
    spec = DataSpec("digits", Image((1, 8, 8), 0.0, 1.0), tuple("0123456789"))
    return Data(spec, train, val, test)


def patches(
    size: int = 12, count: int = 50_000, whiten: bool = True, val_fraction: float = 0.1, split_seed: int = 0
) -> Data:
    """Cut patches (1, size, size) from two photographs, the classical input of sparse coding (Olshausen & Field 1996).

    Each patch has mean 0; the training patches together have standard deviation 1. Test patches are cut from a separate
    strip of each photograph and share no pixels with the others. Validation and training patches may overlap.

    Flat patches are dropped: half of the photographs is sky and blurred background, where whitening leaves camera and
    JPEG noise. A code of 0 fits such patches, which would make every code look sparse.

    Args:
        size: side in pixels, 2 to 64.
        count: number of training and validation patches, all at different positions; the test split has a fifth of it.
        whiten: flatten the spectrum, as in `whitened`; else only the mean of each patch is removed.
        val_fraction: fraction of `count` that is held out for validation.
        split_seed: seed of the positions and of the validation patches.

    Raises:
        ConfigError: a value out of range, or more patches than positions.
    """
    from sklearn.datasets import load_sample_images

    require(2 <= size <= MAX_SIZE, "size", size, f"must lie in 2 to {MAX_SIZE}")
    require(count >= 10, "count", count, "must be 10 or more")
    train_regions: list[Tensor] = []
    test_regions: list[Tensor] = []
    for photograph in load_sample_images().images:  # (427, 640, 3) uint8, twice
        grey = torch.from_numpy(photograph @ np.array(LUMA) / 255)  # (H, W) float64 in [0, 1]
        # The second fifth from the left: pavilion, trees and half a flower. The outer fifths are all background.
        left, right = grey.shape[1] // 5, 2 * grey.shape[1] // 5
        train_regions += [grey[:, :left], grey[:, right:]]
        test_regions += [grey[:, left:right]]
    if whiten:
        train_regions = [whitened(region) for region in train_regions]
        test_regions = [whitened(region) for region in test_regions]

    contrasts = [_contrast(region, size) for region in train_regions]
    floor = FLAT * torch.cat([contrast.flatten() for contrast in contrasts]).square().mean().sqrt().item()
    available = sum(int((contrast > floor).sum()) for contrast in contrasts)
    require(count <= available, "count", count, f"the photographs have only {available} patches of size {size}")
    drawn = Split(_draw(train_regions, size, count, floor, split_seed))
    test = Split(_draw(test_regions, size, count // 5, floor, split_seed))
    train, val = hold_out(drawn, val_fraction, split_seed, "val_fraction")

    std = train.tensor.square().mean().sqrt()  # the mean is 0
    train, val, test = (replace(split, x=split.tensor / std) for split in (train, val, test))
    low, high = train.range()
    spec = DataSpec("patches", Image((1, size, size), low, high))
    return Data(spec, train, val, test)


def whitened(image: Tensor) -> Tensor:
    """Filter an image (H, W) by R(f) = f exp(-(f / f0)^4), f0 = 200 cycles per 512 pixels.

    Amplitudes of natural images fall as 1/f, so the factor f flattens the spectrum; the exponential removes the highest
    frequencies, which are mostly noise (Olshausen & Field 1997, "Sparse coding with an overcomplete basis set",
    section 4). f is in cycles per pixel here, which only scales the result.
    """
    # Mirrored at the edges: the Fourier transform is periodic and would see a step between opposite edges.
    padded = torch.from_numpy(np.pad(image.numpy(), PAD, mode="symmetric"))
    height, width = padded.shape
    f = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.rfftfreq(width)).to(image.dtype)
    spectrum = torch.fft.rfft2(padded) * f * torch.exp(-((f / F0) ** 4))
    return torch.fft.irfft2(spectrum, s=(height, width))[PAD:-PAD, PAD:-PAD]


def _contrast(region: Tensor, size: int) -> Tensor:
    """Return the standard deviation of the patch at each position: (H, W) -> (H - size + 1, W - size + 1)."""
    x = torch.stack([region, region.square()])
    mean, mean_square = F.avg_pool2d(F.avg_pool2d(x, (size, 1), stride=1), (1, size), stride=1)
    return (mean_square - mean.square()).clamp(min=0).sqrt()


def _draw(regions: list[Tensor], size: int, count: int, floor: float, seed: int) -> Tensor:
    """Draw patches (N, 1, size, size) at up to `count` different positions with a contrast above `floor`."""
    positions = [F.pad((_contrast(r, size) > floor).nonzero(), (1, 0), value=i) for i, r in enumerate(regions)]
    candidates = torch.cat(positions)  # (P, 3): region, row, column
    chosen = candidates[torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:count]]
    x = torch.empty(len(chosen), 1, size, size)
    for i, region in enumerate(regions):
        here = chosen[:, 0] == i
        x[here, 0] = region.unfold(0, size, 1).unfold(1, size, 1)[chosen[here, 1], chosen[here, 2]].float()
    return x - x.mean((-2, -1), keepdim=True)
