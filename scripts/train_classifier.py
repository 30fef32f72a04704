"""Train a classifier on the data set of a run; evaluate.py and generate.py compare samples in its features.

It is trained once for each training split and kept in outputs/classifiers/, for all runs on the same data.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/train_classifier.py RUN
  python scripts/evaluate.py RUN --only generation      Frechet distance, precision and recall of samples

results: outputs/classifiers/DATA_FINGERPRINT/classifier.pt and classifier.json, with the test accuracy
"""


def main(args: argparse.Namespace) -> Results:
    """Train, measure, write."""
    from pathlib import Path

    from autoenc import load_run
    from autoenc.apps.generation import classifier
    from autoenc.errors import check_new
    from autoenc.screen import console

    run = load_run(args.run, args.device)
    where = classifier.folder(run) if args.output is None else Path(args.output)
    check_new(where / "classifier.pt", args.force)
    trained = classifier.train(run, args.steps)
    classifier.save(trained, where)
    console().print(f"{trained.text}: {where}")
    return trained.numbers


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--steps", type=positive, default=2_000, help="of 128 examples (default: 2000)")
    execute(main, arguments)
