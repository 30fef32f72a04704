"""The plan of a search: variants, space, metrics and folder, all checked before anything is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from autoenc.config.arguments import argument_message
from autoenc.config.checks import check_files
from autoenc.config.composed import compose_with_choices
from autoenc.config.messages import hydra_message
from autoenc.config.schema import short_name
from autoenc.errors import ConfigError, DataError, UserError
from autoenc.files import check_inside, read_json, shortened, write_json
from autoenc.search.goals import Goal, parse_goals
from autoenc.search.space import OPTION, Distribution, corners, parse_space

FOLDER = Path("outputs", "searches")
SETTINGS = "search.json"


@dataclass(frozen=True)
class Variant:
    """A preset that is searched: the settings of the command line without the space.

    Attributes:
        ends: settings that together have each end of the ranges and each choice; their configs are valid.
        default: values of the keys of the space in the preset; None where it lacks a key.
        warmup: epochs in which no run is pruned.
    """

    name: str
    overrides: tuple[str, ...]
    ends: tuple[tuple[str, ...], ...]
    default: dict[str, Any]
    seed: int
    warmup: int


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        trials: for each variant.
        seeds: runs of the default and of the best settings with seeds of their own; 0: none.
        settings: the command line without its length, which is stored in the folder.
    """

    folder: Path
    variants: tuple[Variant, ...]
    space: dict[str, Distribution]
    goals: list[Goal]
    trials: int
    seeds: int
    pruning: bool
    settings: dict[str, Any]


def plan(
    overrides: Sequence[str], space: str, metric: str, name: str | None, trials: int, seeds: int, pruning: bool
) -> Plan:
    """Return the plan of a command line; writes nothing.

    Raises:
        UserError: a setting, the space or the metric is invalid; the folder is that of another search.
    """
    parsed, jobs = parse_space(space), _jobs(overrides)
    swept = [i for i in range(len(jobs[0])) if len({job[i] for job in jobs}) > 1]
    for key in parsed:
        if key.startswith("hydra") or key in ("seed", "resume", "init_from"):
            raise ConfigError(f"{OPTION} {key}", None, "is not searched; remove it")
        if key == "model":
            raise ConfigError(f"{OPTION} {key}", None, "give each model the same trials: model=vae,iwae beside --space")
        if given := [o for o in jobs[0] if o.lstrip("+").partition("=")[0] == key]:
            raise ConfigError(f"{OPTION} {key}", None, f"is also set: leave out {given[0]}")
    variants, terms = [], set[str]()
    for job in jobs:
        config, choices = compose_with_choices(job)
        check_files(config["data"])
        terms |= set(config["regularizer"])
        chosen = [job[i].partition("=")[2] for i in swept]
        title = short_name([",".join(chosen)]) if chosen else choices["model"]
        trainer = config["trainer"]
        warmup = 1 if trainer["steps"] else trainer["epochs"] // 4
        default = {key: choices.get(key, _value(config, key)) for key in parsed}
        ends = tuple((*job, *corner) for corner in corners(parsed))
        _check_ends(ends, title if swept else "")
        variants.append(Variant(title, tuple(job), ends, default, config["seed"], warmup))
    names = [variant.name for variant in variants]
    if again := [title for title in names if names.count(title) > 1]:
        raise ConfigError("variants", again[0], "is there twice")
    goals = parse_goals(metric, terms)
    if seeds and len(goals) > 1:
        raise ConfigError("--seeds", seeds, "is for one metric: of a Pareto front, no single trial is the best")
    label = "_".join(goal.name for goal in goals)
    if name is not None and not re.fullmatch(r"\w[\w.,=+-]*", name):
        raise ConfigError("--name", name, "must be the name of a folder: letters, digits and . , = + - _")
    folder = FOLDER / (name or shortened(f"{choices['data']}-{'+'.join(names)}-{label}"[:120]))
    settings = {"settings": list(overrides), "space": " ".join(space.split()), "metric": metric, "pruning": pruning}
    _check_folder(folder, settings)
    return Plan(folder, tuple(variants), parsed, goals, trials, seeds, pruning, settings)


def _jobs(overrides: Sequence[str]) -> list[list[str]]:
    """Return the settings of each variant; model=vae,iwae makes two."""
    if wrong := argument_message(list(overrides)):
        raise UserError(wrong)
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0]
        if key.startswith("hydra") or key == "resume":
            raise ConfigError(key, None, "is not for a search, which has its own folders; --name names them")
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        jobs: list[list[str]] = BasicSweeper.split_arguments(parsed, None)[0]
    except HydraException as error:
        raise UserError(hydra_message(error, list(overrides))) from None
    if any(o.is_sweep_override() and o.key_or_group == "seed" for o in parsed):
        raise ConfigError("seed", None, "is one for all trials; --seeds repeats the best settings and the default")
    return jobs


def _value(config: Any, key: str) -> Any:
    """Return the value of a dotted key; None if there is none."""
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config


def _check_ends(ends: Sequence[Sequence[str]], title: str) -> None:
    try:
        for overrides in ends:
            compose_with_choices(overrides)
    except UserError as error:
        why = re.sub(r"(did you mean [\w.]+)=\S+\?$", r"\1?", str(error))  # an end of the range is no part of the key
        raise UserError(f"{OPTION} {f'for {title}: ' if title else ''}{why}") from None


def _check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse the folder of another search."""
    if not folder.exists():
        return
    check_inside(folder)
    try:
        stored = read_json(folder / SETTINGS)
        changed = [key for key in settings if stored[key] != settings[key]]
    except FileNotFoundError:
        if folder.is_dir() and all(path.name.startswith(".") for path in folder.iterdir()):
            return
        raise ConfigError("--name", folder.name, f"{folder} is not the folder of a search; name another") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / SETTINGS}: is damaged; --name starts another search") from None
    for key in changed:
        before = " ".join(stored[key]) if key == "settings" else stored[key]
        why = f"is that of a search with the {key} {before}; --name starts another search"
        raise ConfigError("--name", folder.name, why)


def create_folder(made: Plan) -> None:
    """Create the folder of a search, with its settings."""
    made.folder.mkdir(parents=True, exist_ok=True)
    if not (made.folder / SETTINGS).exists():
        write_json(made.folder / SETTINGS, made.settings)
