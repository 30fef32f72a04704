"""Checks of the config that run before anything is built. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autoenc.config.arguments import options_with
from autoenc.config.schema import CONFIGS, INITIALIZATIONS, Config, ModelConfig, named_paths
from autoenc.config.signatures import LARGEST, conforms, describe, options
from autoenc.data.readers import check_paths
from autoenc.errors import ConfigError, DataError, keys_below, one_line, require, suggest
from autoenc.trackers import SERVICES
from autoenc.training.settings import TrainerSettings

# Constructor arguments that build.py supplies: they follow from other parts of the config.
GIVEN = (
    *("input_shape", "latent_dim", "feature_shape", "latent_shape", "total_steps", "low", "high", "params"),
    *("num_train", "regularizers", "columns", "vocabulary", "kind", "excluded"),
    *("num_classes", "class_names", "left_out", "make_network", "labelled", "model"),
)

# Prefixes that the `_target_` of each part must have. The config of a run directory may come from an untrusted source:
# only parts of autoencoders may be built from it, no other callables.
ALLOWED_TARGETS = {
    "optimizer": ("torch.optim.",),
    "network": ("autoenc.networks.",),
    "likelihood": ("autoenc.likelihoods.",),
    "noise": ("autoenc.noise.", "torch.nn."),
    "data": ("autoenc.data.",),
    "model.bottleneck": ("autoenc.bottlenecks.",),
    "model.prior": ("autoenc.priors.",),
    "model.condition": ("autoenc.conditions.",),
    "model.objective": ("autoenc.objective.Objective", "autoenc.objectives."),
    "model.players": ("torch.optim.",),
    "regularizer": ("autoenc.regularizers.",),
}
MOST_LATENT = 1_000_000
NESTED_TARGETS = ("autoenc.schedules.",)  # nodes inside a part

MOVED = {"autoenc.core.Objective": "autoenc.objective.Objective"}  # targets in the configs of old runs


def check(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config as plain values; raise ConfigError for an invalid key, type or value."""
    try:
        if missing := OmegaConf.missing_keys(cfg):
            raise ConfigError(sorted(missing)[0], None, "must be given")
        plain = typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))
    except OmegaConfBaseException as error:
        raise ConfigError(error.full_key or "config", None, one_line(error)) from None
    plain = renamed(plain)
    for path, given, schema in (
        ("", plain, Config),
        ("model", plain["model"], ModelConfig),
        ("trainer", plain["trainer"], TrainerSettings),
    ):
        known = [f.name for f in dataclasses.fields(schema)]
        for key in given:  # keys added by +
            if key not in known:
                raise ConfigError(f"{path}.{key}".lstrip("."), None, f"no such key; {suggest(key, known)}")
        if gone := [key for key in known if key not in given]:  # removed by ~
            raise ConfigError(f"{path}.{gone[0]}".lstrip("."), None, f"must be given; leave out ~{gone[0]}")
    with keys_below("trainer"):
        TrainerSettings(**plain["trainer"])
    latent_dim = plain["model"]["latent_dim"]
    for key in ("seed", "labels_seed"):
        require(0 <= plain[key] < LARGEST, key, plain[key], "must be 0 or more, and below 2^63")
    for key, value in plain["data"].items():
        if key.endswith("_seed") and isinstance(value, int):  # another type is refused by its part
            require(value >= 0, f"data.{key}", value, "must be 0 or more")
    require(latent_dim >= 1, "model.latent_dim", latent_dim, "must be 1 or more")
    require(latent_dim <= MOST_LATENT, "model.latent_dim", latent_dim, f"must be at most {MOST_LATENT:,}")
    start = plain["model"]["initialization"]
    why = f"must be one of {', '.join(INITIALIZATIONS)}"
    require(start in INITIALIZATIONS, "model.initialization", start, why)
    if plain["anomaly_classes"] and plain["normal_classes"]:
        why = "cannot be combined with anomaly_classes: it leaves out all other classes"
        raise ConfigError("normal_classes", f"[{','.join(plain['normal_classes'])}]", why)
    for name in plain["tracking"]:
        why = f"no such service; {suggest(name, SERVICES)}"
        require(name in SERVICES, "tracking", f"[{','.join(plain['tracking'])}]", why)
    for group in ("optimizer", "network", "likelihood", "noise", "data"):
        check_node(group, plain[group])
    for name in ("bottleneck", "objective", "prior", "condition"):
        if plain["model"][name] or name in ("bottleneck", "objective"):  # the others may be missing
            check_node(f"model.{name}", plain["model"][name])
    for name, settings in plain["model"]["players"].items():
        if not isinstance(settings, dict):
            raise ConfigError(f"model.players.{name}", settings, "must be settings of an optimizer: {lr: 0.0001}")
        check_node(f"model.players.{name}", overlaid(plain["optimizer"], settings))
    for name, node in plain["regularizer"].items():
        if not isinstance(node, dict) or "_target_" not in node:
            chosen = [k for k, v in plain["regularizer"].items() if isinstance(v, dict) and "_target_" in v]
            why = f"has settings but is not among the chosen terms; add it: regularizer=[{','.join([*chosen, name])}]"
            raise ConfigError(f"regularizer.{name}", None, why)
        check_node(f"regularizer.{name}", node)
    return plain


def check_terms(terms: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Raise ConfigError if a regularizer chosen in the overrides is lost in the composed terms.

    Two options may define one term, and a number may have replaced the schedule that an option has as its weight.
    """
    given = [o.partition("=")[2].strip("[]") for o in overrides if o.startswith("regularizer=")]
    chosen = [option.strip() for option in given[-1].split(",") if option.strip()] if given else []
    if len(chosen) > len(terms):
        raise ConfigError("regularizer", f"[{','.join(chosen)}]", "two of these are variants of one term; choose one")
    for option in chosen:
        for term, node in yaml.safe_load((CONFIGS / "regularizer" / f"{option}.yaml").read_text()).items():
            key, weight = f"regularizer.{term}.weight", terms[term].get("weight")
            if isinstance(node.get("weight"), dict) and not isinstance(weight, dict):
                typed = any(o.startswith(f"{key}=") for o in overrides)
                other = "" if typed else "the model sets it; use model=vae and "
                why = f"would replace the schedule of regularizer=[{option}]; {other}give the value at its end: "
                raise ConfigError(key, weight, f"{why}{key}.end={weight:g}")


def overlaid(node: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `_target_` node with some settings replaced, or all if they have a `_target_`."""
    return dict(settings) if "_target_" in settings else {**node, **settings}


def renamed(value: Any) -> Any:
    """Return the config with the names in MOVED replaced by the present ones."""
    if isinstance(value, dict):
        return {k: MOVED.get(str(v), v) if k == "_target_" else renamed(v) for k, v in value.items()}
    return [renamed(v) for v in value] if isinstance(value, list) else value


def check_node(path: str, node: Any) -> None:
    """Raise ConfigError unless the keys and values of a `_target_` node match the constructor."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        raise ConfigError(path, None, "has no _target_: choose an option of this group")
    target = node["_target_"]
    check_target(path, target)
    try:
        known = options(target)
    except LookupError:
        raise ConfigError(f"{path}._target_", target, "no such class or function") from None
    part, settable = target.rpartition(".")[2], [k for k in known if k not in GIVEN]
    for key, value in node.items():
        if key == "_target_":
            continue
        if key in GIVEN:
            raise ConfigError(f"{path}.{key}", value, "cannot be set: it follows from other parts of the config")
        if key not in known:
            group = f"{path.rpartition('.')[2]}="
            others = [o for o in options_with(f"{path}.{key}").get(f"{path}.{key}", []) if o.startswith(group)]
            also = f"; {', '.join(others)} has it" if others else ""
            raise ConfigError(f"{path}.{key}", None, f"{part} has no option '{key}'; {suggest(key, settable)}{also}")
        if isinstance(value, dict) and "_target_" in value:
            check_node(f"{path}.{key}", value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{path}.{key}", value, "must be finite")
        elif not conforms(value, known[key].annotation):
            raise ConfigError(f"{path}.{key}", value, f"must be {describe(known[key].annotation)}")
    for key, option in known.items():
        if option.required and key not in node and key not in GIVEN:
            raise ConfigError(f"{path}.{key}", None, f"is required by {part}")


def check_target(path: str, target: str) -> None:
    """Raise ConfigError unless a `_target_` names a public class or function that is allowed for this part."""
    parts = path.split(".")
    part = next((p for p in (".".join(parts[:2]), parts[0]) if p in ALLOWED_TARGETS), "")
    inside = path != part and not (part in ("regularizer", "model.players") and path.count(".") == part.count(".") + 1)
    allowed = NESTED_TARGETS if inside or not part else ALLOWED_TARGETS[part]
    if not target.startswith(allowed):
        raise ConfigError(f"{path}._target_", target, f"must begin with {' or '.join(allowed)}")
    if any(name.startswith("_") for name in target.split(".")):
        raise ConfigError(f"{path}._target_", target, "is private")


def check_files(node: Mapping[str, Any]) -> None:
    """Raise ConfigError or DataError for a data set whose files are missing or cannot be read; imports no torch."""
    given = [v for k, v in node.items() if k.endswith("path") and isinstance(v, str) and not Path(v).exists()]
    named = named_paths() if given else {}
    if missing := [path for path in given if path in named]:
        raise DataError(
            f"{', '.join(missing)}: missing; {named[missing[0]]} reads these files, and docs/data.md has their source, "
            "layout and checksum"
        )
    try:
        check_paths(node["_target_"].rpartition(".")[2], node)
    except ConfigError as error:
        raise error.under("data") from None
