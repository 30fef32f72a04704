"""Sweeps on bad days: a job that is killed, a signal, jobs that never start."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from omegaconf import OmegaConf

from autoenc import cli, forked
from autoenc.errors import ConfigError, DataError, Interrupted
from autoenc.files import locked, read_json, write_json
from autoenc.sweeps import command_line, folders, running
from autoenc.sweeps import watch as watching


def test_a_job_that_is_killed_leaves_the_sweep_alive() -> None:
    reasons: list[str] = []
    assert forked.isolated(lambda: 2.5, reasons.append) == 2.5
    assert reasons == []

    def killed() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    assert forked.isolated(killed, reasons.append) is None
    assert reasons == ["killed by signal 9"]


def test_a_trial_that_takes_too_long_is_killed() -> None:
    reasons: list[str] = []
    assert forked.isolated(lambda: time.sleep(20), reasons.append, limit=1) is None
    assert reasons == [f"killed by signal {signal.SIGALRM}"]


def test_a_sweep_keeps_no_configs_of_jobs_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[JobReturn] = []
    end = cli.Callbacks.on_job_end

    def ended(self: cli.Callbacks, **given: Any) -> None:
        end(self, **given)
        done.append(given["job_return"])

    monkeypatch.setattr(cli.Callbacks, "on_job_end", ended)
    monkeypatch.setattr(cli, "job", lambda cfg: float(cfg.seed))
    monkeypatch.setattr(running.Running, "report", lambda self: None)
    monkeypatch.setattr(running.Running, "start", lambda self, launcher: None)
    monkeypatch.setattr(running.sweep, "folder", None)
    monkeypatch.setattr("sys.argv", ["train.py", "-m", "seed=3,4"])
    monkeypatch.chdir(tmp_path)
    assert cli.main() == 0
    assert [each.return_value for each in done] == [3, 4]
    assert all(each.cfg is each.hydra_cfg is None for each in done), "150 jobs have 13 MB of them"


def test_a_worker_whose_sweep_was_killed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = SimpleNamespace(pid=os.getppid())
    monkeypatch.setattr(forked.multiprocessing, "parent_process", lambda: parent)
    left: list[int] = []
    me, leave = os.getpid(), os._exit
    monkeypatch.setattr(forked.os, "_exit", lambda code: left.append(code) if os.getpid() == me else leave(code))
    assert forked.isolated(lambda: 1, print) == 1
    assert left == []
    parent.pid = -1  # another process has adopted this one
    forked.isolated(lambda: 1, print)
    assert left == [1]


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
    write_json(tmp_path / "0_job" / "summary.json", {"val": {"loss": 1.0}, "test": {"loss": 2.0}})
    monkeypatch.setattr(running.sweep, "folder", tmp_path)
    monkeypatch.setattr(running.sweep, "jobs", jobs)
    monkeypatch.setattr(running.sweep, "failed", [])
    monkeypatch.setattr(running, "PATIENCE", 0.5)
    running.sweep.report()
    rows = {row["seed"]: row for row in csv.DictReader((tmp_path / "comparison.csv").open())}
    assert {seed: row["state"] for seed, row in rows.items()} == {
        "0": "finished",
        "1": "failed",
        "2": "failed",
        "3": "not started",
    }
    assert rows["1"]["error"] == "killed by signal 9"
    assert len(running.sweep.failed) == 3
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


def sweep(folder: Path, task: list[str], own: list[str], jobs: list[list[str]]) -> Path:
    stored = {"hydra": {"overrides": {"task": task, "hydra": own}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(stored))
    for number, overrides in enumerate(jobs):
        (folder / f"{number}_job" / ".hydra").mkdir(parents=True)
        (folder / f"{number}_job" / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    return folder


def test_a_sweep_resumes_with_its_own_command_line(tmp_path: Path) -> None:
    own = ["hydra.sweep.dir=x", "hydra.mode=MULTIRUN", "hydra/launcher=joblib", "hydra.sweep.subdir=${hydra.job.num}"]
    folder = sweep(tmp_path, ["model=ae,vae", "seed=0,1"], own, [])
    assert command_line.is_sweep(folder)
    assert not command_line.is_sweep(tmp_path / "none")
    last = f"hydra.sweep.dir='{folder}'"
    assert command_line.arguments(folder, []) == ["-m", "model=ae,vae", "seed=0,1", *own[2:], last]
    basic = ["hydra/launcher=basic"]
    assert command_line.arguments(folder, basic) == ["-m", "model=ae,vae", "seed=0,1", own[3], *basic, last]
    with pytest.raises(ConfigError, match=r"^resume=.*only hydra/launcher may change; leave out seed=3"):
        command_line.arguments(folder, ["seed=3"])


@pytest.mark.parametrize("name", ["a b", "a,b", "it's", "a=b (1)"])
def test_the_folder_of_a_sweep_may_have_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    *_, last = command_line.arguments(sweep(tmp_path / name, ["model=ae"], [], []), [])
    (override,) = OverridesParser.create().parse_overrides([last])
    assert override.value() == str(tmp_path / name)


@pytest.mark.parametrize(
    "task",
    [
        "hydra.run.dir=/tmp/x",
        "+hydra.callbacks.a._target_=os.system",
        "~hydra.callbacks.autoenc",
        "model@hydra.launcher=ae",
        "resume=other",
    ],
)
def test_a_stored_command_line_sets_nothing_of_hydra(tmp_path: Path, task: str) -> None:
    with pytest.raises(DataError, match="is no setting of a run"):
        command_line.arguments(sweep(tmp_path, [task], [], []), [])


@pytest.mark.parametrize(
    "subdir", ["../../x", "/tmp/x", "'/home/x'", " /home/x", "${oc.env:HOME}", ".", "a/${hydra.job.num}", "${x}"]
)
def test_a_stored_command_line_does_not_reach_outside(tmp_path: Path, subdir: str) -> None:
    with pytest.raises((ConfigError, DataError), match=r"with which a sweep does not resume|is damaged"):
        command_line.arguments(sweep(tmp_path, ["model=ae"], [f"hydra.sweep.subdir={subdir}"], []), [])


def test_other_settings_of_hydra_and_damage_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"started with hydra/sweeper=optuna, with which a sweep does not resume"):
        command_line.arguments(sweep(tmp_path, ["model=ae"], ["hydra/sweeper=optuna"], []), [])
    (tmp_path / "multirun.yaml").write_text("hydra: {}")
    with pytest.raises(DataError, match=r"multirun\.yaml: is damaged"):
        command_line.arguments(tmp_path, [])
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(DataError, match="link"):
        command_line.arguments(tmp_path, [])


def test_jobs_are_in_folders_of_their_own_below_the_sweep(tmp_path: Path) -> None:
    folders.check_place(tmp_path / "sweep" / "0_a", tmp_path / "sweep")
    for folder in ("sweep", ".", "other", "sweep/../other"):
        with pytest.raises(ConfigError, match=r"^hydra\.sweep\.subdir=.*must be a folder below"):
            folders.check_place(tmp_path / folder, tmp_path / "sweep")


def test_a_sweep_that_has_changed_is_refused(tmp_path: Path) -> None:
    jobs = [["model=ae"], ["model=vae"]]
    folder = sweep(tmp_path, ["model=ae,vae"], [], jobs)
    command_line.check_jobs(folder, jobs)
    command_line.check_jobs(folder, [*jobs, ["model=dae"]])
    with pytest.raises(ConfigError, match=r"1_job was trained with model=vae, which is not job 1 of multirun\.yaml"):
        command_line.check_jobs(folder, [["model=ae"], ["model=dae"]])
    with pytest.raises(ConfigError, match="1_job"):
        command_line.check_jobs(folder, jobs[:1])


def test_finished_jobs_are_kept_and_what_has_no_checkpoint_begins_anew(tmp_path: Path) -> None:
    assert folders.earlier(tmp_path) is None
    write_json(tmp_path / "run.json", {"state": "finished"})
    assert folders.earlier(tmp_path) is None, "it has no summary"
    write_json(tmp_path / "summary.json", {"val": {"loss": 1.0}})
    assert folders.earlier(tmp_path) == {"val": {"loss": 1.0}}
    write_json(tmp_path / "run.json", {"state": "running"})
    assert folders.earlier(tmp_path) is None
    for name in (".hydra", "checkpoints", "kind"):
        (tmp_path / name).mkdir()
    (tmp_path / "config.yaml").touch()
    (tmp_path / "checkpoints" / "last.pt").touch()
    assert folders.interrupted(tmp_path)
    (tmp_path / "checkpoints" / "last.pt").unlink()
    assert not folders.interrupted(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {".hydra", ".lock"}
    (tmp_path / "precious.txt").touch()
    with pytest.raises(DataError, match=r"has files that are not of a run, such as precious\.txt"):
        folders.interrupted(tmp_path)
    assert (tmp_path / "precious.txt").exists()


def job(folder: Path, number: int, state: str, seconds: float = 0.0) -> None:
    (folder / f"{number}_job").mkdir()
    (folder / f"{number}_job" / "config.yaml").touch()
    write_json(folder / f"{number}_job" / "run.json", {"state": state})
    write_json(folder / f"{number}_job" / "summary.json", {"val": {}, "perf": {"seconds": seconds}})


def test_finished_jobs_are_not_missing(tmp_path: Path) -> None:
    for number, state in enumerate(("finished", "finished", "running", "failed")):
        job(tmp_path, number, state)
    assert folders.missing(tmp_path, 6) == [2, 3, 4, 5]


def test_one_line_says_how_far_a_sweep_is(tmp_path: Path) -> None:
    watch = watching.Watch(tmp_path, [10.0] * 6, at_once=2)
    assert watch.line() == "0 of 6 done, about 30 s left"
    job(tmp_path, 0, "finished", seconds=20.0)
    job(tmp_path, 1, "failed")
    job(tmp_path, 2, "running")
    assert watch.line(age=60) == "0 of 6 done, about 30 s left", "read again after that time only"
    assert watch.line() == "1 of 6 done, 1 running, 1 failed, about 40 s left", "jobs take twice the estimate"
    config = (tmp_path / "2_job" / "config.yaml").read_text()
    (tmp_path / "2_job" / "config.yaml").unlink()
    assert watch.line().startswith("1 of 6 done, 1 failed"), "a job that starts anew has no config for a moment"
    (tmp_path / "2_job" / "config.yaml").write_text(config)
    os.utime(tmp_path / "2_job" / "config.yaml", (0, time.time() - 12))
    assert watch.line().endswith("about 34 s left")
    for number in range(3, 6):
        job(tmp_path, number, "finished", seconds=20.0)
    write_json(tmp_path / "2_job" / "run.json", {"state": "finished"})
    assert watch.line() == "5 of 6 done, 1 failed"


def test_without_an_estimate_the_jobs_that_are_done_tell_how_long_the_others_take(tmp_path: Path) -> None:
    watch = watching.Watch(tmp_path, [math.nan] * 3)
    assert watch.line() == "0 of 3 done"
    job(tmp_path, 0, "finished", seconds=200.0)
    assert watch.line() == "1 of 3 done, about 7 min left"


def test_the_line_stands_at_the_foot_of_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(watching, "REFRESH", 0.01)
    for stream, written in ((Screen(), True), (io.StringIO(), False)):
        monkeypatch.setattr("sys.stdout", stream)
        live = watching.Live(watching.Watch(tmp_path, [10.0]))
        live.start()
        time.sleep(0.1)
        live.stop()
        assert (f"{forked.CLEAR}0 of 1 done, about 10 s left" in stream.getvalue()) is written
        assert stream.getvalue().endswith(forked.CLEAR) is written


def test_workers_that_a_signal_ends_without_a_job_do_not_hide_the_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class TerminatedWorkerError(Exception):  # as joblib's
        pass

    def main(**kwargs: Any) -> Any:
        def hydra_main(job: Any) -> NoReturn:
            monkeypatch.setattr(forked.Sweep, "stopped", signal.SIGHUP)
            raise TerminatedWorkerError

        return lambda job: lambda: hydra_main(job)

    monkeypatch.setattr(cli.hydra, "main", main)
    monkeypatch.setattr(running.sweep, "folder", tmp_path)
    monkeypatch.setattr(running.Running, "report", lambda self: None)
    monkeypatch.setattr(forked.Sweep, "stopped", None)
    assert cli._run(["-m", "seed=1,2"]) == 128 + signal.SIGHUP
    assert capsys.readouterr().err == f"interrupted; resume with: python train.py resume={tmp_path}\n"


@pytest.mark.parametrize(
    ("asked", "gigabytes", "jobs", "given", "said"),
    [(500, 4, 9, 4, True), (500, 64, 2, 2, False), (3, 4, 9, 3, False), (2, 0.5, 9, 1, True)],
)
def test_no_more_workers_start_than_jobs_and_memory_for_them(
    asked: int, gigabytes: float, jobs: int, given: int, said: bool,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(running.memory, "total", lambda: gigabytes * 1e9)
    launcher = OmegaConf.create({"n_jobs": asked})
    OmegaConf.set_readonly(launcher, True)
    running.limit_workers(launcher, jobs)
    assert launcher.n_jobs == given
    out = capsys.readouterr().out
    assert (f"hydra.launcher.n_jobs={asked}: {given} at once" in out) == said == bool(out)
