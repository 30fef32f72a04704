"""Codes of spoken digits (experiment=spoken_digits): 5 nearest neighbours by digit, and a digit that is left out.

    python benchmarks/protocols/spoken_digits.py --task speaker --folder outputs/digits --output outputs/speaker.json

take: recordings of takes 0 to 9 are test recordings. speaker: those of each speaker in turn; means over the speakers.
digit: each digit in turn is left out of the training; AUROC on takes 0 to 9, means over the digits. Settings are chosen
with --validate, which leaves takes 0 to 9 out altogether, and measures takes 10 to 19 in their place.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autoenc import Run

SOUNDS = Path("data", "fsdd")
SPEAKERS, DIGITS = ("jackson", "nicolas", "theo"), tuple("0123456789")
NEIGHBOURS = 5


def accuracies(run: Run) -> dict[str, float]:
    """Return the accuracy of the 5 nearest training rows by digit, on codes, untrained codes, PCA and spectrograms."""
    from sklearn.neighbors import KNeighborsClassifier

    from autoenc.apps.codes import features

    y, y_test = features.need_labels(run)
    model = KNeighborsClassifier(NEIGHBOURS)
    return {
        name: float(model.fit(each.train, y).score(each.test, y_test))
        for name, each in features.representations(run).items()
    }


def aurocs(run: Run) -> dict[str, float]:
    """Return the AUROC of the scores of detect.py, of the untrained network and of baselines for the digit left out."""
    from sklearn.metrics import roc_auc_score
    from sklearn.neighbors import LocalOutlierFactor

    from autoenc.apps.anomaly.labelled import known_anomalies
    from autoenc.apps.anomaly.rows.detect import detect
    from autoenc.apps.anomaly.scores import Detector

    labels = known_anomalies(run)
    assert labels is not None
    found = detect(Detector(run), run.data.test, labels)
    numbers = {name: each["auroc"] for name, each in found.numbers.items()}
    numbers |= {f"{n}_untrained": each["auroc_untrained"] for n, each in found.numbers.items() if n in found.scores}
    train, test = run.data.train.rows(), run.data.test.rows()
    raw_local = -LocalOutlierFactor(10, novelty=True).fit(train).score_samples(test)
    return numbers | {"default": numbers[found.score], "raw_local": float(roc_auc_score(labels, raw_local))}


def linked(folder: Path) -> Path:
    """Return a folder with links to the recordings of takes from 10 on."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in SOUNDS.glob("*_*_[0-9][0-9].wav"):
        if not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    return folder


def main() -> None:
    """Train, measure, and write the mean of each number."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=("take", "speaker", "digit"), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="measure takes 10 to 19, to choose settings by")
    parser.add_argument("--digits", nargs="+", choices=DIGITS, default=DIGITS, help="left out, of --task digit")
    parser.add_argument("--overrides", nargs="*", default=[], help="of train.py")
    parser.add_argument("--folder", type=Path, required=True, help="for the runs")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    from autoenc import train

    base = ["experiment=spoken_digits", "trainer.figures=0", f"seed={args.seed}", *args.overrides]
    if args.validate:
        base += [f"data.path={linked(args.folder / 'sounds')}", r"data.test_files='_1[0-9]\.wav'"]
    folds: dict[str, Sequence[str]] = {"take": []}
    if args.task == "speaker":
        folds = {speaker: [f"data.test_files=_{speaker}_"] for speaker in SPEAKERS}
    elif args.task == "digit":
        folds = {digit: [f"anomaly_classes=[{digit}]"] for digit in args.digits}
    found, seconds = {}, 0.0
    for name, options in folds.items():
        run_dir, started = args.folder / f"{args.task}_{name}_{args.seed}", time.perf_counter()
        shutil.rmtree(run_dir, ignore_errors=True)
        run = train([*base, *options], run_dir)
        seconds += time.perf_counter() - started
        found[name] = aurocs(run) if args.task == "digit" else accuracies(run)
        shutil.rmtree(run_dir)
        print(name, found[name], flush=True)
    numbers = {name: fmean(each[name] for each in found.values()) for name in next(iter(found.values()))}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps({"mean": numbers, "folds": found, "training_seconds": seconds}, indent=1) + "\n")
    print("mean", numbers)


if __name__ == "__main__":
    main()
