"""The schema of the config, and checks that run before anything is built. Imports no torch."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import math
import re
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.plugins.config_source import ConfigSource
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from autoenc.config.signatures import Tensor, options
from autoenc.errors import ConfigError, DataError, one_line
from autoenc.training.settings import TrainerSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
GROUPS = (
    *("model", "data", "network", "noise", "prior", "regularizer", "likelihood", "optimizer", "trainer"),
    "experiment",
)

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
LARGEST = 2**63  # of whole numbers in torch
MOST_LATENT = 1_000_000
NESTED_TARGETS = ("autoenc.schedules.",)  # nodes inside a part

MOVED = {"autoenc.core.Objective": "autoenc.objective.Objective"}  # targets in the configs of old runs


@dataclass
class ModelConfig:
    """The variant: bottleneck, prior and objective.

    prior: of the bottleneck; {} or None: its own. condition: on labels; {} or None: none. players: name -> settings of
    the optimizer of that player, in place of those of `optimizer`, such as {critic: {lr: 0.0001}}; with a `_target_`,
    they replace the whole node.
    """

    latent_dim: int = MISSING
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


def short_name(overrides: collections.abc.Sequence[str], limit: int = 80) -> str:
    """Return a folder name for the overrides of a job: model=vae, model.latent_dim=8 -> model=vae,latent_dim=8."""
    names = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        names.append(f"{key.split('.')[-1]}={value}" if value else key)
    text = ",".join(names).replace("/", "_").replace(" ", "")
    text = "".join(c if c.isalnum() or c in "=,._-" else "" for c in text)
    return text[:limit] or "run"


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
    try:
        TrainerSettings(**plain["trainer"])
    except ConfigError as error:
        raise error.under("trainer") from None
    if plain["seed"] < 0:
        raise ConfigError("seed", plain["seed"], "must be 0 or more")
    if plain["seed"] >= LARGEST:
        raise ConfigError("seed", plain["seed"], "must be below 2^63")
    if plain["model"]["latent_dim"] > MOST_LATENT:
        raise ConfigError("model.latent_dim", plain["model"]["latent_dim"], f"must be at most {MOST_LATENT:,}")
    if not 0 <= plain["labels_seed"] < LARGEST:
        raise ConfigError("labels_seed", plain["labels_seed"], "must be 0 or more, and below 2^63")
    if plain["anomaly_classes"] and plain["normal_classes"]:
        why = "cannot be combined with anomaly_classes: it leaves out all other classes"
        raise ConfigError("normal_classes", f"[{','.join(plain['normal_classes'])}]", why)
    if plain["model"]["latent_dim"] < 1:
        raise ConfigError("model.latent_dim", plain["model"]["latent_dim"], "must be 1 or more")
    for group in ("optimizer", "network", "likelihood", "noise", "data"):
        check_node(group, plain[group])
    for name in ("bottleneck", "objective"):
        check_node(f"model.{name}", plain["model"][name])
    for name in ("prior", "condition"):
        if plain["model"][name]:
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


def check_terms(terms: collections.abc.Mapping[str, Any], overrides: collections.abc.Sequence[str]) -> None:
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


def overlaid(node: collections.abc.Mapping[str, Any], settings: collections.abc.Mapping[str, Any]) -> dict[str, Any]:
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
            raise ConfigError(f"{path}.{key}", None, f"{part} has no option '{key}'; {suggest(key, settable)}")
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


def conforms(value: Any, annotation: Any) -> bool:
    """Return whether a plain value has the annotated type. An int is accepted as a float; a bool is not a number."""
    if annotation is Any:
        return True
    if annotation is Tensor:
        return False  # not a YAML value
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return value in args
    if origin in (typing.Union, types.UnionType):
        return any(conforms(value, a) for a in args)
    if origin is collections.abc.Callable or annotation is collections.abc.Callable:
        return False  # given as a `_target_` node, which is checked separately
    if origin in (list, tuple, collections.abc.Sequence):
        return isinstance(value, list | tuple) and all(conforms(v, args[0]) for v in value)
    if origin is dict or annotation is dict:
        return isinstance(value, dict)
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST
    return isinstance(value, annotation) if isinstance(annotation, type) else True


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null", None: "null"}


def describe(annotation: Any) -> str:
    """Describe an annotation in words."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(describe(a) for a in args if a is not Tensor)
    if origin in (list, tuple, collections.abc.Sequence):
        return f"a list in brackets, each {describe(args[0])}"
    if origin is collections.abc.Callable:
        return "a schedule (a node with _target_: autoenc.schedules...)"
    return WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def suggest(word: str, choices: collections.abc.Iterable[str]) -> str:
    """Return `did you mean ...?` or a list of the choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(word.lower().replace("-", "_"), choices, n=1)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"choose from {', '.join(choices)}" if choices else "it has none"


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


def check_files(node: collections.abc.Mapping[str, Any]) -> None:
    """Raise DataError for a named data set whose files are not where its option expects them."""
    given = [v for k, v in node.items() if k.endswith("path") and isinstance(v, str) and not Path(v).exists()]
    named = named_paths() if given else {}
    if missing := [path for path in given if path in named]:
        raise DataError(
            f"{', '.join(missing)}: missing; {named[missing[0]]} reads these files, and docs/data.md has their source, "
            "layout and checksum"
        )
