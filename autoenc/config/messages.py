"""Conversion of Hydra's errors to one line with the key and the remedy. Imports no torch."""

from __future__ import annotations

import difflib
import re
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf import DictConfig

from autoenc.config import schema
from autoenc.config.arguments import NUMBERS, SYNONYMS, compose, keys_like, keys_named, options_with, settings_named
from autoenc.errors import ConfigError, one_line, suggest

FILES = {  # ending of a file -> the option of `data` that reads it
    **dict.fromkeys(("csv", "tsv", "parquet"), "table"),
    **dict.fromkeys(("npy", "npz"), "arrays"),
    **dict.fromkeys(("txt", "jsonl"), "text"),
}
TYPES = {"integer": "a whole number", "float": "a number", "bool": "true or false"}


def hydra_message(error: Exception, args: list[str]) -> str:
    """Return one line for an error of Hydra, with a suggestion for a misspelt name."""
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    if found := [c for c in causes if isinstance(c, ConfigError)]:
        return str(found[0].under("trainer"))
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override}: cannot be read as KEY=VALUE; a value with = , ~ or spaces needs quotes: 'key=\"a=b\"'"
        )
    text = "\n".join(str(c) for c in causes)
    if match := re.search(r"Could not (?:override|append to config)[^']*'([^']+)'", text):
        return _unknown_key(match.group(1), args)
    if match := re.search(r"Could not (?:find|load) '([\w/]+)/([^'/]+)'", text):
        group, option = match.groups()
        if group == "data" and (suffix := option.rpartition(".")[2].lower()) in FILES:
            return f"data={option}: no such option; for a file: data={FILES[suffix]} data.path={option}"
        offered = re.search(r"Available options in .*\n((?:\t.*\n?)+)", text)  # those of Hydra's plugins, too
        known = offered[1].split() if offered else [name for name, _ in schema.choices(group)]
        return f"{group}={option}: no such option; {suggest(option, known)}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key = match[1].partition("=")[0]
        quoted = f"; a path with commas needs quotes: '{key}=\"a,b.csv\"'" if key.endswith("path") else ""
        return f"{match.group(1)}: several values define a sweep: add -m (a list needs brackets){quoted}"
    wrong = r"Value '(.*?)' .*?(?:converted to|not a valid) (\w+)(?:.*\n)*?\s*full_key: (\S+)"
    if match := re.search(wrong, text):
        value, kind, key = match.groups()
        if value.lower() == "none":
            return f"{key}={value}: must be {TYPES.get(kind.lower(), kind)}; for no value write {key}=null"
        return f"{key}={value}: must be {TYPES.get(kind.lower(), kind)}"
    if match := re.search(r"Cannot assign \w+ to Dict(?:.*\n)*?\s*full_key: (\S+)", text):
        key, leaf = match[1], match[1].rpartition(".")[2]
        value = next((v for k, _, v in (a.partition("=") for a in args) if k == key), "")
        remedy = f"{leaf}={value} chooses an option" if leaf in schema.GROUPS else "as in {name: value}"
        return f"{key}={value}: must be settings; {remedy}"
    if match := re.search(r"(?:is not a ListConfig|reference_type=List)(?:.*\n)*?", text):
        named = re.search(r"full_key: (\w+)", text)
        key = named[1] if named else "the value"
        return f"{key}: must be a list in brackets, each text: {key}=[a,b]"
    if match := re.search(r"Error merging override ([\w.]+)=null", text):
        return f"{match[1]}=null: must have a value"
    return one_line(error)


def _unknown_key(key: str, args: list[str]) -> str:
    """Return the message for an unknown key; composes the config without it to list the choices."""
    key, _, value = key.partition("=")
    for given, _, text in (a.lstrip("+~").partition("=") for a in args):
        value = text if given == key else value
    others = [a for a in args if not a.startswith("-") and a.lstrip("+~").partition("=")[0] != key and "," not in a]
    composed = compose(others)
    parent, _, leaf = key.rpartition(".")
    if parent.startswith("regularizer.") and (term := parent.split(".")[1]) not in composed.regularizer:
        chosen = ",".join([*composed.regularizer, term])
        return f"{key}: the term {term} is not chosen; add it: regularizer=[{chosen}]"
    parts = key.split(".")
    node: Any = composed
    while len(parts) > 1 and isinstance(node, DictConfig) and parts[0] in node:  # down to the first unknown part
        node = node[parts.pop(0)]
    above = key.removesuffix(".".join(parts)).removesuffix(".")
    names = [str(k) for k in node if not str(k).startswith("_")] if isinstance(node, DictConfig) else []
    if not above and NUMBERS.fullmatch(value):  # groups have options, with names
        names = [name for name in names if name not in schema.GROUPS]
    elif not above:
        names.append("experiment")
    if above == parent and leaf in names:
        return f"{key}: not every job of the sweep has this key"
    if above and isinstance(node, DictConfig) and parts[0] not in names and (owners := options_with(key).get(key)):
        return f"{key}: no such key as configured; {', '.join(owners)} has it"
    if not above and len(parts) > 1 and parts[0] in composed.model:
        return f"{key}: no such key; did you mean model.{key}={value}?"
    siblings = difflib.get_close_matches(parts[0].lower(), names, n=3, cutoff=0.6 if above else 0.7)
    near = [".".join(filter(None, (above, sibling, *parts[1:]))) for sibling in siblings]
    near = [found for found in near if above == parent or _is_set(composed, found)][:1]
    if above.endswith(".weight") and not isinstance(node, DictConfig):
        typed = any(a.startswith(f"{above}=") for a in args)
        remedy = f"leave out {above}={node:g}" if typed else "a schedule with model=vae regularizer=[kl_warmup]"
        return f"{key}: no such key; {above} is the number {node:g}; {remedy}"
    if keys := keys_named(leaf, composed):
        return f"{key}: no such key; did you mean {' or '.join(f'{k}={value}' for k in keys)}?"
    if (not parent or leaf.lower() in SYNONYMS) and (settings := settings_named(leaf, composed)):
        return f"{key}: no such key as configured; did you mean {' or '.join(f'{k}={value}' for k in settings)}?"
    if keys := near or keys_like(leaf, composed):
        return f"{key}: no such key; did you mean {' or '.join(f'{k}={value}' for k in keys)}?"
    if not isinstance(node, DictConfig):
        return f"{key}: no such key; {above} has no keys of its own"
    return f"{key}: no such key; {suggest(parts[0] if above else '', names)}"


def _is_set(composed: DictConfig, key: str) -> bool:
    """Return whether the config has the key, with a value."""
    node: Any = composed
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node.get(part) is None:
            return False
        node = node[part]
    return True
