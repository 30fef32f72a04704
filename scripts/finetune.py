"""Fine-tune the encoder of a run on few labels, and compare with the same network trained from scratch."""

from __future__ import annotations

import argparse

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/finetune.py RUN
  python scripts/finetune.py RUN --labels 50 200 --seeds 10

results: finetune.json: test accuracies, means and standard deviations over the seeds
"""


def main(args: argparse.Namespace) -> Results:
    """Train, print, write."""
    from autoenc import load_run
    from autoenc.apps.codes.finetune import LABELS, default_labels, finetune
    from autoenc.apps.outputs import Outputs

    run = load_run(args.run, args.device)
    with Outputs(run, "finetune", args.output, args.force) as out:
        labels = args.labels or default_labels(run)
        if not args.labels and labels != list(LABELS):
            out.say(f"--labels {' '.join(map(str, labels))}, because {run.spec.name} has few labels")
        comparisons = finetune(run, labels, args.seeds, args.steps, args.lr)
        numbers = {f"{c.labels} labels": c.numbers() for c in comparisons}
        out.json({"seeds": args.seeds, "steps": args.steps, "lr": args.lr, "numbers": numbers})
    out.table(f"test accuracy, {args.seeds} seeds", numbers)
    for size, row in numbers.items():
        if args.seeds < 2:
            continue  # no standard deviation
        margin, half = row["margin"], row["margin_half_width"]
        effect = "helps" if margin > half else "hurts" if margin < -half else "makes no difference that is shown"
        out.say(f"{size}: pre-training {effect}: margin {margin:+.4f} ± {half:.4f} (95%, paired over the seeds)")
    out.say(f"written: {out.folder / 'finetune.json'}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--labels", type=positive, nargs="+", help="default: 100 1000, or half of the labels")
    arguments.add_argument("--seeds", type=positive, default=5, help="default: 5")
    arguments.add_argument("--steps", type=positive, default=300, help="training steps of each network (default: 300)")
    arguments.add_argument("--lr", type=float, default=1e-3, help="learning rate (default: 0.001)")
    execute(main, arguments)
