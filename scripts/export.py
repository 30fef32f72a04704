"""Export a trained run for deployment, as ONNX and torch.export files that do not need this package.

Encoder (x -> code), decoder (code -> reconstruction) and score (x -> mean squared error of each example, and the
reconstruction), for batches of any size. With --detector: raw rows -> every score of scripts/detect.py, p-value and
decision, in one file. Each file is compared with the run before anything is written.
"""

from __future__ import annotations

import argparse
import sys

from autoenc.command import FAILED, Results, execute, fraction, parser, positive
from autoenc.text import printable

EXAMPLES = """examples:
  python scripts/export.py RUN                              to RUN/export/
  python scripts/export.py RUN --output deploy/ --opset 18  for older runtimes
  python scripts/export.py RUN --quantile 0.999             fewer alarms
  python scripts/export.py RUN --detector                   to RUN/detector/; the score that detect.py decides by
  python scripts/export.py RUN --detector --score knn --alarm-rate 0.01 --calibrate normal.csv
  python docs/serve.py RUN/detector new.csv                 score, p-value and decision of each row

results: {encoder,decoder,score}.onnx (one file each, weights inside), {encoder,decoder,score}.pt2 (torch.export.load),
export.json (shape, range and scale of the input, score threshold, checksums, differences, an example that needs only
numpy and onnxruntime); exit code 1 and no files if one differs from the run by more than 1e-4
  --detector       detector.onnx, detector.pt2 (categories as numbers), detector.json (inputs, outputs, threshold,
                   differences); reads rows as the files have them: numbers and categories of tables, windows of
                   recordings, counts of words, images to inspect for defects; other images as the model is fed them
"""
DETECTOR = ("score", "alarm_rate", "calibrate")


def main(args: argparse.Namespace) -> Results:
    """Export, print, write."""
    from autoenc.errors import UserError

    if args.detector:
        return detector(args)
    for name in DETECTOR:
        if value := getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')} {value}: needs --detector, whose score and threshold it is of")
    from autoenc import load_run
    from autoenc.apps.anomaly.way import way_of
    from autoenc.apps.deploy import export
    from autoenc.apps.outputs import Outputs
    from autoenc.screen import console

    run = load_run(args.run, args.device)
    with Outputs(run, "export", args.output, args.force) as out, console().status("exporting and checking ..."):
        try:
            result = export.export(run, out.path("."), args.opset, args.quantile)
        except export.Unfaithful as error:
            print(printable(error), file=sys.stderr)
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
    out.say(
        f"scripts/detect.py decides by {way_of(run).default(run)}, not by this score; --detector exports its decision"
    )
    out.say(f"{out.folder / 'export.json'}: input, threshold and an example")
    return result.metadata


def detector(args: argparse.Namespace) -> Results:
    """Export the detector, print, write."""
    from autoenc import load_run
    from autoenc.apps.anomaly.way import Options
    from autoenc.apps.deploy import export, export_detector
    from autoenc.apps.outputs import Outputs
    from autoenc.screen import console

    options = Options(score=args.score, quantile=args.quantile, alarm_rate=args.alarm_rate, calibrate=args.calibrate)
    run = load_run(args.run, args.device)
    export_detector.check(run)
    with Outputs(run, export_detector.NAME, args.output, args.force) as out, console().status("exporting ..."):
        try:
            result = export_detector.export_detector(run, out.path("."), options, args.opset)
        except export.Unfaithful as error:
            print(printable(error), file=sys.stderr)
            raise SystemExit(FAILED) from None
    rows: dict[str, dict[str, float | str]] = {
        name: {file: each.differences[name] for file, each in result.compared.items()}
        for name in result.metadata["outputs"]
    }
    rows["decisions that differ"] = {file: each.decisions for file, each in result.compared.items()}
    rows["time per row, us"] = {file: each.microseconds for file, each in result.compared.items()}
    rows["size, kB"] = {file: size / 1000 for file, size in result.sizes.items()}
    out.table(f"largest difference from the run, {result.rows} rows", rows)
    for note in result.notes:
        out.say(note)
    out.say(f"the run itself takes {result.microseconds:.0f} us per row")
    out.say(f"alarm: {result.decided}")
    out.say(f"{out.folder / export_detector.NAME}.json: inputs, outputs and threshold")
    return result.metadata


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--opset", type=positive, default=20, help="opset of ONNX, 18 to 25 (default: 20)")
    rules = arguments.add_mutually_exclusive_group()
    rules.add_argument("--quantile", type=fraction, default=0.99,
                       help="threshold: quantile of the validation scores (default: 0.99)")  # fmt: skip
    rules.add_argument("--alarm-rate", metavar="RATE", type=fraction,
                       help="threshold: a normal row is an alarm with at most this probability")  # fmt: skip
    arguments.add_argument("--detector", action="store_true", help="export the detector of scripts/detect.py")
    arguments.add_argument("--score", metavar="NAME", help="deciding score (default: that of scripts/detect.py)")
    arguments.add_argument("--calibrate", metavar="FILE",
                           help="normal rows that the run has not seen (default: the validation rows)")  # fmt: skip
    execute(main, arguments)
