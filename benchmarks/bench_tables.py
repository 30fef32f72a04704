"""Measure tables: detection on NSL-KDD and six tables of ADBench, in data/, and memory on large files.

Runs and scripts are started as a user would start them; the figures are printed and written to
outputs/bench/results_tables.json. The score is `combined`, the default of scripts/detect.py for tables.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from bench import OUT, ROOT, figure, main, train
from bench_apps import result, script

SEEDS = (2, 3, 4)  # 0 and 1 served to choose the preset
SPLITS = (11, 12, 13, 14, 15)  # of ADBench: 0 to 10 served to choose the preset and the score


def nsl_kdd() -> None:
    """Trained on the normal rows of the training file; AUROC on the test file."""
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        train(f"nsl_kdd_{seed}", "model=ae", "data=nsl_kdd", f"seed={seed}")
        script("detect", OUT / f"nsl_kdd_{seed}", "--force")
        for name, numbers in result(f"nsl_kdd_{seed}/detect/detect.json")["numbers"].items():
            found.setdefault(name, []).append(numbers["auroc"])
    for name, values in found.items():
        value = statistics.mean(values)
        figure(f"NSL-KDD, {name}: AUROC, mean of {len(SEEDS)} seeds", value, *_target(name, value, 0.965))


def adbench() -> None:
    """Trained on 70 % of the rows, with the anomalies among them and without; AUROC on the rest."""
    files = sorted((ROOT / "data" / "adbench").glob("*.npz"))
    for rows, arguments in (("contaminated", []), ("clean", ["anomaly_classes=[1]"])):
        found: dict[str, dict[str, float]] = {}
        for file in files:
            runs: dict[str, list[float]] = {}
            for seed in SPLITS:
                name = f"adbench_{rows}_{file.stem}_{seed}"
                options = [f"data.path=data/adbench/{file.name}", f"seed={seed}", f"data.split_seed={seed}"]
                train(name, "experiment=adbench", *options, *arguments)
                script("detect", OUT / name, "--anomaly", 1, "--force")
                for score, numbers in result(f"{name}/detect/detect.json")["numbers"].items():
                    runs.setdefault(score, []).append(numbers["auroc"])
            found[file.stem] = {score: statistics.mean(values) for score, values in runs.items()}
            beside = found[file.stem]["isolation_forest"]
            value = found[file.stem]["combined"]
            figure(f"{file.stem}, {rows} training rows: combined (isolation forest {beside:.3f})", value)
        means = {score: statistics.mean(each[score] for each in found.values()) for score in next(iter(found.values()))}
        for score, value in means.items():
            target = _target(score, value, means["isolation_forest"])
            figure(f"ADBench, {len(files)} tables, {rows} training rows, {score}: mean AUROC", value, *target)


def stream() -> None:
    """Peak memory of 300 steps on CSV files of 500,000 and 5,000,000 rows, read in pieces; no label."""
    import numpy as np

    random = np.random.default_rng(0)
    numbers = random.normal(size=(50_000, 8))
    block = "".join(",".join(f"{x:.4f}" for x in row) + f",{'abcd'[i % 4]}\n" for i, row in enumerate(numbers))
    peaks = []
    with tempfile.TemporaryDirectory(prefix="autoenc-bench-") as scratch:
        for times in (10, 100):
            path = Path(scratch) / f"rows{times}.csv"
            with path.open("w") as file:
                file.write(",".join("abcdefghi") + "\n")
                for _ in range(times):
                    file.write(block)
            options = ["data=table", f"data.path={path}", "data.stream=true", f"data.cache={scratch}/cache"]
            found = train(f"stream_{times}", *options, "model=ae", "trainer.steps=300", "trainer.figures=0")
            peaks.append(found["perf"]["peak_memory_mb"])
            size = f"{times * 50_000:,} rows, {path.stat().st_size / 1e6:.0f} MB"
            figure(f"{size}: seconds in all, reading included", found["wall"])
            figure(f"{size}: peak memory [MB]", peaks[-1])
    figure("growth of the peak [MB]", peaks[1] - peaks[0], "< 20", peaks[1] - peaks[0] < 20)


def _target(name: str, value: float, least: float) -> tuple[str, bool | None]:
    return (f">= {least:.3f}", value >= least) if name == "combined" else ("", None)


if __name__ == "__main__":
    main(__doc__, {function.__name__: function for function in (nsl_kdd, adbench, stream)}, "results_tables.json")
