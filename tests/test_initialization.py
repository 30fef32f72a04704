"""Initial weights."""

import torch
from torch import nn

from autoenc.initialization import initialize
from autoenc.networks.linear import UnitNormLinear


def test_weights_are_orthogonal_with_the_gain_and_biases_zero() -> None:
    layers = [nn.Linear(9, 4), nn.Linear(4, 9), nn.Conv2d(2, 6, 3), nn.ConvTranspose2d(5, 2, 3), UnitNormLinear(3, 7)]
    initialize(nn.Sequential(*layers), gain=1.5)
    for layer in layers:
        flat = layer.weight.detach().flatten(1)
        gram = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
        torch.testing.assert_close(gram, 1.5**2 * torch.eye(len(gram)), rtol=0, atol=1e-5)
        assert not layer.bias.any()


def test_norm_layers_and_layers_without_bias_are_left_alone() -> None:
    norm = nn.BatchNorm1d(4)
    nn.init.constant_(norm.weight, 0.3)
    initialize(nn.Sequential(nn.Linear(4, 4, bias=False), norm))
    assert (norm.weight == 0.3).all()
