"""Which run a name stands for, where its data lie, and where the results of a call go."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoenc.apps.outputs import Outputs
from autoenc.apps.protocol.compare import runs_in
from autoenc.config.composed import compose
from autoenc.errors import DataError
from autoenc.loading import load_run
from autoenc.metrics import auroc_interval
from autoenc.run import resume, train
from autoenc.training import rundir
from autoenc.training.rundir import find_run

Call = Callable[..., tuple[int, str, str]]


def record(folder: Path, state: str, age: int) -> None:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"state": state}))
    os.utime(folder / "run.json", (1e9 - age, 1e9 - age))


def test_latest_is_the_newest_finished_run_below_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="latest: no finished run below outputs"):
        find_run("latest")
    record(Path("outputs/digits/ae/1"), "finished", 30)
    record(Path("outputs/mnist/vae/2"), "finished", 20)
    record(Path("outputs/mnist/vae/3"), "failed", 10)
    assert find_run("latest") == Path("outputs/mnist/vae/2")
    assert find_run("latest", finished=False) == Path("outputs/mnist/vae/3")
    assert find_run("latest:digits/ae") == Path("outputs/digits/ae/1")
    assert runs_in(["latest", "latest:digits"]) == [Path("outputs/mnist/vae/2"), Path("outputs/digits/ae/1")]
    assert find_run("outputs/digits/ae/1") == Path("outputs/digits/ae/1")


def test_resume_and_init_from_take_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["model=ae", "network.hidden=[8]", "model.latent_dim=2", "trainer.epochs=1", "trainer.figures=0"]
    run_dir = Path("outputs/digits/ae/1")
    train(compose(small), run_dir)
    before = resume(Path("latest"), {"epochs": 4})["test"]["mse"]
    summary = train(compose([*small, "trainer.steps=1", "init_from=latest"]), Path("outputs/digits/ae/2"))
    assert summary["test"]["mse"] == pytest.approx(before, rel=0.02)
    capsys.readouterr()
    assert load_run("latest:digits", "cpu").path == Path("outputs/digits/ae/2")
    assert "latest:digits: outputs/digits/ae/2" in capsys.readouterr().out


def test_the_data_of_a_run_are_found_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("few.npy", np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    small = ["model=ae", "network.hidden=[8]", "model.latent_dim=2", "trainer.epochs=1", "trainer.figures=0"]
    train(compose([*small, "data=arrays", "data.path=few.npy", "likelihood=gaussian"]), tmp_path / "run")
    assert "Attention: 32 training examples are few" in (tmp_path / "run" / "train.log").read_text()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert len(load_run(tmp_path / "run", "cpu").data.test) == 4


def test_other_kinds_of_calls_have_folders_of_their_own(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    run = load_run(copied(ae_run), "cpu")
    for call in ("", "pca", "3d"):
        with Outputs(run, "test", call=call) as out:
            out.json({"call": call})
    assert [json.loads((run.path / "test" / c / "test.json").read_text())["call"] for c in ("", "pca")] == ["", "pca"]


def test_all_results_of_generate_are_set_aside(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    run_dir = copied(ae_run)
    (run_dir / "generate").mkdir(exist_ok=True)
    (run_dir / "generate" / "traverse.json").write_text("{}")
    assert run_dir / "generate" in rundir.applications(run_dir)


def test_finetune_adapts_its_defaults_to_few_labels(ae_run: Path, copied: Callable[[Path], Path], call: Call) -> None:
    code, out, _ = call("finetune", copied(ae_run), "--seeds", 1, "--steps", 2)
    assert code == 0
    assert "--labels 100 646, because digits has few labels" in out


def test_the_interval_of_an_auroc() -> None:
    # Hanley & McNeil 1982, table II: A = 0.893, 51 abnormal and 58 normal cases, standard error 0.032.
    low, high = auroc_interval(0.893, 51, 58)
    assert (high - low) / 2 / 1.96 == pytest.approx(0.032, abs=0.001)
    assert auroc_interval(1.0, 3, 40)[0] < 1
    assert np.diff(auroc_interval(0.8, 5, 100)) > np.diff(auroc_interval(0.8, 500, 100))
