"""Kinds of data. kind.py defines the contract; a new kind is one file here and a line in KINDS."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from autoenc.data.kinds import legacy
from autoenc.data.kinds.kind import FILE, Kind
from autoenc.errors import DataError, one_line
from autoenc.files import read_json

EXHAUSTED = (MemoryError, RecursionError)  # by a damaged file
FOLDER = "kind"  # in a run directory
KINDS = {
    "image": "autoenc.data.kinds.image.Image",
    "vector": "autoenc.data.kinds.vector.Vector",
    "table": "autoenc.data.kinds.table.Table",
    "counts": "autoenc.data.kinds.counts.Counts",
    "series": "autoenc.data.kinds.series.Series",
    "spectrogram": "autoenc.data.kinds.series.Spectrogram",
    "tokens": "autoenc.data.kinds.tokens.Tokens",
}  # name -> dotted path of the class, imported on first use


def save(kind: Kind, run_dir: Path) -> None:
    """Write run_dir/kind/."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    kind.save(folder)


def load(run_dir: Path, data: dict[str, Any], options: dict[str, Any]) -> Kind:
    """Return the kind of a run.

    Args:
        data: `data` of run.json. options: `data` of config.yaml. Both are used only for runs of versions before 0.2,
            which have no folder kind/.

    Raises:
        DataError: damaged files, or files written by an incompatible version of scikit-learn.
    """
    present = (run_dir / FOLDER).is_dir()
    folder = run_dir / (FOLDER if present else legacy.FOLDER)
    try:
        values = read_json(folder / FILE) if present else legacy.values_of(folder, data, options)
        module, _, name = KINDS[values["kind"]].rpartition(".")
        kind: Kind = getattr(importlib.import_module(module), name).load(folder, values)
        return kind
    except DataError as error:
        raise DataError(f"{folder}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, *EXHAUSTED) as error:
        raise DataError(f"{folder}: cannot be read ({type(error).__name__}: {one_line(error)})") from None
