"""Export of a detector: raw rows to scores, p-value and decision in one file, compared with the run row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoenc.apps.anomaly.pixels.way import Pixels
from autoenc.apps.anomaly.rows.way import Rows
from autoenc.apps.anomaly.steps.way import Steps
from autoenc.apps.anomaly.way import Options, Way, way_of
from autoenc.apps.deploy import export
from autoenc.apps.deploy.detectors import Given, PortableDetector, PortableRows, PortableSteps, Values
from autoenc.apps.deploy.export import BATCHES, CALLS, TOLERANCE, Unfaithful, faithful, relative
from autoenc.apps.deploy.pixel_detector import PortablePixels
from autoenc.apps.deploy.portable import OPSET, Call, Part, onnx_files, pt2_file, reading_texts
from autoenc.errors import UserError
from autoenc.loading import Run

NAME = "detector"
PORTABLE: dict[type[Way[Any]], type[Any]] = {Rows: PortableRows, Steps: PortableSteps, Pixels: PortablePixels}


@dataclass(frozen=True)
class Compared:
    """An exported file beside the run.

    Args:
        differences: output -> the largest |file - run| / max(1, |run|).
        decisions: number of rows that one of the two decides otherwise.
        microseconds: time per row, of all rows at once.
    """

    differences: dict[str, float]
    decisions: int
    microseconds: float


@dataclass(frozen=True)
class ExportedDetector:
    """Results of `export_detector`.

    Args:
        sizes: file -> bytes. rows: number of rows that files were compared on. metadata: contents of detector.json.
        microseconds: time per row of the run, for the same rows.
        decided: what the threshold means, in words.
        notes: why there is no detector.pt2, if so.
    """

    sizes: dict[str, int]
    compared: dict[str, Compared]
    rows: int
    microseconds: float
    decided: str
    notes: list[str]
    metadata: dict[str, Any]


def check(run: Run) -> None:
    """Raise UserError unless the detector of a run can be exported."""
    if not run.spec.kind.continuous:
        why = (
            "models of token ids cannot be exported, as their decoders skip padding, so that shapes depend on the texts"
        )
        raise UserError(f"{run.path}: --detector: {why}; data=bag_of_words can")


def export_detector(run: Run, folder: Path, options: Options, opset: int = OPSET) -> ExportedDetector:
    """Write detector.{onnx,pt2}, detector.json and the state of the kind of data into an existing folder.

    Before anything is written, every output of each file is compared with the run for up to 200 raw rows.

    Args:
        options: the deciding score, its threshold and the calibration rows.

    Raises:
        Unfaithful: a file differs from the run by more than 1e-4, relative to max(1, |value|).
        UserError: a detector that cannot be exported.
    """
    check(run)
    export.check_opset(opset)
    run = export.on_cpu(run)
    way = way_of(run)
    portable = PORTABLE[way]
    for name, why in portable.refused.items():
        options.refuse(name, why)
    detector = portable(way(run, options))
    inputs = detector.inputs
    part = Part(detector, tuple(i.name for i in inputs), detector.outputs, tuple(i.example(2) for i in inputs),
                tuple(i.sides for i in inputs), variadic=True)  # fmt: skip
    what = f"{run.path}: {NAME}"
    files = {f"{NAME}.onnx": reading_texts(onnx_files({NAME: part}, opset, what)[NAME], inputs)}
    notes = []
    try:
        files[f"{NAME}.pt2"] = pt2_file(part, f"{what}.pt2")
    except UserError as error:
        notes.append(str(error))

    rows = raw_rows(detector)
    count = sum(len(group) for group in rows)
    compared = {}
    for name, content in files.items():
        call = CALLS[Path(name).suffix](content, f"{run.path}: {name}")
        compared[name] = compare(detector, rows, call, f"{run.path}: {name}", as_texts=name.endswith(".onnx"))
    metadata = _metadata(detector, rows, opset) | {
        "verification": {
            "rows": count,
            "tolerance": TOLERANCE,
            "files": {name: asdict(each) for name, each in compared.items()},
        },
        "sha256": export.checksums(files),
    }
    sizes = export.write(folder, files, run, f"{NAME}.json", metadata)
    run_time = _microseconds(lambda: [detector.expected(group.given.examples) for group in rows], count)
    return ExportedDetector(sizes, compared, count, run_time, detector.judged.decided, notes, metadata)


@dataclass(frozen=True)
class RawRows:
    """Raw rows of one shape, and what the run computes for them."""

    given: Given
    expected: Values

    def __len__(self) -> int:
        return len(self.given.arrays[0])


def raw_rows(detector: PortableDetector) -> list[RawRows]:
    """Return raw rows like those of training, and the outputs of the run."""
    return [RawRows(given, detector.expected(given.examples)) for given in detector.given()]


def compare(
    detector: PortableDetector, rows: Sequence[RawRows], call: Call, what: str, as_texts: bool = True
) -> Compared:
    """Compare a file with the run on raw rows, in batches of 1, 7 and all.

    Args:
        as_texts: whether the file reads texts as they are, not as numbers.

    Raises:
        Unfaithful: an output differs by more than 1e-4, relative to max(1, |value|).
    """
    differences, decisions, time = dict.fromkeys(detector.outputs, 0.0), 0, 0.0
    for group in rows:
        arrays = group.given.arrays
        if not as_texts:
            arrays = [i.numbers(a) for i, a in zip(detector.inputs, arrays, strict=True)]
        for size in sorted({min(size, len(group)) for size in BATCHES}):
            part = [np.ascontiguousarray(a[:size]) for a in arrays]
            found = dict(zip(detector.outputs, call(*part), strict=True))
            expected = {name: values[:size] for name, values in group.expected.items()}
            for name, difference in _differences(detector, found, expected, part, what).items():
                differences[name] = max(differences[name], faithful(f"{what}: {name}", difference))
        decisions += int((found["alarm"] != group.expected["alarm"]).sum())
        time += _microseconds(lambda: call(*arrays), 1)  # noqa: B023
    return Compared(differences, decisions, time / sum(len(group) for group in rows))


def _differences(
    detector: PortableDetector, found: Values, expected: Values, arrays: Sequence[np.ndarray], what: str
) -> dict[str, float]:
    """Return the largest difference of each output from the run, or from what it computes from other outputs."""
    for name, values in found.items():
        if values.shape != (wanted := expected[name].shape):
            raise Unfaithful(f"{what}: {name} has the shape {values.shape}, that of the run is {wanted}")
    differences = {name: relative(values, expected[name]) for name, values in found.items()}
    if not max(each.max() for each in differences.values()) <= TOLERANCE:
        for name, values in detector.explained(found, arrays).items():
            differences[name] = np.minimum(differences[name], relative(found[name], values))
    return {name: float(each.max()) for name, each in differences.items()}


def _microseconds(function: Callable[[], object], rows: int) -> float:
    """Return the time per row of a function of rows."""
    start = time.perf_counter()
    function()
    return 1e6 * (time.perf_counter() - start) / rows


def _metadata(detector: PortableDetector, rows: Sequence[RawRows], opset: int) -> dict[str, Any]:
    """Return the contents of detector.json, without paths."""
    run, judged, first = detector.run, detector.judged, rows[0].expected
    return {
        "inputs": [
            {"name": i.name, "dtype": i.dtype, "shape": ["N", *i.shape], "text": i.text, "columns": list(i.columns),
             "dates": list(i.dates), "missing": list(i.missing), "codes": [dict(codes) for codes in i.codes],
             "time": i.time, "range": i.range, "uint8_scale": i.uint8_scale, "least": i.least}
            for i in detector.inputs
        ],
        "outputs": {
            name: {"shape": ["N", *detector.shape(first[name])], "dtype": str(first[name].dtype),
                   "text": detector.meanings.get(name, f"see {name} in scripts/detect.py --help")}
            for name in detector.outputs
        },
        "decision": {**judged.judgement({}), "threshold": detector.threshold, "text": judged.decided},
        **export.provenance(run, opset),
    }  # fmt: skip
