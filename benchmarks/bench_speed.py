"""Measure the speed of training as ratios, and how it grows with the work: `make bench`, or `--only loops growth`.

The sides of a ratio take turns of 50 steps, and the fastest turn of each counts: what disturbs a machine only makes
things slower. With OMP_NUM_THREADS=1, turns are measured in processor time, which other processes hardly disturb. The
figures are printed and written to outputs/bench/results_speed.json, the growth is drawn in outputs/bench/growth.png.
MNIST is needed by `fast` only.
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from bench import OUT, article_network, figure, main, plain_script, train
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc import build
from autoenc.bottlenecks.sparse import topk as topk_module
from autoenc.config.composed import compose
from autoenc.data.dataset import Data, DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import Split
from autoenc.objective import train_step
from autoenc.training.process import torch_settings
from autoenc.training.tracking import Progression, Tracker
from autoenc.training.trainer import Trainer

CPU = torch.device("cpu")
TURN = 50  # steps
SECONDS = 30.0  # of a race, after which no round begins
VAE = ["model=vae", "data=mnist", "network.hidden=[400]", "model.latent_dim=20"]
Turn = Callable[[], float]
clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def images(rows: int, side: int = 28) -> Data:
    """Return random images (1, side, side); speed does not depend on their values."""
    x = torch.randint(0, 256, (rows, 1, side, side), dtype=torch.uint8)
    few = Split(x[:200], scale=1 / 255)
    return Data(DataSpec("random", Image((1, side, side), 0.0, 1.0)), Split(x, scale=1 / 255), few, few)


class Training:
    """A training run as train.py makes it, with all its logging, a few steps at a time."""

    def __init__(self, data: Data | None, *overrides: str):
        config = compose(["trainer.epochs=100000", "trainer.evaluate_every=100000", "trainer.figures=0", *overrides])
        torch.manual_seed(0)
        self.parts = parts = build.build(config, CPU, data)
        self.folder = Path(tempfile.mkdtemp())
        self.tracker = Tracker(self.folder)
        self.trainer = Trainer(
            parts.model, parts.objective, parts.optimizers, parts.data, parts.settings, 0, CPU, self.tracker,
            self.folder / "checkpoints",
        )  # fmt: skip
        self.steps = self.trainer.steps(Progression(self.trainer.total_steps, quiet=True))
        self.next = next(self.steps)

    def turn(self, steps: int = TURN) -> float:
        """Return the seconds of some steps."""
        started = clock()
        for _ in range(steps):
            trainer, batch = self.next
            self.next = self.steps.send(trainer.take_step(batch))
        return clock() - started

    def close(self) -> None:
        """End the run, and remove what it has written."""
        self.steps.close()
        self.tracker.close()
        shutil.rmtree(self.folder)


def race(turns: dict[str, Turn]) -> dict[str, float]:
    """Return the seconds of the fastest turn of each side, of turns that alternate."""
    for turn in turns.values():
        turn()
    best = dict.fromkeys(turns, float("inf"))
    started, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - started < SECONDS:
        rounds += 1
        for name, turn in turns.items():
            best[name] = min(best[name], turn())
    return best


class PlainVAE(nn.Module):
    """VAE 784-400-20 as a plain script would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
        self.mean, self.logvar = nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative evidence lower bound."""
        h = self.encoder(x)
        mean, logvar = self.mean(h), self.logvar(h)
        z = mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)
        nll = F.binary_cross_entropy(self.decoder(z), x, reduction="sum")
        return (nll - 0.5 * torch.sum(1 + logvar - mean.pow(2) - logvar.exp())) / len(x)


def bare(data: Data, loss: Callable[[Tensor], Tensor], parameters: Iterator[nn.Parameter], fused: bool = False) -> Turn:
    """Return turns of an eager loop over a tensor in memory that logs nothing."""
    x_all = data.train.tensor.flatten(1) / 255
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=fused)
    rows = itertools.chain.from_iterable(torch.randperm(len(x_all)).split(128)[:-1] for _ in itertools.count())

    def turn() -> float:
        started = clock()
        for index in itertools.islice(rows, TURN):
            value = loss(x_all[index])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        return clock() - started

    return turn


def loops() -> None:
    """The article's autoencoder and VAE, all logging on, against bare eager loops."""
    data = images(12_800)
    net, vae = article_network(), PlainVAE()
    for name, overrides, loop in (
        ("article's autoencoder", ["experiment=article_mnist"],
         bare(data, lambda x: F.mse_loss(net(x), x), net.parameters())),
        ("article's VAE", VAE, bare(data, vae.loss, vae.parameters())),
    ):  # fmt: skip
        ours = Training(data, *overrides)
        best = race({"ours": ours.turn, "bare": loop})
        ours.close()
        figure(f"{name}: examples per second", TURN * 128 / best["ours"])
        ratio = best["bare"] / best["ours"]
        figure("  of a bare loop over a tensor", ratio, ">= 0.95", ratio >= 0.95)


def compiled() -> None:
    """The VAE 784-400-20 with compiled steps and bfloat16, against the bare eager loop."""
    data, vae, fused = images(12_800), PlainVAE(), PlainVAE()
    fast = [*VAE, "trainer.compile=true"]
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp()
    figure("processes that want to run", os.getloadavg()[0])
    for what in ("the first time", "cached"):
        torch._dynamo.reset()
        ours = Training(data, *fast, "trainer.precision=bf16")
        started = time.perf_counter()
        ours.turn(2)
        seconds = time.perf_counter() - started
        limit, held = ("<= 15", seconds <= 15) if what == "cached" else ("", None)
        figure(f"compile and bf16: seconds to compile, {what}", seconds, limit, held)
    others = {"eager": Training(data, *VAE), "bf16": Training(data, *VAE, "trainer.precision=bf16"),
              "compile": Training(data, *fast)}  # fmt: skip
    sides = {"bare": bare(data, vae.loss, vae.parameters()), "fused": bare(data, fused.loss, fused.parameters(), True)}
    best = race({"ours": ours.turn, **sides, **{name: each.turn for name, each in others.items()}})
    ratio = best["bare"] / best["ours"]
    figure("compile and bf16: examples per second", TURN * 128 / best["ours"])
    figure("  of a bare loop", ratio, ">= 1.5", ratio >= 1.5)
    figure("  of a bare loop with fused Adam", best["fused"] / best["ours"])
    for name in others:
        figure(f"{name} alone, of a bare loop", best["bare"] / best[name])
    for each in (ours, *others.values()):
        each.close()


def topk() -> None:
    """Top-k code of 16,384 units: steps by the entries of the code, against dense products."""
    sides: dict[str, Turn] = {}
    for name, threshold in (("entries", topk_module.DENSE), ("dense", 10**9)):
        data = images(1_280, side=12)
        parts = build.build(compose(["model=topk", "data=patches", "model.latent_dim=16384"]), CPU, data)
        parts.model.train()

        def turn(parts: Any = parts, threshold: int = threshold) -> float:
            topk_module.DENSE = threshold
            started = clock()
            for step, batch in enumerate(itertools.islice(parts.data.train.shuffled(128, 0, 0), 5)):
                train_step(parts.model, parts.objective, batch, step, parts.optimizers)
            return clock() - started

        sides[name] = turn
    best = race(sides)
    topk_module.DENSE = 64
    figure("top-k code of 16,384 units: ms of a step", 1e3 * best["entries"] / 5)
    ratio = best["dense"] / best["entries"]
    figure("  dense decoding, times that", ratio, ">= 2", ratio >= 2)


def jacobian() -> None:
    """The contractive penalty, against the same network without it."""
    data = images(12_800)
    sides = {name: Training(data, f"model={name}", "data=mnist") for name in ("contractive", "ae")}
    best = race({name: each.turn for name, each in sides.items()})
    for each in sides.values():
        each.close()
    ratio = best["contractive"] / best["ae"]
    figure("Jacobian penalty: time of a step, of a plain one", ratio, "<= 2.5", ratio <= 2.5)


def fast() -> None:
    """Time to the final test error of a plain script with 10 epochs, 0.0130: of both the training alone.

    Only one epoch of the script is measured at a time, as all take the same time.
    """
    ours, whole, plain = [], [], []
    for _ in range(2):
        summary = train("article_fast", "experiment=article_fast")
        ours.append(summary["perf"]["training_seconds"])
        whole.append(summary["wall"])
        plain.append(10 * 60_000 / plain_script())
    mse = summary["test"]["mse"]
    figure("experiment=article_fast: test MSE", mse, "<= 0.0130", mse <= 0.0130)
    figure("  seconds of training", min(ours))
    figure("  of the plain script's 10 epochs", min(ours) / min(plain), "<= 0.1", min(ours) <= 0.1 * min(plain))
    figure("  the same with start, evaluation, figures and files", min(whole) / min(plain))


def machine() -> tuple[float, float]:
    """Return floating-point operations and bytes per second, of a large product and a large copy."""
    a, b = torch.randn(2, 1024, 1024)
    x = torch.randn(16_000_000)
    y = torch.empty_like(x)
    best = [float("inf"), float("inf")]
    for _ in range(10):
        for i, work in enumerate((lambda: a @ b, lambda: y.copy_(x))):
            started = clock()
            work()
            best[i] = min(best[i], clock() - started)
    return 2 * 1024**3 / best[0], 2 * x.nbytes / best[1]


def floor(flops: float, speed: tuple[float, float], side: int, latent: int, batch: int) -> float:
    """Return the least seconds of a step of the VAE side^2-400-latent.

    Arithmetic: three products for each weight and example, forward and in both directions backward, but not the
    gradient of the input. Bytes: Adam reads and writes weights, moments and gradients; a batch is read and written
    as input, parameters of p(x|z) and their gradient.
    """
    pixels, hidden = side * side, 400
    weights = 2 * pixels * hidden + 3 * latent * hidden
    arithmetic = 2 * batch * (3 * weights - pixels * hidden)
    traffic = 4 * (7 * weights + 6 * batch * (pixels + 2 * hidden + 2 * latent))
    return arithmetic / speed[0] + traffic / speed[1]


def growth() -> None:
    """Seconds as rows, code, batch and images grow: linear or better, drawn with the floor of bytes and arithmetic."""
    speed = machine()
    figure("machine: billion operations per second", speed[0] / 1e9)
    figure("machine: gigabytes per second", speed[1] / 1e9)

    def step(latent: int = 20, batch: int = 128, side: int = 28) -> float:
        data = images(max(3 * batch, 500), side)
        training = Training(data, *VAE[:3], f"model.latent_dim={latent}", f"trainer.batch_size={batch}")
        turns = [training.turn(2) for _ in range(2 if batch * side * side > 1e6 else 15)]
        training.close()
        return min(turns) / 2

    def epoch(rows: int) -> float:
        training = Training(images(rows, 8), *VAE[:3], "model.latent_dim=20")
        steps = training.trainer.steps_per_epoch
        training.turn(min(steps, 50))
        seconds = training.turn(steps)
        training.close()
        return seconds

    panels: list[tuple[str, str, Sequence[int], Callable[[int], float], Callable[[int], float]]] = [
        ("rows (8x8)", "s per epoch", (2_000, 20_000, 200_000), epoch,
         lambda n: n / 128 * floor(0, speed, 8, 20, 128)),
        ("dimensions of the code", "s per step", (2, 8, 32, 128, 512, 1024), lambda n: step(latent=n),
         lambda n: floor(0, speed, 28, n, 128)),
        ("batch", "s per step", (32, 128, 512, 2048, 8192), lambda n: step(batch=n),
         lambda n: floor(0, speed, 28, 20, n)),
        ("side of the images", "s per step", (8, 16, 32, 64, 128), lambda n: step(side=n),
         lambda n: floor(0, speed, n, 20, 128)),
    ]  # fmt: skip
    drawn = []
    for name, unit, sizes, measure, least in panels:
        seconds, floors = [measure(n) for n in sizes], [least(n) for n in sizes]
        work = [n * n if name.startswith("side") else n for n in sizes]
        # Linear or better between any two sizes, but for the noise of a measurement.
        steepest = max(
            (seconds[j] / seconds[i]) / (work[j] / work[i]) for i, j in itertools.combinations(range(len(sizes)), 2)
        )
        figure(f"{name}: steepest growth, of linear", steepest, "<= 1.2", steepest <= 1.2)
        figure("  largest size, times the floor", seconds[-1] / floors[-1])
        drawn.append((name, unit, sizes, seconds, floors))
    draw(drawn)


def draw(panels: Sequence[tuple[str, str, Sequence[int], Sequence[float], Sequence[float]]]) -> None:
    """Draw the growth of time, with the floor."""
    from matplotlib.figure import Figure

    page = Figure(figsize=(11, 3.2), layout="constrained")
    for axis, (name, unit, sizes, seconds, floors) in zip(page.subplots(1, len(panels)), panels, strict=True):
        axis.loglog(sizes, seconds, "o-", label="measured")
        axis.loglog(sizes, floors, "--", color="grey", label="floor: arithmetic and bytes")
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], rotation=45)
        axis.minorticks_off()
        axis.set_ylim(10 ** math.floor(math.log10(min(floors))), 10 ** math.ceil(math.log10(max(seconds))))
        axis.set_xlabel(name)
        axis.set_ylabel(unit)
        axis.grid(alpha=0.3)
    page.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    page.savefig(OUT / "growth.png", dpi=120)


def memory() -> None:
    """Growth of memory in 300 epochs on digits, all logging on, after the first 20."""

    def resident() -> float:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    training = Training(None, "model=vae", "network.hidden=[64]", "trainer.evaluate_every=1")
    early = 0.0
    for epoch in range(1, 301):
        training.turn(training.trainer.steps_per_epoch)
        if epoch == 20:
            early = resident()
    grown = resident() - early
    training.close()
    figure("300 epochs on digits: growth of memory, MB", grown, "< 5", grown < 5)


if __name__ == "__main__":
    with torch_settings(build.TrainerSettings()):
        main(
            __doc__,
            {f.__name__: f for f in (loops, compiled, topk, jacobian, fast, growth, memory)},
            "results_speed.json",
        )
