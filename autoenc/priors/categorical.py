"""The prior of discrete codes."""

from __future__ import annotations

import torch
from torch import Tensor

from autoenc.core import Prior


class Categorical(Prior):
    """Independent categorical distributions over the entries of a codebook, one at each position; z holds indices.

    The probabilities are the relative frequencies of the entries in training, an exponential moving average over the
    steps. This is the baseline that autoregressive priors over the indices improve on (van den Oord et al. 2017).
    """

    frequency: Tensor  # (*latent_shape, entries)

    def __init__(self, latent_shape: tuple[int, ...], entries: int, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        self.register_buffer("frequency", torch.zeros(*latent_shape, entries))

    @torch.no_grad()
    def observe(self, frequency: Tensor) -> None:
        """Update the moving average with the frequencies (*latent_shape, entries) of a training batch."""
        self.frequency.lerp_(frequency, 1 - self.decay)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p of indices, (*S, *latent_shape) -> (*S); uniform before training."""
        log_p = self._logits().log_softmax(-1)
        shape = log_p.shape[:-1]
        chosen = log_p.expand(*z.shape, -1).gather(-1, z.unsqueeze(-1)).squeeze(-1)
        return chosen.sum(tuple(range(-len(shape), 0))) if shape else chosen

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Draw indices (n, *latent_shape) from p^(1 / temperature)."""
        logits = self._logits()
        if temperature == 0:
            return logits.argmax(-1).expand(n, *logits.shape[:-1])
        p = (logits / temperature).softmax(-1).reshape(-1, logits.shape[-1])  # (positions, entries)
        return torch.multinomial(p, n, replacement=True).T.reshape(n, *logits.shape[:-1])

    def _logits(self) -> Tensor:
        return torch.where(self.frequency.sum(-1, keepdim=True) > 0, self.frequency, 1.0).log()
