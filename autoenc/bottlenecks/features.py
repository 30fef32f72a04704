"""Codes that are the features of the encoder."""

from __future__ import annotations

from torch import Tensor, nn

from autoenc.bottlenecks.affine import require_vector
from autoenc.core import Bottleneck, Code
from autoenc.errors import ConfigError


class Features(Bottleneck):
    """z = (features - mean) / standard deviation, for objectives that train the encoder by other means than the code.

    There are no weights. Mean and standard deviation of each dimension are those of the batch in training, and running
    means in evaluation. These are of the features that the objective trains with: under `objectives.Masked`, of means
    over the visible tokens, so that codes of whole examples are only roughly standardized. (The linear probes of He et
    al. 2022, appendix A.1, estimate them on whole examples.)
    """

    def __init__(self, feature_shape: tuple[int, ...], latent_dim: int):
        super().__init__()
        require_vector(feature_shape, "Features")
        if latent_dim != feature_shape[0]:
            why = f"the code is the features of the encoder: model.latent_dim={feature_shape[0]}, not {latent_dim}"
            raise ConfigError("", None, why)
        self.latent_shape = feature_shape
        self.standardize = nn.BatchNorm1d(latent_dim, affine=False)

    def forward(self, features: Tensor) -> Code:
        z = self.standardize(features)
        return Code(z=z, mean=z)
