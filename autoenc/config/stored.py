"""Reading of the config of a finished run."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autoenc.config.checks import check
from autoenc.config.schema import Config
from autoenc.errors import DataError, one_line
from autoenc.files import CACHE_FOLDER, is_cache, plain_yaml, read_text
from autoenc.text import flat

LONGEST = 2**20  # bytes of config.yaml
DATA_FOLDER = "data"  # the default of data.root, where data sets may be downloaded to


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the checked config of a run directory."""
    path = run_dir / "config.yaml"
    try:
        text = read_text(path, LONGEST)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    return parse_config(text, path)


@functools.cache
def _schema() -> DictConfig:
    return OmegaConf.structured(Config)


def _distrust(config: dict[str, Any]) -> None:
    """Replace settings by which the config of another person could write files outside the run directory."""
    data = config.get("data")
    if not isinstance(data, dict):
        return
    for key in ("cache", "cache_folder"):
        folder = data.get(key)
        if isinstance(folder, str) and folder != "auto" and not is_cache(folder):
            data[key] = CACHE_FOLDER
    if data.get("download") and data.get("root", DATA_FOLDER) != DATA_FOLDER:
        data["download"] = False


def _migrate(config: dict[str, Any]) -> None:
    """Replace options of version 0.3.0 by the present ones."""
    noise = config.get("noise")
    if isinstance(noise, dict) and noise.get("_target_") == "autoenc.noise.Blemishes" and "dark" in noise:
        dark = noise.pop("dark")  # the fraction of defects darker than the image
        noise["kinds"] = {0: ["bright"], 1: ["dark"]}.get(dark, ["bright", "dark"])


def parse_config(text: str, path: Path) -> dict[str, Any]:
    """Return the checked config of a run, in the present schema; `path` is for messages."""
    try:
        loaded = plain_yaml(text)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(loaded, dict):
        raise DataError(f"{path}: holds no settings")
    if found := [k for k, v in flat(loaded).items() if isinstance(v, str) and "${" in v]:
        # Configs are written resolved; an interpolation could read this machine's environment.
        raise DataError(f"{path}: {found[0]} is an interpolation (${{...}}), which is not allowed")
    _distrust(loaded)
    _migrate(loaded)
    try:
        merged = OmegaConf.merge(_schema(), loaded)
    except OmegaConfBaseException as error:
        raise DataError(f"{path}: {error.full_key or 'config'}: is invalid ({one_line(error)})") from None
    assert isinstance(merged, DictConfig)
    return check(merged)
