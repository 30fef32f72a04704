"""Evaluation of a model on a split: deterministic, independent of the random state of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc import metrics
from autoenc.core import Autoencoder, Batch
from autoenc.data.dataset import DataSpec
from autoenc.data.split import Split, drawn
from autoenc.noise import Identity
from autoenc.objective import Objective
from autoenc.regularizers.jacobian import jacobian_norm
from autoenc.regularizers.kl import class_kl, kl_per_dim, kl_per_example
from autoenc.seeds import seeded

SEED = 20_011  # of noise and samples of z in evaluation
KEPT = 2_000  # codes kept for figures
SENSITIVITY_EXAMPLES, SENSITIVITY_PROJECTIONS = 500, 16
DRAWN = 1_000  # codes and draws from the prior that mmd compares


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Args:
        numbers: the loss, each of its terms, and errors in data space.
        latent: metrics of the code, those of the bottleneck included. stats: per unit.
        codes, labels: (N, K) and (N,), of `split.sample(2_000)`, in its order.
    """

    numbers: dict[str, float]
    latent: dict[str, float]
    stats: metrics.LatentStatistics
    codes: Tensor
    labels: Tensor | None


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Set modules to evaluation mode and the generators to the seed of evaluation, and restore both afterwards."""
    was_training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        with seeded(SEED, next(modules[0].parameters()).device):
            yield
    finally:
        for module, training in zip(modules, was_training, strict=True):
            module.train(training)


def over(
    model: Autoencoder, split: Split, function: Callable[[Batch], Tensor], batch_size: int, device: torch.device
) -> Tensor:
    """Return `function` of every batch of a split, joined: (N, ...) on the CPU, with evaluation's seed."""
    with evaluation_mode(model), torch.no_grad():
        return torch.cat([function(batch).cpu() for batch in replace(split, device=device).in_order(batch_size)])


@torch.no_grad()
def evaluate(model: Autoencoder, objective: Objective, split: Split, spec: DataSpec, batch_size: int) -> Evaluation:
    """Evaluate on all examples of a split; means weigh examples equally, whatever the size of the last batch.

    Batches are drawn at random, from a fixed seed: terms such as mmd are of whole batches, and batches of rows that are
    sorted by class would have one class each.

    loss and its terms: the objective, with schedules at their end. Where the model has noise, they are of corrupted
    input, as in training; denoise_mse and denoise_psnr are of the reconstruction from corrupted input,
    noisy_* of that input itself, clipped to the range of the data: means of the examples that the noise has changed.
    mse and psnr: of the reconstruction of clean input from the deterministic
    code, mean over dimensions and examples. rate, with noise: KL of the posterior that nll is of, so that
    nll + rate bounds -log p(x). perplexity of texts: exp of the sum of nll + rate over the number of words
    of all documents; perplexity_per_document: exp of the mean over documents of (nll + rate) / words (Miao et al.
    2016).
    """
    kind, noisy = spec.kind, not isinstance(model.noise, Identity)
    stats = metrics.LatentStatistics()
    sums: dict[str, Tensor] = {}
    tally: dict[str, Tensor] = {}
    of_labels: dict[str, Tensor] = {}
    codes: list[Tensor] = []
    chosen = drawn(len(split), KEPT)
    place = torch.full((len(split),), -1)  # of each row among the codes that are kept
    place[chosen] = torch.arange(len(chosen))
    kept: list[Tensor] = []

    def add(values: Mapping[str, Tensor], to: dict[str, Tensor]) -> None:
        to |= {name: value + to.get(name, 0) for name, value in values.items()}

    def add_examples(values: Mapping[str, Tensor]) -> None:
        add({name: value.double().sum() for name, value in values.items()}, sums)

    with evaluation_mode(model, objective):
        for index, stored in split.at_random(batch_size):
            batch = model.corrupt(stored)
            out = model(batch)
            parts = objective.losses(model, batch, out, torch.inf).parts
            add_examples({name: value.expand(len(batch)) for name, value in parts.items()})
            words, rate = kind.words(stored.x), None
            if out.code.posterior is not None and (noisy or words is not None):
                rate = kl_per_example(model, out.code) + class_kl(model)
            if rate is not None and noisy:  # else latent.kl
                add_examples({"rate": rate})
            if words is not None:
                bound = out.nll if rate is None else out.nll + rate
                add_examples({"bound": bound, "bound_per_word": bound / words.clamp(min=1)})
            code = model.encode(stored)
            params = model.decode(code.mean, stored).float()
            add_examples(kind.metrics(params, stored.x, model.likelihood))
            shown = batch.input.clamp(kind.low, kind.high)
            if noisy and (before := kind.distances(stored.x, shown)):
                changed = (shown != stored.x).flatten(1).any(1)  # others have a psnr of 120 dB, which would dominate
                after = kind.distances(stored.x, model.reconstruct(batch))
                add_examples({f"noisy_{name}": values * changed for name, values in before.items()})
                add_examples({f"denoise_{name}": values * changed for name, values in after.items()})
                add_examples({"changed": changed})
            kl = None if code.posterior is None else kl_per_dim(model, code)
            stats.update(code.mean, kl)
            if code.posterior is not None and kl is None:
                add_examples({"kl_estimate": kl_per_example(model, code)})
            add(model.bottleneck.tally(code), tally)
            if model.condition is not None:
                add(model.condition.tally(model.visible(stored)), of_labels)
            own = place[index.cpu()]
            kept.append(own[own >= 0])
            codes.append(code.mean.flatten(1)[(own >= 0).to(code.mean.device)].float().cpu())
    changed_examples = float(sums.pop("changed", torch.tensor(1.0)).clamp(min=1))
    numbers = {
        name: float(total) / (changed_examples if name.startswith(("noisy_", "denoise_")) else len(split))
        for name, total in sums.items()
    }
    numbers = objective.of_all(numbers)
    if model.condition is not None:
        numbers |= {name: float(value) for name, value in model.condition.metrics(of_labels).items()}
    latent = stats.numbers() | {name: float(value) for name, value in model.bottleneck.metrics(tally).items()}
    latent = {name: value for name, value in latent.items() if name not in objective.meaningless}
    if "kl_estimate" in numbers:
        latent["kl"] = numbers.pop("kl_estimate")
    if "bound" in numbers:
        bound, per_word = numbers.pop("bound"), numbers.pop("bound_per_word")
        numbers["perplexity"] = math.exp(min(bound / max(numbers["words"], 1e-9), 700.0))
        numbers["perplexity_per_document"] = math.exp(min(per_word, 700.0))
    found = torch.cat(codes)[torch.cat(kept).argsort()]
    return Evaluation(numbers, latent, stats, found, None if split.y is None else split.y.cpu()[chosen])


def sensitivity(model: Autoencoder, split: Split) -> float:
    """Return the mean Frobenius norm of dz/dx over 500 examples, estimated by 16 projections if K > 64."""
    batch = split.sample(SENSITIVITY_EXAMPLES).take(slice(None))
    with evaluation_mode(model):
        latent_dim = model.encode(split.take(slice(0, 1))).mean.numel()
        projections = None if latent_dim <= 64 else SENSITIVITY_PROJECTIONS
        norm = jacobian_norm(model, batch, projections, create_graph=False).sqrt().mean()
    return float(norm)


@torch.no_grad()
def mutual_information(model: Autoencoder, split: Split, batch_size: int) -> float | None:
    """Return I(x; z) in nats of 2,000 examples and their codes; None if the code is not Gaussian.

    E_x KL(q(z|x) || p(z)) - KL(q(z) || p(z)), q(z) the mean of q(z|x) over the examples (Hoffman & Johnson 2016), which
    is the mean of log q(z|x) - log q(z), estimated with one draw of z for each example (He et al. 2019, "Lagging
    inference networks"). 0 for a collapsed posterior; the estimate is at most log N, 7.6 for 2,000 examples.
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
    # log q(z_i | x_j) for all pairs up to a constant: (z - m)^2 r, multiplied out.
    square = points.square() @ rates.T - 2 * points @ (means * rates).T + (means.square() * rates).sum(-1)
    log_q = 0.5 * (rates.log().sum(-1) - square)  # (N, N)
    return float((log_q.diagonal() - log_q.logsumexp(1)).mean()) + math.log(len(points))


@torch.no_grad()
def prior_mismatch(model: Autoencoder, split: Split, batch_size: int) -> float | None:
    """Return `metrics.mmd` of the codes of 1,000 examples, z ~ q(z|x), and as many draws from the prior.

    0 if the aggregate posterior is the prior; None without a prior.
    """
    some = split.sample(DRAWN)
    with evaluation_mode(model):
        codes = torch.cat([model.encode(batch).z.flatten(1) for batch in some.in_order(batch_size)])
        drawn = model.bottleneck.sample(len(codes))
    return None if drawn is None or len(codes) < 2 else float(metrics.mmd(codes, drawn.flatten(1)))


def latent_health(
    model: Autoencoder, split: Split, evaluation: Evaluation, spec: DataSpec, batch_size: int
) -> dict[str, float]:
    """Return all metrics of the code: those of `evaluate` on a split, and those computed on a part of it.

    jacobian_norm and jacobian_relative for continuous data; the latter is divided by the square root of the total
    variance of the code, so that it does not depend on the scale of the code. mutual_information for Gaussian codes,
    mmd if there is a prior.
    """
    numbers = dict(evaluation.latent)
    if spec.kind.continuous:
        numbers["jacobian_norm"] = sensitivity(model, split)
        if (spread := float(evaluation.stats.variance.sum().sqrt())) > 0:
            numbers["jacobian_relative"] = numbers["jacobian_norm"] / spread
    if (mismatch := prior_mismatch(model, split, batch_size)) is not None:
        numbers["mmd"] = mismatch
    if (shared := mutual_information(model, split, batch_size)) is not None:
        numbers["mutual_information"] = shared
    return numbers
