"""Composition of the config outside Hydra's main: for Python callers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import hydra
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.config.messages import hydra_message
from autoenc.errors import UserError


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the checked config for these overrides, as train.py composes it; see `compose_with_choices`."""
    return compose_with_choices(overrides)[0]


def compose_with_choices(overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the checked config for these overrides, as train.py composes it, and the options chosen in its groups.

    Raises:
        UserError: an invalid key, option or value.
    """
    return copy.deepcopy(_compose(tuple(overrides)))


@lru_cache(maxsize=128)
def _compose(overrides: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """Cached: composing takes 0.25 s, as long as a small training, and all folds of a search use the same config."""
    schema.register()
    with _hydra_aside():
        try:
            with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
                composed = hydra.compose("config", overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise UserError(hydra_message(error, list(overrides))) from None
    with open_dict(composed):
        groups = composed.pop("hydra").runtime.choices
    checked = config.check(composed)
    config.check_terms(checked["regularizer"], overrides)
    return checked, {k: str(v) for k, v in groups.items() if k in schema.GROUPS and v is not None}


_lock = threading.Lock()


@contextmanager
def _hydra_aside() -> Iterator[None]:
    """Reset Hydra's global state, and restore it afterwards for callers that use Hydra."""
    kinds: tuple[type, ...] = (GlobalHydra, VersionBase, JobRuntime)
    with _lock:
        before = {kind: Singleton._instances.pop(kind) for kind in kinds if kind in Singleton._instances}
        try:
            yield
        finally:
            for kind in kinds:
                Singleton._instances.pop(kind, None)
            Singleton._instances.update(before)
