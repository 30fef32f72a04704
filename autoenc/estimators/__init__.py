"""Estimators with scikit-learn's interface."""

from autoenc.estimators.autoencoder import AutoencoderTransformer

__all__ = ["AutoencoderTransformer"]
