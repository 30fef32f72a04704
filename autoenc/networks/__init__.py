"""Encoder/decoder pairs: functions that return a Pair."""

from autoenc.networks.conv import conv
from autoenc.networks.conv1d import conv1d
from autoenc.networks.linear import linear
from autoenc.networks.mlp import mlp
from autoenc.networks.parts import Pair
from autoenc.networks.sequence import sequence
from autoenc.networks.temporal import temporal
from autoenc.networks.vit import vit

__all__ = ["Pair", "conv", "conv1d", "linear", "mlp", "sequence", "temporal", "vit"]
