"""Outlier detection on the Skoltech Anomaly Benchmark (data/skab) by its published protocol, with several rules.

One small model for each of the 34 recordings, trained on its first 400 readings; the others are scored, and F1, false
and missed alarms are those of all of them together. The rules use no label, and were written before the first run:

published   the architecture and the rule of the authors' notebook Conv_AE. The score of a window is the sum over the
            channels of the mean absolute error, the threshold 4/3 of the quantile .999 over the windows of the 400
            readings. Reading i is an anomaly if the 59 windows from i - 59 on are; the first 59 and the last 118
            readings of each recording are none.
everywhere  the same threshold, and a reading is an anomaly if all windows that it is in are.
dropped     `published` without the channels whose mean moves by more than two standard deviations from the first 400
            readings to the rest, in the median of eight pieces of the recording without anomalies.
calibrated  the default score of scripts/detect.py for time steps, without these channels; the threshold raises a false
            alarm at 10% of the readings of the eight pieces.
differences `published` on differences from reading to reading.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest

from autoenc import load_run
from autoenc import run as training
from autoenc.apps.anomaly.steps.metrics import rates
from autoenc.apps.anomaly.steps.scores import StepDetector
from autoenc.apps.untrained import untrained
from autoenc.data.split import Split
from autoenc.estimators.inmemory import compose
from autoenc.loading import Run
from autoenc.reference import errors

ROOT = Path(__file__).resolve().parents[2]
FIRST, WINDOW, PIECES = 400, 60, 8
MOVED, FALSE_ALARMS = 2.0, 0.1
OPTIONS = [
    "data=series", "data.layout=channels", f"data.train_steps={FIRST}", "data.gap=0", f"data.window={WINDOW}",
    "data.stride=1", "data.val_fraction=0.2", "model=ae", "model.latent_dim=16", "network=conv1d_spatial",
    "network.channels=[32,16]", "network.kernel_size=7", "network.norm=none", "optimizer.lr=0.001",
    "trainer.batch_size=32", "trainer.epochs=100", "trainer.patience=5", "trainer.figures=0", "trainer.device=cpu",
]  # fmt: skip


def trained(values: np.ndarray, seed: int, folder: Path, options: Sequence[str] = ()) -> Run:
    """Train a model on the first readings of a recording (T, C)."""
    folder.mkdir(parents=True)
    np.save(folder / "recording.npy", values)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        config = compose([*OPTIONS, f"data.path={folder / 'recording.npy'}", f"seed={seed}", *options])
        training.train(config, folder / "run")
        return load_run(folder / "run", "cpu")


def window_scores(run: Run, split: Split) -> np.ndarray:
    """Return the sum over the channels of the mean absolute error of windows (N,)."""
    return run.over(split, lambda batch: errors(run.model, batch).abs().mean(-1).sum(1)).numpy()


def both(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of the windows of the first readings, and of the rest."""
    learnt = np.concatenate([window_scores(run, run.data.train), window_scores(run, run.data.val)])
    return learnt, window_scores(run, run.data.test)


def published(learnt: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the alarms at the readings (N + 59,) of N windows by the rule `published`."""
    above = np.append(0, np.cumsum(scores > np.quantile(learnt, 0.999) * 4 / 3))
    alarms = np.zeros(len(scores) + WINDOW - 1, dtype=bool)
    i = np.arange(WINDOW - 1, len(scores) - WINDOW + 1)
    alarms[i] = above[i] - above[i - WINDOW + 1] == WINDOW - 1
    return alarms


def everywhere(learnt: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return the alarms at the readings (N + 59,) of N windows by the rule `everywhere`."""
    above = scores > np.quantile(learnt, 0.999) * 4 / 3
    normal = np.convolve(~above, np.ones(WINDOW))  # normal windows that a reading is in
    return normal < 0.5


def of_pca(values: np.ndarray) -> np.ndarray:
    """Return the alarms of the components with 85% of the variance of the windows by the rule `published`."""
    scaled = (values - values[:FIRST].mean(0)) / values[:FIRST].std(0)
    windows = np.lib.stride_tricks.sliding_window_view(scaled, WINDOW, axis=0)  # (N, C, 60)
    learnt, rest = windows[: FIRST - WINDOW + 1], windows[FIRST:]
    pca = PCA(0.85).fit(learnt.reshape(len(learnt), -1))

    def scores(x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1)
        error = flat - pca.inverse_transform(pca.transform(flat))
        return np.abs(error).reshape(x.shape).mean(-1).sum(1)

    return published(scores(learnt), scores(rest))


def t2_and_q(values: np.ndarray, level: float = 0.999) -> np.ndarray:
    """Return the alarms of Hotelling's T² and of Q, the squared error, of PCA with 85% of the variance of the readings.

    The limits are those of the F distribution and of Jackson & Mudholkar (1979); medians over 5 readings.
    """
    x = (values - values[:FIRST].mean(0)) / values[:FIRST].std(0)
    pca = PCA(0.85).fit(x[:FIRST])
    n, k = FIRST, pca.n_components_
    codes, rest = pca.transform(x[FIRST:]), x[FIRST:]
    t2 = np.square(codes / np.sqrt(pca.explained_variance_)).sum(1)
    q = np.square(rest - rest @ pca.components_.T @ pca.components_).sum(1)
    left = np.linalg.eigvalsh(np.cov(x[:FIRST].T))[::-1][k:].sum()
    one, two, three = left, left**2, left**3  # as in the authors' code; Jackson & Mudholkar have sums of powers
    h = 1 - 2 * one * three / (3 * two**2)
    limit_q = one * (1 + stats.norm.ppf(level) * h * np.sqrt(2 * two) / one + two * h * (h - 1) / one**2) ** (1 / h)
    limit_t2 = k * (n - 1) * (n + 1) / (n * (n - k)) * stats.f.ppf(level, k, n - k)
    medians = pd.DataFrame({"t2": t2, "q": q}).rolling(5).median()
    return np.asarray((medians["t2"] > limit_t2) | (medians["q"] > limit_q))


def of_forest(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the alarms of an isolation forest of readings: contamination .0005, medians over 3 readings."""
    forest = IsolationForest(random_state=seed, contamination=0.0005).fit(values[:FIRST])
    return np.asarray(pd.Series(-forest.predict(values[FIRST:])).rolling(3).median() == 1)


def moved(values: np.ndarray) -> np.ndarray:
    """Return by how many standard deviations the mean of each channel moves from the first readings to the rest."""
    first, rest = values[:FIRST], values[FIRST:]
    return np.abs(rest.mean(0) - first.mean(0)) / first.std(0)


def main() -> None:
    """Write F1, false-alarm rate, missed-alarm rate and alarm rate of each rule and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT / "data" / "skab")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    frames = {str(file.relative_to(args.data)): pd.read_csv(file, sep=";") for file in sorted(args.data.rglob("*.csv"))}
    normal = frames.pop("anomaly-free/anomaly-free.csv").drop(columns="datetime")
    names = list(normal)
    size = len(normal) // PIECES
    pieces = [normal[i * size : (i + 1) * size].to_numpy(np.float32) for i in range(PIECES)]
    kept = np.median([moved(piece) for piece in pieces], axis=0) <= MOVED
    found: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)

        def residual(run: Run) -> np.ndarray:
            return StepDetector(run).scores(run.data.test).scores["residual"]

        calm = [residual(trained(p[:, kept], args.seed, folder / f"piece_{i}")) for i, p in enumerate(pieces)]
        threshold = float(np.quantile(np.concatenate(calm), 1 - FALSE_ALARMS))
        for i, frame in enumerate(frames.values()):
            values = frame[names].to_numpy(np.float32)
            plain = trained(values, args.seed, folder / f"plain_{i}")
            fewer = trained(values[:, kept], args.seed, folder / f"fewer_{i}")
            differences = trained(values, args.seed, folder / f"differences_{i}", ["data.differences=true"])
            alarms = {
                "published": published(*both(plain)),
                "everywhere": everywhere(*both(plain)),
                "dropped": published(*both(fewer)),
                "calibrated": residual(fewer) > threshold,
                "differences": np.append(False, published(*both(differences))),  # the first reading has none
                "untrained": published(*both(untrained(plain))),
                "pca": of_pca(values),
                "t2_and_q": t2_and_q(values),
                "isolation_forest": of_forest(values, args.seed),
            }
            for name, each in alarms.items():
                found.setdefault(name, []).append(each)
    labels = np.concatenate([frame["anomaly"].to_numpy()[FIRST:] == 1 for frame in frames.values()])
    whole = {name: np.concatenate(each) for name, each in found.items()}
    whole["random"] = np.random.default_rng(args.seed).uniform(size=len(labels)) < whole["published"].mean()
    whole["always"] = np.ones(len(labels), dtype=bool)
    numbers = {name: rates(labels, each) | {"alarms": float(each.mean())} for name, each in whole.items()}
    dropped = [name for name, each in zip(names, kept, strict=True) if not each]
    args.output.write_text(json.dumps({**numbers, "dropped_channels": dropped, "threshold": threshold}, indent=1))


if __name__ == "__main__":
    main()
