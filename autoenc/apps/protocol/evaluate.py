"""The one protocol by which runs are compared: everything that a run's data and model allow, on the test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from autoenc import metrics
from autoenc.apps.anomaly import detect, scores
from autoenc.apps.anomaly import inspection as defects
from autoenc.apps.codes import features, project, retrieve
from autoenc.apps.codes import recovery as known
from autoenc.apps.generation import denoise, density, generate
from autoenc.apps.generation import texts as text
from autoenc.apps.protocol import bounds as likelihood_bounds
from autoenc.errors import ConfigError, UserError
from autoenc.loading import Run
from autoenc.noise import Identity
from autoenc.training import evaluation
from autoenc.training.tracking import track

Numbers = dict[str, Any]
COMPARED = 1_000  # images for SSIM
PROJECTED = 2_000  # examples for t-SNE
DENOISED = 200  # images, as in the literature's tables
NOISE = ("gaussian", 0.3)  # for runs that were trained without


class Subject:
    """A run, and what more than one section reads of it, computed once."""

    def __init__(self, run: Run):
        self.run = run
        self.test = run.data.test.on(run.device)

    @cached_property
    def measured(self) -> evaluation.Evaluation:
        """All test examples, as training measures them."""
        run = self.run
        assert run.objective is not None, "load_run gives it"
        return evaluation.evaluate(run.model, run.objective, self.test, run.spec, run.batch_size)

    @cached_property
    def representations(self) -> dict[str, features.Representation]:
        """The codes of all training and test examples, PCA and the raw input."""
        return features.representations(self.run)


def reconstruction(subject: Subject) -> Numbers:
    """nll [nats], mse and psnr [dB] of all test examples; ssim of the first 1,000 images; the terms of the loss."""
    run, numbers = subject.run, dict(subject.measured.numbers)
    if run.spec.kind.images:
        some = subject.test.subset(slice(0, COMPARED))
        x, made = some.take(slice(None)).x.cpu().numpy(), run.over(some, run.model.reconstruct).numpy()
        pairs = zip(x, made, strict=True)
        numbers["ssim"] = float(np.mean([metrics.ssim(a, b, run.spec.high - run.spec.low) for a, b in pairs]))
    return numbers


def latent(subject: Subject) -> Numbers:
    """Latent health on all test examples, the mean norm of the Jacobian of the code, mutual information."""
    run = subject.run
    found = evaluation.latent_health(run.model, subject.test, subject.measured, run.spec, run.batch_size)
    remedy = run.model.likelihood.remedy(subject.measured.numbers.get("mse", 0.0))
    return found | {"verdict": metrics.verdict(found, remedy).text}


def bounds(subject: Subject) -> Numbers:
    """Upper bounds on -log p(x) in nats, of the first 1,000 test examples: elbo, and nll by 100 importance samples."""
    run = subject.run
    some = run.data.test.subset(slice(0, COMPARED))
    found = likelihood_bounds.bounds(run, some)
    numbers = {"elbo": float(found.elbo.mean()), "nll_importance": float(found.nll.mean())}
    if not run.spec.kind.continuous and (counted := run.spec.kind.words(some.tensor)) is not None:
        words = float(counted.mean())
        numbers |= {"perplexity_importance": math.exp(numbers["nll_importance"] / words)}
    return {"samples": likelihood_bounds.SAMPLES, "examples": len(some), **numbers}


def denoising(subject: Subject) -> Numbers:
    """PSNR [dB] and SSIM of 200 test images with the run's own noise, or Gaussian noise of 0.3 where it has none."""
    run = subject.run
    if not run.spec.kind.images:
        raise UserError("is for images")
    own = not isinstance(run.model.noise, Identity)
    found = denoise.denoise_test(run, DENOISED, *(() if own else NOISE))
    return {"noise": "the run's own" if own else "gaussian 0.3", "classical": found.filter, **found.numbers}


def probes(subject: Subject) -> Numbers:
    """Accuracy of simple classifiers on the codes, on as many principal components and on the raw input."""
    labels = features.need_labels(subject.run)
    return dict(features.probe(subject.representations, *labels))


def retrieval(subject: Subject) -> Numbers:
    """precision@10 by cosine: all test examples against (at most 20,000) training examples; codes, PCA, raw input.

    Of bags of words: codes, latent semantic analysis and TF-IDF, the last against all training examples.
    """
    y, y_test = features.need_labels(subject.run)
    some = features.many_labels(y)
    k = min(10, len(some))
    numbers = {}
    for name, found in subject.representations.items():
        hits = retrieve.Index(found.train[some]).search(found.test, k)
        numbers[name] = {f"precision@{k}": retrieve.precision(hits, y[some], y_test)}
    return numbers | retrieve.baseline(subject.run, subject.run.data.test, y_test, k)


def projection(subject: Subject) -> Numbers:
    """t-SNE of 2,000 test codes: trustworthiness and agreement of neighbours, k = 10."""
    run = subject.run
    return project.project(run, run.data.test.subset(slice(0, PROJECTED)), "tsne").numbers


def anomaly(subject: Subject) -> Numbers:
    """AUROC and average precision for the classes that the run was trained without, beside PCA and isolation forest."""
    run = subject.run
    if defects.inspects(run):
        raise UserError("scripts/detect.py measures it on whole pictures")
    labels = detect.known_anomalies(run)
    if labels is None:
        raise UserError("no class was left out of training (anomaly_classes=[...])")
    return dict(detect.detect(scores.Detector(run), run.data.test, labels).numbers)


def generation(subject: Subject) -> Numbers:
    """How near samples, from the prior or a mixture fitted to the codes, are to test data, beside validation data."""
    fitted = density.of(subject.run)
    of = generate if subject.run.spec.kind.continuous else text
    return {"density": fitted.text, **of.quality(subject.run, fitted)}


def recovery(subject: Subject) -> Numbers:
    """Generated data: how much of the true dictionary, or how nearly the true subspace, the decoder has."""
    run = subject.run
    if "dictionary" in run.data.truth:
        return dict(known.of_dictionary(run))
    if "subspace" in run.data.truth:
        return dict(known.of_subspace(run))
    raise UserError(f"{run.spec.name} was not made from a dictionary or a subspace that is known")


SECTIONS: dict[str, Callable[[Subject], Numbers]] = {
    part.__name__: part
    for part in (
        reconstruction,
        latent,
        bounds,
        denoising,
        probes,
        retrieval,
        projection,
        anomaly,
        generation,
        recovery,
    )
}


def evaluate(run: Run, only: Sequence[str] = tuple(SECTIONS)) -> Numbers:
    """The sections of the protocol: section -> its numbers, and `skipped`: section -> why.

    Twice the same numbers: whatever is drawn is drawn from fixed seeds.

    Raises:
        ConfigError: an unknown section.
    """
    if unknown := [name for name in only if name not in SECTIONS]:
        raise ConfigError("--only", unknown[0], f"must be among {', '.join(SECTIONS)}")
    subject = Subject(run)
    found: Numbers = {}
    skipped: dict[str, str] = {}
    for name in track(list(only), "evaluating"):
        try:
            found[name] = SECTIONS[name](subject)
        except UserError as error:
            skipped[name] = str(error).removeprefix(f"{run.path}: ")
    return found | {"skipped": skipped}


def tables(found: Numbers, run_name: str = "run") -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """The sections as tables: title, row -> column -> number."""
    for name, numbers in found.items():
        rows = {k: v for k, v in numbers.items() if isinstance(v, dict)}
        words = ", ".join(f"{v}" for v in numbers.values() if isinstance(v, str))
        flat = {k: v for k, v in numbers.items() if isinstance(v, int | float)}
        if name != "skipped":
            yield f"{name}{f' ({words})' if words else ''}", rows or {run_name: flat}
