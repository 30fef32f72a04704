"""MLflow and Weights & Biases: the metrics, figures and settings of a run, beside TensorBoard and under its names."""

from __future__ import annotations

import importlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoenc.errors import ConfigError, one_line
from autoenc.files import read_json, write_json

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger("autoenc")
FILE = "tracking.json"  # in the run: its ids in the services, by which it resumes there
PROJECT = "autoenc"
FINISHED = "finished"  # state of run.json


class Service:
    """Where the numbers of a run also go.

    Args:
        run_id: of the run in the service; None: a new run.
        settings: what the run was started with.
    """

    run_id: str

    def __init__(self, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]): ...

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars by name."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image, (H, W, 3) uint8."""

    def close(self, state: str) -> None:
        """End with the state of run.json."""


class MLflow(Service):
    """MLflow: the store of MLFLOW_TRACKING_URI, by default the folder outputs/mlruns."""

    def __init__(self, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # version 3 refuses a folder otherwise
        store = os.environ.get("MLFLOW_TRACKING_URI") or Path("outputs", "mlruns").absolute().as_uri()
        self.client = client = importlib.import_module("mlflow").MlflowClient(store)
        self.metric = importlib.import_module("mlflow.entities").Metric
        if run_id is None:
            found = client.get_experiment_by_name(PROJECT)
            experiment = found.experiment_id if found else client.create_experiment(PROJECT)
            run_id = str(client.create_run(experiment, run_name=str(run_dir)).info.run_id)
            for key, value in settings.items():
                client.log_param(run_id, key, value)
        else:
            client.update_run(run_id, status="RUNNING")
        self.run_id = run_id

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        self.client.log_batch(self.run_id, metrics=[self.metric(k, float(v), now, step) for k, v in values.items()])

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        self.client.log_image(self.run_id, image, key=name, step=step)

    def close(self, state: str) -> None:
        ended = {FINISHED: "FINISHED", "interrupted": "KILLED"}
        self.client.set_terminated(self.run_id, ended.get(state, "FAILED"))


class WandB(Service):
    """Weights & Biases, in outputs/wandb: offline unless WANDB_MODE says otherwise; `wandb sync` uploads it later."""

    def __init__(self, run_dir: Path, run_id: str | None, settings: Mapping[str, Any]):
        self.wandb = importlib.import_module("wandb")
        self.run_id = run_id or uuid.uuid4().hex[:8]
        mode = os.environ.get("WANDB_MODE", "offline")
        folder = Path(os.environ.get("WANDB_DIR", "outputs"))  # not in the run, which is to have no links
        folder.mkdir(parents=True, exist_ok=True)
        place = {"project": os.environ.get("WANDB_PROJECT", PROJECT), "dir": str(folder), "name": str(run_dir)}
        quiet = self.wandb.Settings(silent=True, reinit="create_new")  # several runs may train at once
        resume = None if run_id is None or mode == "offline" else "allow"  # offline, the segments are joined by `sync`
        self.run = self.wandb.init(
            **place, id=self.run_id, config=dict(settings), mode=mode, resume=resume, settings=quiet
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        self.run.log({name: self.wandb.Image(image)}, step=step)

    def close(self, state: str) -> None:
        self.run.finish(exit_code=int(state != FINISHED))


SERVICES: dict[str, type[Service]] = {"mlflow": MLflow, "wandb": WandB}


def check_installed(names: Sequence[str]) -> None:
    """Raise ConfigError if the package of a service is missing."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ConfigError("tracking", f"[{','.join(names)}]", f"needs {name}: pip install {name}") from None


class Services:
    """The services of a run. One that fails is left out from then on: no training ends because of it.

    Args:
        names: of SERVICES. settings: what the run was started with.
    """

    def __init__(self, names: Sequence[str], run_dir: Path, settings: Mapping[str, Any]):
        self.open: dict[str, Service] = {}
        path = run_dir / FILE
        ids = read_json(path) if names and path.exists() else {}
        for name in names:
            try:
                self.open[name] = SERVICES[name](run_dir, ids.get(name), settings)
            except Exception as error:
                log.warning("tracking=[%s]: cannot be started, and is left out (%s)", name, one_line(error))
        if self.open:
            write_json(path, ids | {name: service.run_id for name, service in self.open.items()})

    def each(self, call: Callable[[Service], None]) -> None:
        """Call a function with each service that has not failed."""
        for name, service in list(self.open.items()):
            try:
                call(service)
            except Exception as error:
                del self.open[name]
                log.warning("tracking=[%s]: failed, and is left out from here on (%s)", name, one_line(error))
