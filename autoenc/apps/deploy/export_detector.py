"""Export of a detector: raw rows to scores, p-value and decision in one file, compared with the run row by row."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoenc.apps.anomaly.way import Options, way_of
from autoenc.apps.deploy import export
from autoenc.apps.deploy.detectors import PORTABLE, PortableDetector, Values
from autoenc.apps.deploy.export import BATCHES, CALLS, EXAMPLES, TOLERANCE, Unfaithful, faithful, relative, settled
from autoenc.apps.deploy.portable import OPSET, Call, Part, onnx_files, pt2_file, reading_texts
from autoenc.data.split import Split
from autoenc.errors import UserError
from autoenc.loading import Run

NAME = "detector"


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
        notes: why there is no detector.pt2, if so; what the threshold rests on, if it is little.
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
    if (way := way_of(run)) not in PORTABLE:
        raise UserError(
            f"{run.path}: --detector: scores of {way.noun} cannot be exported, only those of rows and steps"
        )
    if not run.spec.kind.continuous:
        raise UserError(f"{run.path}: --detector: models of token ids cannot be exported; data=bag_of_words can")
    if run.conditional:
        raise UserError(
            f"{run.path}: --detector: a conditional model cannot be exported, as the file would need labels"
        )


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
    inputs = detector.raw.inputs
    part = Part(detector, tuple(i.name for i in inputs), detector.outputs, tuple(i.example(2) for i in inputs))
    what = f"{run.path}: {NAME}"
    files = {f"{NAME}.onnx": reading_texts(onnx_files({NAME: part}, opset, what)[NAME], inputs)}
    notes = [detector.caution] if detector.caution else []
    try:
        files[f"{NAME}.pt2"] = pt2_file(part, f"{what}.pt2")
    except UserError as error:
        notes.append(str(error))

    rows = raw_rows(detector)
    compared = {}
    for name, content in files.items():
        call = CALLS[Path(name).suffix](content, f"{run.path}: {name}")
        compared[name] = compare(detector, rows, call, f"{run.path}: {name}", as_texts=name.endswith(".onnx"))
    metadata = _metadata(detector, rows, opset) | {
        "verification": {
            "rows": len(rows.split),
            "tolerance": TOLERANCE,
            "files": {name: asdict(each) for name, each in compared.items()},
        },
        "sha256": export.checksums(files),
    }
    sizes = export.write(folder, files, run, f"{NAME}.json", metadata)
    run_time = _microseconds(lambda: detector.expected(rows.split), len(rows.split))
    return ExportedDetector(sizes, compared, len(rows.split), run_time, detector.judged.decided, notes, metadata)


@dataclass(frozen=True)
class RawRows:
    """Raw rows, an array for each input, and what the run computes for them."""

    arrays: Sequence[np.ndarray]
    split: Split
    expected: Values


def raw_rows(detector: PortableDetector) -> RawRows:
    """Return at most 200 raw rows like the reference rows, and the outputs of the run."""
    run = detector.run
    x = run.reference_rows(EXAMPLES).sample(EXAMPLES).take(slice(None)).x
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values not seen in training, which are among them
        split, arrays = run.spec.kind.raw_rows(x)
    clear = settled(run, split)
    chosen = split.subset(clear.nonzero().squeeze(1))
    return RawRows([array[clear.numpy()] for array in arrays], chosen, detector.expected(chosen))


def compare(detector: PortableDetector, rows: RawRows, call: Call, what: str, as_texts: bool = True) -> Compared:
    """Compare a file with the run on raw rows, in batches of 1, 7 and 200.

    Args:
        as_texts: whether the file reads texts as they are, not as numbers.

    Raises:
        Unfaithful: an output differs by more than 1e-4, relative to max(1, |value|).
    """
    inputs = detector.raw.inputs
    arrays = rows.arrays if as_texts else [i.numbers(a) for i, a in zip(inputs, rows.arrays, strict=True)]
    differences = dict.fromkeys(detector.outputs, 0.0)
    for size in BATCHES:
        found = dict(zip(detector.outputs, call(*(np.ascontiguousarray(a[:size]) for a in arrays)), strict=True))
        explained = detector.explained(found)
        for name, values in found.items():
            expected = rows.expected[name][:size]
            if values.shape != expected.shape:
                raise Unfaithful(f"{what}: {name} has the shape {values.shape}, that of the run is {expected.shape}")
            difference = relative(values, expected)
            if name in explained:
                difference = np.minimum(difference, relative(values, explained[name]))
            differences[name] = max(differences[name], faithful(f"{what}: {name}", float(difference.max())))
    decisions = int((found["alarm"] != rows.expected["alarm"]).sum())
    return Compared(differences, decisions, _microseconds(lambda: call(*arrays), len(found["alarm"])))


def _microseconds(function: Callable[[], object], rows: int) -> float:
    """Return the time per row of a function of rows."""
    start = time.perf_counter()
    function()
    return 1e6 * (time.perf_counter() - start) / rows


def _metadata(detector: PortableDetector, rows: RawRows, opset: int) -> dict[str, Any]:
    """Return the contents of detector.json, without paths."""
    run, judged = detector.run, detector.judged
    dtypes = {name: str(values.dtype) for name, values in rows.expected.items()}
    return {
        "inputs": [
            {"name": i.name, "dtype": i.dtype, "shape": ["N", *i.shape], "text": i.text, "columns": list(i.columns),
             "dates": list(i.dates), "missing": list(i.missing), "codes": [dict(codes) for codes in i.codes]}
            for i in detector.raw.inputs
        ],
        "outputs": {
            name: {"shape": ["N", *rows.expected[name].shape[1:]], "dtype": dtypes[name],
                   "text": detector.meanings.get(name, f"see {name} in scripts/detect.py --help")}
            for name in detector.outputs
        },
        "decision": {**judged.judgement({}), "threshold": detector.threshold, "text": judged.decided},
        **export.provenance(run, opset),
    }  # fmt: skip
