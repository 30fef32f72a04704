"""Runs that train at once are those that train alone."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoenc import bottlenecks, build, cli, run
from autoenc.config.composed import compose_with_choices
from autoenc.core import Autoencoder, Batch, Loss, Output
from autoenc.errors import ConfigError, Interrupted, NotFinite
from autoenc.files import read_json
from autoenc.objective import Objective
from autoenc.regularizers import KL
from autoenc.sweeps import command_line, running, together
from autoenc.training import checkpoint, replicas, trainer
from autoenc.training.settings import TrainerSettings
from autoenc.training.stack import Random, Stack

SMALL = ["trainer.figures=0", "trainer.device=cpu", "trainer.steps=25", "model.latent_dim=4"]
HIDDEN = "network.hidden=[8]"


def job(folder: Path, *overrides: str) -> run.Job:
    config, choices = compose_with_choices([*SMALL, *overrides])
    return run.Job(config, folder, choices)


def trained(jobs: list[run.Job]) -> list[Any]:
    results = run.train_together(jobs)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def assert_close(a: Any, b: Any, where: str = "") -> None:
    """Compare checkpoints value by value."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - {"seconds", "training_seconds", "written"}:
            assert_close(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_close(x, y, f"{where}.{i}")
    elif isinstance(a, Tensor):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=lambda text: f"{where}: {text}")
    else:
        assert a == (pytest.approx(b, rel=1e-4) if isinstance(b, float) else b), where


def assert_same_run(together: Path, alone: Path) -> None:
    for name in ("last.pt", "best.pt"):
        assert_close(*(checkpoint.load(folder / "checkpoints" / name) for folder in (together, alone)))
        sizes = [(folder / "checkpoints" / name).stat().st_size for folder in (together, alone)]
        assert abs(sizes[0] - sizes[1]) < 200, "a checkpoint has the parameters of its own run only"
    lines = [list(map(json.loads, (f / "metrics.jsonl").read_text().splitlines())) for f in (together, alone)]
    assert_close(*lines)
    assert (together / "config.yaml").read_text() == (alone / "config.yaml").read_text()
    files = [sorted(str(p.relative_to(f)) for p in f.rglob("*") if "events" not in p.name) for f in (together, alone)]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("overrides", "others"),
    [
        ((HIDDEN, "model=ae"), ("seed=1",)),
        ((HIDDEN, "model=ae", "network.norm=batch", "optimizer=sgd"), ("seed=1",)),  # Adam divides noise by noise here
        ((HIDDEN, "model=vae"), ("seed=1",)),
        ((HIDDEN, "model=vae", "regularizer=[kl_warmup]", "trainer.clip=1"), ("regularizer.kl.weight.end=2",)),
        ((HIDDEN, "model=dae"), ("seed=1", "noise.std=0.5")),
        (("model=sparse",), ("seed=3", "regularizer.l1.weight=0.5", "optimizer.lr=0.01")),
    ],
)
def test_each_run_is_that_which_trains_alone(overrides: Any, others: Any, tmp_path: Path) -> None:
    jobs = [job(tmp_path / "0", *overrides), job(tmp_path / "1", *overrides, *others)]
    trained(jobs)
    for each in jobs:
        alone = tmp_path / f"alone{each.run_dir.name}"
        run.train(each.config, alone, each.choices)
        assert_same_run(each.run_dir, alone)


def test_an_interrupted_run_resumes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job(tmp_path / str(i), HIDDEN, "model=vae", f"seed={i}") for i in range(2)]
    run.train(jobs[1].config, tmp_path / "whole", jobs[1].choices)
    step = Stack.backward

    def hang_up(self: Stack, batches: Any, number: int, *args: Any) -> Any:
        if number == 23:
            os.kill(os.getpid(), signal.SIGHUP)
        return step(self, batches, number, *args)

    monkeypatch.setattr(Stack, "backward", hang_up)
    monkeypatch.setattr(trainer, "LOG_EVERY", 1)
    with pytest.raises(Interrupted):
        run.train_together(jobs)
    assert not trainer.Trainer.at_work
    assert [read_json(each.run_dir / "run.json")["state"] for each in jobs] == ["interrupted"] * 2
    assert checkpoint.load(jobs[1].run_dir / "checkpoints" / "last.pt")["progress"]["step"] == 24
    run.resume(jobs[1].run_dir)
    assert_same_run(jobs[1].run_dir, tmp_path / "whole")


def test_runs_that_resume_from_different_steps_catch_up(tmp_path: Path) -> None:
    jobs = [job(tmp_path / str(i), HIDDEN, "model=vae", f"seed={i}", "trainer.steps=42") for i in range(2)]
    trained(jobs)
    longer = []
    for each, epochs in zip(jobs, (3, 3), strict=True):
        each.config["trainer"] |= {"steps": None, "epochs": epochs}
        longer.append(run.Job(each.config, each.run_dir, each.choices, resume=True))
    run.resume(jobs[0].run_dir, {"steps": 50})
    summaries = trained(longer)
    assert [checkpoint.load(f.run_dir / "checkpoints" / "last.pt")["progress"]["step"] for f in jobs] == [63, 63]
    assert all(summary["state"] == "finished" for summary in summaries)


def test_a_run_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    jobs = [job(tmp_path / str(i), HIDDEN, "model=ae", f"optimizer.lr={lr}") for i, lr in enumerate((1e-3, 1e30))]
    good, bad = run.train_together(jobs)
    assert isinstance(good, dict)
    assert isinstance(bad, NotFinite)
    assert [read_json(each.run_dir / "run.json")["state"] for each in jobs] == ["finished", "failed"]


def test_runs_stop_early_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = (HIDDEN, "model=ae", "trainer.patience=1", "trainer.steps=63")
    jobs = [job(tmp_path / str(i), *overrides, f"trainer.monitor={m}") for i, m in enumerate(("mse", "loss", "mse"))]
    real = trainer.evaluate

    def constant(model: Autoencoder, *args: Any) -> Any:
        result = real(model, *args)
        return replace(result, numbers=result.numbers | {"loss": 1.0})

    monkeypatch.setattr(trainer, "evaluate", constant)
    trained(jobs)
    steps = [checkpoint.load(each.run_dir / "checkpoints" / "last.pt")["progress"]["step"] for each in jobs]
    assert steps == [63, 42, 63]
    run.train(jobs[2].config, tmp_path / "alone", jobs[2].choices)
    assert_same_run(jobs[2].run_dir, tmp_path / "alone")


def test_the_speed_of_a_run_leaves_out_the_evaluations_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = trainer.evaluate, itertools.count()

    def evaluated(*args: Any) -> Any:
        time.sleep(0.5 if next(calls) == 1 else 0.0)  # the second run, while the first one waits
        return real(*args)

    monkeypatch.setattr(trainer, "evaluate", evaluated)
    jobs = [job(tmp_path / str(i), HIDDEN, "model=ae", f"seed={i}", "trainer.steps=42") for i in range(2)]
    seconds = [result["perf"]["training_seconds"] for result in trained(jobs)]
    assert 0 < seconds[0] < seconds[1] + 0.4


class _Late(Objective):
    """Draws more numbers from step 1 on."""

    def losses(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Loss:
        loss = super().losses(model, batch, out, step)
        noise = torch.randn_like(out.code.mean) if step else torch.zeros_like(out.code.mean)
        return Loss({"model": loss.total["model"] + (noise * out.code.mean).mean()}, loss.parts)


def test_each_model_has_random_numbers_of_its_own(make_model: Callable[..., Autoencoder]) -> None:
    models = [make_model(bottlenecks.Gaussian) for _ in range(2)]
    objectives = [_Late({"kl": KL(weight=w)}) for w in (1.0, 0.3)]
    batches = [Batch(torch.rand(5, 6)) for _ in range(2)]
    cpu = torch.device("cpu")
    expected = []
    for seed, (model, objective, batch) in enumerate(zip(models, objectives, batches, strict=True)):
        with Random(cpu, seed):
            losses = [objective(model, batch, step) for step in range(2)]
            losses[1].total["model"].backward()
            expected.append((losses, torch.rand(3), [p.grad for p in model.parameters()]))
    stack, randoms = Stack(list(zip(models, objectives, strict=True))), [Random(cpu, seed) for seed in range(2)]
    found = [stack.backward(batches, step, randoms, torch.autocast("cpu", enabled=False)) for step in range(2)]
    for i, (losses, after, grads) in enumerate(expected):
        assert_close([parts[i] for parts in found], [loss.parts for loss in losses])
        assert_close([p.grad for p in models[i].parameters()], grads)
        with randoms[i]:
            assert torch.equal(torch.rand(3), after)


class _Hidden(bottlenecks.Deterministic):
    """Keeps a state that is neither a parameter nor a buffer."""

    def forward(self, features: Tensor) -> Any:
        self.scale = getattr(self, "scale", 1.0) + 1
        code = super().forward(features)
        return type(code)(z=code.z * self.scale, mean=code.mean)


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["model=aae"], r"Adversarial has several players \(model, critic\)"),
        (["model=contractive", HIDDEN], "Jacobian cannot"),
        (["model=topk", "model.bottleneck.k=2"], "AuxK cannot"),
        (["trainer.compile=true"], r"trainer.compile=true"),
        (["trainer.profile=true"], r"trainer.profile=true"),
    ],
)
def test_what_cannot_train_at_once_is_refused_by_name(overrides: list[str], part: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^trainer\.replicas=1: .*{part}.*-m seed=0,1,2"):
        run.train_together([job(tmp_path / "run", *overrides)])
    assert not (tmp_path / "run").exists()


def test_a_part_with_a_state_of_its_own_is_refused(
    make_model: Callable[..., Autoencoder], make_data: Callable[..., Any]
) -> None:
    model, settings = make_model(_Hidden), TrainerSettings(batch_size=8)
    with pytest.raises(ConfigError, match="not the same at once as alone"):
        replicas.check(2, model, Objective({}), make_data().train, settings)


def test_rows_on_disk_are_refused(make_model: Callable[..., Autoencoder], make_data: Callable[..., Any]) -> None:
    split = make_data().train
    rows = type(split)(split.x.numpy())  # anything that is no tensor
    with pytest.raises(ConfigError, match=r"read from disk .*cannot train at once"):
        replicas.check(2, make_model(), Objective({}), rows, TrainerSettings())


def test_a_checkpoint_of_a_view_has_its_values_only(tmp_path: Path) -> None:
    whole, module = torch.zeros(1000, 10), nn.Linear(1, 10)
    module.bias.data = whole[3]
    checkpoint.save(tmp_path / "a" / "last.pt", {"model": module.state_dict(), "list": [whole[1]]})
    assert (tmp_path / "a" / "last.pt").stat().st_size < 5_000
    assert torch.equal(checkpoint.load(tmp_path / "a" / "last.pt")["model"]["bias"], whole[3])


def test_the_command_line_of_replicas_is_that_of_a_sweep_over_seeds() -> None:
    found = command_line.replicated(["model=vae", "trainer.replicas=3", "seed=5", "optimizer.lr=1e-3,1e-2"])
    flag = "hydra.callbacks.autoenc.together=true"
    assert found == ["-m", "model=vae", "optimizer.lr=1e-3,1e-2", "seed=5,6,7", flag]
    for unchanged in (["model=vae"], ["trainer.replicas=3", "--cfg", "job"], ["trainer.replicas=x"]):
        assert command_line.replicated(unchanged) == unchanged


@pytest.mark.parametrize(
    ("arg", "match"),
    [
        ("seed=1,2", "^seed=1,2: .*one number"),
        ("hydra.run.dir=x", r"^hydra\.run\.dir=x: .*hydra\.sweep\.dir"),
        ("hydra/launcher=joblib", "^hydra/launcher=joblib: .*leave it out"),
        ("trainer.replicas=0", r"^trainer\.replicas=0: must be 1 or more"),
    ],
)
def test_arguments_that_contradict_replicas_are_refused(arg: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        command_line.replicated(["trainer.replicas=2", arg])


def test_replicas_of_one_run_are_refused() -> None:
    config, _ = compose_with_choices(["trainer.replicas=2"])
    with pytest.raises(ConfigError, match=r"^trainer\.replicas=2: is only for the command line"):
        build.build(config, torch.device("cpu"))


def test_jobs_of_the_same_shapes_train_at_once() -> None:
    same = ["seed=1", "optimizer.lr=0.1", "regularizer.kl.weight=2", "regularizer.kl.weight.end=2", "noise.std=1"]
    jobs = [["model=vae", "seed=0"], ["model=ae", "seed=0"], *(["model=vae", text] for text in same)]
    assert together.at_once(jobs, 0) == [0, 2, 3, 4, 5, 6]
    assert together.at_once(jobs, 1) == [1]
    assert together.at_once([["seed=0"], ["optimizer=sgd"], ["model.latent_dim=2"]], 0) == [0]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """train.py in this process, its jobs too."""

    def called(*args: str) -> int:
        for name, value in (
            ("folder", None),
            ("jobs", []),
            ("attempted", set()),
            ("failed", []),
            ("resumed", False),
        ):
            monkeypatch.setattr(running.sweep, name, value)
        monkeypatch.setattr("sys.argv", ["train.py", *args])
        return cli.main()

    monkeypatch.setattr(running, "isolated", lambda attempt, killed: attempt())
    monkeypatch.chdir(tmp_path)
    return called


def test_replicas_are_runs_of_a_sweep(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [*SMALL, HIDDEN, "model=ae", "optimizer.lr=0.001,0.01"]
    assert train("trainer.replicas=2", "seed=4", "hydra.sweep.dir=sweep", *args) == 0
    shown = capsys.readouterr().out
    assert "jobs 0, 1, 2, 3 at once" in shown
    assert "4 of 4 runs finished" in shown
    assert "before" not in shown, "none was finished when the sweep began"
    runs = sorted((tmp_path / "sweep").glob("[0-9]*"))
    configs = [run.read_config(folder) for folder in runs]
    assert [(c["seed"], c["optimizer"]["lr"]) for c in configs] == [(4, 0.001), (5, 0.001), (4, 0.01), (5, 0.01)]
    assert {c["trainer"]["replicas"] for c in configs} == {None}
    assert (tmp_path / "sweep" / "comparison.csv").exists()
    (runs[2] / "summary.json").unlink()
    (runs[2] / "checkpoints" / "last.pt").unlink()
    assert train("resume=sweep") == 0
    assert "jobs 2 at once" in capsys.readouterr().out


def test_a_refused_sweep_leaves_nothing(
    train: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("trainer.replicas=2", "model=aae", "hydra.sweep.dir=sweep") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "sweep").exists()
