"""Impute the missing cells of a table, or the missing steps of a recording.

Tables need a run that was trained on the observed cells (model=miwae). One value for each missing cell, the mean given
the observed cells of the row, or several versions of the table that are draws, whose differences show how uncertain
the values are. Recordings take any run with data=series: gaps of up to half a window are filled by the model or, where
hidden steps of validation windows are nearer to it, by linear interpolation. Other cells and columns stay as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/impute.py RUN --input holes.csv --output whole.csv
  python scripts/impute.py RUN --input holes.csv --output draws.csv --draws 20
  python scripts/impute.py RUN --input log.csv --output whole.csv              a recording
  python scripts/impute.py RUN --input logs/ --output whole/                   recordings, a CSV file for each

results: the table, a CSV file; with --draws, the versions below each other, numbered by the first column, `draw`
"""


def main(args: argparse.Namespace) -> Results:
    """Impute, write, print."""
    import pandas as pd

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.restoration import gaps, impute
    from autoenc.data.kinds.observed import Completed
    from autoenc.errors import UserError, check_new
    from autoenc.files import write_text
    from autoenc.metric_table import legend
    from autoenc.screen import console, method_table
    from autoenc.text import spreadsheet_safe

    run = load_run(args.run, args.device)
    if not args.input or not args.output:
        raise UserError("--input and --output are needed: what has missing cells, and the CSV file to write")
    path, output, hidden = Path(args.input), Path(args.output), None
    if not path.is_dir() and output.suffix.lower() != ".csv":
        raise UserError(f"--output {output}: must end in .csv")
    missing = run.spec.kind.gaps(path)
    files = [path] if missing is None else list(missing)
    targets = {f: (output / f.relative_to(path)).with_suffix(".csv") if path.is_dir() else output for f in files}
    for file, target in targets.items():
        check_new(target, args.force)
        if target.exists() and any(target.samefile(each) for each in files):
            raise UserError(f"--output {output}: {target} is a file of --input; name another")
        if list(targets.values()).count(target) > 1:
            raise UserError(f"{file}: {target} would be that of another file, too; rename one")
    if missing is None:
        impute.check(run)
        split = inputs.read(run, args.input).split
        filled = {path: impute.impute(run, split, args.draws or 0, args.samples or impute.SAMPLES)}
    else:
        for name in ("draws", "samples"):
            if (value := getattr(args, name)) is not None:
                raise UserError(f"--{name} {value}: is for tables; {run.path} has {run.spec.kind.noun}")
        windows, hidden = gaps.fill(run, missing)
        filled = {file: [x] for file, x in windows.items()}
    found, left = [], 0
    for file, versions in filled.items():
        whole = run.spec.kind.completed(file, versions)
        assert whole is not None, "only kinds with missing cells pass the check"
        left += int(whole.versions[0][whole.missing.columns].isna().sum().sum())
        for number, version in enumerate(whole.versions, 1):
            if args.draws:
                version.insert(0, "draw", number, allow_duplicates=True)
        targets[file].parent.mkdir(parents=True, exist_ok=True)
        header = [spreadsheet_safe(str(name)) for name in whole.versions[0]]
        write_text(targets[file], pd.concat(whole.versions).to_csv(index=False, header=header))
        found.append(whole.missing)
    whole = Completed([], pd.concat(found))
    by = "" if hidden is None else f" by the method with the lowest error on validation windows: {hidden.method}"
    longer = f"; {left:,} cells in gaps longer than half a window or at an end are left empty" if left else ""
    line = f"{whole.described}{by}{longer}; written: {args.output}"
    console().print(line, soft_wrap=True, markup=False, highlight=False)
    if hidden is None:
        return {**whole.counts, "file": args.output}
    numbers = {name: {"rmse": value} for name, value in hidden.numbers.items()}
    console().print(method_table(f"{hidden.length} hidden steps of test windows", numbers))
    console().print(*legend(["rmse"]))
    return {**whole.counts, "file": args.output, "hidden_steps": hidden.length, "method": hidden.method, **numbers}


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, output="path")
    arguments.add_argument(
        "--input", metavar="FILE", help="table or recording with missing cells, or folder of recordings"
    )
    arguments.add_argument("--draws", type=positive, metavar="N", help="write N versions (multiple imputation)")
    arguments.add_argument("--samples", type=positive, help="importance samples per row of a table (default: 1000)")
    execute(main, arguments)
