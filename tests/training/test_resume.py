"""Resuming leaves no trace: metrics, events and figures are those of a run that never stopped."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from autoenc import reference, report, run
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.errors import DataError, Interrupted, UserError
from autoenc.files import TEMPORARY, read_json, write_json
from autoenc.training import checkpoint, trainer
from autoenc.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = ["model=vae", "network.hidden=[8]", "model.latent_dim=2", "trainer.epochs=3", "trainer.figures=2"]


def checked(*overrides: str) -> dict[str, Any]:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return config.check(hydra.compose("config", overrides=[*SMALL, *overrides]))


def events(run_dir: Path) -> list[tuple[str, int]]:
    """Tag and step of every value in the event files, in the order of the files, those of speed left out."""
    files = sorted(run_dir.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns)
    found = itertools.chain.from_iterable(EventFileLoader(str(path)).Load() for path in files)
    return [(value.tag, event.step) for event in found for value in event.summary.value if "wall/" not in value.tag]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run.train(checked(), run_dir)
    return run_dir


def assert_equal(resumed: Path, whole: Path) -> None:
    assert (resumed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert events(resumed) == events(whole)
    assert read_json(resumed / "run.json")["state"] == "finished"
    assert {p.name for p in resumed.rglob("*.png")} == {p.name for p in whole.rglob("*.png")}
    assert not [p for p in resumed.rglob(".*") if TEMPORARY.fullmatch(p.name)]


def stop_after(calls: int, function: Callable[..., Any], how: BaseException) -> Callable[..., Any]:
    count = itertools.count(1)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(count) == calls:
            raise how
        return function(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("owner", "name", "calls"),
    [
        (trainer, "train_step", 30),  # in the middle of the second epoch
        (report, "draw", 1),  # figures
        (Trainer, "save", 2),  # after the events of the second evaluation, before its checkpoint
        (report, "draw", 2),  # final evaluation, after the line of the test split
        (reference, "save", 1),
    ],
)
def test_a_run_that_was_cut_off_anywhere_ends_like_one_that_was_not(
    owner: Any, name: str, calls: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, stop_after(calls, getattr(owner, name), KeyboardInterrupt()))
        with pytest.raises(Interrupted) as stopped:
            run.train(checked(), tmp_path / "run")
    assert (stopped.value.signum, stopped.value.resumable) == (signal.SIGINT, str(tmp_path / "run"))
    assert read_json(tmp_path / "run" / "run.json")["state"] == "interrupted"
    (tmp_path / "run" / "checkpoints" / ".last.pt.0a1b2c3d").touch()
    run.resume(tmp_path / "run")
    assert_equal(tmp_path / "run", whole)


def test_a_signal_in_the_middle_of_an_epoch_changes_no_mean(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, step = itertools.count(1), trainer.train_step

    def hang_up(*args: Any, **kwargs: Any) -> Any:
        if next(count) == 30:
            os.kill(os.getpid(), signal.SIGHUP)
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "train_step", hang_up)
        with pytest.raises(Interrupted) as stopped:
            run.train(checked(), tmp_path / "run")
    assert stopped.value.signum == signal.SIGHUP
    run.resume(tmp_path / "run")
    assert_equal(tmp_path / "run", whole)


def test_long_epochs_have_checkpoints_between_evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(trainer, "train_step", stop_after(40, trainer.train_step, MemoryError()))
    with pytest.raises(MemoryError):
        run.train(checked("trainer.evaluate_every=1000"), tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def _swap(states: dict[int, Any]) -> None:
    states[0], states[1] = states[1], states[0]


@pytest.mark.parametrize(
    "forge",
    [
        lambda optimizer: _swap(optimizer["state"]),
        lambda optimizer: [state.pop("exp_avg_sq") for state in optimizer["state"].values()],
        lambda optimizer: optimizer["param_groups"][0].update(betas=None),
    ],
    ids=["of other shapes", "incomplete", "no betas"],
)
def test_a_state_of_another_optimizer_is_refused(
    forge: Callable[[dict[str, Any]], object], whole: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    state = checkpoint.load(copy / "checkpoints" / "last.pt")
    forge(next(iter(state["optimizers"].values())))
    checkpoint.save(copy / "checkpoints" / "last.pt", state)
    with pytest.raises(DataError, match=r"last\.pt: does not match config\.yaml"):
        run.resume(copy, {"epochs": 4})


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_lost_best_pt_is_replaced(damage: str, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    best = copy / "checkpoints" / "best.pt"
    best.write_bytes(best.read_bytes()[:1000]) if damage == "cut" else best.unlink()
    record = read_json(copy / "run.json")
    write_json(copy / "run.json", record | {"state": "set by hand"})
    summary = run.resume(copy)
    found, last = (checkpoint.load(copy / "checkpoints" / name) for name in ("best.pt", "last.pt"))
    assert found["step"] == last["progress"]["step"]
    for name, tensor in last["model"].items():
        assert torch.equal(found["model"][name], tensor), name
    assert summary["test"] == pytest.approx(json.loads((whole / "summary.json").read_text())["test"], rel=0.2)


@pytest.mark.parametrize("earlier", [False, True], ids=["", "checkpoints of earlier versions"])
def test_the_seconds_of_a_run_are_those_of_all_its_sessions(earlier: bool, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    last = copy / "checkpoints" / "last.pt"
    state = checkpoint.load(last)
    progress = state["progress"]
    perf = read_json(copy / "summary.json")["perf"]
    assert 0 < progress["training_seconds"] < progress["seconds"] < perf["seconds"]
    progress |= {"training_seconds": 900.0, "seconds": 1000.0}
    if earlier:
        del progress["seconds"]
    checkpoint.save(last, state)
    perf = run.resume(copy, {"epochs": 4})["perf"]
    assert 900 < perf["training_seconds"] < perf["seconds"]
    assert perf["seconds"] > 1000 or earlier
    assert perf["seconds"] < 1100
    checkpoint.save(last, state | {"progress": progress | {"seconds": "many"}})
    with pytest.raises(DataError, match="seconds is not what was written"):
        run.resume(copy, {"epochs": 5})


def test_a_best_pt_of_another_step_is_not_called_damaged(whole: Path, tmp_path: Path) -> None:
    """A kill between the writing of best.pt and that of last.pt leaves both intact."""
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    best = checkpoint.load(copy / "checkpoints" / "best.pt")
    checkpoint.save(copy / "checkpoints" / "best.pt", best | {"step": best["step"] + 1})
    run.resume(copy, {"epochs": 4})
    log = (copy / "train.log").read_text()
    step = best["step"]
    assert f"best.pt has the weights of step {step + 1}, and last.pt names step {step} as the best" in log
    assert "damaged" not in log


@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl", ".lock", "00000", "figures", "run.json", "checkpoints"])
def test_a_run_with_links_is_not_written_to(name: str, whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    write_json(copy / "run.json", read_json(copy / "run.json") | {"state": "interrupted"})
    outside = tmp_path / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    before = {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    with pytest.raises(DataError, match="is a link"):
        run.resume(copy)
    assert {p: p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()} == before


def test_a_directory_that_is_deleted_underneath_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    count, step = itertools.count(1), trainer.train_step

    def delete(*args: Any, **kwargs: Any) -> Any:
        if next(count) == 30:
            shutil.rmtree(tmp_path / "run")
        return step(*args, **kwargs)

    monkeypatch.setattr(trainer, "train_step", delete)
    with pytest.raises(UserError, match="No such file or directory"):
        run.train(checked(), tmp_path / "run")
    assert capfd.readouterr().err == ""
    assert not (tmp_path / "run").exists()


def test_a_run_without_a_checkpoint_starts_anew(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(whole, run_dir)
    record = read_json(run_dir / "run.json") | {"state": "running"}
    shutil.rmtree(run_dir / "checkpoints")
    write_json(run_dir / "run.json", record | {"data": record["data"] | {"train": 7}})
    with pytest.raises(UserError, match=r"^resume=.*stopped before its first checkpoint, and the data are others"):
        run.resume(run_dir)
    write_json(run_dir / "run.json", record)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop_after(1, Path.unlink, PermissionError(errno.EACCES, "Permission denied")))
        with pytest.raises(UserError, match=f"^{run_dir}: Permission denied"):
            run.resume(run_dir)
    assert capsys.readouterr().out == ""
    (run_dir / "events.out.tfevents.1.old").touch()
    run.resume(run_dir)
    assert "stopped before its first checkpoint: it starts anew" in capsys.readouterr().out
    assert_equal(run_dir, whole)
