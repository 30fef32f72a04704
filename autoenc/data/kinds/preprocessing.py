"""What new data must pass through, kept in the run directory: preprocessing/."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

from autoenc.data.dataset import Preprocessing
from autoenc.errors import DataError, one_line

FOLDER, FILE = "preprocessing", "preprocessing.json"
KINDS: dict[str, str] = {
    "table": "autoenc.data.kinds.table.TablePreprocessing",
    "tokens": "autoenc.data.kinds.tokens.Tokens",
    "bag_of_words": "autoenc.data.kinds.counts.BagOfWords",
    "pictures": "autoenc.data.sets.image_folder.PicturePreprocessing",
}  # kind -> dotted path of the class; imported when a run has it


def save(preprocessing: Preprocessing, run_dir: Path) -> None:
    """Write run_dir/preprocessing/."""
    folder = run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    preprocessing.save(folder)


def load(run_dir: Path) -> Preprocessing | None:
    """That of a run; None where its data are fed as they are. DataError where the files are damaged."""
    folder = run_dir / FOLDER
    if not folder.is_dir():
        return None
    try:
        kind = json.loads((folder / FILE).read_text())["kind"]
        module, _, name = KINDS[kind].rpartition(".")
        return getattr(importlib.import_module(module), name).load(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: cannot be read ({type(error).__name__}: {one_line(error)})") from None
