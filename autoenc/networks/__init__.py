"""Encoder/decoder pairs: functions that return a Pair."""

from autoenc.networks.conv import conv
from autoenc.networks.linear import linear
from autoenc.networks.mlp import mlp
from autoenc.networks.parts import Pair
from autoenc.networks.sequence import sequence

__all__ = ["Pair", "conv", "linear", "mlp", "sequence"]
