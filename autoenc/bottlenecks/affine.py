"""The last affine map of the encoder, which a bottleneck owns: it knows how many numbers a code needs."""

from __future__ import annotations

from torch import nn

from autoenc.errors import require


def affine(feature_shape: tuple[int, ...], size: int) -> nn.Linear | nn.Conv2d:
    """(B, F) -> (B, size), or of a feature map (B, C, H, W) -> (B, size, H, W), the same map at each position."""
    if len(feature_shape) == 1:
        return nn.Linear(feature_shape[0], size)
    return nn.Conv2d(feature_shape[0], size, kernel_size=1)


def latent_shape_of(feature_shape: tuple[int, ...], latent_dim: int) -> tuple[int, ...]:
    """(latent_dim,), or (latent_dim, H, W) of a feature map (C, H, W)."""
    return (latent_dim, *feature_shape[1:])


def require_vector(feature_shape: tuple[int, ...], part: str) -> None:
    """ConfigError where features are a map."""
    require(len(feature_shape) == 1, "", None, f"{part} reads vectors, not feature maps: network.spatial=false")
