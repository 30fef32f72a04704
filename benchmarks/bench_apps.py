"""Measure what the applications are worth, on MNIST and on data with known truth; `--only index` measures one.

Runs and scripts are started as a user would start them; the figures are printed and written to
outputs/bench/results_apps.json.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from bench import OUT, ROOT, figure, main, train

DIGITS = range(10)


def script(name: str, *args: object) -> str:
    """Run a script; what it printed."""
    command = [sys.executable, f"scripts/{name}.py", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def result(path: str) -> dict[str, Any]:
    """A JSON file under outputs/bench/."""
    found: dict[str, Any] = json.loads((OUT / path).read_text())
    return found


def features() -> None:
    """32 numbers of a conv denoising autoencoder as features, for retrieval and in an image."""
    train("features", "experiment=features_mnist")
    script("evaluate", OUT / "features", "--only", "probes", "retrieval", "projection", "--force")
    found = result("features/evaluation.json")
    codes, pca = found["probes"]["codes"], found["probes"]["PCA-32"]
    for name, target in (("logistic", 0.945), ("5-nn", 0.970), ("logistic_100", 0.84)):
        figure(f"features: {name} (PCA-32: {pca[name]:.3f})", codes[name], f">= {target}", codes[name] >= target)
    value, beside = (found["retrieval"][name]["precision@10"] for name in ("codes", "PCA-32"))
    figure(f"  precision@10 (PCA-32: {beside:.3f})", value, ">= 0.948", value >= 0.948)
    value = found["projection"]["trustworthiness"]
    figure("  trustworthiness of t-SNE, k = 10, 2,000 codes", value, ">= 0.97", value >= 0.97)


def finetune() -> None:
    """Fine-tuning the same run on few labels, against the same network from scratch; 5 seeds."""
    script("finetune", OUT / "features", "--force")
    for labels, found in result("features/finetune/finetune.json")["numbers"].items():
        half = found["margin_half_width"]
        figure(f"{labels}: pre-trained (sd {found['pretrained_std']:.3f})", found["pretrained"])
        figure(f"  from scratch (sd {found['scratch_std']:.3f})", found["scratch"])
        figure(f"  margin (95% interval ± {half:.3f})", found["margin"], f"> {half:.3f}", found["margin"] > half)


def augment() -> None:
    """A classifier on 100 real digits, with and without 100 generated ones for each class; 5 draws."""
    train("augment", "model=vae", "data=mnist", "network.hidden=[400]", "trainer.epochs=5")
    print(script("generate", OUT / "augment", "--augment", OUT / "augment.npz", "--force"))


def one_class_out(name: str, classes: Sequence[str], *options: str) -> dict[str, dict[str, float]]:
    """Mean numbers of each score over runs in each of which one class is the anomaly."""
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "train.py", "-m", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra.job.num}"]
    left_out = ",".join(f"[{each}]" for each in classes)
    subprocess.run([*command, *options, f"anomaly_classes={left_out}"], cwd=ROOT, capture_output=True, check=True)
    runs = [folder / str(number) for number in range(len(classes))]
    script("detect", *runs, "--output", folder / "detect", "--force")
    mean: dict[str, dict[str, float]] = result(f"{name}/detect/detect.json")["mean"]
    return mean


def choice() -> None:
    """The default score of images, chosen on images other than those of `anomaly`: one class held out."""
    small = ("model=ae", "model.latent_dim=16", "network.hidden=[64]", "trainer.figures=0")
    for score, numbers in one_class_out("choice", [str(digit) for digit in DIGITS], *small, "data=digits").items():
        figure(f"one class of digits held out, {score}: mean AUROC", numbers["auroc"])


def anomaly() -> None:
    """One digit held out as the anomaly: mean AUROC over the ten digits."""
    options = ("model=ae", "data=mnist", "model.latent_dim=32", "network.hidden=[256]", "trainer.epochs=3")
    mean = one_class_out("anomaly", [str(digit) for digit in DIGITS], *options)
    found = {name: numbers["auroc"] for name, numbers in mean.items()}
    beside = max(found.pop(name) for name in ("pca", "isolation_forest", "raw_knn", "ecod"))
    for name, value in found.items():
        holds = value > beside if value == max(found.values()) else None
        figure(
            f"one digit held out, {name}: mean AUROC",
            value,
            f"> {beside:.3f} (best)" if holds is not None else "",
            holds,
        )


def pipeline() -> None:
    """The scikit-learn pipeline of the README, beside PCA and pixels, each standardized and with a C of its own."""
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from autoenc.estimators import AutoencoderTransformer

    x, y = load_digits(return_X_y=True)

    def accuracy(*steps: Any) -> float:
        classifier = GridSearchCV(LogisticRegression(max_iter=1000), {"C": [0.01, 0.1, 1, 10, 100]})
        fitted = make_pipeline(*steps, StandardScaler(), classifier).fit(x[:1300], y[:1300])
        return float(fitted.score(x[1300:], y[1300:]))

    def codes(seed: int) -> Any:
        return AutoencoderTransformer(
            "dae", latent_dim=16, epochs=30, image_shape=(8, 8), overrides=["noise.std=0.5"], random_state=seed
        )

    values = [accuracy(codes(seed)) for seed in range(3)]
    spread = statistics.stdev(values)
    figure(f"digits, 16 codes: accuracy, mean of 3 seeds (sd {spread:.3f})", statistics.mean(values))
    figure("  PCA-16", accuracy(PCA(16, random_state=0)))
    figure("  pixels", accuracy())


def recovery() -> None:
    """Generated data: how much of the true dictionary and of the true subspace the presets find."""
    for model, data, number in (("topk", "sparse_codes", "mmcs"), ("linear", "linear_gaussian", "angle_deg")):
        train(f"recovery_{data}", f"model={model}", f"data={data}", "trainer.figures=0")
        script("evaluate", OUT / f"recovery_{data}", "--only", "recovery", "--force")
        for name, numbers in result(f"recovery_{data}/evaluation.json")["recovery"].items():
            if name != "cosine":
                figure(f"{data}, {name}: {number}", numbers[number])


def index() -> None:
    """A million codes of 32 numbers, 1,000 queries, exact; the best of five."""
    import numpy as np

    from autoenc.apps.codes.neighbours import Index

    random = np.random.default_rng(0)
    made = Index(random.normal(size=(1_000_000, 32)).astype(np.float32))
    queries = random.normal(size=(1_000, 32)).astype(np.float32)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        made.search(queries, 10)
        seconds.append(time.perf_counter() - started)
    figure("index of a million codes: 1,000 queries, seconds", min(seconds), "< 2", min(seconds) < 2)


if __name__ == "__main__":
    benches = {
        function.__name__: function
        for function in (features, finetune, augment, choice, anomaly, pipeline, recovery, index)
    }
    main(__doc__, benches, "results_apps.json")
