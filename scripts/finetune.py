"""Does pre-training pay? Fine-tune the encoder of a run on few labels, against the same network from scratch."""

from __future__ import annotations

import argparse

from autoenc.command import execute, parser, positive

EXAMPLES = """examples:
  python scripts/finetune.py RUN
  python scripts/finetune.py RUN --labels 50 200 --seeds 10

results: finetune.json: test accuracies, means and standard deviations over the seeds
"""


def main(args: argparse.Namespace) -> None:
    """Train, print, write."""
    from autoenc import load_run
    from autoenc.apps.codes.finetune import finetune
    from autoenc.apps.outputs import Outputs

    run = load_run(args.run, args.device)
    with Outputs(run, "finetune", args.output, args.force) as out:
        found = finetune(run, args.labels, args.seeds, args.steps, args.lr)
        numbers = {f"{c.labels} labels": c.numbers() for c in found}
        out.json({"seeds": args.seeds, "steps": args.steps, "lr": args.lr, "numbers": numbers})
    out.table(f"test accuracy, {args.seeds} seeds", numbers)
    for labels, row in numbers.items():
        spread = max(row["pretrained_std"], row["scratch_std"])
        if args.seeds < 2:
            continue  # one draw says nothing of what another would give
        pays = "pays" if row["margin"] > spread else "hurts" if row["margin"] < -spread else "makes no clear difference"
        out.say(
            f"{labels}: pre-training {pays}: a margin of {row['margin']:+.4f}, a spread of {spread:.4f} over the seeds"
        )
    out.say(f"written: {out.folder / 'finetune.json'}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--labels", type=positive, nargs="+", default=[100, 1_000], help="default: 100 1000")
    arguments.add_argument("--seeds", type=positive, default=5, help="default: 5")
    arguments.add_argument("--steps", type=positive, default=300, help="of training, each (default: 300)")
    arguments.add_argument("--lr", type=float, default=1e-3, help="learning rate (default: 0.001)")
    execute(main, arguments)
