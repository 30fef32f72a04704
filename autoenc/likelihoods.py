"""Likelihoods p(x|z), parametrised by the decoder's output, one parameter per dimension of x; see core.Likelihood."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import Likelihood, sum_over_dims
from autoenc.data.kinds.observed import Column, Observed
from autoenc.data.split import PAD
from autoenc.errors import require

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
COLDEST = 1e-4  # temperature of draws of discrete values at temperature 0
IMPOSSIBLE = -1e4  # logit of a value that a column never has
SMALLEST = 0.0025  # floor of a learned scale: keeps the density of a perfectly fitted constant finite


def _logit(probability: Tensor) -> Tensor:
    """Return the logit of a probability, clamped away from 0 and 1 where it is infinite."""
    return probability.clamp(0.01, 0.99).logit()


class Bernoulli(Likelihood):
    """Bernoulli likelihood: the decoder's output is a logit; x may be grey values in [0, 1], as is customary.

    For x in {0, 1} the nll is -log p(x|z); for grey values it is the cross-entropy, whose minimum is the entropy of the
    grey values instead of 0.
    """

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(params, x.expand_as(params), reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        return params.sigmoid()

    def sample(self, params: Tensor, error: Tensor, temperature: float = 1.0) -> Tensor:
        return (params / max(temperature, COLDEST)).sigmoid().bernoulli()

    def params_of(self, mean: Tensor) -> Tensor:
        return _logit(mean)

    def support(self) -> tuple[float, float]:
        return 0.0, 1.0


class _Located(Likelihood):
    """A distribution around a mean, with one scale for all dimensions, fixed or learned.

    nll = rate * error + offset for each dimension; subclasses define error, rate and offset.

    Args:
        scale: sigma (Gaussian) or b (Laplace), in units of the data; the initial value if learned.
        learned: learn the scale; at the optimum it is the root mean square (mean absolute) error of the reconstruction,
            which balances reconstruction and KL automatically (Rybkin et al. 2021, sigma-VAE).
        output: map from the decoder's output to the mean: identity, or sigmoid for data in [0, 1].
    """

    def __init__(self, scale: float, learned: bool, output: Literal["identity", "sigmoid"]):
        super().__init__()
        require(output in ("identity", "sigmoid"), "output", output, "must be identity or sigmoid")
        self.output, self.learned = output, learned
        if learned:
            above = math.log(scale / SMALLEST)
            self.above_floor = nn.Parameter(torch.tensor(math.log(math.expm1(above))))  # softplus gives `above` back
        self.scale = scale
        self._fixed: tuple[float, float] | None = None

    @property
    def log_scale(self) -> Tensor:
        """Log of the scale. A learned scale has a soft floor, so that its gradient does not vanish."""
        if not self.learned:
            return torch.tensor(math.log(self.scale))
        return math.log(SMALLEST) + F.softplus(self.above_floor)

    def rate_and_offset(self) -> tuple[Tensor | float, Tensor | float]:
        """Return rate and offset; floats, computed once, if the scale is fixed."""
        if self.learned:
            return self.nats(self.log_scale)
        if self._fixed is None:
            rate, offset = self.nats(self.log_scale.double())
            self._fixed = rate.item(), offset.item()
        return self._fixed

    def nats(self, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return rate and offset for a scale."""
        raise NotImplementedError

    def error(self, mean: Tensor, x: Tensor) -> Tensor:
        """Return the error of each dimension."""
        raise NotImplementedError

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        rate, offset = self.rate_and_offset()
        return rate * self.error(self.mean(params), x.expand_as(params)) + offset

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        # Summed first: saves two passes over the batch in forward and two in backward compared with nll_per_dim.
        rate, offset = self.rate_and_offset()
        errors = sum_over_dims(self.error(self.mean(params), x.expand_as(params)), x)
        return rate * errors + offset * x[0].numel()

    def mean(self, params: Tensor) -> Tensor:
        return params.sigmoid() if self.output == "sigmoid" else params

    def sample(self, params: Tensor, error: Tensor, temperature: float = 1.0) -> Tensor:
        scale = self.log_scale.exp() if self.learned else self.scale_of(error)
        drawn = self.mean(params) + temperature * scale * self.noise(params)
        return drawn.clamp(*self.support())

    def scale_of(self, error: Tensor) -> Tensor:
        """Return the scale at which the distribution has this root mean squared error."""
        raise NotImplementedError

    def noise(self, like: Tensor) -> Tensor:
        """Draw from the distribution with location 0 and scale 1."""
        raise NotImplementedError

    def params_of(self, mean: Tensor) -> Tensor:
        return _logit(mean) if self.output == "sigmoid" else mean

    def support(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.output == "sigmoid" else (-math.inf, math.inf)


def _learn(key: str, scale: float, mse: float) -> str:
    """Return the settings that learn a scale, starting at the error, if the scale is larger than the error."""
    error = math.sqrt(mse)
    return f"likelihood.learned=true likelihood.{key}={error:.2g}" if SMALLEST < error < scale else ""


def _check_scale(key: str, scale: float, learned: bool) -> None:
    lowest = SMALLEST if learned else 0
    require(scale > lowest, key, scale, f"must be above {lowest}")


class Gaussian(_Located):
    """N(mean, sigma^2): nll = (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2."""

    def __init__(self, sigma: float = 1.0, learned: bool = False, output: Literal["identity", "sigmoid"] = "identity"):
        _check_scale("sigma", sigma, learned)
        super().__init__(sigma, learned, output)

    def error(self, mean: Tensor, x: Tensor) -> Tensor:
        return F.mse_loss(mean, x, reduction="none")

    def nats(self, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return 0.5 * torch.exp(-2 * log_scale), log_scale + HALF_LOG_2PI

    def scale_of(self, error: Tensor) -> Tensor:
        return error

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn_like(like)

    def remedy(self, mse: float) -> str:
        return "" if self.learned else _learn("sigma", self.scale, mse)


class Laplace(_Located):
    """Laplace(mean, b): nll = |x - mean| / b + log(2 b). More robust to outliers than the Gaussian."""

    def __init__(self, scale: float = 1.0, learned: bool = False, output: Literal["identity", "sigmoid"] = "identity"):
        _check_scale("scale", scale, learned)
        super().__init__(scale, learned, output)

    def error(self, mean: Tensor, x: Tensor) -> Tensor:
        return F.l1_loss(mean, x, reduction="none")

    def nats(self, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(-log_scale), log_scale + math.log(2)

    def scale_of(self, error: Tensor) -> Tensor:
        return error / math.sqrt(2)

    def noise(self, like: Tensor) -> Tensor:
        return torch.distributions.Laplace(torch.zeros_like(like), 1.0).sample()

    def remedy(self, mse: float) -> str:
        return "" if self.learned else _learn("scale", self.scale, mse)


class Table(Likelihood):
    """Gaussian likelihood N(mean, sigma^2) of numbers, categorical softmax(logits) of categories, independent given z.

    nll of a number: (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2; of a category: -log p of its value. A value
    not seen in training (all dimensions 0) counts as a uniform mixture of the known values.

    Args:
        columns: columns of the table, numbers first.
        sigma: standard deviation of all numbers, in units of the scaled data; the initial value if learned.
        learned: learn a sigma for each number.
        observed_only: leave missing cells out, of the likelihood and of the input of the encoder, which gets 0 for them
            (Mattei & Frellsen 2019, MIWAE); else they are medians with an indicator, and a value of a category.
    """

    def __init__(
        self, columns: tuple[Column, ...], sigma: float = 1.0, learned: bool = False, observed_only: bool = False
    ):
        super().__init__()
        self.log_sigma: Tensor
        why = "likelihood=table is for tables (data=table); try likelihood=gaussian"
        if observed_only:
            why = "only tables (data=table) have missing cells; model=iwae has the same bound for other data"
        require(len(columns) > 0, "", None, why)
        self.mask = Observed(columns) if observed_only else None
        if observed_only and all(column.indicator is None for column in columns):
            self.remark = "no training row has a missing cell: observed_only has no effect in training"
        _check_scale("sigma", sigma, learned)
        self.numbers = sum(column.kind == "number" for column in columns)
        self.widths = [column.stop - column.start for column in columns[self.numbers :]]
        above = torch.full((self.numbers,), math.log(math.expm1(math.log(sigma / SMALLEST)))) if learned else None
        self.above_floor = None if above is None else nn.Parameter(above)
        self.register_buffer("log_sigma", torch.tensor(math.log(sigma)), persistent=False)

    def _log_sigma(self) -> Tensor:
        return self.log_sigma if self.above_floor is None else math.log(SMALLEST) + F.softplus(self.above_floor)

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        n, observed, log_sigma = self.numbers, self.observed(x), self._log_sigma()
        x, params = x.expand_as(params), self._of_data(params)
        error = F.mse_loss(params[..., :n], x[..., :n], reduction="none")
        terms = [0.5 * torch.exp(-2 * log_sigma) * error + log_sigma + HALF_LOG_2PI]
        blocks = (each[..., n:].split(self.widths, -1) for each in (params, x))
        for logits, one_hot in zip(*blocks, strict=True):
            unknown = (1 - one_hot.sum(-1, keepdim=True)) / one_hot.shape[-1]
            terms.append(-(one_hot + unknown) * logits.log_softmax(-1))
        nll = torch.cat(terms, -1)
        return nll if observed is None else nll.where(observed, 0)

    def observed(self, x: Tensor) -> Tensor | None:
        return None if self.mask is None else self.mask(x)

    def _of_data(self, params: Tensor) -> Tensor:
        """Return parameters under which no cell is missing: indicators have mean 0, and such values probability 0."""
        if self.mask is None:
            return params
        n, data = self.numbers, self.mask.data
        numbers, logits = params[..., :n].where(data[:n], 0), params[..., n:].where(data[n:], IMPOSSIBLE)
        return torch.cat([numbers, logits], -1)

    def mean(self, params: Tensor) -> Tensor:
        n, params = self.numbers, self._of_data(params)
        return torch.cat([params[..., :n], *(c.softmax(-1) for c in params[..., n:].split(self.widths, -1))], -1)

    def sample(self, params: Tensor, error: Tensor, temperature: float = 1.0) -> Tensor:
        """Draw numbers from the Gaussian, categories as one-hot vectors."""
        n, params = self.numbers, self._of_data(params)
        blocks = []
        sigma = error[:n] if self.above_floor is None else self._log_sigma().exp()
        for logits in params[..., n:].split(self.widths, -1):
            drawn = torch.distributions.OneHotCategorical(logits=logits / max(temperature, COLDEST)).sample()
            blocks.append(drawn)
        numbers = params[..., :n]
        drawn = torch.cat([numbers + temperature * sigma * torch.randn_like(numbers), *blocks], -1)
        return drawn if self.mask is None else drawn.where(self.mask.data, 0)

    def params_of(self, mean: Tensor) -> Tensor:
        return torch.cat([mean[..., : self.numbers], mean[..., self.numbers :].clamp(min=1e-4).log()], -1)

    def remedy(self, mse: float) -> str:
        return "" if self.above_floor is not None else _learn("sigma", math.exp(float(self.log_sigma)), mse)


class Multinomial(Likelihood):
    """Multinomial likelihood of word counts x with p = softmax(params) (Liang et al. 2018, Mult-VAE).

    nll = -sum_w x_w log p_w, in nats. The multinomial coefficient is left out, as it does not depend on the parameters.
    For TF-IDF weights, the same sum is a cross-entropy, scaled by the sum of the weights; it is no likelihood.
    """

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        return -x * params.log_softmax(-1)

    def mean(self, params: Tensor) -> Tensor:
        """Return p; the number of words of a document is not modelled."""
        return params.softmax(-1)

    def params_of(self, mean: Tensor) -> Tensor:
        p = mean / mean.sum().clamp(min=1e-12)
        return p.clamp(min=0.01 / p.numel()).log()  # unseen words keep a positive probability

    def support(self) -> tuple[float, float]:
        return 0.0, math.inf


class Tokens(Likelihood):
    """Categorical likelihood of token ids x (B, T); the decoder's output is the logits (*S, R, V) of the R real tokens.

    nll of a token: -log softmax(logits) of its id; of padding: 0. The order of the R is that of core.Autoregressive.
    """

    def __init__(self, vocabulary: int):
        super().__init__()
        require(vocabulary > 0, "", None, "likelihood=tokens is for token ids (data=text); try likelihood=gaussian")
        self.vocabulary = vocabulary

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        lead, real = params.shape[:-2], x != PAD
        ids = x[real].expand(*lead, -1).flatten()
        nll = F.cross_entropy(params.flatten(0, -2), ids, reduction="none")
        return nll.new_zeros(*lead, *x.shape).masked_scatter(real.expand(*lead, *x.shape), nll)

    def mean(self, params: Tensor) -> Tensor:
        """Return the most likely ids (*S, R); ids have no mean."""
        return params.argmax(-1)

    def support(self) -> tuple[float, float]:
        return PAD, self.vocabulary - 1
