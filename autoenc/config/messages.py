"""Conversion of Hydra's errors to one line with the key and the remedy. Imports no torch."""

from __future__ import annotations

import re

import hydra
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from autoenc.config import checks as config
from autoenc.errors import ConfigError, one_line

TYPES = {"integer": "a whole number", "float": "a number", "bool": "true or false"}


def hydra_message(error: Exception, args: list[str]) -> str:
    """Return one line for an error of Hydra, with a suggestion for a misspelt name."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if found := [c for c in causes if isinstance(c, ConfigError)]:
        return str(found[0].under("trainer"))
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as KEY=VALUE; a value with = , or spaces needs quotes: 'key=\"a=b\"'"
    text = "\n".join(str(c) for c in causes)
    if match := re.search(r"Could not (?:override|append to config)[^']*'([^']+)'", text):
        return _unknown_key(match.group(1), args)
    if match := re.search(r"Could not find '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        return f"{group}={option}: no such option; {config.suggest(option, [n for n, _ in config.choices(group)])}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match.group(1)}: several values define a sweep: add -m (a list needs brackets)"
    wrong = r"Value '(.*?)' .*?(?:converted to|not a valid) (\w+)(?:.*\n)*?\s*full_key: (\S+)"
    if match := re.search(wrong, text):
        value, kind, key = match.groups()
        return f"{key}={value}: must be {TYPES.get(kind.lower(), kind)}"
    if match := re.search(r"(?:is not a ListConfig|reference_type=List)(?:.*\n)*?", text):
        named = re.search(r"full_key: (\w+)", text)
        key = named[1] if named else "the value"
        return f"{key}: must be a list in brackets, each text: {key}=[a,b]"
    return one_line(error)


def _text(group: str, option: str) -> str:
    return (config.CONFIGS / group / f"{option}.yaml").read_text()


def _unknown_key(key: str, args: list[str]) -> str:
    """Return the message for an unknown key; composes the config without it to list the choices."""
    key = key.partition("=")[0]
    others = [a for a in args if not a.startswith("-") and a.lstrip("+~").partition("=")[0] != key and "," not in a]
    try:
        with hydra.initialize_config_dir(str(config.CONFIGS), version_base="1.3"):
            composed = hydra.compose("config", overrides=others)
    except Exception:
        return f"{key}: no such key"
    parent, _, last = key.rpartition(".")
    if parent.startswith("regularizer.") and (term := parent.split(".")[1]) not in composed.regularizer:
        chosen = ",".join([*composed.regularizer, term])
        return f"{key}: the term {term} is not chosen; add it: regularizer=[{chosen}]"
    node = OmegaConf.select(composed, parent) if parent else composed
    while node is None and parent:
        last, parent = parent.rpartition(".")[2], parent.rpartition(".")[0]
        node = OmegaConf.select(composed, parent) if parent else composed
    if not isinstance(node, DictConfig):
        return f"{key}: no such key; {parent} has no keys of its own"
    names = [str(k) for k in node if not str(k).startswith("_")] + ([] if parent else ["experiment"])
    owners = [option for option, _ in config.choices(parent) if re.search(rf"^{last}:", _text(parent, option), re.M)]
    if owners and last not in names:
        return f"{key}: no such key as configured; {', '.join(f'{parent}={option}' for option in owners)} has it"
    if last in names:
        return f"{key}: not every job of the sweep has this key"
    return f"{key}: no such key; {config.suggest(last, names)}"
