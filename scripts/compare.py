"""Compare runs: a table with the settings in which they differ; with --output also a CSV with every metric, and plots.

Takes run directories, folders of sweeps, or any folder that contains runs. Runs are ranked by a validation metric;
the other metrics are of the test split, those of scripts/evaluate.py included. With --generation, what the runs
generate is compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/compare.py outputs/mnist                            every run on MNIST
  python scripts/compare.py outputs/mnist --show probes.codes.logistic      with a metric of scripts/evaluate.py
  python scripts/compare.py outputs/sweeps/A outputs/mnist/vae/B --sort psnr --output report/
  python scripts/compare.py RUN1 RUN2 RUN3 --generation --output report/    quality, speed and memorization of samples

Runs that differ only in their seeds are one row: mean and 95 % interval, and whether differences are more than chance.

results, with --output: comparison.csv (each run); comparison.png (metrics against the latent dimension, or bars; rate
and distortion; validation curves; a map of two settings); comparison.html (the table, the figure, the commands); with
--generation: generators.json, generators.csv, and generators.png, sixteen samples of each run (tables and texts:
samples.csv)
"""


def main(args: argparse.Namespace) -> Results:
    """Read, rank, print, write."""
    if args.generation:
        return generation(args)
    from autoenc.apps.protocol import compare, compare_table
    from autoenc.errors import ConfigError, UserError, check_new, suggest
    from autoenc.screen import console

    if args.samples or args.examples:
        raise UserError(f"--{'samples' if args.samples else 'examples'}: is for --generation")
    rows = compare.read_runs(args.runs)
    metric = args.sort or compare.chief(rows)
    rows = compare.ranked(rows, metric)
    if missing := [name for name in args.show if not any(name in row.numbers for row in rows)]:
        known = sorted({name for row in rows for name in row.numbers})
        why = f"no run has this metric; {suggest(missing[0], known)}; scripts/evaluate.py RUN measures more"
        raise ConfigError("--show", missing[0], why)
    for name in compare_table.FILES if args.output else ():
        check_new(Path(args.output) / name, args.force)
    compared = compare_table.Comparison(rows, compare.differing(rows), metric, [metric, *args.show])
    screen = console()
    compare_table.print_comparison(compared, screen)
    data = sorted({str(row.settings["data"]) for row in rows if "data" in row.settings})
    if len(data) > 1:
        screen.print(f"Attention: the runs are on different data ({', '.join(data)}): their metrics are not comparable")
    if args.output:
        Path(args.output).mkdir(parents=True, exist_ok=True)
        written = compare_table.write(compared, Path(args.output))
        screen.print(f"written: {', '.join(map(str, written))}")
    return compared.summary()


def generation(args: argparse.Namespace) -> Results:
    """Compare what the runs generate."""
    from autoenc import load_run
    from autoenc.apps.protocol import compare, generators
    from autoenc.errors import UserError, check_new
    from autoenc.metric_table import legend
    from autoenc.screen import console, result_table

    if args.sort or args.show:
        raise UserError(
            f"--{'sort' if args.sort else 'show'}: is not for --generation, whose numbers are always the same"
        )
    runs = [load_run(path, args.device) for path in compare.runs_in(args.runs)]
    for name in generators.FILES if args.output else ():
        check_new(Path(args.output) / name, args.force)
    found, screen = generators.compare(runs, args.samples or 100, args.examples or 1_000), console()
    screen.print(result_table("generation", {each.name: each.numbers for each in found}))
    for line in legend(name for each in found for name in each.numbers):
        screen.print(line, soft_wrap=True)
    if args.output:
        screen.print(f"written: {', '.join(map(str, generators.write(runs, found, Path(args.output))))}")
    return generators.summary(runs, found)


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, run=False)
    arguments.add_argument(
        "runs", nargs="+", metavar="RUN", help="run directories, sweeps, or folders that contain runs"
    )
    arguments.add_argument(
        "--sort", metavar="METRIC", help="rank by this validation metric (default: mse; perplexity for text data)"
    )
    arguments.add_argument(
        "--show", metavar="METRIC", nargs="+", default=[], help="more test metrics for the table and the plot"
    )
    arguments.add_argument("--generation", action="store_true", help="compare what the runs generate")
    arguments.add_argument("--samples", type=positive, help="importance samples of the NLL (default: 100)")
    arguments.add_argument("--examples", type=positive, help="test examples of the NLL (default: 1000)")
    execute(main, arguments)
