"""Whole runs: what a run directory contains, and that stopping and resuming changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import forks
import hydra
import numpy as np
import pytest
import torch
import yaml

from autoenc import run
from autoenc.config import checks as config
from autoenc.config import schema
from autoenc.data import arrays
from autoenc.errors import ConfigError, DataError, NotFinite
from autoenc.training import process
from autoenc.training.settings import TrainerSettings

SMALL = ["network.hidden=[16]", "trainer.figures=0", "trainer.batch_size=128", "model.latent_dim=4"]


def checked(*overrides: str) -> dict[str, Any]:
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        return config.check(hydra.compose("config", overrides=list(overrides)))


def lines(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def vae_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "vae"
    run.train(checked("model=vae", "noise=masking", *SMALL, "trainer.epochs=4", "trainer.figures=1"), run_dir)
    return run_dir


def test_run_directory_holds_everything(vae_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert json.loads((vae_run / "run.json").read_text())["state"] == "finished"
    summary = json.loads((vae_run / "summary.json").read_text())
    assert {"val", "test", "latent", "verdict", "perf"} <= set(summary)
    assert summary["test"]["loss"] == pytest.approx(summary["test"]["nll"] + summary["test"]["kl"], rel=1e-5)
    figures = {p.stem for p in (vae_run / "figures").glob("*.png")}
    assert figures >= {"reconstruction", "samples", "traversal", "filters", "latent_space", "latent_units", "loss"}
    splits = [line["split"] for line in lines(vae_run)]
    assert splits == ["train", "val"] * 4 + ["test"]

    events = EventAccumulator(str(vae_run), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    tags = events.Reload().Tags()
    wanted = {
        "train/loss",
        "train/kl",
        "val/loss",
        "val/kl",
        "val/denoise_mse",
        "train/gradient_norm",
        "train/lr",
    }
    assert wanted | {"wall/examples_per_second", "z/active_units", "verdict/test/mse"} <= set(tags["scalars"])
    assert {f"view/{name}" for name in figures} == set(tags["images"])
    assert "_hparams_/session_start_info" in events.summary_metadata
    steps = [e.step for e in events.Scalars("val/loss")]
    assert steps == sorted(set(steps))
    assert (vae_run / "projector_config.pbtxt").exists()


def test_summary_is_of_the_best_weights(vae_run: Path) -> None:
    vals = {line["step"]: line["loss"] for line in lines(vae_run) if line["split"] == "val"}
    summary = json.loads((vae_run / "summary.json").read_text())
    assert summary["step"] == min(vals, key=lambda step: vals[step])
    assert summary["val"]["loss"] == pytest.approx(min(vals.values()), abs=1e-9)


def test_same_seed_same_run_other_seed_other_run(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(seed)  # the state of the caller's generator must not matter
        run.train(checked("model=vae", *SMALL, "trainer.epochs=2", f"seed={seed}"), tmp_path / name)
    a, b, c = (lines(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c
    assert not any((tmp_path / name / "figures").exists() for name in "abc"), "trainer.figures=0"


def test_a_run_that_monitored_a_metric_without_direction_resumes_with_lower_as_better(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 0.1 accepted trainer.monitor=kl."""
    config = checked("model=vae", *SMALL, "trainer.epochs=3", "trainer.monitor=kl")
    with pytest.raises(ConfigError, match=r"^trainer\.monitor=kl: has no better direction; must be one of loss, nll"):
        run.train(config, tmp_path / "new")
    with monkeypatch.context() as version_0_1:
        version_0_1.setattr(run, "check_monitor", lambda *args: None)
        run.train(config, tmp_path / "old")
    record = json.loads((tmp_path / "old" / "run.json").read_text())
    (tmp_path / "old" / "run.json").write_text(json.dumps(record | {"state": "interrupted"}))
    summary = run.resume(tmp_path / "old")
    kl = {line["step"]: line["kl"] for line in lines(tmp_path / "old") if line["split"] == "val"}
    assert summary["step"] == min(kl, key=lambda step: kl[step])


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    "overrides",
    [
        ["model=vae", "noise=gaussian", "regularizer=[kl_warmup]", "trainer.lr_schedule=cosine", "trainer.warmup=0.1"],
        ["model=contractive", "optimizer=sgd", "regularizer.jacobian.exact_up_to=1", "trainer.clip=5"],
    ],
    ids=["vae", "contractive"],
)
def test_resume_after_a_kill_is_bit_identical(tmp_path: Path, overrides: list[str]) -> None:
    """SIGKILL at a random moment, or SIGTERM in the middle of an epoch: the resumed run ends at the same bits."""
    overrides = [*overrides, *SMALL[1:], "trainer.batch_size=32", "trainer.epochs=7", "trainer.threads=1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run.train(checked(*overrides), whole)

    sent = random.choice([signal.SIGKILL, signal.SIGTERM])
    process = forks.start(tmp_path / "out", Path.cwd(), [f"hydra.run.dir={killed}", *overrides])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (killed / "checkpoints" / "last.pt").exists():
        time.sleep(0.005)
    time.sleep(random.random() * 0.15)
    os.kill(process.pid, sent)
    done = process.wait()
    if done.returncode == 0:
        pytest.skip("the run ended before the signal came")
    assert done.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 143), done.stderr
    if sent == signal.SIGTERM:
        assert done.stderr == f"interrupted; resume with: python train.py resume={killed}\n"
        assert json.loads((killed / "run.json").read_text())["state"] == "interrupted"

    run.resume(killed)
    a, b = (torch.load(d / "checkpoints" / "last.pt", weights_only=True) for d in (whole, killed))
    assert a["progress"]["step"] == b["progress"]["step"]
    for part in ("model", "best"):
        if part == "best":
            a, b = (torch.load(d / "checkpoints" / "best.pt", weights_only=True) for d in (whole, killed))
        assert a["model"].keys() == b["model"].keys()
        for name, value in a["model"].items():
            assert torch.equal(value, b["model"][name]), f"{part}: {name}"
    assert lines(whole) == lines(killed)
    one, two = (json.loads((d / "summary.json").read_text()) for d in (whole, killed))
    assert one["test"] == two["test"]


def test_resume_refuses_what_it_cannot_go_on_with(vae_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run directory"):
        run.resume(tmp_path)
    with pytest.raises(ConfigError, match="is finished"):
        run.resume(vae_run)


def stopped_run(run_dir: Path, state: str) -> Path:
    """A run that says of itself that it did not end."""
    run.train(checked("model=ae", *SMALL, "trainer.epochs=1"), run_dir)
    record = json.loads((run_dir / "run.json").read_text())
    (run_dir / "run.json").write_text(json.dumps(record | {"state": state}))
    return run_dir


def test_resume_refuses_a_changed_config(tmp_path: Path) -> None:
    run_dir = stopped_run(tmp_path / "run", "interrupted")
    text = yaml.safe_load((run_dir / "config.yaml").read_text())
    text["optimizer"]["lr"] = 0.5
    (run_dir / "config.yaml").write_text(yaml.safe_dump(text, sort_keys=False))
    with pytest.raises(ConfigError, match=r"config.yaml was changed .*optimizer.lr: 0.001 -> 0.5"):
        run.resume(run_dir)


def test_resume_refuses_damaged_checkpoints(tmp_path: Path) -> None:
    run_dir = stopped_run(tmp_path / "run", "running")
    last = run_dir / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"last.pt: damaged"):
        run.resume(run_dir)


def test_a_loss_that_is_not_finite_names_step_term_and_checkpoint(tmp_path: Path) -> None:
    overrides = ("model=ae", "optimizer=sgd", "optimizer.lr=1e12", "likelihood=gaussian", *SMALL, "trainer.epochs=3")
    with pytest.raises(NotFinite, match=r"^step \d+: nll is not finite; (the last good|no) checkpoint"):
        run.train(checked(*overrides), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["state"] == "failed"
    assert "nll is not finite" in record["error"]


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    from filelock import FileLock

    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with FileLock(run_dir / ".lock"), pytest.raises(ConfigError, match="is in use by another process"):
        run.train(checked("model=ae", *SMALL, "trainer.epochs=1"), run_dir)


def test_settings_of_the_process_are_put_back(tmp_path: Path) -> None:
    """The jobs of a sweep share a process."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    run.train(
        checked("model=ae", *SMALL, "trainer.epochs=1", "trainer.threads=1", "trainer.deterministic=true"),
        tmp_path / "run",
    )
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_full_disk_is_one_line_and_leaves_whole_files(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the write fails in the same place."""
    import resource

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    run_dir = tmp_path / "run"
    args = [f"hydra.run.dir={run_dir}", "model=ae", "trainer.epochs=1", "trainer.threads=1"]
    done = forks.start(tmp_path / "out", tmp_path, args, limit).wait()
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert "File too large" in done.stderr
    assert not list((run_dir / "checkpoints").iterdir())
    assert json.loads((run_dir / "run.json").read_text())["state"] == "failed"


@pytest.mark.parametrize(
    ("scales", "warning"),
    [
        ([1.0, 1.0, 2.0], None),
        ([1.0, 1000.0, 1e5], "columns have standard deviations from"),
        ([1.0, 0.0, 2.0], "1 of 3 columns are constant"),
        ([0.0, 0.0, 0.0], "every column of the training data is constant"),
    ],
)
def test_columns_of_unlike_scale_are_pointed_out(tmp_path: Path, scales: list[float], warning: str | None) -> None:
    rows = np.random.default_rng(0).standard_normal((200, 3)) * scales
    np.save(tmp_path / "rows.npy", rows)
    data = arrays(str(tmp_path / "rows.npy"))
    said = data.spec.kind.remark(data.train)
    assert said is None if warning is None else (said or "").startswith(warning)


def test_the_smallest_numbers_are_zero_in_training_and_not_afterwards():
    def tiny() -> float:
        return float(torch.tensor([1e-39]).mul(1.0))

    before = tiny()
    with process.torch_settings(TrainerSettings(figures=0)):
        assert tiny() == 0
    assert tiny() == before > 0
