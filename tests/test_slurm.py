"""Jobs on a cluster: what announces the end of their time queues them again, after a checkpoint."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from autoenc import forked
from autoenc.config import schema
from autoenc.config.arguments import launcher_message
from autoenc.errors import Interrupted

submitit = pytest.importorskip("submitit")


class Job:
    """A job that trains until it is interrupted, and is done when it resumes."""

    def __init__(self, folder: Path):
        self.folder = folder

    def train(self) -> str:
        """Wait, and write a checkpoint when a signal arrives."""
        if (self.folder / "checkpoint").exists():
            return "resumed"
        (self.folder / "started").touch()
        try:
            while True:
                time.sleep(0.01)
        except Interrupted:
            (self.folder / "checkpoint").touch()
            raise

    def __call__(self) -> Any:
        """Train in a process of its own, as a job of a sweep."""
        forked.PRELOADED = ()
        return forked.isolated(self.train, lambda why: (self.folder / "killed").write_text(why))

    def checkpoint(self) -> Any:
        """Return what is queued again, as the launcher of Hydra does."""
        assert (self.folder / "checkpoint").exists(), "queued again before the checkpoint"
        return submitit.helpers.DelayedSubmission(self)


def test_a_job_resumes_when_it_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parent)]))
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(Job(tmp_path))
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (task,) = Path(f"/proc/{job._process.pid}/task/{job._process.pid}/children").read_text().split()
    os.kill(int(task), signal.SIGUSR2)
    assert job.result() == "resumed"
    assert not (tmp_path / "killed").exists()


def test_what_a_machine_lacks_for_a_launcher_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    message = launcher_message(["-m", "seed=1,2", "hydra/launcher=submitit_slurm"])
    assert "hydra/launcher=submitit_slurm" in message
    assert "sbatch" in message
    assert "hydra/launcher=submitit_local" in message
    assert not launcher_message(["-m", "seed=1,2", "hydra/launcher=submitit_local"])
    assert "add -m" in launcher_message(["seed=1", "hydra/launcher=submitit_local"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "autoenc[slurm]" in launcher_message(["-m", "seed=1,2", "hydra/launcher=submitit_local"])


def test_the_launcher_takes_every_option_of_its_config() -> None:
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")
    ours = yaml.safe_load((schema.CONFIGS / "hydra" / "launcher" / "submitit_slurm.yaml").read_text())
    assert ours.keys() <= {field.name for field in dataclasses.fields(config.SlurmQueueConf)}
