"""Detectors of rows and of steps as torch modules that read raw rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from autoenc.apps.anomaly import calibration
from autoenc.apps.anomaly.conformal import NAMED, Calibration, Judged, p_values
from autoenc.apps.anomaly.rows.way import Rows
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.anomaly.steps.blocks import WINDOWS
from autoenc.apps.anomaly.steps.follow import LAST_STEPS, MORE, whole
from autoenc.apps.anomaly.steps.scores import OWN
from autoenc.apps.anomaly.steps.way import Steps
from autoenc.apps.anomaly.way import Way
from autoenc.apps.deploy.export import EXAMPLES, settled
from autoenc.apps.deploy.scoring import EQUAL, PValue, Scores, Spread, constant
from autoenc.core import Batch
from autoenc.data.kinds.raw import Raw, RawInput
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.reference import bound, errors, quantile_levels, row_table

Values = dict[str, np.ndarray]
NOISE = 1e-6  # of distances of equal codes
P_VALUE = "split-conformal: (1 + {0} that score as high) / (1 + {0})"  # what the outputs mean
ALARM = "whether the score is above the threshold"
LAST = "the default for the last step of a window"  # why a score decides
WHOLE = "; --follow has this one"


@dataclass(frozen=True)
class Given:
    """Raw rows, an array for each input, and the same `examples` as the run takes them."""

    arrays: Sequence[np.ndarray]
    examples: Any


class PortableDetector(nn.Module):
    """A detector that reads raw rows, a tensor for each of `inputs`, and returns a tensor for each of `outputs`.

    Attributes:
        refused: option -> why it is refused.
    """

    refused: ClassVar[Mapping[str, str]] = {}
    outputs: tuple[str, ...]
    meanings: ClassVar[dict[str, str]]

    def __init__(self, run: Run, raw: Raw, judged: Judged):
        """Hold a detector.

        Args:
            judged: the calibration, the rule and the deciding score.
        """
        super().__init__()
        self.run, self.raw, self.judged, self.score = run, raw, judged, judged.score
        self.threshold = judged.thresholds[self.score]
        self.limit = constant(self.threshold + EQUAL * abs(self.threshold))

    @property
    def inputs(self) -> tuple[RawInput, ...]:
        """Descriptions of the tensors that it reads."""
        return self.raw.inputs

    def alarm(self, score: Tensor) -> Tensor:
        """Return whether a score is above the threshold; what is not a number is."""
        return ~(score <= self.limit)

    def decided(self, scores: Values) -> Values:
        """Return score, p-value, decision and all scores of examples, as the run computes them."""
        judged = replace(self.judged, scores=scores)
        calibrated, values = judged.compared
        return {"score": values, "p_value": p_values(calibrated, values), "alarm": judged.alarms} | scores

    def given(self) -> list[Given]:
        """Return what exported files are compared with the run on, in groups of one shape."""
        raise NotImplementedError

    def expected(self, examples: Any) -> Values:
        """Return the outputs for examples, as the run computes them."""
        raise NotImplementedError

    def shape(self, values: np.ndarray) -> tuple[int | str, ...]:
        """Return the shape of an output of a row, with the names of sides of any length."""
        return values.shape[1:]

    def explained(self, found: Values, arrays: Sequence[np.ndarray]) -> Values:
        """Return outputs that rounding may change much, as the run computes them from others that are exported.

        Args:
            found: all outputs of the exported file. arrays: its inputs.
        """
        raise NotImplementedError


class PortableExamples(PortableDetector):
    """A detector of the codes and errors of examples.

    Attributes:
        traced: outputs that are continuous in the input. Others jump, as ranks and trees do; where rounding leads to
            another side of a jump, the run's value for the `traced` outputs is the right one.
    """

    traced: ClassVar[tuple[str, ...]]

    def __init__(self, way: Way[Any], detector: Any, windows: Detector, score: str, reason: str, normal: Calibration):
        """Hold a detector.

        Args:
            windows: the scores of whole examples. reason: why the score decides if none is named.
        """
        run, chosen = way.run, NAMED if way.options.score else reason
        judged = Judged(score, way.options.rule, {n: np.empty(0) for n in normal.scores}, normal, chosen=chosen)
        super().__init__(run, run.spec.kind.raw(), judged)
        self.model, self.kind, self.detector = run.model, run.spec.kind, detector
        self.windows, self.scores = windows, Scores(windows)
        self.classes = run.spec.classes if run.given_labels else ()
        self.levels: Tensor
        self.register_buffer("levels", quantile_levels(self.model.bottleneck.latent_shape))

    @property
    def inputs(self) -> tuple[RawInput, ...]:
        return (*self.raw.inputs, condition(self.run)) if self.classes else self.raw.inputs

    def batch(self, *tensors: Tensor) -> Batch:
        """Return raw rows as the model is fed them: NaN where the class that the model is conditioned on is unknown."""
        if not self.classes:
            return Batch(self.raw(*tensors))
        *rest, labels = tensors
        x, y = self.raw(*rest), labels[:, 0]
        return Batch(x.where((y >= 0).reshape(-1, *[1] * (x.dim() - 1)), torch.nan), y.clamp(min=0))

    def scored(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the codes of examples (N, K), and their scores, name -> (N,)."""
        table = row_table(self.model, self.kind, batch)
        scores = self.scores(table)
        if "elbo" in self.windows.names:
            scores["elbo"] = bound(self.model, batch, self.levels).double()
        return table[:, 2:], scores

    def rescored(self, found: Values, error: str) -> Values:
        """Return the scores of examples but `elbo`, as the run computes them from the exported error, nll and code."""
        table = np.column_stack([found[error], found["nll"], found["code"]]).astype(np.float64)
        scores = self.windows.of_table(table)
        return scores | {"local": found["local"].clip(*tied(self.windows, table[:, 2:], scores["knn"]))}

    def given(self) -> list[Given]:
        """Return at most 200 raw rows like the reference rows."""
        rows = self.run.reference_rows(EXAMPLES).sample(EXAMPLES).take(slice(None))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values not seen in training, which are among them
            split, arrays = self.kind.raw_rows(rows.x)
        if self.classes and rows.y is not None:
            split = replace(split, y=rows.y)
            arrays = [*arrays, np.array(self.classes)[rows.y.numpy()][:, None]]
        clear = settled(self.run, split)
        return [Given([array[clear.numpy()] for array in arrays], split.subset(clear.nonzero().squeeze(1)))]


class PortableRows(PortableExamples):
    """The scores, p-value and decision of rows."""

    traced: ClassVar[tuple[str, ...]] = ("code", "error", "nll", "elbo")
    meanings: ClassVar[dict[str, str]] = {
        "score": "the deciding score",
        "p_value": P_VALUE.format("calibration rows"),
        "alarm": ALARM,
        "code": "the code of the row",
    }

    def __init__(self, way: Rows):
        detector = way.detector
        normal = calibration.validation(detector) if way.normal is None else way.normal.scored(detector)
        super().__init__(way, detector, detector, way.options.score or detector.best, detector.reason, normal)
        self.names = detector.names
        self.outputs = (*self.meanings, *self.names)
        self.p_value = PValue(normal.scores[self.score])

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        code, scores = self.scored(self.batch(*tensors))
        score = scores[self.score]
        return score, self.p_value(score), self.alarm(score), code, *(scores[name] for name in self.names)

    def expected(self, split: Split) -> Values:
        return {"code": self.run.codes(split)} | self.decided(self.detector.scores(split))

    def explained(self, found: Values, arrays: Sequence[np.ndarray]) -> Values:
        scores = self.rescored(found, "error") | {name: found[name] for name in self.names if name == "elbo"}
        return {name: values for name, values in self.decided(scores).items() if name not in self.traced}


class PortableSteps(PortableExamples):
    """The scores of the steps of a window, and the decision on its last step, as `--follow` takes it."""

    refused: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("alarm_rate", "calibrate"),
        "is for means over windows; the last step of a single window is decided by --quantile",
    )
    traced: ClassVar[tuple[str, ...]] = (*OWN, "window_error", "nll", "elbo", "code")
    meanings: ClassVar[dict[str, str]] = {
        "score": "the deciding score of the last step of the window",
        "alarm": ALARM,
        "code": "the code of the window",
        "window_error": "mean squared error of the window",
    }

    def __init__(self, way: Steps):
        detector = way.detector
        score = way.options.score or OWN[0]
        if score not in OWN:
            raise UserError(f"--score {score}: the last step of a window has the scores {', '.join(OWN)}")
        known = detector.validation_last
        last = Calibration(known, LAST_STEPS, "", whole(detector) + WHOLE, MORE, (len(known[score]), WINDOWS))
        super().__init__(way, detector, detector.windows, score, LAST, last)
        self.whole = [name for name in self.windows.names if name != "error"]
        self.outputs = (*self.meanings, *OWN, *self.whole)
        self.spread = Spread(detector.precision, detector.scale)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        batch = self.batch(*tensors)
        error = self.kind.step_errors(errors(self.model, batch)).double()
        steps = dict(zip(OWN, self.spread(error), strict=True))  # (N, W)
        code, scores = self.scored(batch)
        score = steps[self.score][:, -1]
        whole = (scores[name] for name in self.whole)
        return score, self.alarm(score), code, scores["error"], *steps.values(), *whole

    def expected(self, split: Split) -> Values:
        error = self.run.over(split, lambda batch: self.kind.step_errors(errors(self.model, batch)))
        error = error.transpose(1, 2)  # (N, W, C)
        rows = error.flatten(0, 1).double().numpy()
        own = {name: values.reshape(error.shape[:2]) for name, values in self.detector.own(rows, rows**2).items()}
        whole = self.windows.scores(split)
        found = {"code": self.run.codes(split), "window_error": whole.pop("error")}
        return found | self.decided(own) | own | whole

    def explained(self, found: Values, arrays: Sequence[np.ndarray]) -> Values:
        whole = self.rescored(found, "window_error")
        return self.decided(found) | {name: whole[name] for name in self.whole if name not in self.traced}

    def decided(self, scores: Values) -> Values:
        """Return score and decision of the last steps of windows."""
        judged = replace(self.judged, scores={name: scores[name][:, -1] for name in OWN})
        return {"score": judged.scores[self.score], "alarm": judged.alarms}


def condition(run: Run) -> RawInput:
    """Return the input of the classes that a model is conditioned on."""
    rows = run.spec.kind.raw().inputs[0]
    column = run.config["data"].get("label") if rows.columns and len(rows.shape) == 1 else None
    columns = () if column is None else (str(column),)
    codes = {name: i for i, name in enumerate(run.spec.classes)}
    return RawInput("class", "str", (1,), "the class that the model is conditioned on", columns, codes=(codes,))


def tied(detector: Detector, codes: np.ndarray, knn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest `local` of rows, (N,) each, over the choices among equally distant neighbours.

    Codes of few values have many such neighbours, and which ones a search returns is not defined.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    count, ends = detector.neighbours.n_neighbors, []
    for row in euclidean_distances(codes, detector.table[:, 2:]):
        last = np.partition(row, count - 1)[count - 1]
        nearer = row < last * (1 - EQUAL) - NOISE
        equal = np.sort(detector.spacing[~nearer & (row <= last * (1 + EQUAL) + NOISE)])
        rest = count - int(nearer.sum())
        nearest = detector.spacing[nearer].sum()
        ends.append([nearest + equal[:rest].sum(), nearest + equal[len(equal) - rest :].sum()])
    low, high = np.array(ends).T / count
    return knn / high, knn / low
