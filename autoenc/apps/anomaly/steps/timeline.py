"""Anomalies on the time axis of recordings: a score for each row of the user's files, and intervals of alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from autoenc.apps.anomaly.conformal import NAMED, Calibration, Judged, Quantile, Rule
from autoenc.apps.anomaly.labelled import known_rows, of_both_kinds
from autoenc.apps.anomaly.rows.baselines import baselines
from autoenc.apps.anomaly.steps.blocks import normal
from autoenc.apps.anomaly.steps.metrics import Scored, quality, stretches
from autoenc.apps.anomaly.steps.scores import StepDetector, StepScores, spread
from autoenc.apps.untrained import untrained
from autoenc.data.readers.cells.class_names import MISSING
from autoenc.data.split import Split
from autoenc.data.storage.windows import Axis, Windows
from autoenc.errors import UserError, counted
from autoenc.loading import Run

if TYPE_CHECKING:
    from autoenc.data.readers.recordings import Recording

BLAMED = 3  # channels named beside a score
LONGEST = 100  # largest tolerance of VUS-PR, in steps
SHORT = ("auroc", "average_precision", "vus_pr", "auroc_untrained")
ALARMS = ("step_f1", "false_alarms", "missed_alarms", "event_precision", "event_recall", "delay", "adjusted_f1",
          "adjusted_f1_random")  # fmt: skip


def windows_of(run: Run, path: str | None) -> Split:
    """Return the windows of the recordings in a file or a folder; None: of the test split."""
    kind: Any = run.spec.kind
    split: Split = run.data.test if path is None else kind.cut(kind.recordings(Path(path)), path)
    return split


@dataclass(frozen=True)
class Event:
    """An interval of alarms, or of known anomalies.

    Args:
        recording: its name. first, last: time stamps, or numbers, of the first and the last step. steps: their number.
        peak: the highest score. at: its time stamp. channels: the channels with the largest part in the error.
    """

    recording: str
    first: str
    last: str
    steps: int
    peak: float
    at: str
    channels: str


@dataclass(frozen=True)
class Timeline(Judged):
    """Scores of the S steps of recordings that windows cover.

    Args:
        axis: of the recordings. found: scores and contributions of the steps.
        ends: of the stretches of recordings without a gap, in S.
        join: alarms fewer steps apart are one event.
        labels: (S,) bool, masked where not known, or None. baselines: method -> (S,), which have numbers, too.
        names: of the channels.
    """

    noun: ClassVar[str] = "steps"
    axis: Axis = field(kw_only=True)
    found: StepScores = field(kw_only=True)
    ends: tuple[int, ...] = field(kw_only=True)
    join: int = field(kw_only=True)
    names: tuple[str, ...] = field(kw_only=True)
    labels: np.ndarray | None = None
    baselines: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def spans(self) -> list[tuple[int, int, int]]:
        """Number of the recording, first and end in S, of each stretch that has scores."""
        which = np.searchsorted(self.axis.starts, self.found.steps, side="right") - 1
        starts = [0, *self.ends[:-1]]
        return [(int(which[start]), start, stop) for start, stop in zip(starts, self.ends, strict=True)]

    def _intervals(self) -> list[tuple[int, int]]:
        """Return first and end in S of the intervals of alarms, in order."""
        return stretches(self.alarms, self.ends, self.join)

    def events(self) -> list[Event]:
        """Return the intervals of alarms, in order."""
        return [self._event(*each) for each in self._intervals()]

    def above(self) -> str:
        return f"{super().above()}, in {counted(len(self._intervals()), 'intervals')}"

    def _event(self, start: int, stop: int) -> Event:
        steps, values = self.found.steps[start:stop], self.found.scores[self.score][start:stop]
        i = int(np.searchsorted(self.axis.starts, steps[0], side="right")) - 1
        first, last, at = (
            self.axis.stamp(i, int(step) - self.axis.starts[i])
            for step in (steps[0], steps[-1], steps[values.argmax()])
        )
        parts = self.found.channels[start:stop].mean(0)
        name = self.axis.recordings[i].name
        return Event(
            name, first, last, int(steps[-1] - steps[0]) + 1, float(values.max()), at, blamed(parts, self.names)
        )

    def event_table(self) -> tuple[list[str], list[list[Any]]]:
        """Return header and rows of events.csv."""
        header = ["recording", "first", "last", "steps", "peak", "peak_at", "channels"]
        return header, [
            [e.recording, e.first, e.last, e.steps, f"{e.peak:.7g}", e.at, e.channels] for e in self.events()
        ]

    def table(self, whole: bool = False) -> tuple[list[str], list[list[Any]]]:
        """Return header and rows of detect.csv: a row for each row of the files that has a score.

        Args:
            whole: all rows of the files; scores are empty in gaps, and where no window is.
        """
        names = list(self.found.scores)
        header = ["recording", "time", *names, "anomaly", "channels", *(["label"] if self.labels is not None else [])]
        rows: list[list[Any]] = []
        place = np.full(len(self.axis.steps), -1)
        place[self.found.steps] = np.arange(len(self.found.steps))
        for i, recording in enumerate(self.axis.recordings):
            steps = place[self.axis.starts[i] : self.axis.starts[i + 1]]
            index = recording.label_rows(steps, -1)
            wanted = np.arange(len(index)) if whole else np.flatnonzero(index >= 0)
            rows += [self._row(recording, row, int(index[row]), names) for row in wanted.tolist()]
        return header, rows

    def _row(self, recording: Recording, row: int, s: int, names: Sequence[str]) -> list[Any]:
        stamp = str(row) if recording.stamps is None else recording.stamps[row]
        extra = 3 if self.labels is not None else 2
        if s < 0:
            return [recording.name, stamp, *[""] * (len(names) + extra)]
        cells = [f"{self.found.scores[name][s]:.7g}" for name in names]
        label = [] if self.labels is None else [_cell(self.labels[s])]
        alarm = bool(self.alarms[s])
        blame = blamed(self.found.channels[s], self.names) if alarm else ""
        return [recording.name, stamp, *cells, int(alarm), blame, *label]

    def summary(self) -> dict[str, Any]:
        """Return the contents of detect.json."""
        counts = {"steps": len(self.alarms), "above_threshold": int(self.alarms.sum()), "events": len(self.events())}
        if self.labels is None:
            return self.judgement(counts)
        anomalous = np.ma.filled(self.labels, False)
        counts |= {"anomalies": int(anomalous.sum()), "anomalous_events": len(stretches(anomalous, self.ends))}
        if unlabelled := int(np.ma.getmaskarray(self.labels).sum()):
            counts["unlabelled"] = unlabelled
        return self.judgement(counts) | {"auroc_by_class": by_kind(self)}


def _cell(label: Any) -> int | str:
    """Return a label as a cell of detect.csv, empty where it is masked."""
    return "" if label is np.ma.masked else int(label)


def blamed(parts: np.ndarray, names: Sequence[str]) -> str:
    """Return the channels with the largest parts of an error (C,), as text: sensor_1 72%; sensor_0 20%."""
    order = np.argsort(-parts, kind="stable")[:BLAMED]
    return "; ".join(f"{names[c]} {parts[c]:.0%}" for c in order if parts[c] > 0.05 or c == order[0])


def timeline(
    detector: StepDetector, split: Split, score: str | None = None, rule: Rule = Quantile(),  # noqa: B008
    join: int | None = None, labels: np.ndarray | None = None, calibration: Calibration | None = None,
) -> Timeline:  # fmt: skip
    """Score the steps of windows, and mark those above the threshold.

    Args:
        join: alarms that are fewer steps apart are one event; None: a quarter of a window.
        labels: (R,) whether each row of the recordings is an anomaly; None: those of the recordings.
        calibration: None: the steps of the validation recordings.

    Raises:
        UserError: the run does not have the score, or the calibration.
    """
    run, x = detector.run, split.x
    assert isinstance(x, Windows)
    chosen = NAMED if score else detector.reason
    score = score or detector.best
    detector.check(score)
    calibration = calibration or normal(run, None, None).scored(detector)
    if score not in calibration.scores:
        raise UserError(f"--score {score}: is stored of some validation windows only; --calibrate names recordings")
    found = detector.scores(split)
    which = np.searchsorted(x.axis.starts, found.steps, side="right")
    breaks = (np.diff(which) != 0) | (np.diff(found.steps) != 1)
    ends = (*(np.flatnonzero(breaks) + 1).tolist(), len(which))
    known = labels_of_steps(run, x.axis, labels)
    known = None if known is None else known[found.steps]
    if known is not None and len(np.unique(known_rows(known, known)[0])) < 2:
        known = None
    join = max(1, x.length // 4) if join is None else join
    result = Timeline(
        score, rule, found.scores, calibration, chosen=chosen, axis=x.axis, found=found, ends=ends, join=join,
        names=x_names(run), labels=known,
    )  # fmt: skip
    if known is None:
        return result
    methods = {name: spread(x.places, each, x.length) for name, each in baselines(run, split).items()}
    methods["random"] = np.random.default_rng(0).uniform(size=len(known))
    before = StepDetector(untrained(run)).scores(split).scores
    buffer = min(LONGEST, x.length)
    numbers, thresholds = {}, result.thresholds
    for name, each in (found.scores | methods).items():
        limit = thresholds[name] if name in thresholds else np.quantile(each, 1 - result.alarms.mean())
        numbers[name] = quality(Scored(each, known, each > limit, ends, join), buffer)
        if name in before:
            from sklearn.metrics import roc_auc_score

            numbers[name]["auroc_untrained"] = float(roc_auc_score(*known_rows(known, before[name])))
    return replace(result, baselines=methods, numbers=numbers)


def x_names(run: Run) -> tuple[str, ...]:
    """Return the names of the channels."""
    kind: Any = run.spec.kind
    return tuple(kind.channels.names)


def labels_of_steps(run: Run, axis: Axis, rows: np.ndarray | None) -> np.ndarray | None:
    """Return which steps of an axis are anomalies, (steps,) bool, masked where it is not known; None without labels.

    Args:
        rows: (R,) labels of the rows of the recordings, which replace those of the files.

    Raises:
        UserError: another number of rows.
    """
    kind: Any = run.spec.kind
    if rows is not None:
        places = axis.rows()
        lengths = [len(each) for each in places]
        if len(rows) != sum(lengths):
            raise UserError(f"--labels: {len(rows):,} labels for {sum(lengths):,} rows")
        if of_both_kinds(rows, "--labels") is None:
            return None
        found = np.zeros(len(axis.steps), dtype=bool)
        for i, part in enumerate(np.split(rows.astype(bool), np.cumsum(lengths)[:-1])):
            found[places[i][(places[i] >= 0) & part] + axis.starts[i]] = True
        return found
    if kind.normal is None or any(r.labels is None for r in axis.recordings):
        return None
    names = np.concatenate([np.asarray(r.labels, dtype=object) for r in axis.recordings])
    missing = (names == MISSING) & (kind.normal != MISSING)
    return np.ma.array(names != kind.normal, mask=missing) if missing.any() else names != kind.normal


def rows_of(split: Split) -> int:
    """Return the number of rows of the recordings that windows are of."""
    assert isinstance(split.x, Windows)
    return sum(len(rows) for rows in split.x.axis.rows())


def by_kind(result: Timeline) -> Mapping[str, dict[str, float]]:
    """Return the AUROC of the deciding score for each class of anomalies against normal steps, by name."""
    from sklearn.metrics import roc_auc_score

    labels = [each.labels for each in result.axis.recordings]
    if result.labels is None or any(each is None for each in labels):
        return {}
    names = np.concatenate([np.asarray(each, dtype=object) for each in labels])[result.found.steps]
    known, names = known_rows(result.labels, names)
    values = {m: known_rows(result.labels, v)[1] for m, v in {**result.found.scores, **result.baselines}.items()}
    found: dict[str, dict[str, float]] = {}
    for name in sorted({str(each) for each in names[known]}):
        rows = (names == name) | ~known
        positive = known[rows]
        if positive.all():
            continue
        found[name] = {m: float(roc_auc_score(positive, v[rows])) for m, v in values.items()}
    return found if len(found) > 1 else {}
