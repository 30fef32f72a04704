"""Services beside TensorBoard get the same names and figures, and end no training. The packages are stood in for."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from autoenc import run, trackers
from autoenc.config.composed import compose
from autoenc.config.stored import read_config
from autoenc.errors import ConfigError, UserError
from autoenc.files import read_json
from autoenc.training.tracking import Tracker

Seen = list[tuple[str, Any]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Seen:
    """What the services are told, by modules that have the functions which autoenc calls."""
    found: Seen = []

    class Client:
        def __init__(self, store: str):
            found.append(("store", store))

        def log_batch(self, run_id: str, metrics: list[tuple[Any, ...]]) -> None:
            found.extend(("mlflow", (run_id, key, value, step)) for key, value, _, step in metrics)

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def called(*args: Any, **given: Any) -> Any:
                found.append((name, (*args, *given.values())))
                return SimpleNamespace(info=SimpleNamespace(run_id="one"), experiment_id="3")

            return called

    class Run:
        def log(self, values: dict[str, Any], step: int) -> None:
            found.extend(("wandb", (key, value, step)) for key, value in values.items())

        def finish(self, exit_code: int) -> None:
            found.append(("finish", exit_code))

    mlflow, entities, wandb = (ModuleType(name) for name in ("mlflow", "mlflow.entities", "wandb"))
    mlflow.MlflowClient, entities.Metric = Client, lambda *args: args  # type: ignore[attr-defined]
    for name, value in {
        "init": lambda **given: found.append(("init", given)) or Run(),
        "Image": np.shape,
        "Settings": lambda **given: given,
    }.items():
        setattr(wandb, name, value)
    for module in (mlflow, entities, wandb):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return found


def test_services_get_the_names_and_figures_of_tensorboard(seen: Seen, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    services = trackers.Services(["mlflow", "wandb"], tmp_path / "run", {"model": "vae"})
    tracker = Tracker(tmp_path / "run", services=services)
    tracker.scalars("val", {"mse": 0.5}, 7)
    tracker.image("loss", np.zeros((4, 6, 3), np.uint8), 7)
    tracker.close("interrupted")
    assert ("store", (tmp_path / "outputs" / "mlruns").as_uri()) in seen
    assert ("log_param", ("one", "model", "vae")) in seen
    assert ("mlflow", ("one", "val/mse", 0.5, 7)) in seen
    assert ("wandb", ("val/mse", 0.5, 7)) in seen
    assert ("wandb", ("view/loss", (4, 6, 3), 7)) in seen
    assert next(args for name, args in seen if name == "log_image")[2:] == ("view/loss", 7)
    assert ("set_terminated", ("one", "KILLED")) in seen
    assert ("finish", 1) in seen
    (given,) = (args for name, args in seen if name == "init")
    assert (given["mode"], given["dir"], given["config"]) == ("offline", "outputs", {"model": "vae"})
    ids = read_json(tmp_path / "run" / trackers.FILE)
    assert ids == {"mlflow": "one", "wandb": given["id"]}
    seen.clear()
    trackers.Services(["mlflow", "wandb"], tmp_path / "run", {})
    assert ("update_run", ("one", "RUNNING")) in seen, "a run that resumes goes on there"
    assert next(given["id"] for name, given in seen if name == "init") == ids["wandb"]


def test_a_service_that_fails_ends_no_training(
    seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no\nconnection")

    caplog.set_level(logging.WARNING, "autoenc")
    monkeypatch.setattr(trackers.MLflow, "__init__", fail)
    monkeypatch.setattr(trackers.WandB, "scalars", fail)
    services = trackers.Services(["mlflow", "wandb"], tmp_path, {})
    tracker = Tracker(tmp_path, services=services)
    for step in (1, 2):
        tracker.scalars("val", {"mse": 0.5}, step)
    tracker.close()
    assert [record.getMessage() for record in caplog.records] == [
        "tracking=[mlflow]: cannot be started, and is left out (no)",
        "tracking=[wandb]: failed, and is left out from here on (no)",
    ]


def test_a_name_that_does_not_exist_or_a_package_that_is_missing_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"^tracking=\[wandbb\]: no such service; did you mean 'wandb'\?$"):
        compose(["model=ae", "tracking=[wandbb]"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    config = compose(["model=ae", "tracking=[mlflow]"])
    with pytest.raises(ConfigError, match=r"^tracking=\[mlflow\]: needs mlflow: pip install mlflow$"):
        run.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    old = Path(__file__).parent / "old_runs" / "digits_vae"
    assert read_config(old)["tracking"] == []
