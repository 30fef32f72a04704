"""Every number that is reported: its unit, which direction is better, and what it means. Imports no torch.

The trainer, early stopping, the plateau schedule, sweeps, comparisons, tables and figures read this table; nothing else
decides from a name. docs/metrics.md shows it to people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Metric:
    """A reported number.

    Args:
        higher_is_better: None where neither direction is better by itself.
        meaning: one line.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    meaning: str

    @property
    def label(self) -> str:
        """The name, the unit and an arrow in the better direction, for tables and axes."""
        arrow = {True: " ↑", False: " ↓", None: ""}[self.higher_is_better]
        return f"{self.name}{f' [{self.unit}]' if self.unit else ''}{arrow}"

    @property
    def sign(self) -> int:
        """The factor that makes lower values better: -1 or 1. A metric without a direction counts as lower."""
        return -1 if self.higher_is_better else 1


LOWER, HIGHER, NEITHER = False, True, None
TABLE = {
    metric.name: metric
    for metric in (
        # The objective and the likelihood
        Metric("loss", "nats", LOWER, "the objective: nll and weighted terms, without those that only help training"),
        Metric(
            "nll",
            "nats",
            LOWER,
            "negative log-likelihood of x given z; of corrupted input if the model has noise. Below 0 where the "
            "density of continuous values exceeds 1",
        ),
        Metric(
            "kl",
            "nats",
            NEITHER,
            "KL divergence of the posterior from the prior; as a term of the loss with free bits if set, of corrupted "
            "input if there is noise",
        ),
        Metric(
            "elbo",
            "nats",
            LOWER,
            "minus the evidence lower bound, nll + KL: bounds -log p(x), for model=cvae given the class",
        ),
        Metric(
            "nll_importance",
            "nats",
            LOWER,
            "-log p(x), for model=cvae given the class, by importance sampling (Burda et al. 2016)",
        ),
        Metric("rate", "nats", NEITHER, "with noise, KL of the posterior that nll is of: nll + rate bounds -log p(x)"),
        Metric("perplexity", "", LOWER, "exp of (nll + rate) per word of all texts together"),
        Metric("perplexity_per_document", "", LOWER, "exp of the mean over texts of (nll + rate) per word"),
        Metric("perplexity_importance", "", LOWER, "exp of nll_importance per word"),
        # Terms of objectives, without their weights
        Metric(
            "commitment", "", LOWER, "squared distance of the encoder's output from its codebook entries, times beta"
        ),
        Metric("codebook", "", LOWER, "squared distance of codebook entries from the encoder's output they stand for"),
        Metric("auxk", "nats", LOWER, "change of the nll if dead units are added to the code; 0 without dead units"),
        Metric("gate", "nats", LOWER, "nll of x given the gate as the code (model=gated)"),
        Metric("matryoshka", "nats", LOWER, "sum of the nll of x given the first units alone, over the prefixes"),
        Metric("l1", "", LOWER, "sum of the absolute values of the code, or of its gate"),
        Metric(
            "kl_sparsity", "nats", LOWER, "KL of the mean activation of each unit from its target, sum over the units"
        ),
        Metric("code_l2", "", LOWER, "half the squared norm of the code"),
        Metric("decoder_l2", "", LOWER, "squared norm of the weights of the decoder"),
        Metric("jacobian", "", LOWER, "squared Frobenius norm of the derivative of the code"),
        Metric(
            "decoder_jacobian", "", LOWER, "half the squared Frobenius norm of the derivative of the reconstruction"
        ),
        # Reconstruction
        Metric("mse", "", LOWER, "squared error of the reconstruction of clean input, mean over values and examples"),
        Metric("mse_pca", "", LOWER, "mse of as many principal components as the code has numbers"),
        Metric("mse_mean", "", LOWER, "mse of the mean of the training data, which an untrained network reconstructs"),
        Metric("psnr", "dB", HIGHER, "peak signal-to-noise ratio of the reconstruction of clean input"),
        Metric("ssim", "", HIGHER, "structural similarity (Wang et al. 2004), at most 1"),
        Metric(
            "rmse", "", LOWER, "root mean squared error of hidden steps of windows, relative to the scaled channels"
        ),
        Metric("snr", "dB", HIGHER, "signal-to-noise ratio of denoised windows of recordings, mean over windows"),
        Metric("accuracy", "", HIGHER, "fraction of the tokens that are the likeliest given those before"),
        Metric("words", "words", NEITHER, "words, or tokens with the end, per example"),
        Metric("denoise_mse", "", LOWER, "mse between the reconstruction of corrupted input and the clean input"),
        Metric("denoise_psnr", "dB", HIGHER, "psnr of the reconstruction of corrupted input against the clean input"),
        Metric("noisy_mse", "", NEITHER, "mse of the corrupted input itself, clipped to the range of the data"),
        Metric("noisy_psnr", "dB", NEITHER, "psnr of the corrupted input itself, clipped to the range of the data"),
        # The code
        Metric("dim", "units", NEITHER, "units of the code"),
        Metric("active_units", "units", HIGHER, "units whose variance over the data is above 0.01 (Burda et al. 2016)"),
        Metric("zeros", "", NEITHER, "fraction of the code that is zero (below 1e-3)"),
        Metric("mean_active", "units", NEITHER, "units that are not zero, mean over examples"),
        Metric("dead_units", "units", LOWER, "units that are zero for every example"),
        Metric("jacobian_norm", "", NEITHER, "Frobenius norm of the derivative of the code, mean over examples"),
        Metric("jacobian_relative", "", NEITHER, "jacobian_norm divided by the spread of the code"),
        Metric(
            "mutual_information",
            "nats",
            HIGHER,
            "of x and z, estimated from N = at most 2,000 examples. The estimate cannot exceed log N (7.6 for 2,000): "
            "a value near log N means that much or more",
        ),
        Metric("code_perplexity", "codes", HIGHER, "exp of the entropy of the use of the codebook"),
        Metric("codes_used", "", HIGHER, "fraction of the codebook that is used"),
        Metric("bit_entropy", "bits", HIGHER, "entropy of a bit of a binary code over the data, mean over bits"),
        Metric("mmd", "", LOWER, "maximum mean discrepancy of the codes and the prior (Gretton et al. 2012), squared"),
        Metric("classification_error", "", LOWER, "fraction of the labelled rows that are put into another class"),
        Metric("classification", "nats", LOWER, "cross-entropy of the classifier on the labelled training rows"),
        Metric("class_kl", "nats", NEITHER, "KL divergence of the class, inferred or known, from the uniform prior"),
        Metric(
            "generator",
            "nats",
            NEITHER,
            "the generator's term; log 2 = 0.69 where the critic cannot tell; for model=vqgan -E[C] of logits, no nats",
        ),
        Metric("adaptive_weight", "", NEITHER, "of the critic of model=vqgan: ratio of two norms of gradients"),
        Metric("perceptual", "", LOWER, "squared distance of features of length 1 (Zhang et al. 2018), from 0 to 2"),
        Metric(
            "feature_mmd",
            "",
            LOWER,
            "mmd of reconstructions and images in the perceptual network, in batches; compares runs of the same data "
            "and task only",
        ),
        Metric(
            "feature_nll",
            "nats",
            NEITHER,
            "negative log-likelihood of the critic's features of x (model=vaegan); they change during training",
        ),
        Metric("distance", "", LOWER, "squared distance of the code from the center of model=deep_svdd"),
        Metric("distance_sd", "", NEITHER, "standard deviation of distance over the examples"),
        Metric(
            "critic",
            "nats",
            NEITHER,
            "the critic's loss; where it cannot tell: 1.39 (two sets), 1.91 for model=vaegan, 2 for model=vqgan, a "
            "hinge loss, no nats",
        ),
        Metric("critic_accuracy", "", NEITHER, "fraction of two sets that a critic tells apart; chance 0.5"),
        Metric(
            "generator_gradient",
            "",
            NEITHER,
            "norm of the gradient of the generator's term for one example that the critic sees, mean over examples",
        ),
        Metric("masked", "nats", LOWER, "-log p of hidden tokens given the visible ones, of model=masked"),
        Metric(
            "masked_r2",
            "",
            HIGHER,
            "fraction of the variance of hidden tokens that is predicted; when normalized, of the variance within a "
            "patch after its own mean and contrast",
        ),
        Metric(
            "total_correlation",
            "nats",
            LOWER,
            "KL of the aggregate posterior from the product of its marginals, estimated in batches or by a critic",
        ),
        # Speed
        Metric("seconds", "s", LOWER, "of the whole run"),
        Metric("training_seconds", "s", LOWER, "in training steps, without evaluation"),
        Metric("examples_per_second", "1/s", HIGHER, "training examples per second"),
        Metric("peak_memory_mb", "MB", LOWER, "peak memory: of the GPU if there is one, else of the process"),
        Metric("parameters", "", NEITHER, "parameters that are trained"),
        Metric("lr", "", NEITHER, "learning rate"),
        Metric("gradient_norm", "", NEITHER, "Euclidean norm of all gradients of a step, after clipping"),
        Metric("samples", "", NEITHER, "importance samples per example"),
        Metric("examples", "", NEITHER, "examples that a number is the mean of"),
        # Applications
        Metric("logistic", "", HIGHER, "test accuracy of logistic regression on the codes"),
        Metric("5-nn", "", HIGHER, "test accuracy of the five nearest neighbours"),
        Metric("pretrained", "", HIGHER, "test accuracy of a classifier that starts from the encoder of the run"),
        Metric("scratch", "", HIGHER, "test accuracy of the same classifier from new weights"),
        Metric("margin", "", HIGHER, "pretrained less scratch, mean over the seeds"),
        Metric("margin_half_width", "", NEITHER, "of the 95% interval of margin, paired over the seeds: margin ± this"),
        Metric("precision", "", HIGHER, "fraction of the nearest examples that are of the class of the query"),
        Metric("recall", "", HIGHER, "fraction of the 10 nearest examples, by the input, among the first hits"),
        Metric("collisions", "", LOWER, "fraction of the examples whose binary code is that of another"),
        Metric("map", "", HIGHER, "mean average precision of the ranking of all examples"),
        Metric("cluster_accuracy", "", HIGHER, "fraction of the rows in the cluster that is matched with their class"),
        Metric("nmi", "", HIGHER, "mutual information of clusters and classes relative to the mean of their entropies"),
        Metric("ari", "", HIGHER, "adjusted Rand index of clusters and classes; 0 for random clusters"),
        Metric("trustworthiness", "", HIGHER, "neighbours in the projection that are neighbours in the code"),
        Metric("trustworthiness_input", "", HIGHER, "neighbours in the projection that are neighbours in the input"),
        Metric("neighbour_agreement", "", HIGHER, "neighbours in the projection that are of the same class"),
        Metric("neighbour_agreement_code", "", HIGHER, "neighbours in the code that are of the same class"),
        Metric("auroc", "", HIGHER, "probability that an anomaly scores higher than a normal row"),
        Metric("auroc_untrained", "", HIGHER, "auroc of the same score of the network with its initial weights"),
        Metric("average_precision", "", HIGHER, "area under precision against recall of the anomalies"),
        Metric("vus_pr", "", HIGHER, "volume under precision and recall over tolerances (Paparrizos et al. 2022)"),
        Metric("step_f1", "", HIGHER, "F1 of the alarms, step by step, as SKAB reports it"),
        Metric("false_alarms", "", LOWER, "fraction of the normal steps with an alarm (FAR)"),
        Metric("missed_alarms", "", LOWER, "fraction of the anomalous steps without an alarm (MAR)"),
        Metric("event_precision", "", HIGHER, "fraction of the intervals of alarms that overlap an anomaly"),
        Metric("event_recall", "", HIGHER, "fraction of the anomalies that overlap an alarm"),
        Metric("delay", "steps", LOWER, "from the first step of a detected anomaly to its first alarm, mean"),
        Metric("adjusted_f1", "", HIGHER, "F1 if one alarm in an anomaly counts for all of it; compare with random"),
        Metric("adjusted_f1_random", "", NEITHER, "adjusted_f1 of as many alarms at random, mean of 20 draws"),
        Metric("image_auroc", "", HIGHER, "auroc of whole images"),
        Metric("pixel_auroc", "", HIGHER, "auroc of pixels"),
        Metric("pro", "", HIGHER, "per-region overlap up to 30 % false alarms (Bergmann et al. 2020)"),
        Metric("frechet_pca", "", LOWER, "Frechet distance of samples and test data in 32 principal components"),
        Metric("frechet_features", "", LOWER, "Frechet distance in the features of a classifier of the data; not FID"),
        Metric("sample_precision", "", HIGHER, "fraction of samples near test data, in the features of a classifier"),
        Metric("sample_recall", "", HIGHER, "fraction of test data near samples, in the features of a classifier"),
        Metric("nearest", "", NEITHER, "distance of samples to training data, relative to validation data"),
        Metric(
            "memorized",
            "",
            NEITHER,
            "fraction of samples nearer to a training row than the median of training rows to another; new data: 0.5",
        ),
        Metric("memorized_features", "", NEITHER, "memorized, in the features of a classifier of the data"),
        Metric("seconds_per_1000", "s", LOWER, "to draw 1,000 samples"),
        Metric(
            "restyle_accuracy", "", HIGHER, "fraction of restyled examples that a classifier takes for the wanted class"
        ),
        Metric("style_correlation", "", HIGHER, "correlation of the codes of restyled examples with those decoded"),
        Metric("content_loss", "", LOWER, "distance of features from the content image; 1 for the style image"),
        Metric("style_loss", "", LOWER, "distance of Gram matrices from the style image; 1 for the content image"),
        Metric("style_r2", "", HIGHER, "fraction of the variance of the code that a second encoding returns"),
        Metric("sharpness", "", NEITHER, "mean gradient magnitude of images; that of validation data is best"),
        Metric("sharpness_gap", "", LOWER, "difference of sharpness from that of validation data, as a fraction of it"),
        Metric("prior_nll", "nats", LOWER, "-log p of the indices of a discrete code under a prior"),
        Metric("distinct", "", HIGHER, "fraction of different texts among the samples"),
        Metric("words_used", "words", HIGHER, "different tokens in the samples"),
        Metric("in_training", "", LOWER, "fraction of the samples that stand in the training data word for word"),
        Metric("mse_to_pca", "", LOWER, "mse as a multiple of that of as many principal components"),
        Metric("mmcs", "", HIGHER, "mean cosine of each true atom with the nearest learned one"),
        Metric("recovered", "", HIGHER, "fraction of the true atoms with such a cosine above 0.9"),
        Metric("mcc", "", HIGHER, "mean cosine of true and learned atoms, assigned one to one (O'Neill et al. 2024)"),
        Metric("f1", "", HIGHER, "F1 score of the activity of a unit for that of its nearest true atom, mean of units"),
        Metric("explained_variance", "", HIGHER, "1 - mse / variance of the data"),
        Metric("l0", "units", NEITHER, "units that are not zero, mean over examples; the term of a jump-ReLU code"),
        Metric("angle_deg", "degrees", LOWER, "largest principal angle to the true subspace"),
        Metric("mig", "", HIGHER, "mutual information gap: does one unit alone know each factor? (Chen et al. 2018)"),
        Metric("sap", "", HIGHER, "separated attribute predictability, by linear prediction (Kumar et al. 2018)"),
        Metric(
            "factorvae_score",
            "",
            HIGHER,
            "accuracy of naming a fixed factor by the unit that varies least (Kim & Mnih 2018)",
        ),
        Metric("dci_disentanglement", "", HIGHER, "does a unit matter for one factor only? (Eastwood & Williams 2018)"),
        Metric("dci_completeness", "", HIGHER, "does one unit only matter for each factor? (Eastwood & Williams 2018)"),
        Metric("dci_informativeness", "", HIGHER, "accuracy of random forests that predict the factors from the code"),
    )
}
HEADLINE = ("mse", "perplexity", "accuracy")  # the first that a run has summarizes it
COUNTED = ("precision", "recall", "logistic")  # a number of neighbours or labels may follow: precision@10, logistic_100
EXPLAINED = (
    "kl",
    "elbo",
    "denoise_mse",
    "denoise_psnr",
    "mutual_information",
    "zeros",
    "mse_pca",
    "mse_mean",
)  # their names can mislead
NEGATIVE = "the density of continuous values exceeds 1 where the model is sure; lower is better there, too"
UNITS = {"nats": "natural logarithms, per example", "dB": "decibels", "units": "dimensions of the code"}


def metric(name: str) -> Metric:
    """Return the row of a reported number.

    Prefixes such as `probes.codes.` are ignored, as are a number of neighbours or labels (`precision@10`,
    `logistic_100`). `_std` and `_sd` end the names of standard deviations that have no row of their own. Another name
    that is not in the table is a term of an objective, and lower is better.
    """
    base = _base(name)
    if (row := _row(base)) is not None:
        return replace(row, name=base)
    if spread := re.fullmatch(r"(.+)_(?:std|sd)", base):
        of = metric(spread[1])
        return Metric(base, of.unit, None, f"standard deviation of {of.name}")
    return Metric(base, "", False, "a term of the objective")


def label(name: str, units: Mapping[str, str] | None = None) -> str:
    """Return the full name of a metric with its unit and an arrow; a name that is no metric is returned as it is.

    Args:
        units: of metrics with another unit than in the table.
    """
    base = _base(name)
    known = _row(base) is not None or _row(re.sub(r"_(?:std|sd)$", "", base)) is not None
    row = metric(name)
    return replace(row, name=name, unit=(units or {}).get(name, row.unit)).label if known else name


def legend(names: Iterable[str], *numbers: Mapping[str, float], after: Iterable[str] = ()) -> list[str]:
    """Return lines that explain the arrows and units in the labels of these metrics, and what can mislead.

    Args:
        numbers: values of metrics that are shown; a line explains negative ones of the loss and the nll.
        after: metrics that were explained before.
    """
    names, after = list(names), list(after)
    before = {*_signs(after), *_meanings(after)}
    signs = [text for text in _signs(names) if text not in before]
    negative = [name for name in ("loss", "nll") if any(values.get(name, 0) < 0 for values in numbers)]
    return [
        *["; ".join(signs)] * bool(signs),
        *(text for text in _meanings(names) if text not in before),
        *[f"negative {' and '.join(negative)}: {NEGATIVE}"] * bool(negative),
    ]


def _signs(names: Iterable[str]) -> list[str]:
    """Return what the arrows and units of metrics mean."""
    rows = [metric(name) for name in names]
    directions = {row.higher_is_better for row in rows}
    signs = [f"{a} {w} is better" for a, w, d in (("↓", "lower", LOWER), ("↑", "higher", HIGHER)) if d in directions]
    return signs + [f"[{unit}] {UNITS[unit]}" for unit in dict.fromkeys(row.unit for row in rows) if unit in UNITS]


def _meanings(names: Iterable[str]) -> list[str]:
    """Return a line for each metric whose name can mislead."""
    return [f"{name}: {TABLE[name].meaning}" for name in dict.fromkeys(map(_base, names)) if name in EXPLAINED]


def _base(name: str) -> str:
    """Return the name without its prefix."""
    return name.rpartition(".")[2].rpartition("/")[2]


def _row(base: str) -> Metric | None:
    """Return the row of the table, ignoring a number of neighbours or labels; None if there is none."""
    counted = re.fullmatch(rf"({'|'.join(COUNTED)})[@_]\d+", base)
    return TABLE.get(counted[1] if counted else base)


def headline(names: Iterable[str]) -> str:
    """Return the metric that summarizes a run with these metrics."""
    given = set(names)
    return next((name for name in HEADLINE if name in given), "loss")
