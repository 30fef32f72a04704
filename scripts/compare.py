"""Compare runs: a table, a CSV with every number, plots, and the settings in which they differ.

Takes run directories, folders of sweeps, or any folder above runs. Numbers are of the test split; those of
scripts/evaluate.py are there too, where it has been run (for instance --sort probes.codes.logistic).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import execute, parser

EXAMPLES = """examples:
  python scripts/compare.py outputs/mnist                            every run on MNIST
  python scripts/compare.py outputs/sweeps/A outputs/mnist/vae/B --sort psnr --output report/

results: comparison.csv, comparison.png (numbers against the latent dimension; rate and distortion where there is a KL)
"""


def main(args: argparse.Namespace) -> None:
    """Read, sort, print, write."""
    from autoenc.apps.protocol import compare
    from autoenc.errors import UserError
    from autoenc.files import write_text
    from autoenc.training.tracking import console

    folder = Path(args.output or ".")
    files = [folder / name for name in ("comparison.csv", "comparison.png")]
    if not args.force and (there := [file for file in files if file.exists()]):
        raise UserError(f"{there[0]}: is there already; --force writes over it")
    rows = compare.read_runs(args.runs)
    metric = args.sort or compare.chief(rows)
    rows = compare.ordered(rows, metric)
    keys = compare.differing(rows, in_all=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(files[0], compare.csv_text(rows, keys))
    drawn = compare.plot(rows, keys, files[1], also=[metric])
    screen = console()
    screen.print(compare.table(rows, keys, also=[metric]))
    data = sorted({str(row.settings["data"]) for row in rows if "data" in row.settings})
    if len(data) > 1:
        screen.print(f"Attention: the runs are on different data ({', '.join(data)}): their numbers do not compare")
    for key in keys:
        values = sorted({str(row.settings[key]) for row in rows if key in row.settings})
        screen.print(f"they differ in {key}: {', '.join(values)}", markup=False)
    screen.print(f"written: {', '.join(str(file) for file in (files if drawn else files[:1]))}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, run=False)
    arguments.add_argument("runs", nargs="+", metavar="RUN", help="run directories, sweeps, or folders above runs")
    arguments.add_argument(
        "--sort", metavar="NUMBER", help="the best first by this (default: mse; perplexity where there is no mse)"
    )
    execute(main, arguments)
