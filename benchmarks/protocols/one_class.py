"""One class normal, the others anomalous: mean AUROC over the classes of Deep SVDD, an autoencoder and baselines."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMON = ["trainer.figures=0"]
DATA = {
    "mnist": ["data=mnist", "network=conv", "network.channels=[16,32]", "network.hidden=null", "network.norm=none"],
    "digits": ["data=digits", "network=mlp"],
}
EPOCHS = {"normal": 40, "anomaly": 5}  # of one class, and of the nine others: about as many steps
MODELS = {
    "deep_svdd": ["model=deep_svdd", "optimizer=adamw", "optimizer.lr=0.0003", "trainer.lr_schedule=cosine"],
    "ae": ["model=ae", "model.latent_dim=32", "network.activation=leaky_relu", "trainer.lr_schedule=cosine"],
}
SCORE = {"deep_svdd": "prior", "ae": "error"}


def auroc(folder: Path, model: str, options: list[str]) -> dict[str, dict[str, float]]:
    """Train one model and return score -> {auroc, auroc_untrained} of its test rows."""
    if not (folder / "detect" / "detect.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        train = ["train.py", *options, *MODELS[model], *COMMON, f"hydra.run.dir={folder}"]
        for command in (train, ["scripts/detect.py", str(folder)]):
            subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(folder / "checkpoints")
    found: dict[str, dict[str, float]] = json.loads((folder / "detect" / "detect.json").read_text())["numbers"]
    return found


def main() -> None:
    """Write the mean over the classes of each method; reverse_*: each class is the anomaly in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=DATA, default="mnist")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--folder", type=Path, required=True, help="for the runs")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    base = [*DATA[args.data], *args.overrides, f"seed={args.seed}"]
    tasks = [(m, k, c) for m, k in (("deep_svdd", "normal"), ("ae", "normal"), ("ae", "anomaly"))
             for c in range(args.classes)]  # fmt: skip

    def one(task: tuple[str, str, int]) -> dict[str, dict[str, float]]:
        model, key, number = task
        options = [*base, f"trainer.epochs={EPOCHS[key]}", f"{key}_classes=[{number}]"]
        return auroc(args.folder / f"{model}_{key}_{number}", model, options)

    with ThreadPoolExecutor(args.jobs) as pool:
        found = dict(zip(tasks, pool.map(one, tasks), strict=True))

    def mean(model: str, key: str, score: str, number: str = "auroc") -> float:
        return statistics.fmean(found[model, key, c][score][number] for c in range(args.classes))

    numbers = {model: mean(model, "normal", score) for model, score in SCORE.items()}
    numbers |= {f"{m}_untrained": mean(m, "normal", score, "auroc_untrained") for m, score in SCORE.items()}
    numbers |= {name: mean("ae", "normal", name) for name in ("pca", "isolation_forest", "local")}
    numbers |= {"reverse_ae": mean("ae", "anomaly", "error"), "reverse_local": mean("ae", "anomaly", "local")}
    args.output.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
