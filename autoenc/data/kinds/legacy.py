"""Runs written before 0.2 describe their data in run.json, config.yaml and preprocessing/preprocessing.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RENAMED = {"bag_of_words": "counts", "pictures": "image"}


def values_of(folder: Path, data: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return what kind.json of such a run would hold; KeyError, ValueError or OSError where its files are damaged.

    Args:
        folder: preprocessing/ of the run, which may not exist.
        data: of run.json. options: of the data set in config.yaml.
    """
    common = {"shape": data["shape"], "low": data["low"], "high": data["high"]}
    if not folder.is_dir():
        return common | {"kind": data["kind"], "contrast": options.get("contrast", 0.0)}
    kept = json.loads((folder / "preprocessing.json").read_text())
    kind = RENAMED.get(kept["kind"], kept["kind"])
    if kind == "image":
        return common | {"kind": kind, "look": {key: value for key, value in kept.items() if key != "kind"}}
    return common | kept | {"kind": kind}
