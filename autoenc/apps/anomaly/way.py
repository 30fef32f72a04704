"""A way to detect anomalies: what has a score, which options it takes, and what it writes and prints.

Each is a folder with a `way.py`: rows/, steps/ of recordings, pixels/ of images. The data set or its kind names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from rich.table import Table

from autoenc import data
from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.conformal import AlarmRate, FalseDiscoveryRate, Judged, Quantile, Rule
from autoenc.apps.outputs import Outputs
from autoenc.errors import UserError, check_new
from autoenc.loading import Run, load_run
from autoenc.metric_table import legend
from autoenc.screen import console, method_table, track
from autoenc.text import flat

ONE_RUN = ("feedback", "calibrate", "contamination", "input", "follow")
NO_RECORDINGS = dict.fromkeys(
    ("follow", "join", "block"),
    "is for recordings, and {run} scores no time steps: data=series, for spectrograms with windows that overlap",
)
NO_ROWS = dict.fromkeys(
    ("feedback", "contamination"), "is for scores of rows, and those of {run} are of pixels or steps"
)


@dataclass(frozen=True)
class Options:
    """The options of scripts/detect.py; those not given are None, False or empty."""

    input: str | None = None
    output: str | None = None
    force: bool = False
    resize: bool = False
    labels: str | None = None
    anomaly: Sequence[str] = ()
    score: str | None = None
    quantile: float | None = None
    alarm_rate: float | None = None
    fdr: float | None = None
    contamination: str | None = None
    calibrate: str | None = None
    feedback: str | None = None
    block: int | str | None = None
    join: int | None = None
    follow: str | None = None

    @property
    def rule(self) -> Rule:
        """How thresholds follow from calibration scores."""
        if self.alarm_rate is not None:
            return AlarmRate(self.alarm_rate)
        if self.fdr is not None:
            return FalseDiscoveryRate(self.fdr)
        return Quantile() if self.quantile is None else Quantile(self.quantile)

    def refuse(self, name: str, why: str) -> None:
        """Raise UserError if an option is given."""
        if value := getattr(self, name):
            shown = f" {value}" if isinstance(value, str | float) else ""
            raise UserError(f"--{name.replace('_', '-')}{shown}: {why}")

    def check(self, runs: int) -> None:
        """Raise UserError if the options contradict each other, or need one run and there are several."""
        if self.feedback:
            others = ("input", "labels", "anomaly", "output", "score", "calibrate", "quantile", "alarm_rate", "fdr")
            for name in (*others, "contamination", "block", "join", "follow"):
                self.refuse(name, "has no effect with --feedback, after which --score feedback is for new rows")
        if self.labels and not self.input:
            raise UserError("--labels needs --input; for the test split, --anomaly names classes")
        if self.anomaly and self.input:
            raise UserError("--anomaly is for the test split; with --input, --labels says which rows are anomalies")
        if self.calibrate and self.input and Path(self.calibrate).absolute() == Path(self.input).absolute():
            self.refuse("calibrate", "is the file of --input; name a file of known normal rows")
        for name in ONE_RUN if runs > 1 else ():
            self.refuse(name, f"needs one run, {runs} are given")


R = TypeVar("R", bound=Judged)


class Way(ABC, Generic[R]):
    """A way to detect anomalies in the test split of a run, or in new data.

    Attributes:
        noun: of what has a score, in the plural.
        refused: option -> why it is refused.
        unmeasured: why scripts/evaluate.py does not measure the detection of classes; empty if it does.
    """

    noun: ClassVar[str]
    refused: ClassVar[Mapping[str, str]]
    unmeasured: ClassVar[str] = ""

    def __init__(self, run: Run, options: Options):
        self.run, self.options = run, options
        for name, why in self.refused.items():
            options.refuse(name, why.format(run=run.path))

    @classmethod
    @abstractmethod
    def default(cls, run: Run) -> str:
        """Return the score that decides if none is named."""

    @abstractmethod
    def detect(self) -> R:
        """Score the data, and mark what is above the threshold."""

    @abstractmethod
    def write(self, out: Outputs, prefix: str, result: R) -> None:
        """Write tables, figures and the summary; `prefix` begins the names of further files."""

    @abstractmethod
    def tables(self, result: R) -> Iterable[Table]:
        """Return tables of the metrics, if there are any."""

    def remarks(self, result: R) -> Iterable[str]:
        """Return lines between the tables and the number of anomalies."""
        return ()

    @abstractmethod
    def highest(self, result: R) -> Iterable[str]:
        """Return lines about the highest scores."""

    def show(self, result: R) -> None:
        """Print the metrics, the number of anomalies and the highest scores."""
        screen = console()
        for table in self.tables(result):
            screen.print(table)
        chosen = [f"{result.score} decides: {result.chosen}"] if result.numbers else []
        explained = legend(flat(result.numbers))
        above = f"{result.above()}: {result.decided}"
        for line in (*explained, *chosen, *self.remarks(result), above, *self.highest(result)):
            screen.print(line)

    def results(self) -> Mapping[str, Any]:
        """Detect, write, print; return the summary."""
        out, prefix = self.outputs()
        result = self.detect()
        if out is not None:
            with out:
                self.write(out, prefix, result)
        self.show(result)
        console().print(self.stored(out))
        return result.summary()

    def outputs(self) -> tuple[Outputs | None, str]:
        """Return the outputs, or None if results are only printed, and the prefix of the names of further files."""
        options = self.options
        if not options.input:
            return Outputs(self.run, "detect", options.output, options.force), ""
        if not options.output:
            return None, ""
        path = Path(options.output)
        if path.suffix != ".csv" or path.is_dir():
            raise UserError(f"--output {path}: with --input, name a .csv file")
        for written in (path, path.with_suffix(".json")):
            if any(each and written.exists() and written.samefile(each) for each in (options.input, options.labels)):
                raise UserError(f"--output {path}: would overwrite the input file {written}; name another file")
        check_new(path, options.force)
        return Outputs(self.run, path.stem, path.parent, options.force), f"{path.stem}_"

    def stored(self, out: Outputs | None) -> str:
        """Return where the results are, in words."""
        if out is None:
            return "no files are written; --output NAME.csv stores the scores of each row"
        return f"scores of each row: {out.folder / out.name}.csv"

    def classes(self) -> list[str]:
        """Return the classes that are anomalies in the test split; UserError if there are none."""
        if not (found := list(self.options.anomaly) or labelled.anomalies_of(self.run)):
            raise UserError(f"{self.run.path}: was trained on every class; name the anomalies with --anomaly")
        return found


def way_of(run: Run) -> type[Way[Any]]:
    """Return the way to detect anomalies that the data of a run name."""
    data_set = run.config["data"]["_target_"].rpartition(".")[2]
    name = data.DETECTION.get(data_set, run.spec.kind.detection)
    found: type[Way[Any]] = import_module(f"autoenc.apps.anomaly.{name}.way").WAY
    return found


def several(paths: Sequence[str], options: Options, device: str = "auto") -> dict[str, Any]:
    """Print AUROC on the test split of each run, and the mean over runs of the scores that all of them have."""
    classes: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for path in paths:
        run = load_run(path, device)
        classes[path] = way_of(run)(run, options).classes()
        titles[path] = f"{len(titles)}: {run.name}, anomalies {','.join(classes[path])}"
    out = Outputs(run, "detect", options.output, options.force) if options.output else None
    results: dict[str, Judged] = {}
    for path in track(list(classes), "runs"):
        run = load_run(path, device)  # again, so that only one data set is in memory
        way = way_of(run)(run, options)
        results[path] = way.detect()
        if not results[path].numbers:
            raise UserError(f"{path}: its test {way.noun} are not labelled as anomalies and normal ones")
    mean = labelled.mean_numbers([result.numbers for result in results.values()])
    auroc = {path: {name: result.numbers[name]["auroc"] for name in mean} for path, result in results.items()}
    summary = {"mean": mean, "runs": {path: result.summary() for path, result in results.items()}}
    if out is not None:
        with out:
            rows = [[path, ",".join(classes[path]), *auroc[path].values()] for path in results]
            out.csv("detect", ["run", "anomalies", *mean], rows)
            out.json(summary)
    table = {titles[path]: auroc[path] for path in results}
    table["mean"] = {name: numbers["auroc"] for name, numbers in mean.items()}
    beside = {name: numbers["auroc_untrained"] for name, numbers in mean.items() if "auroc_untrained" in numbers}
    table["mean of untrained networks"] = beside
    console().print(method_table("AUROC ↑", table, metrics=False))
    return summary
