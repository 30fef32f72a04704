"""Evaluate a run on the test split by one protocol: reproducible, and comparable between variants.

Sections: reconstruction, latent, bounds, denoising, probes, classification, retrieval, clustering, projection,
anomaly, generation, recovery, disentanglement. Sections that do not apply to the data or the model are
skipped, with the reason.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from autoenc.command import Results, execute, parser, positive

EXAMPLES = """examples:
  python scripts/evaluate.py RUN
  python scripts/evaluate.py RUN --only reconstruction latent
  python scripts/evaluate.py RUN --only bounds --samples 5000 --examples 10000    -log p(x) as in the literature

results: evaluation.json in the run, which scripts/compare.py reads: --show probes.codes.logistic
"""


def main(args: argparse.Namespace) -> Results:
    """Evaluate, print, write."""
    from autoenc import load_run
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.protocol import evaluate

    only = args.only or list(evaluate.SECTIONS)
    evaluate.check_sections(only)
    run = load_run(args.run, args.device)
    before = evaluate.earlier(Path(args.output or run.path) / "evaluation.json") if args.only else {}
    new = before and not any(name in before or name in before.get("skipped", {}) for name in only)
    with Outputs(run, "evaluation", args.output or run.path, args.force or bool(new)) as out:
        numbers = evaluate.evaluate(run, only, args.samples, args.examples)
        out.json(evaluate.merged(before, numbers))
    for title, rows, remark in evaluate.tables(numbers, run.name):
        out.table(title, rows, remark)
    for section, reason in numbers["skipped"].items():
        out.say(f"{section}: skipped: {reason}")
    out.say(f"written: {out.folder / 'evaluation.json'}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument(
        "--only",
        nargs="+",
        metavar="SECTION",
        help="sections, added to an earlier call (default: all)",
    )
    arguments.add_argument("--samples", type=positive, default=100, help="importance samples of bounds (default: 100)")
    arguments.add_argument("--examples", type=positive, default=1000, help="test examples of bounds (default: 1000)")
    execute(main, arguments)
