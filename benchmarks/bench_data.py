"""Measure images in folders: training from files, and from the cache, against what torchvision's loader delivers.

`python benchmarks/bench_data.py` trains on data/cifar10_images (data=image_folder), uncached and cached, by turns with
torchvision's ImageFolder, ToTensor and DataLoader (batches of 128, two workers), which trains nothing. Two models: the
fastest that there is (model=linear), where the data are what is waited for, and a small mlp, whose steps take longer
than its data do once these are cached. The best of each is compared: what disturbs a machine only makes things slower.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BATCH, WORKERS = 128, 2


def torchvision_loader(folder: Path, epochs: int) -> float:
    """Images per second of the plain loader, without training; the best epoch, its workers already there."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    data = datasets.ImageFolder(str(folder), transforms.ToTensor())
    loader = DataLoader(data, batch_size=BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    speeds = []
    for _ in range(epochs + 1):
        started = time.perf_counter()
        assert sum(len(x) for x, _ in loader) == len(data)
        speeds.append(len(data) / (time.perf_counter() - started))
    return max(speeds)


def delivered(folder: Path, cache: str, scratch: Path, epochs: int) -> float:
    """Images per second of our batches, float32 in [0, 1], without training; the best epoch."""
    from autoenc.data import image_folder

    data = image_folder(
        str(folder), workers=WORKERS, cache={"true": True, "false": False}[cache], cache_folder=str(scratch / "cache")
    )
    speeds = []
    for epoch in range(epochs):
        started = time.perf_counter()
        assert sum(len(batch) for batch in data.train.shuffled(BATCH, 0, epoch)) == len(data.train)
        speeds.append(len(data.train) / (time.perf_counter() - started))
    return max(speeds)


def training(folder: Path, cache: str, scratch: Path, overrides: list[str]) -> float:
    """Examples per second of a run of train.py, as its summary says: training steps, evaluation not."""
    run_dir = scratch / "run"
    shutil.rmtree(run_dir, ignore_errors=True)
    command = [
        *(sys.executable, "train.py", f"hydra.run.dir={run_dir}", "data=image_folder", f"data.path={folder}"),
        *(f"data.cache={cache}", f"data.cache_folder={scratch / 'cache'}", f"data.workers={WORKERS}"),
        *("trainer.figures=0", "trainer.device=cpu", f"trainer.batch_size={BATCH}", *overrides),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads((run_dir / "summary.json").read_text())["perf"]["examples_per_second"]


def main() -> None:
    """Measure by turns, print a table; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "cifar10_images", help="with train/ and test/")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (default: 3)")
    parser.add_argument("--epochs", type=int, default=4, help="of each training (default: 4)")
    args = parser.parse_args()
    import torch

    common = ["likelihood=gaussian", f"trainer.epochs={args.epochs}"]
    linear = ["model=linear", *common]
    small = ["model=ae", "network=mlp", "network.hidden=[64]", *common]
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="autoenc-bench-") as name:
        scratch = Path(name)
        for turn in range(args.rounds):
            print(f"round {turn + 1} of {args.rounds}", file=sys.stderr, flush=True)
            for what, speed in (
                ("torchvision", lambda: torchvision_loader(args.folder / "train", args.epochs)),
                ("uncached, batches alone", lambda: delivered(args.folder, "false", scratch, args.epochs)),
                ("uncached, model=linear", lambda: training(args.folder, "false", scratch, linear)),
                ("uncached, mlp", lambda: training(args.folder, "false", scratch, small)),
                ("cached, batches alone", lambda: delivered(args.folder, "true", scratch, args.epochs)),
                ("cached, model=linear", lambda: training(args.folder, "true", scratch, linear)),
                ("cached, mlp", lambda: training(args.folder, "true", scratch, small)),
            ):
                found.setdefault(what, []).append(speed())
    best = {what: max(speeds) for what, speeds in found.items()}
    print(f"{os.cpu_count()} cores, torch {torch.__version__}")
    print(f"  {'examples per second, best of ' + str(args.rounds):<44}{'':>12}  {'of torchvision':>14}")
    missed = False
    targets = {"uncached, model=linear": 0.85, "uncached, mlp": 0.85, "cached, model=linear": 5.0}
    for what in best:
        ratio, target = best[what] / best["torchvision"], targets.get(what)
        mark = "" if target is None else f"  >= {target:<5}{'yes' if ratio >= target else 'NO'}"
        missed = missed or (target is not None and ratio < target)
        label = "ImageFolder + DataLoader, batches alone" if what == "torchvision" else what
        print(f"  {label:<44}{best[what]:>12,.0f}  {ratio:>14.2f}{mark}")
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
