"""p(x|z): what the decoder's output means. One parameter for each dimension of x; see core.Likelihood."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc.core import Likelihood, sum_over_dims
from autoenc.data.kinds.kind import Column
from autoenc.data.split import PAD
from autoenc.errors import require

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
SMALLEST = 0.0025  # floor of a learnt scale: keeps the density of a perfectly fitted constant finite


def _logit(probability: Tensor) -> Tensor:
    """Kept away from 0 and 1, where the logit is infinite."""
    return probability.clamp(0.01, 0.99).logit()


class Bernoulli(Likelihood):
    """The decoder's output is the logit of a probability; x may be grey values in [0, 1], as is customary.

    For x in {0, 1} the nll is -log p(x|z); for grey values it is the cross-entropy, whose minimum over the
    logits is the entropy of the grey values and not 0.
    """

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(params, x.expand_as(params), reduction="none")

    def mean(self, params: Tensor) -> Tensor:
        return params.sigmoid()

    def params_of(self, mean: Tensor) -> Tensor:
        return _logit(mean)

    def support(self) -> tuple[float, float]:
        return 0.0, 1.0


class _Located(Likelihood):
    """A distribution around a mean, with one scale for all dimensions, fixed or learnt.

    nll = rate * error + offset for each dimension; subclasses say which error and what follows from the scale.

    Args:
        scale: sigma (Gaussian) or b (Laplace), in units of the data; the initial value where it is learnt.
        learned: learn the scale with the rest; at the optimum it is the root mean square (mean absolute) error
            of the reconstruction, which balances reconstruction and KL by itself (Rybkin et al. 2021, sigma-VAE).
        output: what makes a mean of the decoder's output: nothing, or a sigmoid for data in [0, 1].
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
        """The log of the scale; where it is learnt, above a soft floor, so that it can always come back up."""
        if not self.learned:
            return torch.tensor(math.log(self.scale))
        return math.log(SMALLEST) + F.softplus(self.above_floor)

    def rate_and_offset(self) -> tuple[Tensor | float, Tensor | float]:
        """The two numbers that make nats of an error; plain ones, computed once, where the scale is fixed."""
        if self.learned:
            return self.nats(self.log_scale)
        if self._fixed is None:
            rate, offset = self.nats(self.log_scale.double())
            self._fixed = rate.item(), offset.item()
        return self._fixed

    def nats(self, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Rate and offset of a scale."""
        raise NotImplementedError

    def error(self, mean: Tensor, x: Tensor) -> Tensor:
        """The error of each dimension."""
        raise NotImplementedError

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        rate, offset = self.rate_and_offset()
        return rate * self.error(self.mean(params), x.expand_as(params)) + offset

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        # The sum first: two passes over the batch less than in nll_per_dim, and two less in the backward pass.
        rate, offset = self.rate_and_offset()
        errors = sum_over_dims(self.error(self.mean(params), x.expand_as(params)), x)
        return rate * errors + offset * x[0].numel()

    def mean(self, params: Tensor) -> Tensor:
        return params.sigmoid() if self.output == "sigmoid" else params

    def params_of(self, mean: Tensor) -> Tensor:
        return _logit(mean) if self.output == "sigmoid" else mean

    def support(self) -> tuple[float, float]:
        return (0.0, 1.0) if self.output == "sigmoid" else (-math.inf, math.inf)


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


class Laplace(_Located):
    """Laplace(mean, b): nll = |x - mean| / b + log(2 b). Less moved by outliers than the Gaussian."""

    def __init__(self, scale: float = 1.0, learned: bool = False, output: Literal["identity", "sigmoid"] = "identity"):
        _check_scale("scale", scale, learned)
        super().__init__(scale, learned, output)

    def error(self, mean: Tensor, x: Tensor) -> Tensor:
        return F.l1_loss(mean, x, reduction="none")

    def nats(self, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        return torch.exp(-log_scale), log_scale + math.log(2)


class Table(Likelihood):
    """Numbers are Gaussian, N(mean, sigma^2); categories are categorical, softmax(logits). Independent given z.

    nll of a number: (x - mean)^2 / (2 sigma^2) + log sigma + log(2 pi) / 2; of a category: -log p of its value. A value
    that training did not have (all its dimensions 0) counts as each of the known ones in equal parts.

    Args:
        columns: where the numbers and the categories are; numbers first.
        sigma: of all numbers, in units of the scaled data; the initial value where it is learnt.
        learned: learn a sigma for each number.
    """

    def __init__(self, columns: tuple[Column, ...], sigma: float = 1.0, learned: bool = False):
        super().__init__()
        self.log_sigma: Tensor
        require(len(columns) > 0, "", None, "likelihood=table is for tables (data=table); try likelihood=gaussian")
        _check_scale("sigma", sigma, learned)
        self.numbers = sum(column.kind == "number" for column in columns)
        self.widths = [column.stop - column.start for column in columns[self.numbers :]]
        above = torch.full((self.numbers,), math.log(math.expm1(math.log(sigma / SMALLEST)))) if learned else None
        self.above_floor = None if above is None else nn.Parameter(above)
        self.register_buffer("log_sigma", torch.tensor(math.log(sigma)), persistent=False)

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        n, x = self.numbers, x.expand_as(params)
        log_sigma = self.log_sigma if self.above_floor is None else math.log(SMALLEST) + F.softplus(self.above_floor)
        error = F.mse_loss(params[..., :n], x[..., :n], reduction="none")
        terms = [0.5 * torch.exp(-2 * log_sigma) * error + log_sigma + HALF_LOG_2PI]
        blocks = (each[..., n:].split(self.widths, -1) for each in (params, x))
        for logits, one_hot in zip(*blocks, strict=True):
            unknown = (1 - one_hot.sum(-1, keepdim=True)) / one_hot.shape[-1]
            terms.append(-(one_hot + unknown) * logits.log_softmax(-1))
        return torch.cat(terms, -1)

    def mean(self, params: Tensor) -> Tensor:
        n = self.numbers
        return torch.cat([params[..., :n], *(c.softmax(-1) for c in params[..., n:].split(self.widths, -1))], -1)

    def params_of(self, mean: Tensor) -> Tensor:
        return torch.cat([mean[..., : self.numbers], mean[..., self.numbers :].clamp(min=1e-4).log()], -1)


class Multinomial(Likelihood):
    """Counts x of words, each of them drawn from p = softmax(params) (Liang et al. 2018, Mult-VAE).

    nll = -sum_w x_w log p_w: nats of the words in an order that is given. The multinomial coefficient, which counts the
    orders, is left out: it does not depend on the parameters, and exp(nll / words) is the perplexity as it is reported
    (Miao et al. 2016). Of weights that are no counts, the same sum: a cross-entropy, scaled by the sum of the weights.
    """

    def nll_per_dim(self, params: Tensor, x: Tensor) -> Tensor:
        return -x * params.log_softmax(-1)

    def mean(self, params: Tensor) -> Tensor:
        """p itself: how many words a document has, the code need not say."""
        return params.softmax(-1)

    def params_of(self, mean: Tensor) -> Tensor:
        p = mean / mean.sum().clamp(min=1e-12)
        return p.clamp(min=0.01 / p.numel()).log()  # words that were not seen stay possible

    def support(self) -> tuple[float, float]:
        return 0.0, math.inf


class Tokens(Likelihood):
    """Texts, x (B, T) token ids: the decoder's output are the logits of the tokens that are not padding (*S, R, V).

    nll of a token: -log softmax(logits) of its id; of padding: 0. core.Autoregressive says in which order the R are.
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
        """(*S, R) ids have no mean: the likeliest ones."""
        return params.argmax(-1)

    def support(self) -> tuple[float, float]:
        return PAD, self.vocabulary - 1
