"""Choose the settings of experiment=features on validation images, and measure the choice on test images once.

    python benchmarks/protocols/features_choice.py --jobs 16 --output outputs/features/choice.json
    python benchmarks/protocols/features_choice.py --final --seeds 0 1 2 --output outputs/features/final.json

Choice: each candidate is trained on MNIST, digits and CIFAR-10 images; classifiers are trained on the codes of training
images and scored on validation images. The spectrograms are left out, and measured by --final only. The best candidate
has the largest mean margin over PCA and raw pixels, whichever is better, over the four numbers and the data sets.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jobs
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
SPECTROGRAMS = ROOT / "outputs" / "spectrograms.npz"
SETS = {  # the largest first, which take longest
    "mnist": ["data=mnist", f"data.root={ROOT / 'data'}"],
    "cifar": ["data=image_folder", f"data.path={ROOT / 'data' / 'cifar10_images'}", "data.val_fraction=0.3",
              "data.workers=0"],
    "digits": ["data=digits", "data.val_fraction=0.3", "trainer.device=cpu"],
    "spectrograms": ["data=arrays", f"data.path={SPECTROGRAMS}", "data.val_fraction=0.3",
                     "likelihood=gaussian_images", "trainer.device=cpu"],
}  # fmt: skip
CHOICE_SETS = ("mnist", "cifar", "digits")
STRONG = ["noise.rotate=20", "noise.scale=0.25", "noise.shift=0.15"]
CANDIDATES = {
    "deep": ["noise.std=0.5", "network.channels=[32,64,128]"],
    "wide": ["noise.std=0.5", "network.channels=[64,128]"],
    "gaussian-1": ["noise=gaussian", "noise.std=1"],
    "gaussian-0.5": ["noise=gaussian", "noise.std=0.5"],
    "gaussian-vary": ["noise=gaussian", "noise.std=1", "noise.vary=true"],
    "affine-0.2": ["noise.std=0.2"],
    "affine-0.5": ["noise.std=0.5"],
    "affine-vary": ["noise.std=1", "noise.vary=true"],
    "strong-0.2": [*STRONG, "noise.std=0.2"],
    "strong-vary": [*STRONG, "noise.std=1", "noise.vary=true"],
}
UNTRAINED = ["trainer.steps=1", "optimizer.lr=1e-12"]
NUMBERS = ("logistic", "5-nn", "logistic_100", "precision@10")


def measure(name: str, candidate: str, overrides: Sequence[str], seed: int, final: bool, folder: Path) -> None:
    """Train one candidate on one data set, and write its numbers to `folder`.

    Rows of validation are scored, or with `final`, those of the test split. The candidate `baselines` is an untrained
    network, PCA and raw pixels.
    """
    from autoenc import load_run
    from autoenc.apps.codes import features, neighbours

    run_dir = folder / f"{name}_{candidate}_{seed}"
    started = time.perf_counter()
    seconds = jobs.train(run_dir, ["experiment=features", *SETS[name], f"seed={seed}", *overrides])
    run = load_run(run_dir, "cpu")
    measured = run.data.test if final else run.data.val
    found = features.representations(run, measured)
    if candidate != "baselines":
        found = {"codes": found["codes"]}
    assert run.data.train.y is not None
    assert measured.y is not None
    y, y_test = run.data.train.y.cpu().numpy(), measured.y.cpu().numpy()
    numbers = features.probe(found, y, y_test)
    some = features.many_labels(y)
    for each, representation in found.items():
        hits = neighbours.Index(representation.train[some]).search(representation.test, 10)
        numbers[each]["precision@10"] = neighbours.precision(hits, y[some], y_test)
    total = time.perf_counter() - started
    result = {"set": name, "candidate": candidate, "seed": seed, "overrides": list(overrides), "rows": len(y_test),
              "numbers": numbers, "training_seconds": seconds, "seconds": total}  # fmt: skip
    (folder / f"{run_dir.name}.json").write_text(json.dumps(result, indent=2) + "\n")
    shutil.rmtree(run_dir)


def margins(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Return candidate -> data set -> number -> margin over the better of PCA and raw pixels, mean over seeds."""
    baseline: dict[str, dict[str, dict[str, float]]] = {
        each["set"]: each["numbers"] for each in results if each["candidate"] == "baselines"
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for candidate in dict.fromkeys(each["candidate"] for each in results if each["candidate"] != "baselines"):
        for name in baseline:
            codes = [r["numbers"]["codes"] for r in results if (r["candidate"], r["set"]) == (candidate, name)]
            if codes:
                others = [numbers for key, numbers in baseline[name].items() if key.startswith(("PCA", "raw"))]
                found.setdefault(candidate, {})[name] = {
                    number: float(np.mean([c[number] for c in codes])) - max(other[number] for other in others)
                    for number in NUMBERS
                }
    return found


def main() -> None:
    """Run the jobs, print margins, write all numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "features" / "choice.json")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--final", action="store_true", help="measure the preset on the test splits of all data sets")
    parser.add_argument("--sets", nargs="+", choices=SETS)
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--overrides", nargs="*", default=[], help="for all jobs, such as trainer.steps=50")
    parser.add_argument("--job", nargs=2, metavar=("SET", "CANDIDATE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.output.resolve().with_suffix("")
    if options.job:
        name, candidate = options.job
        changed = UNTRAINED if candidate == "baselines" else CANDIDATES.get(candidate, [])
        measure(name, candidate, [*options.overrides, *changed], options.seeds[0], options.final, folder)
        return
    candidates = ["preset"] if options.final else options.candidates
    sets = options.sets or (SETS if options.final else CHOICE_SETS)
    if "spectrograms" in sets and not SPECTROGRAMS.exists():
        subprocess.run(
            [sys.executable, Path(__file__).with_name("spectrograms.py"), "--output", SPECTROGRAMS], check=True
        )
    shared = ["--output", str(options.output), *(["--final"] if options.final else [])]
    shared += ["--overrides", *options.overrides] if options.overrides else []
    wanted = {
        f"{name}_{candidate}_{seed}": ["--job", name, candidate, "--seeds", str(seed), *shared]
        for name in sets
        for candidate in ("baselines", *candidates)
        for seed in (options.seeds if candidate != "baselines" else options.seeds[:1])
    }

    def described(result: dict[str, Any]) -> str:
        return f"{result['seconds']:.0f} s {result['numbers']}"

    results = jobs.run(__file__, wanted, folder, options.jobs, described)
    found = margins(results)
    order = sorted(found, key=lambda c: -float(np.mean([list(m.values()) for m in found[c].values()])))
    for candidate in order:
        values = [list(m.values()) for m in found[candidate].values()]
        text = "  ".join(f"{name} {' '.join(f'{v:+.3f}' for v in m.values())}" for name, m in found[candidate].items())
        print(f"{candidate:<14} mean {np.mean(values):+.4f}  least {np.min(values):+.3f}  {text}")
    options.output.write_text(json.dumps({"margins": found, "results": results}, indent=2) + "\n")
    if len(results) < len(wanted):
        raise SystemExit(f"{len(wanted) - len(results)} of {len(wanted)} jobs failed")


if __name__ == "__main__":
    main()
