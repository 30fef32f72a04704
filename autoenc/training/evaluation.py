"""The numbers of a model on a split: deterministic, independent of training's random state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc import metrics
from autoenc.core import Autoencoder
from autoenc.data.dataset import DataSpec
from autoenc.data.split import Split, drawn
from autoenc.noise import Identity
from autoenc.objective import Objective
from autoenc.regularizers.jacobian import jacobian_norm
from autoenc.regularizers.kl import kl_per_dim, kl_per_example

SEED = 20_011  # evaluation draws its noise and its samples of z from this seed, always
KEPT = 2_000  # codes kept for figures
SENSITIVITY_EXAMPLES, SENSITIVITY_PROJECTIONS = 500, 16
DRAWN = 1_000  # codes and draws from the prior that mmd compares


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    numbers: the loss, each of its terms, and errors in data space. latent: latent health, and what the bottleneck
    measures of its codes. codes (up to 2,000, K) and labels: of `split.sample(2_000)`, in its order. stats: per unit.
    """

    numbers: dict[str, float]
    latent: dict[str, float]
    stats: metrics.LatentStatistics
    codes: Tensor
    labels: Tensor | None


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Modules in evaluation mode and the generators at evaluation's seed; both are put back, come what may.

    Uncompiled: batches of other sizes would be compiled again, and compiled networks refuse the many backward
    passes of a Jacobian.
    """
    was_training = [module.training for module in modules]
    for module in modules:
        module.eval()
    device = next(modules[0].parameters()).device
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.compiler.set_stance("force_eager"), torch.random.fork_rng(devices=devices):
            torch.manual_seed(SEED)
            yield
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.train(training)


@torch.no_grad()
def evaluate(model: Autoencoder, objective: Objective, split: Split, spec: DataSpec, batch_size: int) -> Evaluation:
    """Evaluate on all examples of a split; means weigh examples equally, whatever the size of the last batch.

    loss and its terms: the objective, with schedules at their end. Where the model has noise, they are of corrupted
    input, as in training; denoise_mse and denoise_psnr are of the reconstruction from corrupted input,
    noisy_* of that input itself, clipped to the range of the data.
    mse and psnr: of the reconstruction of clean input from the deterministic
    code, mean over dimensions and examples. rate: KL of the posterior that nll is of, so that nll + rate bounds
    -log p(x) also with noise or free bits. perplexity of texts: exp of the sum of nll + rate over the number of words
    of all documents; perplexity_per_document: exp of the mean over documents of (nll + rate) / words (Miao et al.
    2016).
    """
    kind, noisy = spec.kind, not isinstance(model.noise, Identity)
    stats = metrics.LatentStatistics()
    sums: dict[str, Tensor] = {}
    tally: dict[str, Tensor] = {}
    codes: list[Tensor] = []
    labels: list[Tensor] = []
    chosen = drawn(len(split), KEPT)
    places, order = chosen.sort()
    first = 0

    def add(name: str, values: Tensor) -> None:
        sums[name] = values.double().sum() + sums.get(name, 0.0)

    with evaluation_mode(model, objective):
        for stored in split.in_order(batch_size):
            batch = model.corrupt(stored)
            out = model(batch)
            for name, value in objective.losses(model, batch, out, torch.inf).parts.items():
                add(name, value.expand(len(batch)))
            rate = None if out.code.posterior is None else kl_per_example(model, out.code)
            if rate is not None:
                add("rate", rate)
            if (words := kind.words(stored.x)) is not None:
                bound = out.nll if rate is None else out.nll + rate
                add("bound", bound)
                add("bound_per_word", bound / words.clamp(min=1))
            code = model.encode(stored)
            params = model.decode(code.mean, stored).float()
            for name, values in kind.metrics(params, stored.x, model.likelihood).items():
                add(name, values)
            if noisy and (before := kind.distances(stored.x, batch.input.clamp(kind.low, kind.high))):
                for name, values in before.items():
                    add(f"noisy_{name}", values)
                for name, values in kind.distances(stored.x, model.reconstruct(batch)).items():
                    add(f"denoise_{name}", values)
            kl = None if code.posterior is None else kl_per_dim(model, code)
            stats.update(code.mean, kl)
            if code.posterior is not None and kl is None:
                add("kl_estimate", kl_per_example(model, code))
            for name, total in model.bottleneck.tally(code).items():
                tally[name] = total + tally.get(name, 0)
            here = places[(places >= first) & (places < first + len(stored))] - first
            codes.append(code.mean.flatten(1).float().cpu()[here])
            labels += [] if stored.y is None else [stored.y.cpu()[here]]
            first += len(stored)
    numbers = {name: float(total) / len(split) for name, total in sums.items()}
    latent = stats.numbers() | {name: float(value) for name, value in model.bottleneck.metrics(tally).items()}
    if "kl_estimate" in numbers:
        latent["kl"] = numbers.pop("kl_estimate")
    if "bound" in numbers:
        bound, per_word = numbers.pop("bound"), numbers.pop("bound_per_word")
        numbers["perplexity"] = math.exp(min(bound / max(numbers["words"], 1e-9), 700.0))
        numbers["perplexity_per_document"] = math.exp(min(per_word, 700.0))
    back = order.argsort()
    return Evaluation(numbers, latent, stats, torch.cat(codes)[back], torch.cat(labels)[back] if labels else None)


def sensitivity(model: Autoencoder, split: Split) -> float:
    """Mean Frobenius norm of dz/dx over 500 examples: how far a small change of x moves the code.

    Exact for codes of up to 64 numbers, by 16 random projections beyond.
    """
    batch = split.sample(SENSITIVITY_EXAMPLES).take(slice(None))
    with evaluation_mode(model):
        latent_dim = model.encode(split.take(slice(0, 1))).mean.numel()
        projections = None if latent_dim <= 64 else SENSITIVITY_PROJECTIONS
        norm = jacobian_norm(model, batch, projections, create_graph=False).sqrt().mean()
    return float(norm)


@torch.no_grad()
def mutual_information(model: Autoencoder, split: Split, batch_size: int) -> float | None:
    """I(x; z) in nats between 2,000 examples and their codes; None where the code is no Gaussian.

    E_x KL(q(z|x) || p(z)) - KL(q(z) || p(z)), q(z) the mean of q(z|x) over the examples (Hoffman & Johnson 2016), which
    is the mean of log q(z|x) - log q(z), estimated with one draw of z for each example (He et al. 2019, "Lagging
    inference networks"). 0 where the posterior has collapsed; at most log N, 7.6 for 2,000 examples, whatever a code
    says beyond that.
    """
    z: list[Tensor] = []
    mean: list[Tensor] = []
    std: list[Tensor] = []
    some = split.sample(metrics.PAIRS)
    with evaluation_mode(model):
        for batch in some.in_order(batch_size):
            posterior = model.encode(batch).posterior
            if not isinstance(posterior, Normal):
                return None
            for kept, part in ((z, posterior.sample()), (mean, posterior.mean), (std, posterior.stddev)):
                kept.append(part.flatten(1).double())
    points, means, rates = torch.cat(z), torch.cat(mean), torch.cat(std).pow(-2)
    # log q(z_i | x_j) for all pairs, without what does not depend on j: (z - m)^2 r, multiplied out.
    square = points.square() @ rates.T - 2 * points @ (means * rates).T + (means.square() * rates).sum(-1)
    log_q = 0.5 * (rates.log().sum(-1) - square)  # (N, N)
    return float((log_q.diagonal() - log_q.logsumexp(1)).mean()) + math.log(len(points))


@torch.no_grad()
def prior_mismatch(model: Autoencoder, split: Split, batch_size: int) -> float | None:
    """`metrics.mmd` between the codes of 1,000 examples, z ~ q(z|x), and as many draws from the prior; None
    where there is no prior. 0 where the aggregate posterior is the prior."""
    some = split.sample(DRAWN)
    with evaluation_mode(model):
        codes = torch.cat([model.encode(batch).z.flatten(1) for batch in some.in_order(batch_size)])
        drawn = model.bottleneck.sample(len(codes))
    return None if drawn is None or len(codes) < 2 else metrics.mmd(codes, drawn.flatten(1))


def latent_health(
    model: Autoencoder, split: Split, found: Evaluation, spec: DataSpec, batch_size: int
) -> dict[str, float]:
    """All that is said of the code: what `evaluate` found on a split, and what is computed on a part of it.

    jacobian_norm: `sensitivity`; not of token ids, which have no derivative. jacobian_relative: the same divided by
    the spread of the code, the square root of its total variance: scaling the code does not change it.
    mutual_information: of Gaussian codes. mmd: where there is a prior.
    """
    numbers = dict(found.latent)
    if spec.kind.continuous:
        numbers["jacobian_norm"] = sensitivity(model, split)
        if (spread := float(found.stats.variance.sum().sqrt())) > 0:
            numbers["jacobian_relative"] = numbers["jacobian_norm"] / spread
    if (mismatch := prior_mismatch(model, split, batch_size)) is not None:
        numbers["mmd"] = mismatch
    if (shared := mutual_information(model, split, batch_size)) is not None:
        numbers["mutual_information"] = shared
    return numbers
