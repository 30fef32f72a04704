"""Training from Python, with a run directory like that of the command line."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autoenc import loading, run
from autoenc.config.arguments import new_length, split_resume
from autoenc.config.composed import compose_with_choices
from autoenc.config.stored import read_config
from autoenc.data.dataset import Data
from autoenc.errors import ConfigError
from autoenc.loading import Run
from autoenc.training.rundir import find_run


def train(overrides: Sequence[str] = (), run_dir: str | Path | None = None, data: Data | None = None) -> Run:
    """Train as `python train.py` with these overrides, and return the finished run.

    Args:
        overrides: as on the command line: ["model=vae", "trainer.epochs=3"], ["resume=RUN", "trainer.epochs=6"].
        run_dir: a folder that is new or empty; None: outputs/<data>/<model>/<time>. A run that resumes has its own.
        data: by default, the data set of the config. With others, `load_run` does not know where they are from, and
            the run resumes with them only.

    Raises:
        UserError: config or data are invalid. NotFinite: the loss became infinite or NaN. Interrupted: by a signal.
    """
    for override in overrides:
        if (key := override.lstrip("+~").partition("=")[0]).startswith("hydra"):
            raise ConfigError(key, None, "is only for the command line of train.py; run_dir names the folder of a run")
    resumed, others = split_resume(overrides)
    if resumed is not None:
        if run_dir is not None:
            raise ConfigError("run_dir", run_dir, f"resume={resumed} trains in its own folder; leave out run_dir")
        folder, changes = find_run(resumed, finished=False), new_length(resumed, others)
        run.resume(folder, changes, data=data)
        config = read_config(folder)
    else:
        config, folder = _new(overrides, run_dir, data)
    finished = loading.load_run(folder, config["trainer"]["device"])
    if data is not None:
        finished.data = data
    return finished


def _new(overrides: Sequence[str], run_dir: str | Path | None, data: Data | None) -> tuple[dict[str, Any], Path]:
    """Train a new run, and return its config and its folder."""
    config, choices = compose_with_choices(overrides)
    for key in ("labels", "anomaly_classes", "normal_classes") if data is not None else ():
        if config[key] not in (None, []):
            raise ConfigError(key, config[key], "is for data sets of a config; give data without such labels or rows")
    time = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path(run_dir) if run_dir is not None else Path("outputs", choices["data"], choices["model"], time)
    run.check_unused(folder)
    run.train(config, folder, choices, data=data)
    return config, folder
