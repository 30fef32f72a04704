"""Measure the speed of training on a GPU: `python benchmarks/bench_gpu.py --output FILE.json`, under 90 seconds.

The article's VAE (784-400-20, Bernoulli, batches of 128) on random images of MNIST's size, since values do not matter:

- a plain script: an eager loop with DataLoader, images one by one through PIL and ToTensor
- a bare loop: eager, rows of a tensor on the GPU
- graphs captured by hand: the same step and rows, float32 or bfloat16, eager kernels or compiled ones
- ours: the trainer with all its logging, trainer.compile=true and trainer.precision=bf16

A part that fails is one line; the others go on.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128
ROWS = 55_000
LIMIT = 85.0  # seconds after which parts are left out
STARTED = time.perf_counter()
OVERRIDES = ["model=vae", "data=mnist", "network.hidden=[400]", "model.latent_dim=20", "trainer.figures=0"]
result: dict[str, Any] = {}


def figure(name: str, value: float | str, target: str = "", holds: bool | None = None) -> None:
    """Record and print one figure."""
    result[name] = value
    if holds is not None:
        result[f"{name}, held"] = holds
    shown = f"{value:,.6g}" if isinstance(value, float) else value
    mark = {True: "yes", False: "NO", None: ""}[holds]
    print(f"{time.perf_counter() - STARTED:5.1f} s  {name:<58}{shown:>14}  {target:<10}{mark}", flush=True)


def part(name: str, function: Callable[[], float]) -> float | None:
    """Measure a part in examples per second; None if it fails or there is no time left."""
    if time.perf_counter() - STARTED > LIMIT:
        figure(name, "no time left")
        return None
    torch.cuda.synchronize()
    try:
        value = function()
    except Exception as error:
        figure(name, f"FAILED: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300])
        return None
    figure(f"{name} [examples/s]", value)
    return value


class VAE(nn.Module):
    """The network as a plain script would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU())
        self.mean, self.logvar = nn.Linear(400, 20), nn.Linear(400, 20)
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def loss(self, x: Tensor) -> Tensor:
        """Return the mean negative evidence lower bound of images (B, 784)."""
        h = self.encoder(x)
        mean, logvar = self.mean(h).float(), self.logvar(h).float()
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        nll = F.binary_cross_entropy_with_logits(self.decoder(z).float(), x, reduction="none").sum(1)
        kl = -0.5 * (1 + logvar - mean.square() - logvar.exp()).sum(1)
        return (nll + kl).mean()


def images() -> Tensor:
    """Return random images (ROWS, 1, 28, 28), uint8."""
    return torch.randint(0, 256, (ROWS, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def plain_script() -> float:
    """Return the speed of a plain script with DataLoader: images through PIL and ToTensor, as torchvision's MNIST."""
    from PIL import Image
    from torchvision.transforms import ToTensor

    x, transform = images(), ToTensor()

    class Images(torch.utils.data.Dataset[Tensor]):
        def __len__(self) -> int:
            return len(x)

        def __getitem__(self, index: int) -> Tensor:
            return transform(Image.fromarray(x[index, 0].numpy()))

    net = VAE().cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    clock, examples = 0.0, 0
    for i, batch in enumerate(torch.utils.data.DataLoader(Images(), batch_size=BATCH, shuffle=True)):
        if i == 10:
            torch.cuda.synchronize()
            clock, examples = time.perf_counter(), 0
        loss = net.loss(batch.cuda().flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        examples += len(batch)
        if i == 250:
            break
    torch.cuda.synchronize()
    return examples / (time.perf_counter() - clock)


def batches(epochs: int) -> Iterator[Tensor]:
    """Yield the indices of full batches."""
    for _ in range(epochs):
        yield from torch.randperm(ROWS, device="cuda").split(BATCH)[: ROWS // BATCH]


def timed(step: Callable[[Tensor], object], epochs: int) -> float:
    """Return examples per second of a step; an epoch is not counted."""
    for index in batches(1):
        step(index)
    torch.cuda.synchronize()
    clock = time.perf_counter()
    for index in batches(epochs):
        step(index)
    torch.cuda.synchronize()
    return epochs * (ROWS // BATCH) * BATCH / (time.perf_counter() - clock)


def bare_loop() -> float:
    """Return the speed of an eager loop over a tensor on the GPU."""
    x, net = images().cuda().flatten(1), VAE().cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step(index: Tensor) -> None:
        loss = net.loss(x[index] / 255)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return timed(step, 2)


def by_hand(bf16: bool, compiled: bool) -> float:
    """Return the speed of a graph captured by hand, of the choice of rows, the step and fused Adam."""
    x, net = images().cuda().flatten(1), VAE().cuda()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True, capturable=True)

    def loss_of(index: Tensor) -> Tensor:
        return net.loss(x[index] / 255)

    function = torch.compile(loss_of) if compiled else loss_of
    static = torch.zeros(BATCH, dtype=torch.int64, device="cuda")

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss = function(static)
        loss.backward()
        optimizer.step()
        return loss

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(index: Tensor) -> None:
        static.copy_(index)
        graph.replay()

    return timed(replay, 20)


def ours(folder: Path, *overrides: str) -> Callable[[], float]:
    """Return a part that measures the trainer in steady state: logging on, evaluations not counted."""

    def measure() -> float:
        from autoenc import build
        from autoenc.config.composed import compose
        from autoenc.data.dataset import Data, DataSpec
        from autoenc.data.kinds.image import Image
        from autoenc.data.split import Split
        from autoenc.training.process import torch_settings
        from autoenc.training.tracking import Progression, Tracker
        from autoenc.training.trainer import Trainer

        x = images()
        few = Split(x[:1_000], scale=1 / 255)
        data = Data(DataSpec("random", Image((1, 28, 28), 0.0, 1.0)), Split(x, scale=1 / 255), few, few)
        epochs = ["trainer.epochs=41", "trainer.evaluate_every=10"]
        config = compose([*OVERRIDES, *epochs, *overrides])
        parts = build.build(config, torch.device("cuda"), data)
        run = folder / "_".join(overrides or ("eager",))
        marks = []

        class Marking(Tracker):
            def evaluation(self, split: str, *args: Any) -> None:
                super().evaluation(split, *args)
                if split == "val":
                    marks.append((trainer.examples, trainer.training_seconds))

        trainer = Trainer(
            parts.model, parts.objective, parts.optimizers, parts.data, parts.settings, 0, torch.device("cuda"),
            Marking(run), run / "checkpoints",
        )  # fmt: skip
        with torch_settings(parts.settings):
            trainer.fit(Progression(trainer.total_steps))
            (n0, t0), (n1, t1) = marks[0], marks[-1]
            if parts.settings.compile:
                steady(trainer, marks[0][1])
        return (n1 - n0) / (t1 - t0)

    return measure


def steady(trainer: Any, first: float) -> None:
    """Record what is known of the trainer's compiled step: compiled, captured, free of synchronizations."""
    compiled = trainer.compiled
    figure("  seconds of the first 10 epochs, compilation included", first)
    figure("  compiled", str(compiled.compiled is not None))
    graph = compiled.graph.graph
    figure("  captured as one graph", str(graph is not None))
    rows = list(trainer._batches(99, 0))[:100]
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for i, batch in enumerate(rows):
            trainer._set_learning_rate()
            trainer.meter.add(i, len(batch), trainer.take_step(batch))
        figure("  synchronizations in 100 steps", "none", "none", True)
    except RuntimeError as error:
        figure("  synchronizations in 100 steps", str(error).splitlines()[0][:200], "none", False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    if graph is not None:
        torch.cuda.synchronize()
        clock = time.perf_counter()
        for _ in range(2_000):
            graph.replay()
        torch.cuda.synchronize()
        figure("  the graph alone, replayed [examples/s]", 2_000 * BATCH / (time.perf_counter() - clock))


def main() -> None:
    """Measure all parts, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="a JSON file; it is overwritten")
    output = parser.parse_args().output
    if not torch.cuda.is_available():
        raise SystemExit("bench_gpu.py needs a GPU, and torch finds none")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    figure("device", torch.cuda.get_device_name())
    figure("torch", torch.__version__)
    with tempfile.TemporaryDirectory() as folder:
        plain = part("plain script with DataLoader", plain_script)
        part("bare loop, rows on the GPU", bare_loop)
        part("graph by hand, float32", lambda: by_hand(bf16=False, compiled=False))
        by_eager = part("graph by hand, bfloat16", lambda: by_hand(bf16=True, compiled=False))
        fast = part("ours, compile and bf16", ours(Path(folder), "trainer.compile=true", "trainer.precision=bf16"))
        by_compiled = part("graph by hand, bfloat16, compiled", lambda: by_hand(bf16=True, compiled=True))
        fast32 = part("ours, compile", ours(Path(folder), "trainer.compile=true"))
        part("ours, eager", ours(Path(folder)))
    hand = max(filter(None, (by_eager, by_compiled)), default=None)
    if fast is not None and plain is not None:
        figure("ours / plain script", fast / plain, ">= 100", fast / plain >= 100)
    if fast is not None and hand is not None:
        figure("ours / best graph by hand, bfloat16", fast / hand, ">= 0.85", fast / hand >= 0.85)
    if fast is not None and fast32 is not None:
        figure("bfloat16 / float32", fast / fast32)
    figure("seconds", time.perf_counter() - STARTED)
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
