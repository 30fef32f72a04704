"""Detection of anomalous time steps in recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from rich.table import Table

from autoenc.apps import inputs
from autoenc.apps.anomaly.conformal import HIGHEST, REMEDY
from autoenc.apps.anomaly.steps import blocks, timeline
from autoenc.apps.anomaly.steps.figure import figure
from autoenc.apps.anomaly.steps.follow import HEADER, Follower, follow
from autoenc.apps.anomaly.steps.scores import StepDetector
from autoenc.apps.anomaly.steps.timeline import Timeline
from autoenc.apps.anomaly.way import NO_ROWS, Options, Way
from autoenc.apps.outputs import Outputs
from autoenc.errors import UserError, check_new
from autoenc.files import append
from autoenc.loading import Run
from autoenc.screen import method_table, result_table
from autoenc.text import csv_text, printable

DEPENDENT = "the time steps of a recording depend on each other, so that no rate follows from them; use --alarm-rate"


class Steps(Way[Timeline]):
    """Anomalies in the test recordings of a run on data=series, in new ones, or in one that is being written."""

    noun: ClassVar[str] = "steps"
    refused: ClassVar[Mapping[str, str]] = {
        "fdr": DEPENDENT,
        **dict.fromkeys(
            ("anomaly", "resize"), "is not for recordings, whose data.label and data.normal say what is anomalous"
        ),
        **NO_ROWS,
    }

    def __init__(self, run: Run, options: Options):
        without = ("input", "labels", "anomaly", "resize", "join", "alarm_rate", "calibrate", "block")
        for name in without if options.follow else ():
            options.refuse(name, "has no effect with --follow")
        super().__init__(run, options)
        if options.alarm_rate is None:
            options.refuse("block", "is what --alarm-rate is a rate of, and none is given")
        self.detector = StepDetector(run)
        block = None if options.alarm_rate is None else options.block or self.detector.window
        self.normal = blocks.normal(run, options.calibrate, block)
        if self.normal.blocks is not None:
            smaller = "" if block == blocks.RECORDING else ", or a smaller --block"
            options.rule.check_rows(len(self.normal.blocks), self.normal.source, REMEDY + smaller)

    @classmethod
    def default(cls, run: Run) -> str:
        return StepDetector(run).best

    def detect(self) -> Timeline:
        options = self.options
        split = timeline.windows_of(self.run, options.input)
        labels = inputs.labels(options.labels, timeline.rows_of(split)) != 0 if options.labels else None
        normal = self.normal.scored(self.detector)
        return timeline.timeline(self.detector, split, options.score, options.rule, options.join, labels, normal)

    def write(self, out: Outputs, prefix: str, result: Timeline) -> None:
        out.csv(out.name, *result.table(whole=bool(self.options.input)))
        out.csv(f"{prefix}events", *result.event_table())
        out.json(result.summary())
        out.figure(f"{prefix}timeline", figure(self.run, result))

    def tables(self, result: Timeline) -> Iterable[Table]:
        if not result.numbers:
            return
        brief = {name: {m: each[m] for m in timeline.SHORT if m in each} for name, each in result.numbers.items()}
        yield method_table("time steps", brief)
        of_alarms = {name: result.numbers[result.score][name] for name in timeline.ALARMS}
        yield result_table("alarms", {result.score: of_alarms})
        if kinds := timeline.by_kind(result):
            shown = (result.score, *result.baselines)
            rows = {name: {m: v for m, v in each.items() if m in shown} for name, each in kinds.items()}
            yield method_table("AUROC by class ↑", rows, metrics=False)

    def highest(self, result: Timeline) -> Iterable[str]:
        events = sorted(result.events(), key=lambda event: -event.peak)
        for event in events[:HIGHEST]:
            yield f"  {event.recording} {event.first} to {event.last} ({event.peak:.4g}): {event.channels}"
        if (left := len(events) - HIGHEST) > 0:
            yield f"  and {left:,} more with lower peaks"

    def results(self) -> Mapping[str, Any]:
        return self.followed(self.options.follow) if self.options.follow else super().results()

    def followed(self, source: str) -> dict[str, Any]:
        """Score the rows of a file, or of standard input, as they come."""
        options = self.options
        follower = Follower(self.detector, options.score, options.rule.level)
        if options.output:
            target = Path(options.output)
            check_new(target, options.force)
            if target.exists() and source != "-" and target.samefile(source):
                raise UserError(f"--output {target}: is the file that is followed; name another")
            target.parent.mkdir(parents=True, exist_ok=True)
        file = append(target, anew=True) if options.output else sys.stdout
        counts = {"rows": 0, "alarms": 0}
        try:
            for rows in follow(follower, source):
                if not counts["rows"]:  # nothing before the input is known to be right
                    caution = f". The threshold: {follower.caution}" if follower.caution else ""
                    print(printable(f"{self.run.path}: alarm: {follower.decided}{caution}"), file=sys.stderr)
                    file.write(csv_text([HEADER]))
                file.write(csv_text(row.cells() for row in rows))
                file.flush()
                counts["rows"] += len(rows)
                counts["alarms"] += sum(row.alarm for row in rows)
        except KeyboardInterrupt:
            pass  # the way to end it
        finally:
            if options.output:
                file.close()
        return {"score": follower.score, "threshold": follower.threshold, **counts}


WAY = Steps
