"""Test whether new data have drifted from those that a run was trained on, and which columns moved.

Two-sample tests compare the scores of scripts/detect.py and the codes with those of the validation rows, and each
column of tables and vectors with the training rows. Without --input: the test split.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, add_input, execute, fraction, parser

EXAMPLES = """examples:
  python scripts/drift.py RUN --input new.csv
  python scripts/drift.py RUN --input monday.csv --output drift/monday --level 0.001
  python scripts/drift.py RUN                          the test split, as a check

results: drift.json (verdict, tests), drift.csv (statistic and p-value of each test)
"""
SHOWN = 10


def main(args: argparse.Namespace) -> Results:
    """Test, print, write."""
    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.drift import drift
    from autoenc.apps.outputs import Outputs

    run = load_run(args.run, args.device)
    split = inputs.read(run, args.input, args.resize).split if args.input else run.normal_test()
    with Outputs(run, "drift", args.output, args.force) as out:
        found = drift.drift(run, split, args.input or "the test split", args.level)
        out.csv("drift", drift.HEADER, found.table())
        out.json(found.summary())
    rows: dict[str, dict[str, float | str]] = {
        f"{result.of} {result.name}": {
            "statistic": result.tested.statistic,
            "p": result.tested.p,
            "p, adjusted": result.p,
            "reference": result.tested.reference,
            "new": result.tested.new,
        }
        for result in sorted(found.results, key=lambda result: result.p)[:SHOWN]
    }
    out.table("drift", rows)
    out.say(found.verdict)
    out.say(found.limits)
    out.say(f"all tests: {out.folder / 'drift.csv'}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    add_input(arguments)
    arguments.add_argument("--level", type=fraction, default=0.05,
                           help="highest probability of a verdict of drift without drift (default: 0.05)")  # fmt: skip
    execute(main, arguments)
