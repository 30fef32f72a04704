"""The last affine map of the encoder, which is part of the bottleneck."""

from __future__ import annotations

from torch import nn

from autoenc.errors import require


def affine(feature_shape: tuple[int, ...], size: int, bias: bool = True) -> nn.Linear | nn.Conv1d | nn.Conv2d:
    """Return an affine map (B, F) -> (B, size), or the same map at each position.

    For feature maps of images (B, C, H, W) -> (B, size, H, W), for those of series (B, C, T) -> (B, size, T).
    """
    if len(feature_shape) == 1:
        return nn.Linear(feature_shape[0], size, bias)
    return (nn.Conv1d if len(feature_shape) == 2 else nn.Conv2d)(feature_shape[0], size, kernel_size=1, bias=bias)


def latent_shape_of(feature_shape: tuple[int, ...], latent_dim: int) -> tuple[int, ...]:
    """Return (latent_dim,), or (latent_dim, H, W) for a feature map (C, H, W), or (latent_dim, T) for (C, T)."""
    return (latent_dim, *feature_shape[1:])


def require_vector(feature_shape: tuple[int, ...], part: str) -> None:
    """Raise ConfigError for feature maps."""
    require(len(feature_shape) == 1, "", None, f"{part} reads vectors, not feature maps: network.spatial=false")
