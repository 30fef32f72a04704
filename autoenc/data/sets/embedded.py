"""Data that comes with scikit-learn: neither network nor files needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split, hold_out
from autoenc.errors import require

LUMA = (0.299, 0.587, 0.114)  # grey from red, green and blue (ITU-R BT.601)
F0 = 200 / 512  # cycles per pixel: 200 cycles per picture, for pictures 512 pixels wide
PAD = 32  # pixels: several times the reach of the whitening filter
FLAT = 0.2  # patches with less than this part of the typical contrast are dropped
MAX_SIZE = 64  # pixels: the strip of the test patches is 128 wide


def digits(val_fraction: float = 0.1, test_fraction: float = 0.2, split_seed: int = 0) -> Data:
    """1,797 handwritten digits, (1, 8, 8) grey in [0, 1], 10 classes (UCI optdigits, Alpaydin & Kaynak 1998).

    Args:
        val_fraction: part of what is not test that is held out for validation.
        test_fraction: part of all rows that is held out for the end.
        split_seed: draws both; the seed of training has no say.

    Raises:
        ConfigError: a fraction outside (0, 1).
        DataError: fractions that leave nothing to train on.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)  # (N, 1, 8, 8), whole numbers 0 to 16
    everything = Split(x, torch.from_numpy(bunch.target).long(), scale=1 / 16)
    rest, test = hold_out(everything, test_fraction, split_seed, "test_fraction")
    train, val = hold_out(rest, val_fraction, split_seed, "val_fraction")
    spec = DataSpec("digits", Image((1, 8, 8), 0.0, 1.0), tuple("0123456789"))
    return Data(spec, train, val, test)


def patches(
    size: int = 12, count: int = 50_000, whiten: bool = True, val_fraction: float = 0.1, split_seed: int = 0
) -> Data:
    """(1, size, size) patches of two photographs: the classical input of sparse coding (Olshausen & Field 1996).

    Each patch has mean 0, the training patches together have standard deviation 1. Test patches are cut from a
    strip of each photograph that is set apart before anything is computed, so that they share no pixel with the
    others. Validation patches are drawn from the same places as the training patches and may overlap them.

    Flat patches are dropped: half of the two pictures is sky and blurred background, where whitening leaves noise
    of the camera and of JPEG. A code of 0 fits them, and they would make every code look sparse.

    Args:
        size: pixels a side, 2 to 64.
        count: training and validation patches together, no two at the same place; a fifth of that for the test.
        whiten: flatten the spectrum, as in `whitened`; else only the mean of each patch is removed.
        val_fraction: part of `count` that is held out for validation.
        split_seed: draws the places and the validation patches.

    Raises:
        ConfigError: a value out of range, or more patches than there are places.
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
    """The image filtered by R(f) = f exp(-(f / f0)^4), f0 = 200 cycles per 512 pixels: (H, W) -> (H, W).

    Amplitudes of natural images fall as 1/f, so the factor f makes the spectrum flat; the exponential takes out the
    highest frequencies, where there is mostly noise (Olshausen & Field 1997, "Sparse coding with an overcomplete
    basis set", section 4). f is in cycles per pixel here, which scales the result and nothing else.
    """
    # Mirrored at the edges: the Fourier transform would join the left edge to the right one, and make a step there.
    padded = torch.from_numpy(np.pad(image.numpy(), PAD, mode="symmetric"))
    height, width = padded.shape
    f = torch.hypot(torch.fft.fftfreq(height).unsqueeze(1), torch.fft.rfftfreq(width)).to(image.dtype)
    spectrum = torch.fft.rfft2(padded) * f * torch.exp(-((f / F0) ** 4))
    return torch.fft.irfft2(spectrum, s=(height, width))[PAD:-PAD, PAD:-PAD]


def _contrast(region: Tensor, size: int) -> Tensor:
    """The standard deviation of the patch at every place: (H, W) -> (H - size + 1, W - size + 1)."""
    x = torch.stack([region, region.square()])
    mean, mean_square = F.avg_pool2d(F.avg_pool2d(x, (size, 1), stride=1), (1, size), stride=1)
    return (mean_square - mean.square()).clamp(min=0).sqrt()


def _draw(regions: list[Tensor], size: int, count: int, floor: float, seed: int) -> Tensor:
    """Patches at `count` different places (or all) where the contrast is above the floor: (N, 1, size, size)."""
    places = [F.pad((_contrast(r, size) > floor).nonzero(), (1, 0), value=i) for i, r in enumerate(regions)]
    candidates = torch.cat(places)  # (P, 3): region, row, column
    chosen = candidates[torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:count]]
    x = torch.empty(len(chosen), 1, size, size)
    for i, region in enumerate(regions):
        here = chosen[:, 0] == i
        x[here, 0] = region.unfold(0, size, 1).unfold(1, size, 1)[chosen[here, 1], chosen[here, 2]].float()
    return x - x.mean((-2, -1), keepdim=True)
