"""Detection of anomalous rows or images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from rich.table import Table

from autoenc.apps import inputs
from autoenc.apps.anomaly import calibration, labelled
from autoenc.apps.anomaly.conformal import Quantile
from autoenc.apps.anomaly.rows import contamination, detect, feedback, figures
from autoenc.apps.anomaly.rows.detect import Detected
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.anomaly.way import NO_RECORDINGS, Options, Way
from autoenc.apps.outputs import Outputs
from autoenc.data.split import Examples
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.screen import method_table

IMAGES = 12  # in the heat map
DEPENDENT = (
    "windows that overlap depend on each other, so that no rate follows from them; use --quantile, or "
    "train with data.stride={window}"
)


class Rows(Way[Detected]):
    """Anomalies among the test rows of a run, or among new ones."""

    noun: ClassVar[str] = "rows"
    refused: ClassVar[Mapping[str, str]] = NO_RECORDINGS

    def __init__(self, run: Run, options: Options):
        super().__init__(run, options)
        for name in ("alarm_rate", "fdr", "contamination") if run.spec.kind.dependent else ():
            options.refuse(name, DEPENDENT.format(window=run.config["data"]["window"]))
        self.detector = feedback.load(run) if options.score == feedback.NAME else Detector(run)
        score = options.score or self.detector.best
        self.detector.check(score)
        self.normal = calibration.unseen(run, options.calibrate, options.resize) if options.calibrate else None
        known = calibration.validation_rows(run, score) if self.normal is None else self.normal.known
        options.rule.check_rows(*known)

    @classmethod
    def default(cls, run: Run) -> str:
        return Detector(run).best

    @cached_property
    def examples(self) -> Examples:
        """The rows, with their names."""
        if self.options.input:
            return inputs.read(self.run, self.options.input, self.options.resize)
        return Examples(self.run.data.test, self.run.data.example_names("test"))

    def labels(self) -> np.ndarray | None:
        """Return which rows are anomalies, (N,) bool; None if it is not known."""
        given, path = self.options.labels, self.options.input
        if path and not given:
            return labelled.labels_in(self.run, path)
        if given:
            labels, source = inputs.labels(given, len(self.examples.split)) != 0, f"--labels {given}"
        else:
            labels, source = labelled.known_anomalies(self.run, self.options.anomaly), f"{self.run.path}: test split"
        return None if labels is None else labelled.of_both_kinds(labels, source)

    def detect(self) -> Detected:
        split, labels = self.examples.split, self.labels()
        detector, rule, score = self.detector, self.options.rule, self.options.score
        normal = None if self.normal is None else self.normal.scored(detector)
        if not self.options.contamination:
            return detect.detect(detector, split, labels, score, rule, normal)
        name, found = score or detector.best, contamination.Share()
        if normal is not None:
            found = contamination.share(normal.scores[name], detector.validation[name])
        if found.estimate == 1:
            raise UserError(
                f"--contamination auto: all validation rows score higher than those of {self.options.calibrate}; "
                "are its rows of the same source?"
            )
        if found.estimate is not None:
            rule = Quantile(1 - found.estimate)
        return replace(detect.detect(detector, split, labels, score, rule), share=found)

    def write(self, out: Outputs, prefix: str, result: Detected) -> None:
        out.csv(out.name, *result.table(self.examples.names))
        out.json(result.summary())
        if result.labels is not None:
            out.figure(f"{prefix}roc", figures.roc(result))
        if self.run.spec.kind.images:
            rows = result.order()[:IMAGES]
            out.figure(f"{prefix}heatmap", figures.heatmap(self.run, self.examples.split, rows))

    def tables(self, result: Detected) -> Iterable[Table]:
        if result.numbers:
            yield method_table("anomalies", result.numbers)

    def remarks(self, result: Detected) -> Iterable[str]:
        if result.remark:
            yield result.remark
        if (found := result.interval()) is not None:
            anomalies, normal, (low, high) = found
            yield (
                f"{anomalies:,} anomalies, {normal:,} normal rows: auroc of {result.score} "
                f"{result.numbers[result.score]['auroc']:.3f}, 95% interval {low:.3f} to {high:.3f}"
            )
        if result.share is not None:
            yield result.share.words

    def highest(self, result: Detected) -> Iterable[str]:
        yield result.highest(self.examples.names)

    def results(self) -> Mapping[str, Any]:
        return self.learned(self.options.feedback) if self.options.feedback else super().results()

    def learned(self, path: str) -> dict[str, Any]:
        """Learn a combination of the scores from the labelled rows of a file, and store it in the run."""
        best = self.detector.best
        with Outputs(self.run, feedback.NAME, None, self.options.force) as out:
            found = feedback.learn(self.detector, path)
            out.json(vars(found))
        rows = {name: {"auroc": value, "weight": found.weights.get(name, "")} for name, value in found.auroc.items()}
        out.table(f"{found.anomalies:,} anomalies, {found.normal:,} normal rows", rows)
        better = "better" if found.better else "not shown to be better"
        out.say(
            f"{feedback.NAME}: AUROC {found.auroc[feedback.NAME]:.3f} of rows that it was not fitted to, {better} than "
            f"{best}, {found.auroc[best]:.3f}"
        )
        out.say(f"to use it: python scripts/detect.py {self.run.path} --score {feedback.NAME} --input NEW")
        return out.summary


WAY = Rows
