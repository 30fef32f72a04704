"""Encoder/decoder pairs: functions that return a Pair."""

from autoenc.networks.conv import conv
from autoenc.networks.linear import linear
from autoenc.networks.mlp import mlp
from autoenc.networks.parts import Pair
from autoenc.networks.sequence import sequence
from autoenc.networks.vit import vit

__all__ = ["Pair", "conv", "linear", "mlp", "sequence", "vit"]
