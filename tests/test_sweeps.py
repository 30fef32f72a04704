"""Sweeps on bad days: a job that is killed, a signal, jobs that never start."""

from __future__ import annotations

import csv
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml
from hydra.core.utils import JobReturn

from autoenc import cli, forked
from autoenc.errors import Interrupted
from autoenc.files import locked, read_json, write_json


def test_a_job_that_is_killed_leaves_the_sweep_alive() -> None:
    reasons: list[str] = []
    assert forked.isolated(lambda: 2.5, reasons.append) == 2.5
    assert reasons == []

    def killed() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    assert math.isnan(forked.isolated(killed, reasons.append))
    assert reasons == ["killed by signal 9"]


def test_a_sweep_keeps_no_configs_of_jobs_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[JobReturn] = []
    end = cli.Callbacks.on_job_end

    def ended(self: cli.Callbacks, **given: Any) -> None:
        end(self, **given)
        done.append(given["job_return"])

    monkeypatch.setattr(cli.Callbacks, "on_job_end", ended)
    monkeypatch.setattr(cli, "job", lambda cfg: float(cfg.seed))
    monkeypatch.setattr(cli, "_report_sweep", lambda: None)
    monkeypatch.setattr(cli.Callbacks, "sweep_dir", None)
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "seed=3,4"])
    monkeypatch.chdir(tmp_path)
    assert cli.main() == 0
    assert [each.return_value for each in done] == [3, 4]
    assert all(each.cfg is each.hydra_cfg is None for each in done), "150 jobs have 13 MB of them"


def test_signals_reach_the_job_before_they_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forked.Sweep, "stopped", None)

    def attempt() -> float:
        try:
            (tmp_path / "started").touch()
            time.sleep(20)
        except Interrupted as error:
            (tmp_path / "checkpoint").write_text(str(error.signum))
            raise
        return 0.0

    def stop() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted) as stopped:
        forked.isolated(attempt, lambda why: None)
    assert stopped.value.signum == signal.SIGTERM
    assert (tmp_path / "checkpoint").read_text() == "15"


def test_the_table_has_jobs_that_were_killed_and_jobs_that_never_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [["model=ae", f"seed={n}"] for n in range(4)]
    for number, overrides in enumerate(jobs[:3]):
        hydra = tmp_path / f"{number}_job" / ".hydra"
        hydra.mkdir(parents=True)
        (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
        write_json(hydra.parent / "run.json", {"state": "finished" if number == 0 else "running"})
    monkeypatch.setattr(cli.Callbacks, "sweep_dir", tmp_path)
    monkeypatch.setattr(cli.Callbacks, "jobs", jobs)
    monkeypatch.setattr(cli.Callbacks, "failed", [])
    monkeypatch.setattr(cli, "PATIENCE", 0.5)
    cli._report_sweep()
    rows = {row["seed"]: row for row in csv.DictReader((tmp_path / "comparison.csv").open())}
    assert {seed: row["state"] for seed, row in rows.items()} == {
        "0": "finished",
        "1": "failed",
        "2": "failed",
        "3": "not started",
    }
    assert rows["1"]["error"] == "killed by signal 9"
    assert len(cli.Callbacks.failed) == 3
    assert read_json(tmp_path / "1_job" / "run.json")["state"] == "failed"


def test_a_run_directory_that_another_process_holds_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both processes found the directory empty; the one that comes second must not delete the files of the first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.Callbacks, "error", None)
    monkeypatch.setattr("sys.argv", ["train.py", "hydra.run.dir=a/here", "trainer.monitor=accuracy"])
    read, write = os.pipe()
    os.makedirs("a/here")
    child = os.fork()
    if child == 0:
        with locked(Path("a/here")):
            os.write(write, b".")
            time.sleep(20)
        os._exit(0)
    os.read(read, 1)
    try:
        assert cli.main() == 2
        assert "a/here: is in use by another process" in capfd.readouterr().err
        assert [path.name for path in Path("a/here").iterdir()] == [".lock"]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert cli.main() == 2  # trainer.monitor
    assert "trainer.monitor=accuracy" in capfd.readouterr().err
    assert list(Path("a/here").iterdir()) == []  # the folders of the user stay
