"""One digit in turn is anomalous among the others, in the training rows too: mean AUROC of Deep SVDD, which reads no
labels, and of Deep SAD, which is given those of a few rows."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from sklearn.metrics import roc_auc_score

from autoenc import load_run, run
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.untrained import untrained
from autoenc.config.composed import compose

COMMON = [
    *("data=digits", "network.hidden=[64]", "trainer.epochs=30", "trainer.evaluate_every=10"),
    *("trainer.lr_schedule=cosine", "trainer.figures=0"),
]


def main() -> None:
    """Write the means over the classes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overrides", nargs="*", default=[])
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    found: dict[str, list[float]] = {"deep_svdd": [], "deep_sad": [], "untrained": []}
    for digit in range(10):
        known = [f"labels={args.labels}", f"labels_seed={args.seed}", f"model.objective.anomalies=[{digit}]"]
        for model, options in (("deep_svdd", []), ("deep_sad", known)):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, "run")
                overrides = [f"model={model}", *COMMON, f"seed={args.seed}", *options, *args.overrides]
                run.train(compose(overrides), path, {"model": model})
                trained = load_run(path)
                networks = {model: trained} | ({"untrained": untrained(trained)} if model == "deep_svdd" else {})
                test = trained.data.test
                assert test.y is not None
                for name, network in networks.items():
                    scores = Detector(network).scores(test)["prior"]
                    found[name].append(float(roc_auc_score(test.y.cpu() == digit, scores)))
    args.output.write_text(json.dumps({name: statistics.fmean(values) for name, values in found.items()}, indent=1))


if __name__ == "__main__":
    main()
