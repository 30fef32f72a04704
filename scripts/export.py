"""Export a trained run for deployment, as ONNX and torch.export files that do not need this package.

Encoder (x -> code), decoder (code -> reconstruction) and score (x -> mean squared error of each example, and the
reconstruction), for batches of any size. Each file is compared with the run before anything is written.
"""

from __future__ import annotations

import argparse
import sys

from autoenc.command import FAILED, Results, execute, fraction, parser, positive

EXAMPLES = """examples:
  python scripts/export.py RUN                              to RUN/export/
  python scripts/export.py RUN --output deploy/ --opset 18  for older runtimes
  python scripts/export.py RUN --quantile 0.999             fewer alarms

results: {encoder,decoder,score}.onnx (one file each, weights inside), {encoder,decoder,score}.pt2 (torch.export.load),
export.json (shape, range and scale of the input, score threshold, checksums, differences, an example that needs only
numpy and onnxruntime); exit code 1 and no files if one differs from the run by more than 1e-4
"""


def main(args: argparse.Namespace) -> Results:
    """Export, print, write."""
    from autoenc import load_run
    from autoenc.apps.deploy import export
    from autoenc.apps.outputs import Outputs
    from autoenc.training.tracking import console

    run = load_run(args.run, args.device)
    with Outputs(run, "export", args.output, args.force) as out, console().status("exporting and checking ..."):
        try:
            result = export.export(run, out.path("."), args.opset, args.quantile)
        except export.Unfaithful as error:
            print(error, file=sys.stderr)
            raise SystemExit(FAILED) from None
    rows = {
        file: {"difference": difference, "size, kB": result.sizes[file] / 1000}
        for file, difference in result.differences.items()
    }
    out.table(f"export, {result.metadata['verification']['examples']} training examples", rows)
    score = result.metadata["score"]
    out.say(
        f"a mean squared error above {result.threshold:.4g} is an anomaly: quantile {score['quantile']:g} of "
        f"{score['validation_examples']:,} validation scores"
    )
    out.say(f"{out.folder / 'export.json'}: input, threshold and an example")
    return result.metadata


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--opset", type=positive, default=20, help="opset of ONNX, 18 to 25 (default: 20)")
    arguments.add_argument("--quantile", type=fraction, default=0.99,
                           help="quantile of the validation scores, the threshold (default: 0.99)")  # fmt: skip
    execute(main, arguments)
