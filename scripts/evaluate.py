"""Evaluate a run by the one protocol, on the test split: comparable between variants, twice the same numbers.

Reconstruction, latent health, denoising, features for a classifier, retrieval, projection, anomaly detection and
generation: whatever the run's data and model allow. What is left out is named, with the reason.
"""

from __future__ import annotations

import argparse

from autoenc.command import execute, parser

EXAMPLES = """examples:
  python scripts/evaluate.py RUN
  python scripts/evaluate.py RUN --only reconstruction latent

results: evaluation.json in the run, which scripts/compare.py reads: --show probes.codes.logistic
"""


def main(args: argparse.Namespace) -> None:
    """Evaluate, print, write."""
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.protocol import evaluate

    run = load_run(args.run, args.device)
    with Outputs(run, "evaluation", args.output or run.path, args.force) as out:
        found = evaluate.evaluate(run, args.only or list(evaluate.SECTIONS))
        out.json(found)
    for title, rows in evaluate.tables(found, run.name):
        out.table(title, rows)
    for section, why in found["skipped"].items():
        out.say(f"{section}: left out: {why}")
    out.say(f"written: {out.folder / 'evaluation.json'}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--only", nargs="+", metavar="SECTION", help="some of the sections named above")
    execute(main, arguments)
