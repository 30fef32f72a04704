"""Anomaly detection, compared with classical methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc.apps.anomaly.calibration import validation
from autoenc.apps.anomaly.conformal import NAMED, Calibration, Judged, Quantile, Rule, p_values
from autoenc.apps.anomaly.labelled import check_labels, known_rows, quality
from autoenc.apps.anomaly.rows.baselines import baselines
from autoenc.apps.anomaly.rows.contamination import Share
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.untrained import remark, untrained
from autoenc.core import Batch
from autoenc.data.split import Split
from autoenc.loading import Run
from autoenc.metrics import auroc_exceeds, auroc_interval
from autoenc.reference import column_nll

EQUAL = 1e-6  # relative difference of equal scores, in float32


@dataclass(frozen=True)
class Detected(Judged):
    """The scores of N rows.

    Args:
        columns: (N, <= 3) `contributions`, for vectors and tables.
        labels: (N,) bool, True for anomalies, or None; rows without a label are masked.
        baselines: method -> (N,), with labels. annotations: name -> (N,), such as the fraction of unknown words.
        numbers: score or method -> {auroc, average_precision}, with labels. Scores also have auroc_untrained, that of
            the same score of the untrained network.
        share: of anomalies in the data of training, if asked for.
        remark: which scores are constant and, with labels, better than those of the untrained network.
    """

    columns: np.ndarray | None = None
    labels: np.ndarray | None = None
    baselines: dict[str, np.ndarray] = field(default_factory=dict)
    annotations: dict[str, np.ndarray] = field(default_factory=dict)
    remark: str = ""
    share: Share | None = None

    def summary(self) -> dict[str, Any]:
        """Return the contents of detect.json."""
        counts: dict[str, object] = {"rows": len(self.alarms), "above_threshold": int(self.alarms.sum())}
        if self.labels is not None:
            counts["anomalies"] = int(self.labels.sum())
            if unlabelled := int(np.ma.getmaskarray(self.labels).sum()):
                counts["unlabelled"] = unlabelled
            counts["anomalies_above_threshold"] = int((self.labels & self.alarms).sum())
        if (found := self.interval()) is not None:
            counts["normal"], counts["auroc_interval"] = found[1], list(found[2])
        if self.share is not None:
            counts["contamination"] = asdict(self.share)
        return self.judgement(counts) | ({"remark": self.remark} if self.remark else {})

    def interval(self) -> tuple[int, int, tuple[float, float]] | None:
        """Return the numbers of anomalies and normal rows, and the 95% interval of the AUROC of the deciding score."""
        if self.labels is None or self.score not in self.numbers:
            return None
        known = np.ma.compressed(self.labels).astype(bool)
        anomalies, normal = int(known.sum()), int((~known).sum())
        return anomalies, normal, auroc_interval(self.numbers[self.score]["auroc"], anomalies, normal)

    def table(self, names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
        """Return header and rows for a CSV: name, scores, p-value, anomaly, and columns and label if any."""
        header = ["name", *self.scores, "p_value", "anomaly"]
        cells = [list(names), *([f"{v:.7g}" for v in values] for values in self.scores.values())]
        cells.append([f"{p:.4g}" for p in p_values(*self.compared)])
        cells.append([str(int(v)) for v in self.alarms])
        for name, values in self.annotations.items():
            header.append(name)
            cells.append([f"{v:.4g}" for v in values])
        if self.columns is not None:
            header.append("columns")
            cells.append(["; ".join(str(part) for part in row if part != "") for row in self.columns])
        if self.labels is not None:
            header.append("label")
            cells.append(["" if v is None else str(int(v)) for v in self.labels.tolist()])
        return header, [list(row) for row in zip(*cells, strict=True)]


def detect(
    detector: Detector,
    split: Split,
    labels: np.ndarray | None = None,
    score: str | None = None,
    rule: Rule = Quantile(),  # noqa: B008
    calibration: Calibration | None = None,
) -> Detected:
    """Score the rows of a split and mark those above the threshold.

    Args:
        labels: (N,) bool, True for anomalies, to compute AUROC and average precision of the scores, those of the
            untrained network and the baselines.
        score: the deciding score; None: `detector.best`.
        rule: how thresholds follow from the calibration rows; None: the validation rows.

    Raises:
        UserError: the run does not have the score, the labels are all equal, or the calibration rows are too few.
    """
    chosen = NAMED if score else detector.reason
    score = score or detector.best
    detector.check(score)
    if labels is not None:
        check_labels(labels)
    calibration = calibration or validation(detector)
    rule.check_rows(len(calibration.scores[score]), calibration.source)
    scores = detector.scores(split)
    others = {} if labels is None else baselines(detector.run, split)
    numbers: dict[str, dict[str, float]] = {}
    better: dict[str, bool] = {}
    if labels is not None:
        numbers = {name: quality(labels, values) for name, values in (scores | others).items()}
        for name, values in Detector(untrained(detector.run)).scores(split).items():
            numbers[name]["auroc_untrained"] = quality(labels, values)["auroc"]
            known, ours = known_rows(labels, scores[name])
            better[name] = auroc_exceeds(known, ours, known_rows(labels, values)[1])
    columns = contributions(detector.run, split) if detector.run.spec.kind.named_dimensions else None
    annotations = detector.run.spec.kind.annotations(split)
    remarks = ". ".join(filter(None, (constant(scores), remark(better))))
    return Detected(score, rule, scores, calibration, numbers, chosen, columns, labels, others, annotations, remarks)


def constant(scores: Mapping[str, np.ndarray]) -> str:
    """Return in words which scores are the same for all of several rows, up to rounding; empty if none is."""
    names = [name for name, v in scores.items() if len(v) > 1 and np.ptp(v) <= EQUAL * np.abs(v).max()]
    return f"the same for all rows, and therefore no ranking: {', '.join(names)}" if names else ""


def contributions(run: Run, split: Split, count: int = 3) -> np.ndarray:
    """Return the columns that contributed most to the score of each row, the largest first: (N, count).

    For vectors, column numbers by squared error. For tables, texts with value and reconstruction of the columns whose
    nll exceeds its mean over the validation rows most; empty texts follow if there are fewer, or if the reconstruction
    equals the value.
    """
    kind = run.spec.kind
    if not kind.columns:
        error = run.over(split, lambda batch: (batch.x - run.model.reconstruct(batch)).square().flatten(1)).numpy()
        return np.argsort(-error, axis=1, kind="stable")[:, :count]

    size = len(kind.columns)

    def nll_and_mean(batch: Batch) -> Tensor:
        params = run.model.decode(run.model.encode(batch).mean, batch).float()
        return torch.cat([column_nll(run.model, kind, params, batch.x), run.model.likelihood.mean(params)], 1)

    table = run.over(split, nll_and_mean).numpy()
    excess = table[:, :size] - run.reference.val_column_nll
    order = np.argsort(-excess, axis=1, kind="stable")
    names = [c.name for c in kind.columns]
    cells, reconstructed = kind.cells(split.rows()), kind.cells(table[:, size:])
    texts = np.full((len(split), count), "", dtype=object)
    for i, row in enumerate(order):
        above = [names[c] for c in row if excess[i, c] > 0 and cells[names[c]][i] != reconstructed[names[c]][i]][:count]
        texts[i, : len(above)] = [f"{name}={cells[name][i]} (not {reconstructed[name][i]})" for name in above]
    return texts
