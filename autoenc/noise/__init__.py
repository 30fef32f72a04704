"""Corruptions of the input: modules (B, *shape) -> (B, *shape) that do not modify their argument.

They draw from torch's global generator, which is saved in checkpoints, so that a resumed run draws the same noise.
"""

from autoenc.noise.blemishes import Blemishes
from autoenc.noise.geometry import Affine
from autoenc.noise.series import Channels, Spans
from autoenc.noise.simple import Gaussian, Identity, Masking, SaltPepper, TokenMask

__all__ = ["Affine", "Blemishes", "Channels", "Gaussian", "Identity", "Masking", "SaltPepper", "Spans", "TokenMask"]
