"""The data description of runs of versions before 0.2: run.json, config.yaml, preprocessing/preprocessing.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autoenc.files import read_json

FOLDER = "preprocessing"  # in a run directory
RENAMED = {"bag_of_words": "counts", "pictures": "image"}


def values_of(folder: Path, data: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return the equivalent of kind.json; KeyError, ValueError or OSError if the files are damaged.

    Args:
        folder: preprocessing/ of the run, which may not exist.
        data: `data` of run.json. options: `data` of config.yaml.
    """
    common = {"shape": data["shape"], "low": data["low"], "high": data["high"]}
    if not folder.is_dir():
        return common | {"kind": data["kind"], "contrast": options.get("contrast", 0.0)}
    kept = read_json(folder / "preprocessing.json")
    kind = RENAMED.get(kept["kind"], kept["kind"])
    if kind == "image":
        return common | {"kind": kind, "look": {key: value for key, value in kept.items() if key != "kind"}}
    return common | kept | {"kind": kind}
