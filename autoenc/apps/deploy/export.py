"""Export for deployment: ONNX and torch.export files that do not need this package, checked against the run."""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoenc import __version__
from autoenc.apps.anomaly.scores import threshold
from autoenc.apps.deploy.portable import OPSET, OPSETS, Call, Part, onnx_call, onnx_files, parts_of, pt2_call, pt2_file
from autoenc.core import Batch
from autoenc.data.split import Split
from autoenc.errors import UserError, require
from autoenc.files import write_json
from autoenc.loading import Run
from autoenc.metrics import mse_per_example

QUANTILE = 0.99
TOLERANCE = 1e-4
EXAMPLES = 200  # reference rows that files are compared on
BATCHES = 1, 7, EXAMPLES
CALLS = {".onnx": onnx_call, ".pt2": pt2_call}
USAGE = """import json, numpy as np, onnxruntime
info = json.load(open("export.json"))
x = np.zeros((3, *info["input"]["shape"][1:]), np.float32)  # your data, as info["preprocessing"] says
score, reconstruction = onnxruntime.InferenceSession("score.onnx").run(None, {"x": x})
print("anomaly:", score > info["score"]["threshold"])"""


class Unfaithful(Exception):
    """The outputs of an exported file differ from those of the run."""


@dataclass(frozen=True)
class Exported:
    """Results of `export`.

    Args:
        differences: file -> largest |file - run| / max(1, |run|) over outputs, examples and batch sizes.
        threshold: the score above which an example is an anomaly. metadata: the contents of export.json.
    """

    folder: Path
    sizes: dict[str, int]  # file -> bytes
    differences: dict[str, float]
    threshold: float
    metadata: dict[str, Any]


def export(run: Run, folder: str | Path, opset: int = OPSET, quantile: float = QUANTILE) -> Exported:
    """Write {encoder,decoder,score}.{onnx,pt2}, export.json and the state of the kind of data (kind.json, ...).

    Before anything is written, the outputs of every file for up to 200 reference rows, in batches of 1, 7 and 200, are
    compared with those of the run on the CPU: of the score, its root. Existing files are overwritten.

    Args:
        folder: created if it does not exist.
        opset: of ONNX, 18 to 25.
        quantile: fraction of the validation rows whose score does not exceed the threshold.

    Raises:
        Unfaithful: a file differs from the run by more than 1e-4, relative to max(1, |value|); nothing is written.
        UserError: a run on text data, or an operator that cannot be exported or that onnxruntime does not support.
    """
    if not run.spec.kind.continuous:
        raise UserError(f"{run.path}: models of text data cannot be exported; scripts/embed.py writes codes")
    if run.conditional:
        raise UserError(f"{run.path}: a conditional model cannot be exported: encoder and decoder need the class")
    check_opset(opset)
    require(
        0 < quantile < 1, "--quantile", quantile, "must lie between 0 and 1"
    )  # before exporting, which takes seconds
    cpu = on_cpu(run)
    parts = parts_of(cpu.model, run.spec.shape, run.latent_dim)
    files = {f"{name}.onnx": content for name, content in onnx_files(parts, opset, str(run.path)).items()}
    files |= {f"{name}.pt2": pt2_file(part, f"{run.path}: {name}.pt2") for name, part in parts.items()}

    inputs, expected = _reference(cpu)
    differences = {}
    for name, content in files.items():
        part, what = name.partition(".")[0], f"{run.path}: {name}"
        call = CALLS[Path(name).suffix](content, what)
        call = _rooted(call) if part == "score" else call
        found = (_difference(call, inputs[part], expected[part], size) for size in BATCHES)
        differences[name] = max(faithful(what, difference) for difference in found)
    limit = threshold(run.reference.val_mse.astype(np.float64), quantile)
    metadata = _metadata(run, parts, opset, quantile, limit) | {
        "verification": {
            "examples": len(inputs["score"]),
            "ties_left_out": min(EXAMPLES, len(run.reference)) - len(inputs["score"]),  # see `settled`
            "tolerance": TOLERANCE,
            "differences": differences,
        },
        "sha256": checksums(files),
        "usage": USAGE.splitlines(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return Exported(folder, write(folder, files, run, "export.json", metadata), differences, limit, metadata)


def faithful(what: str, difference: float) -> float:
    """Return a relative difference; raise Unfaithful if it is above the tolerance, or NaN."""
    if not difference <= TOLERANCE:
        raise Unfaithful(
            f"{what} differs from the run by {difference:.2g} relative to max(1, |value|), more than {TOLERANCE:g}; "
            "nothing was written"
        )
    return difference


def relative(values: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the largest |value - expected| / max(1, |expected|) of each row: (N, ...) -> (N,)."""
    values, expected = values.astype(np.float64), expected.astype(np.float64)
    return (np.abs(values - expected) / np.maximum(1, np.abs(expected))).reshape(len(values), -1).max(1)


def checksums(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def write(folder: Path, files: Mapping[str, bytes], run: Run, name: str, metadata: Mapping[str, Any]) -> dict[str, int]:
    """Write files, metadata and the state of the kind of data into a folder; return the size of each file in bytes."""
    for file, content in files.items():
        (folder / file).write_bytes(content)
    run.spec.kind.save(folder)
    write_json(folder / name, metadata)
    return {file: len(content) for file, content in files.items()}


def check_opset(opset: int) -> None:
    """Raise ConfigError unless the exporter has the opset."""
    require(OPSETS[0] <= opset <= OPSETS[1], "--opset", opset, f"must lie in [{OPSETS[0]}, {OPSETS[1]}]")


def on_cpu(run: Run) -> Run:
    """Return a copy of a run on the CPU."""
    model, objective = copy.deepcopy((run.model, run.objective))
    cpu = Run(run.path, model, run.config, run.spec, run.record, torch.device("cpu"), objective=objective)
    cpu.__dict__["reference"] = run.reference  # reused
    return cpu


def _reference(run: Run) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
    """Return input and expected outputs of each part, see `_rooted`, for up to 200 reference rows."""
    x = run.reference_rows(EXAMPLES).sample(EXAMPLES).take(slice(None)).x
    split = Split(x := x[settled(run, Split(x))])
    code, reconstruction = run.codes(split), run.over(split, run.model.reconstruct).numpy()
    model = run.model
    error = run.over(
        split, lambda batch: mse_per_example(batch.x, model.reconstruct(batch), model.likelihood.observed(batch.x))
    ).numpy()
    inputs = {"encoder": x.numpy(), "decoder": code, "score": x.numpy()}
    return inputs, {"encoder": [code], "decoder": [reconstruction], "score": [np.sqrt(error), reconstruction]}


def _rooted(call: Call) -> Call:
    """Return a call whose first output is the root of the error; small errors would all be within the tolerance."""

    def rooted(x: np.ndarray) -> list[np.ndarray]:
        error, *others = call(x)
        return [np.sqrt(error), *others]

    return rooted


def settled(run: Run, split: Split) -> Tensor:
    """Return which examples have a code that does not depend on rounding: no ties between units or entries, (N,) bool.

    All, if there are none.
    """

    def margin(batch: Batch) -> Tensor:
        distance = run.model.bottleneck.margin(run.model.encode(batch))
        return torch.full((len(batch),), torch.inf) if distance is None else distance

    clear = run.over(split, margin) > TOLERANCE
    return clear if clear.any() else torch.ones_like(clear)


def _difference(call: Call, x: np.ndarray, expected: list[np.ndarray], size: int) -> float:
    """Return the largest |output - expected| / max(1, |expected|) over the outputs for the first `size` examples."""
    outputs, expected = call(np.ascontiguousarray(x[:size])), [array[:size] for array in expected]
    if [array.shape for array in outputs] != [array.shape for array in expected]:
        return float("inf")
    return float(np.max([relative(a, b).max() for a, b in zip(outputs, expected, strict=True)]))  # NaN is the largest


def _metadata(run: Run, parts: Mapping[str, Part], opset: int, quantile: float, limit: float) -> dict[str, Any]:
    """Return the contents of export.json, without paths."""
    spec = run.spec
    by_255 = (spec.low, spec.high) == (0.0, 1.0)
    words = f"{spec.kind.description().pop('text')}; the data set is {spec.name}"
    before = {"file": "kind.json", "kind": spec.kind.name, **spec.kind.description(), "text": words}
    return {
        "input": {"name": "x", "shape": ["N", *spec.shape], "dtype": "float32", "low": spec.low, "high": spec.high},
        "preprocessing": {"scale": 1.0, "uint8_scale": 1 / 255 if by_255 else None, **before},
        "latent_dim": run.latent_dim,
        "files": {name: {"input": part.inputs[0], "outputs": list(part.outputs)} for name, part in parts.items()},
        "score": {
            "definition": "mean over dimensions of (x - reconstruction)^2; an anomaly if it is above the threshold",
            "threshold": limit,
            "quantile": quantile,
            "validation_examples": len(run.reference.val_mse),
        },
        "classes": list(spec.classes),
        **provenance(run, opset),
    }


def provenance(run: Run, opset: int) -> dict[str, Any]:
    """Return what a file was exported from and by, without paths."""
    record, packages = run.record, ("torch", "onnx", "onnxscript", "onnxruntime")
    return {
        "data": run.spec.name,
        "model": run.name,
        "choices": record.get("choices", {}),
        "trained": {"git": record.get("git"), "started": record.get("started"), "versions": record.get("versions", {})},
        "versions": {"autoenc": __version__, "opset": opset, **{p: importlib.metadata.version(p) for p in packages}},
    }
