"""Small models of token sequences, and a batch; imported by the tests of networks and decoding."""

import torch
from torch import nn

from autoenc import bottlenecks, likelihoods
from autoenc.core import Autoencoder
from autoenc.data.split import EOS, PAD, UNK
from autoenc.networks import Pair, sequence
from autoenc.networks.sequence import Decoder

V, T, K = 11, 8, 3
CELLS = ["gru", "transformer"]
X = torch.tensor([[5, 6, 7, 8, EOS], [9, 10, EOS, PAD, PAD], [5, UNK, 6, EOS, PAD], [EOS, PAD, PAD, PAD, PAD]])


def sequence_pair(cell: str = "gru", **options: object) -> Pair:
    return sequence((T,), K, V, cell=cell, **({"embedding": 6, "width": 8, "layers": 2, "heads": 2} | options))


def model(cell: str = "gru", noise: nn.Module | None = None, **options: object) -> Autoencoder:
    pair = sequence_pair(cell, **options)
    bottleneck = bottlenecks.Gaussian(pair.feature_shape, K)
    return Autoencoder(noise or nn.Identity(), pair.encoder, bottleneck, pair.decoder, likelihoods.Tokens(V))


def decoder(cell: str = "gru", sharp: float = 5.0, **options: object) -> Decoder:
    """One that has clear preferences, and ends its texts now and then."""
    found = sequence_pair(cell, **options).decoder
    assert isinstance(found, Decoder)
    with torch.no_grad():
        found.out.weight *= sharp
        found.out.bias[EOS] += 1
    return found.eval()
