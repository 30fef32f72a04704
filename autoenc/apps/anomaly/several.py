"""Detection in the test splits of several runs, and the mean over runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.way import Options, Result, way_of
from autoenc.apps.outputs import Outputs
from autoenc.errors import UserError
from autoenc.loading import load_run
from autoenc.training.tracking import console, method_table, track


def several(paths: Sequence[str], options: Options, device: str = "auto") -> dict[str, Any]:
    """Print AUROC on the test split of each run, and the mean over runs of the scores that all of them have."""
    classes: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for path in paths:
        run = load_run(path, device)
        classes[path] = way_of(run)(run, options).classes()
        titles[path] = f"{len(titles)}: {run.name}, anomalies {','.join(classes[path])}"
    out = Outputs(run, "detect", options.output, options.force) if options.output else None
    results: dict[str, Result] = {}
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
    console().print(method_table("AUROC", table))
    return summary
