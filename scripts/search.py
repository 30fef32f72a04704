"""Search for settings with Optuna (TPE): default and tuned side by side, with the same budget for every variant.

Each variant (model=vae,iwae) gets its default, the preset untouched, and --trials trials that are as long. Trials in
the worst quarter of the others after as many epochs are pruned. All choices are made on the validation split.
The same command continues a search that was stopped; several processes, or machines that share the folder, may run it
at once.
"""

from __future__ import annotations

import argparse

from autoenc.command import Parser, Results, execute, positive
from autoenc.search.space import HELP

EXAMPLES = (
    """examples:
  python scripts/search.py model=vae,iwae data=mnist --space "model.latent_dim=int(2,64) optimizer.lr=log(1e-4,1e-2)" \\
    --trials 50 --metric val/loss
  python scripts/search.py model=ae --space "model.latent_dim=int(2,64)" --metric val/mse,parameters    a Pareto front

"""
    + HELP
    + """
metrics: val/NAME, a metric of the validation split (docs/metrics.md); val/NAME:min or :max where neither direction is
better by itself; costs of a run, which are minimized: parameters, seconds, training_seconds, peak_memory_mb

results in outputs/searches/NAME: comparison.csv, .png and .html (default and tuned), trials.csv, result.json,
figures/ (Optuna's plots), VARIANT/default and VARIANT/NUMBER_SETTINGS (the runs), journal.log (Optuna's storage)
"""
)


def main(args: argparse.Namespace) -> Results:
    """Plan, train, show; exit with 1 if a variant has no finished trial."""
    from autoenc.search import plan as planning

    made = planning.plan(
        args.settings, args.space, args.metric, args.name, args.trials, args.seeds, not args.no_pruning
    )
    from autoenc.search.run import run

    code, results = run(made)
    if code:
        raise SystemExit(code)
    return results


if __name__ == "__main__":
    arguments = Parser(description=__doc__, epilog=EXAMPLES)
    arguments.add_argument(
        "settings", nargs="+", metavar="KEY=VALUE", help="settings as of train.py; a list of values makes variants"
    )
    arguments.add_argument("--space", required=True, metavar="SPACE", help="the settings that vary, see below")
    arguments.add_argument(
        "--metric", required=True, metavar="METRIC", help="what is optimized; up to three with commas"
    )
    arguments.add_argument("--trials", type=positive, default=50, help="trials of each variant (default: 50)")
    arguments.add_argument(
        "--seeds", type=positive, default=0, help="then train default and tuned with this many other seeds"
    )
    arguments.add_argument("--name", help="folder in outputs/searches (default: data, variants and metric)")
    arguments.add_argument("--no-pruning", action="store_true", help="train every trial to its end")
    arguments.parse_args = arguments.parse_intermixed_args  # type: ignore[method-assign]  # settings after options
    execute(main, arguments)
