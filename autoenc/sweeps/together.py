"""Jobs of `trainer.replicas`, which train at once in one process."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from autoenc.errors import UserError, out_of_memory, reason_of
from autoenc.sweeps import folders
from autoenc.sweeps.job import checked, choices, note_error, value
from autoenc.text import printable

AT_ONCE = re.compile(r"seed|optimizer\.\w+|noise\.\w+|regularizer\.\w+\.weight(\.\w+)?")  # may differ between them
REFUSED = -math.inf  # value of jobs that cannot train at once


def at_once(jobs: list[list[str]], number: int) -> list[int]:
    """Return the numbers of the jobs that can train at once with one of them, from that on."""

    def rest(overrides: list[str]) -> list[str]:
        return [text for text in overrides if not AT_ONCE.fullmatch(text.partition("=")[0])]

    return [other for other in range(number, len(jobs)) if rest(jobs[other]) == rest(jobs[number])]


def config_of(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the config of a job that can train at once with that of `cfg`."""
    own = copy.deepcopy(cfg)
    texts = [text for text in overrides if AT_ONCE.fullmatch(text.partition("=")[0])]
    for override in OverridesParser.create().parse_overrides(texts):
        OmegaConf.update(own, override.key_or_group, override.value(), merge=False)
    return own


def attempt(configs: Mapping[int, DictConfig], run_dirs: Mapping[int, Path]) -> float:
    """Train jobs at once, and return the value of the first; REFUSED if they cannot be trained so.

    Args:
        configs, run_dirs: number of the job -> its config, its folder.
    """
    from autoenc import run

    try:
        configs_checked = {number: checked(cfg) for number, cfg in configs.items()}
        jobs = [
            run.Job(configs_checked[number], folder, choices(), folders.interrupted(folder))
            for number, folder in run_dirs.items()
        ]
        results = run.train_together(jobs)
    except Exception as error:
        for folder in run_dirs.values():
            folders.note_failure(folder, reason_of(error))
        if not isinstance(error, UserError) and not out_of_memory(error):
            raise
        print(printable(reason_of(error)), file=sys.stderr)
        return REFUSED if isinstance(error, UserError) else float("nan")
    for folder, result in zip(run_dirs.values(), results, strict=True):
        if isinstance(result, BaseException):
            note_error(folder, result)
    first = results[0]
    monitor = next(iter(configs.values())).trainer.monitor
    return float("nan") if isinstance(first, BaseException) else value(first, monitor)
