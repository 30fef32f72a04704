"""The schema of the config, and the options of its groups. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.plugins.config_source import ConfigSource
from omegaconf import MISSING, OmegaConf

from autoenc.files import shortened
from autoenc.training.settings import TrainerSettings

INITIALIZATIONS = ("orthogonal", "uniform")
LONGEST = 80  # characters of the name of a folder
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


GROUPS = (
    *("model", "data", "network", "noise", "prior", "regularizer", "likelihood", "optimizer", "trainer"),
    "experiment",
)


@dataclass
class ModelConfig:
    """The variant: bottleneck, prior and objective.

    prior: of the bottleneck; {} or None: its own. condition: on labels; {} or None: none. players: name -> settings of
    the optimizer of that player, in place of those of `optimizer`, such as {critic: {lr: 0.0001}}; with a `_target_`,
    they replace the whole node. initialization: one of INITIALIZATIONS; see initialization.py.
    """

    latent_dim: int = MISSING
    initialization: str = "orthogonal"
    bottleneck: dict[str, Any] = MISSING
    prior: dict[str, Any] | None = field(default_factory=dict)
    condition: dict[str, Any] | None = field(default_factory=dict)
    objective: dict[str, Any] = field(default_factory=lambda: {"_target_": "autoenc.objective.Objective"})
    players: dict[str, Any] = field(default_factory=dict)


@dataclass
class Config:
    """The config that `python train.py` composes. Parts are `_target_` nodes with the arguments of a constructor."""

    seed: int = 0
    resume: str | None = None
    init_from: str | None = None
    anomaly_classes: list[str] = field(default_factory=list)
    normal_classes: list[str] = field(default_factory=list)
    labels: int | None = None
    labels_seed: int = 0
    tracking: list[str] = field(default_factory=list)
    optimizer: dict[str, Any] = MISSING
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    network: dict[str, Any] = MISSING
    likelihood: dict[str, Any] = MISSING
    noise: dict[str, Any] = MISSING
    regularizer: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = MISSING
    model: ModelConfig = field(default_factory=ModelConfig)


def register() -> None:
    """Register the schema and the resolvers with Hydra."""
    ConfigSource._get_header_dict = staticmethod(_header)  # type: ignore[assignment]
    # Under schema/, so that it is not listed among the choices.
    ConfigStore.instance().store(group="schema", name="config", node=Config, package="_global_")
    OmegaConf.register_new_resolver("short", short_name, replace=True)


_parse_header = ConfigSource._get_header_dict


def _header(text: str) -> dict[str, str | None]:
    """Return the header of a YAML file. Hydra ignores `# @package` below another comment, such as the file's name."""
    lines = text.splitlines()
    kept = [line for line in lines if re.match(r"\s*#\s*@", line) or not line.lstrip().startswith("#")]
    return _parse_header("\n".join(kept))


def short_name(overrides: Sequence[str]) -> str:
    """Return a folder name for the overrides of a job: model=vae, model.latent_dim=8 -> model=vae,latent_dim=8."""
    names = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        names.append(f"{key.split('.')[-1]}={value}" if value else key)
    text = ",".join(names).replace("/", "_").replace(" ", "")
    text = "".join(c if c.isalnum() or c in "=,._-" else "" for c in text)
    return shortened(text[:LONGEST]) or "run"


def choices(group: str) -> list[tuple[str, str]]:
    """Return the options of a config group with the comment below `# @package` of each file, or else its first."""
    found = []
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        comments = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
        package = next((i for i, comment in enumerate(comments) if comment.startswith("@")), -1)
        described = [c for c in comments[package + 1 :] if c != f"configs/{group}/{path.name}"]
        found.append((path.stem, described[0] if described else ""))
    return found


def named_paths() -> dict[str, str]:
    """Return the files that options of data and experiment read by default, each with the option."""
    found = {}
    for group in ("experiment", "data"):
        for path in (CONFIGS / group).glob("*.yaml"):
            node = (yaml.safe_load(path.read_text()) or {}).get("data") or {}
            for key, value in node.items():
                if key.endswith("path") and value is not None:
                    found[str(value)] = f"{group}={path.stem}"
    return found
