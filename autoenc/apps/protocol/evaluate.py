"""The protocol by which runs are compared: all sections that apply to the data and the model, on the test split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from autoenc import metrics
from autoenc.apps.anomaly import labelled, scores
from autoenc.apps.anomaly.rows import detect
from autoenc.apps.anomaly.way import way_of
from autoenc.apps.codes import clustering as clusters
from autoenc.apps.codes import disentanglement as factors
from autoenc.apps.codes import features, neighbours, project, retrieve
from autoenc.apps.codes import recovery as known
from autoenc.apps.generation import classifier, density, generate, quality
from autoenc.apps.generation import texts as text
from autoenc.apps.protocol import bounds as likelihood_bounds
from autoenc.apps.restoration import denoise
from autoenc.apps.untrained import NAME, untrained
from autoenc.config.remedies import against_collapse
from autoenc.errors import ConfigError, UserError
from autoenc.files import read_json
from autoenc.loading import Run
from autoenc.noise import Identity
from autoenc.screen import stages
from autoenc.training import evaluation
from autoenc.verdict import verdict

Numbers = dict[str, Any]
COMPARED = 1_000  # images for SSIM
PROJECTED = 2_000  # examples for t-SNE
DENOISED = 200  # images
NOISE = ("gaussian", denoise.LEVEL)  # for runs trained without noise


class Subject:
    """A run, with results that several sections need, computed once.

    Args:
        samples: importance samples for each example. examples: the number of test examples that get them.
    """

    def __init__(self, run: Run, samples: int = likelihood_bounds.SAMPLES, examples: int = COMPARED):
        self.run, self.samples, self.examples = run, samples, examples
        self.test = run.data.test.on(run.device)

    @cached_property
    def measured(self) -> evaluation.Evaluation:
        """The evaluation of training on all test examples."""
        run = self.run
        assert run.objective is not None, "load_run sets it"
        return evaluation.evaluate(run.model, run.objective, self.test, run.spec, run.batch_size)

    @cached_property
    def untrained(self) -> Run:
        """The run with its initial weights."""
        return untrained(self.run)

    @cached_property
    def probed(self) -> dict[str, Any]:
        """The accuracy of simple classifiers on the representations."""
        return features.probe(self.representations, *features.need_labels(self.run))

    @cached_property
    def representations(self) -> dict[str, features.Representation]:
        """Codes, those of the untrained network, PCA and raw input of training and test examples."""
        return features.representations(self.run)


def reconstruction(subject: Subject) -> Numbers:
    """Return nll [nats], mse, psnr [dB] and terms of the loss on the test split; ssim of 1,000 images."""
    run, numbers = subject.run, dict(subject.measured.numbers)
    if run.spec.kind.images and metrics.has_ssim(run.spec.shape):
        some = subject.test.sample(COMPARED)
        x, x_hat = some.take(slice(None)).x.cpu().numpy(), run.over(some, run.model.reconstruct).numpy()
        pairs = zip(x, x_hat, strict=True)
        numbers["ssim"] = float(np.mean([metrics.ssim(a, b, run.spec.high - run.spec.low) for a, b in pairs]))
    return numbers


def latent(subject: Subject) -> Numbers:
    """Return the metrics of the latent code (`evaluation.latent_health`) on the test split, and their verdict."""
    run = subject.run
    health = evaluation.latent_health(run.model, subject.test, subject.measured, run.spec, run.batch_size)
    scale = run.model.likelihood.remedy(subject.measured.numbers.get("mse", 0.0))
    remedies = against_collapse(run.config, run.record.get("choices", {}), scale)
    numbers = subject.measured.numbers | health
    return health | {"verdict": verdict(run.model, run.objective, numbers, remedies, len(subject.test)).text}


def bounds(subject: Subject) -> Numbers:
    """Return upper bounds on -log p(x) [nats] of 1,000 test examples: elbo, nll by 100 importance samples.

    `Subject` has other numbers of both.
    """
    run = subject.run
    some = run.data.test.sample(subject.examples)
    result = likelihood_bounds.bounds(run, some, subject.samples)
    numbers = {"elbo": float(result.elbo.mean()), "nll_importance": float(result.nll.mean())}
    if not run.spec.kind.continuous and (count := run.spec.kind.words(some.tensor)) is not None:
        words = float(count.mean())
        numbers |= {"perplexity_importance": math.exp(numbers["nll_importance"] / words)}
    return {"samples": subject.samples, "examples": len(some), **numbers}


def denoising(subject: Subject) -> Numbers:
    """Return PSNR [dB] and SSIM of 200 test images, SNR [dB] of windows, with the noise of training or std 0.3."""
    run = subject.run
    if run.spec.kind.denoising is None:
        raise UserError("needs images or series")
    own = not isinstance(run.model.noise, Identity)
    result = denoise.denoise_test(run, DENOISED, *(() if own else NOISE))
    return {"noise": "as in training" if own else "gaussian 0.3", "classical filter": result.filter, **result.numbers}


def probes(subject: Subject) -> Numbers:
    """Return the accuracy of simple classifiers on codes, those of the untrained network, PCA and raw input."""
    return subject.probed


def classification(subject: Subject) -> Numbers:
    """Return the test error of q(y|x) and, on the same labels, of logistic regression on each representation."""
    if (error := subject.measured.numbers.get("classification_error")) is None:
        raise UserError("the model has no classifier q(y|x); model=m2 has")
    others = {name: row["logistic"] for name, row in subject.probed.items() if isinstance(row, dict)}
    return {"q(y|x)": {"classification_error": error}} | {
        f"logistic, {name}": {"classification_error": 1 - right} for name, right in others.items()
    }


def retrieval(subject: Subject) -> Numbers:
    """Return precision@10 of all test examples among 20,000 training examples for each representation, by cosine, for
    binary codes by Hamming distance.

    For bags of words also TF-IDF, among all labelled training examples.
    """
    y, y_test = features.need_labels(subject.run)
    some = features.many_labels(y)
    k = min(10, len(some))
    found = {}
    for name, rows in subject.representations.items():
        hits = neighbours.Index(rows.train[some], rows.metric).search(rows.test, k)
        found[name] = {f"precision@{k}": neighbours.precisions(hits, y[some], y_test)}
    numbers = {name: {key: float(v.mean()) for key, v in values.items()} for name, values in found.items()}
    return numbers | retrieve.baseline(subject.run, subject.run.known_test(), y_test, k) | features.said(found)


def clustering(subject: Subject) -> Numbers:
    """Return the agreement of clusters of the test rows with their classes for each representation, by k-means, and of
    the components of the prior, if it is a mixture."""
    labels = features.need_labels(subject.run)
    return clusters.cluster(subject.run, subject.representations, *labels)


def projection(subject: Subject) -> Numbers:
    """Return trustworthiness and agreement of neighbours (k = 10) of a t-SNE of 2,000 test codes."""
    run = subject.run
    return project.project(run, run.data.test.sample(PROJECTED), "tsne").numbers


def anomaly(subject: Subject) -> Numbers:
    """Return AUROC and average precision of scores, also of the untrained network, and of baselines for the classes
    left out of training."""
    run = subject.run
    if unmeasured := way_of(run).unmeasured:
        raise UserError(unmeasured)
    labels = labelled.known_anomalies(run)
    if labels is None:
        raise UserError("no class was left out of training (anomaly_classes=[...], normal_classes=[...])")
    found = detect.detect(scores.Detector(run), run.data.test, labels)
    return {**found.numbers, "remark": found.remark}


def generation(subject: Subject) -> Numbers:
    """Return the distance to test data of samples, `compared` of them, of those of the untrained network, and of
    validation rows and their reconstructions; see `quality.quality`."""
    run = subject.run
    fitted = density.of(run)
    if not run.spec.kind.continuous:
        return {"density": fitted.text, "compared": text.size(run), **text.quality(run, fitted)}
    found, n = classifier.load(run), quality.size(run)
    own = "prior" if run.model.bottleneck.symbols else None  # the prior of fit_prior is one of trained codes
    sets = {
        "samples": generate.samples(run, n, fitted).x,
        NAME: generate.samples(subject.untrained, n, own).x,
        "reconstructions": run.over(run.data.val.sample(n), run.model.reconstruct).numpy(),
    }
    missing = "Frechet distance of features, precision and recall: first python scripts/train_classifier.py RUN"
    if run.data.train.y is None:
        missing = f"Frechet distance of features, precision and recall need labels, and {run.spec.name} has none"
    named = {"remark": missing} if found is None else {"classifier": found.text}
    return {"density": fitted.text, "compared": n, **named, **quality.quality(run, sets, found)}


def recovery(subject: Subject) -> Numbers:
    """Return the recovery of the true dictionary or subspace of synthetic data."""
    run = subject.run
    if "dictionary" in run.data.truth:
        return dict(known.of_dictionary(run))
    if "subspace" in run.data.truth:
        return dict(known.of_subspace(run))
    raise UserError(f"{run.spec.name} has no known dictionary or subspace")


def disentanglement(subject: Subject) -> Numbers:
    """Return MIG, SAP, the FactorVAE score and DCI of each representation but raw input, by the true factors."""
    run = subject.run
    factors.need_factors(run)
    whole = run.known_test() is run.data.test
    found = subject.representations if whole else features.representations(run, run.data.test)
    return dict(factors.of_factors(run, {name: rows for name, rows in found.items() if name != "raw"}))


SECTIONS: dict[str, Callable[[Subject], Numbers]] = {
    part.__name__: part
    for part in (
        reconstruction,
        latent,
        bounds,
        denoising,
        probes,
        classification,
        retrieval,
        clustering,
        projection,
        anomaly,
        generation,
        recovery,
        disentanglement,
    )
}


def evaluate(
    run: Run,
    only: Sequence[str] = tuple(SECTIONS),
    samples: int = likelihood_bounds.SAMPLES,
    examples: int = COMPARED,
) -> Numbers:
    """Return section -> numbers, and `skipped`: section -> reason. All random draws have fixed seeds.

    Args:
        samples, examples: of the bounds, see `Subject`.

    Raises:
        ConfigError: an unknown section.
    """
    check_sections(only)
    subject = Subject(run, samples, examples)
    results: Numbers = {}
    skipped: dict[str, str] = {}
    for name in stages(list(only), "evaluating"):
        try:
            results[name] = SECTIONS[name](subject)
        except UserError as error:
            skipped[name] = str(error).removeprefix(f"{run.path}: ")
    return results | {"skipped": skipped}


def check_sections(only: Sequence[str]) -> None:
    """Raise ConfigError for a section that does not exist."""
    if unknown := [name for name in only if name not in SECTIONS]:
        raise ConfigError("--only", unknown[0], f"must be among {', '.join(SECTIONS)}")


def earlier(path: Path) -> Numbers:
    """Return the sections of an evaluation that exists; empty if there is none, or it is damaged."""
    try:
        value = read_json(path)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) and isinstance(value.get("skipped", {}), dict) else {}


def merged(before: Numbers, now: Numbers) -> Numbers:
    """Return both evaluations as one, in the order of the sections; those of `now` replace those of `before`."""
    skipped = {k: v for k, v in before.get("skipped", {}).items() if k not in now} | now["skipped"]
    found = {k: v for k, v in before.items() if k not in skipped} | now
    order = [name for name in SECTIONS if name in found]
    return {name: found[name] for name in order} | {"skipped": skipped}


def tables(results: Numbers, run_name: str = "run") -> Iterator[tuple[str, dict[str, dict[str, Any]], str]]:
    """Yield the sections as tables: title, row -> column -> number, and the verdict or remark below."""
    for name, numbers in results.items():
        rows = {k: v for k, v in numbers.items() if isinstance(v, dict)}
        words = {k: v for k, v in numbers.items() if isinstance(v, str)}
        below = ". ".join(filter(None, (words.pop(k, "") for k in ("verdict", "remark"))))
        flat = {k: v for k, v in numbers.items() if isinstance(v, int | float)}
        facts = "; ".join(f"{k}: {v}" for k, v in (words | (flat if rows else {})).items())
        if name != "skipped":
            yield f"{name}{f' ({facts})' if facts else ''}", rows or {run_name: flat}, below
