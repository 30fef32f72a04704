"""Training from Python, with a run directory like that of the command line."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from autoenc import loading, run
from autoenc.config.composed import compose_with_choices
from autoenc.data.dataset import Data
from autoenc.loading import Run


def train(overrides: Sequence[str] = (), run_dir: str | Path | None = None, data: Data | None = None) -> Run:
    """Train as `python train.py` with these overrides, and return the finished run.

    Args:
        overrides: as on the command line: ["model=vae", "trainer.epochs=3"].
        run_dir: a folder that is new or empty; None: outputs/<data>/<model>/<time>.
        data: by default, the data set of the config. With others, `load_run` does not know where they are from.

    Raises:
        UserError: config or data are invalid. NotFinite: the loss became infinite or NaN. Interrupted: by a signal.
    """
    config, choices = compose_with_choices(overrides)
    if config["resume"] is not None:
        run.resume(Path(config["resume"]))
        return loading.load_run(config["resume"], config["trainer"]["device"])
    time = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    folder = Path(run_dir) if run_dir is not None else Path("outputs", choices["data"], choices["model"], time)
    run.check_unused(folder)
    run.train(config, folder, choices, data=data)
    finished = loading.load_run(folder, config["trainer"]["device"])
    if data is not None:
        finished.data = data
    return finished
