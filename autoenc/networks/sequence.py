"""Networks for token ids: an encoder, and an autoregressive decoder.

The sentence VAE of Bowman et al. 2016, "Generating sentences from a continuous space", with a recurrent network or a
Transformer on both sides. A decoder that is conditioned on the previous tokens can ignore the code, and then the
posterior collapses; word dropout, KL warm-up and free bits counteract that.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import Autoregressive
from autoenc.data.split import BOS, PAD, masked
from autoenc.errors import ConfigError, require
from autoenc.networks import decoding as search
from autoenc.networks.attention import Block, check_layers, positions
from autoenc.networks.decoding import State
from autoenc.networks.parts import Pair


class GRUCell(nn.Module):
    """GRU (Cho et al. 2014); the code determines the initial state and is concatenated with every input.

    `start` returns the state before the first token, of z (N, K); `forward` takes t more embeddings (N, t, E) and a
    state, and returns (N, t, W) and the next state.
    """

    def __init__(self, embedding: int, latent_dim: int, width: int, layers: int, dropout: float):
        super().__init__()
        self.layers = layers
        self.first = nn.Linear(latent_dim, layers * width)
        self.gru = nn.GRU(embedding + latent_dim, width, layers, batch_first=True, dropout=dropout * (layers > 1))

    def start(self, z: Tensor) -> State:
        return (z, self.first(z).tanh().unflatten(-1, (self.layers, -1)))

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        z, hidden = state
        beside = z[:, None].expand(-1, inputs.shape[1], -1)
        out, hidden = self.gru(torch.cat([inputs, beside], -1), hidden.transpose(0, 1).contiguous())
        return out, (z, hidden.transpose(0, 1))


class AttentionCell(nn.Module):
    """Causal Transformer layers; the code is projected and added to every input."""

    def __init__(self, embedding: int, latent_dim: int, width: int, layers: int, dropout: float, heads: int):
        super().__init__()
        self.width = width
        self.code, self.token = nn.Linear(latent_dim, width), nn.Linear(embedding, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def start(self, z: Tensor) -> State:
        return (z,)

    def forward(self, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        z, *seen = state
        past, count = seen[0].shape[3] if seen else 0, inputs.shape[1]
        x = self.token(inputs) + self.code(z)[:, None] + positions(past, count, self.width, inputs)
        mask = torch.ones(count, past + count, dtype=torch.bool, device=x.device).tril(past)
        now = []
        for i, block in enumerate(self.blocks):
            x, kept = block(x, mask, seen[i] if seen else None)
            now.append(kept)
        return self.norm(x), (z, *now)


class Decoder(Autoregressive):
    """Embedding, cell and output layer of an autoregressive decoder.

    Args:
        longest: maximal number of tokens of a generated text.
        word_dropout: fraction of the previous tokens that are masked in training (Bowman et al. 2016, sec. 3.1).
        tied: share the weights of embedding and output layer (Press & Wolf 2017).
    """

    def __init__(
        self,
        cell: GRUCell | AttentionCell,
        vocabulary: int,
        embedding: int,
        width: int,
        longest: int,
        dropout: float,
        word_dropout: float,
        tied: bool,
    ):
        super().__init__()
        self.cell, self.longest, self.word_dropout = cell, longest, word_dropout
        self.embedding, self.dropout = nn.Embedding(vocabulary, embedding), nn.Dropout(dropout)
        self.narrow = nn.Linear(width, embedding) if tied else nn.Identity()
        self.out = nn.Linear(embedding if tied else width, vocabulary)
        if tied:
            self.out.weight = self.embedding.weight

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """Return the logits of the R real tokens given z and the tokens before: (*S, B, K), (B, T) -> (*S, R, V)."""
        before = F.pad(x[:, :-1], (1, 0), value=BOS)
        if self.training and self.word_dropout > 0:
            before = masked(before, self.word_dropout)
        lead = z.shape[:-1]
        inputs = self.embedding(before).expand(*lead, -1, -1).flatten(0, -3)  # (N, T, E), N = S * B
        out, _ = self.cell(self.dropout(inputs), self.cell.start(z.flatten(0, -2)))
        return self.logits(out.unflatten(0, lead)[..., x != PAD, :])

    def logits(self, out: Tensor) -> Tensor:
        """Return the logits of the outputs of the cell: (..., W) -> (..., V)."""
        return self.out(self.narrow(self.dropout(out)))

    def start(self, z: Tensor) -> State:
        """Return the state before the first token: (N, K) -> tensors whose first dimension is N."""
        return self.cell.start(z)

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (N,); return log p of the next one (N, V), and the state."""
        out, state = self.cell(self.embedding(tokens[:, None]), state)
        return F.log_softmax(self.logits(out[:, 0]).float(), -1), state

    def generate(self, z: Tensor) -> Tensor:
        """Return the most likely token at each step, EOS, then padding: (B, K) -> (B, T)."""
        return search.greedy(self, z)


class Encoder(nn.Module):
    """Features of texts, max-pooled over positions: token ids (B, T) -> (B, F).

    Args:
        embed: token ids (B, T) -> (B, T, E).

    Pooled, since the last state of a recurrent network differs little between texts, and its posterior collapses more
    easily (Long et al. 2019, "Preventing posterior collapse in sequence VAEs with pooling").
    """

    def __init__(self, embed: nn.Module, dropout: float):
        super().__init__()
        self.embedding, self.dropout = embed, nn.Dropout(dropout)

    def read(self, inputs: Tensor, real: Tensor) -> Tensor:
        """Return the features of each position, (B, T, E) -> (B, T, F); those of real tokens do not depend on padding.

        Args:
            real: (B, T), True except for padding.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        real = x != PAD
        out = self.read(self.dropout(self.embedding(x)), real)
        return out.masked_fill(~real[..., None], -torch.inf).amax(1)


class GRUEncoder(Encoder):
    """Bidirectional GRU, half of the width in each direction."""

    def __init__(self, embed: nn.Module, embedding: int, width: int, layers: int, dropout: float):
        super().__init__(embed, dropout)
        self.ahead, self.back = (
            nn.GRU(embedding, width // 2, layers, batch_first=True, dropout=dropout * (layers > 1)) for _ in range(2)
        )

    def read(self, inputs: Tensor, real: Tensor) -> Tensor:
        # Reverses each text before its padding. Packed sequences would need the lengths on the CPU.
        position = torch.arange(real.shape[1], device=real.device)
        turned = torch.where(real, real.sum(1, keepdim=True) - 1 - position, position)[..., None]
        back, _ = self.back(inputs.gather(1, turned.expand_as(inputs)))
        ahead, _ = self.ahead(inputs)
        return torch.cat([ahead, back.gather(1, turned.expand_as(back))], -1)


class AttentionEncoder(Encoder):
    """Bidirectional Transformer layers."""

    def __init__(self, embed: nn.Module, embedding: int, width: int, layers: int, dropout: float, heads: int):
        super().__init__(embed, dropout)
        self.width, self.token = width, nn.Linear(embedding, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def read(self, inputs: Tensor, real: Tensor) -> Tensor:
        x = self.token(inputs) + positions(0, inputs.shape[1], self.width, inputs)
        for block in self.blocks:
            x, _ = block(x, real[:, None, None])
        return self.norm(x)


def sequence(
    input_shape: tuple[int, ...],
    latent_dim: int,
    vocabulary: int,
    cell: Literal["gru", "transformer"] = "gru",
    embedding: int = 128,
    width: int = 256,
    layers: int = 1,
    heads: int = 4,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
    tied: bool = False,
) -> Pair:
    """Return an encoder and an autoregressive decoder of token ids.

    Args:
        cell: gru or transformer, with `layers` layers in encoder and decoder.
        embedding, width: sizes of the embeddings and of the layers.
        heads: attention heads; twice their number divides the width.
        dropout: of embeddings, between layers and before the output layer.
        word_dropout: fraction of the decoder's input that is masked in training, so that it depends on the code.
        tied: share the weights of the decoder's embedding and the output layer; faster if embedding < width.

    Raises:
        ConfigError: a value out of range.
    """
    check_layers(cell, embedding=embedding, width=width, layers=layers, heads=heads)
    for key, part in (("dropout", dropout), ("word_dropout", word_dropout)):
        require(0 <= part < 1, key, part, "must lie in [0, 1)")
    if vocabulary == 0:
        raise ConfigError("", None, "sequence reads token ids, and the data have none; data=text, or network=mlp")
    sizes, embed = (width, layers, dropout), nn.Embedding(vocabulary, embedding)
    encoder: Encoder
    core: GRUCell | AttentionCell
    if cell == "gru":
        require(width % 2 == 0, "width", width, "must be even: half of the encoder reads from the right")
        encoder, core = GRUEncoder(embed, embedding, *sizes), GRUCell(embedding, latent_dim, *sizes)
    else:
        require(width % (2 * heads) == 0, "heads", heads, f"twice their number must divide width={width}")
        encoder = AttentionEncoder(embed, embedding, *sizes, heads)
        core = AttentionCell(embedding, latent_dim, *sizes, heads)
    decoder = Decoder(core, vocabulary, embedding, width, input_shape[0], dropout, word_dropout, tied)
    return Pair(encoder, decoder, feature_shape=(width,))
