"""Two processes train one run as a single process does; they are forked here, and started by torchrun elsewhere."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import forks
import hydra
import pytest
import torch
from torch import Tensor

from autoenc import build, parallel
from autoenc.config import checks, schema
from autoenc.data.split import Split
from autoenc.objective import train_step
from autoenc.seeds import seeded
from autoenc.training.evaluation import evaluate
from autoenc.training.trainer import Trainer

STEPS = 12
FLOAT = torch.Tensor.float
CONV = ("network=conv", "network.channels=[4,8]", "network.hidden=16")
VARIANTS = {
    "ae": ("model=ae", "noise=gaussian", *CONV, "network.norm=batch"),  # statistics of the batch
    "vae": ("model=vae", "network.hidden=[32]"),  # draws from the posterior
    "contractive": ("model=contractive", "network.hidden=[32]"),  # second derivatives
    "aae": ("model=aae", "network.hidden=[32]"),  # two players
    "vaegan": ("model=vaegan", *CONV, "model.objective.channels=[4,8]"),  # three players, and the critic's networks
    "vqvae": ("model=vqvae", *CONV, "network.spatial=true"),  # moving averages of the batch
}


class Counted:
    """Rows that note which of them are read."""

    def __init__(self, x: Tensor):
        self.x = x
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        return self.x[index]

    def fetch(self, indexes: Sequence[Tensor | slice]) -> Iterator[Tensor]:
        for index in indexes:
            self.read += torch.arange(len(self.x))[index].tolist()
            yield self.x[index]


def networks(parts: build.Parts) -> list[parallel.Network]:
    return [*parts.model.networks(), *map(parallel.Network, parts.objective.networks())]


def trained(config: dict[str, Any], count: int = STEPS) -> tuple[list[dict[str, float]], dict[str, float]]:
    """The parts of the loss of each step, and the numbers of the validation split after them."""
    with seeded(0):
        parts = build.build(config, torch.device("cpu"))
        train = dataclasses.replace(parts.data.train, x=parts.data.train.tensor.to(torch.get_default_dtype()))
        parts.model.train()
        parts.objective.train()
        steps: list[dict[str, float]] = []
        with parallel.divided(networks(parts)):
            while len(steps) < count:
                for batch in train.shuffled(32, seed=0, epoch=len(steps)):
                    loss = train_step(parts.model, parts.objective, batch, len(steps), parts.optimizers)
                    steps.append({name: float(value) for name, value in loss.items()})
            val = parts.data.val.subset(slice(0, 101))  # in batches of 50 and 51
            found = evaluate(parts.model, parts.objective, val, parts.data.spec, batch_size=50)
    return steps[:count], found.numbers


def rows_on_disk() -> tuple[list[Tensor], list[int]]:
    """The batches of 11 rows, and the rows that this process has read for them."""
    rows = Counted(torch.arange(22.0).view(11, 2))
    with parallel.divided([]):
        batches = [batch.x for batch in Split(rows).shuffled(4, seed=1, epoch=0)]
        batches += [batch.x for batch in Split(rows).in_order(4)]
    return batches, rows.read


def process(rank: int, port: int, folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    """Train every variant with the other process, the first one beforehand alone.

    In float64: rounding, which depends on the number of rows of a matrix product, grows by a factor in every step.
    """
    single = trained(configs["aae"], 50) if rank == 0 else None
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    alone = {name: trained(config) for name, config in configs.items()} if rank == 0 else {}
    alone_rows = rows_on_disk()
    torchrun(rank, port)
    with parallel.joined():
        found = {"alone": alone, "together": {name: trained(config) for name, config in configs.items()}}
        found |= {"rows": rows_on_disk(), "alone_rows": alone_rows}
        torch.set_default_dtype(torch.float32)
        torch.Tensor.float = FLOAT  # type: ignore[method-assign]
        torch.save(found | {"float32": (single, trained(configs["aae"], 50))}, folder / f"{rank}.pt")


def torchrun(rank: int, port: int) -> None:
    """Set the variables of one of two processes."""
    os.environ.update(
        RANK=f"{rank}", LOCAL_RANK=f"{rank}", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=f"{port}"
    )


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes have saved."""
    folder, port = tmp_path_factory.mktemp("parallel"), free_port()
    schema.register()
    with hydra.initialize_config_dir(str(schema.CONFIGS), version_base="1.3"):
        configs = {name: checks.check(hydra.compose("config", list(args))) for name, args in VARIANTS.items()}
    children = [
        forks.start(folder / str(rank), folder, [], run=lambda rank=rank: process(rank, port, folder, configs))
        for rank in range(2)
    ]
    for child in children:
        done = child.wait()
        assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_are_those_of_a_single_process(found: list[dict[str, Any]], variant: str) -> None:
    alone, _ = found[0]["alone"][variant]
    for rank in range(2):
        together, _ = found[rank]["together"][variant]
        assert len(together) == STEPS
        for one, two in zip(alone, together, strict=True):
            assert two == pytest.approx(one, rel=1e-9, abs=1e-9)


def test_losses_in_float32_are_those_of_a_single_process(found: list[dict[str, Any]]) -> None:
    (alone, _), (together, _) = found[0]["float32"]
    for one, two in zip(alone, together, strict=True):
        assert two == pytest.approx(one, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_validation_counts_each_example_once(found: list[dict[str, Any]], variant: str) -> None:
    _, alone = found[0]["alone"][variant]
    for rank in range(2):
        assert found[rank]["together"][variant][1] == pytest.approx(alone, rel=1e-9, abs=1e-9)


def test_each_row_on_disk_is_read_by_one_process(found: list[dict[str, Any]]) -> None:
    whole, _ = found[0]["alone_rows"]
    read = []
    for rank in range(2):
        batches, rows = found[rank]["rows"]
        assert all(torch.equal(a, b) for a, b in zip(batches, whole, strict=True))
        read += rows
    assert sorted(read) == sorted([*range(11), *range(11)])  # two passes


def start_two(folder: Path, *args: str) -> list[forks.Forked]:
    """Start two processes as torchrun does."""
    port, number = free_port(), len(list(folder.iterdir()))
    return [
        forks.start(folder / f"{number}-{rank}", folder, args, before=lambda rank=rank: torchrun(rank, port))
        for rank in range(2)
    ]


def lines(run_dir: Path) -> list[tuple[int, str]]:
    path = run_dir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [(row["step"], row["split"]) for row in map(json.loads, text.splitlines())]


def wait_for_lines(run_dir: Path, count: int) -> None:
    deadline = time.monotonic() + 180
    while len(lines(run_dir)) < count:
        assert time.monotonic() < deadline, "no evaluation within three minutes"
        time.sleep(0.02)


def test_another_number_of_processes_resumes_and_a_killed_one_ends_the_run(vae_run: Path, tmp_path: Path) -> None:
    shutil.copytree(vae_run, tmp_path / "run")
    run_dir, before = tmp_path / "run", lines(vae_run)

    first, second = start_two(tmp_path, "resume=run", "trainer.epochs=5000")
    wait_for_lines(run_dir, len(before) + 2)
    for child in (second, first):  # they notice after different steps
        os.kill(child.pid, signal.SIGTERM)
    assert second.wait().returncode == 143
    done = first.wait()
    assert (done.returncode, "resume with" in done.stderr) == (143, True)

    first, second = start_two(tmp_path, "resume=run")
    wait_for_lines(run_dir, len(lines(run_dir)) + 2)
    os.kill(second.pid, signal.SIGKILL)
    assert second.wait().returncode == -signal.SIGKILL
    done = first.wait()
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("another process of the run has ended (")
    assert "typically" not in line
    assert "resume=run" in line
    assert json.loads((run_dir / "run.json").read_text())["state"] == "failed"

    steps = [step for step, split in lines(run_dir) if split == "val"]
    assert steps == [steps[0] * (epoch + 1) for epoch in range(len(steps))]


def test_a_signal_that_comes_during_an_exchange_counts_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = SimpleNamespace(_signal=None)

    def largest(value: int) -> int:
        trainer._signal = signal.SIGTERM
        return value

    monkeypatch.setattr(parallel, "count", lambda: 2)
    monkeypatch.setattr(parallel, "largest", largest)
    assert [Trainer._stopped(trainer) for _ in range(2)] == [False, True]


@pytest.mark.parametrize(
    ("args", "texts"),
    [
        (["trainer.batch_size=101"], ["trainer.batch_size=101", "2 processes", "100 or 102"]),
        (["trainer.compile=true"], ["trainer.compile=True", "trainer.compile=false"]),
        (["-m", "seed=1,2"], ["-m", "torchrun", "hydra/launcher=joblib"]),
        (["trainer.replicas=2"], ["trainer.replicas=2", "torchrun"]),
    ],
)
def test_what_several_processes_cannot_do_is_one_line(tmp_path: Path, args: list[str], texts: list[str]) -> None:
    first, second = start_two(tmp_path, *args, "hydra.run.dir=run")
    done = first.wait()
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert all(text in line for text in texts)
    assert (second.wait().returncode, (tmp_path / "run").exists()) == (0, False)
