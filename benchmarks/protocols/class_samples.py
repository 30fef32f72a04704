"""Classify samples of each class of a conditional run by a classifier of the data, which has not seen the run."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from sklearn.svm import SVC

from autoenc.apps.generation import generate
from autoenc.loading import load_run

TRAINED, TESTED, DRAWN = 10_000, 2_000, 2_000


def main() -> None:
    """Write the accuracy of a support vector machine on test examples and on samples, and on samples whose classes are
    permuted, which is right by chance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    run = load_run(args.run)
    train, test = run.data.train.sample(TRAINED), run.data.test.sample(TESTED)
    assert train.y is not None
    assert test.y is not None
    classifier = SVC(C=10).fit(train.rows(), train.y.numpy())
    samples = generate.samples(run, DRAWN, seed=args.seed, mean=True, classes=run.spec.classes)
    assert samples.y is not None
    found = classifier.predict(samples.x.reshape(DRAWN, -1))
    shuffled = samples.y[torch.randperm(DRAWN, generator=torch.Generator().manual_seed(args.seed)).numpy()]
    numbers = {
        "test": classifier.score(test.rows(), test.y.numpy()),
        "samples": np.mean(found == samples.y),
        "chance": np.mean(found == shuffled),
    }
    args.output.write_text(json.dumps({name: float(value) for name, value in numbers.items()}))


if __name__ == "__main__":
    main()
