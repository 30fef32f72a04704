"""Impute the missing cells of a table with a run that was trained on the observed ones (model=miwae).

One value for each missing cell, the mean given the observed cells of the row, or several versions of the table that are
draws, whose differences show how uncertain the values are. Other cells and columns stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/impute.py RUN --input holes.csv --output whole.csv
  python scripts/impute.py RUN --input holes.csv --output draws.csv --draws 20

results: the table, a CSV file; with --draws, the versions below each other, numbered by the first column, `draw`
"""


def main(args: argparse.Namespace) -> Results:
    """Impute, write, print."""
    import pandas as pd

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.generation import impute
    from autoenc.errors import UserError, check_new
    from autoenc.files import write_text
    from autoenc.training.tracking import console

    run = load_run(args.run, args.device)
    if not args.input or not args.output:
        raise UserError("--input and --output are needed: the table with missing cells, and the CSV file to write")
    if Path(args.output).suffix.lower() != ".csv":
        raise UserError(f"--output {args.output}: must end in .csv")
    impute.check(run)
    split = inputs.read(run, args.input).split
    check_new(Path(args.output), args.force)
    whole = run.spec.kind.completed(Path(args.input), impute.impute(run, split, args.draws or 0, args.samples))
    assert whole is not None, "only kinds with missing cells pass the check"
    for number, version in enumerate(whole.versions, 1):
        if args.draws:
            version.insert(0, "draw", number, allow_duplicates=True)
    write_text(Path(args.output), pd.concat(whole.versions).to_csv(index=False))
    console().print(f"{whole.described}; written: {args.output}", soft_wrap=True, markup=False, highlight=False)
    return {**whole.counts, "file": args.output}


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, output="file")
    arguments.add_argument("--input", metavar="FILE", help="table with missing cells, in a format of data=table")
    arguments.add_argument("--draws", type=positive, metavar="N", help="write N versions (multiple imputation)")
    arguments.add_argument("--samples", type=positive, default=1000, help="importance samples per row (default: 1000)")
    execute(main, arguments)
