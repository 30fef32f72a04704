"""Find anomalies: rows or images that differ from those that a run was trained on.

Without --input: the test split. The classes that the run was trained without (python train.py ... anomaly_classes=[3])
or as anomalies (model=deep_sad), or that --anomaly names, are the anomalies, and each score is compared with the
untrained network, PCA and detectors of the raw rows. Several runs: a table of AUROC (higher is better) with their mean.
With --input: new rows or images.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from autoenc.command import Results, add_input, execute, fraction, parser, positive

EXAMPLES = """scores, higher is more anomalous:
  error         mean squared error of the reconstruction
  nll           -log p(x|z) of the deterministic code, nats
  elbo          negative evidence lower bound, nats; if the code has a posterior (model=vae)
  mahalanobis   Mahalanobis distance of the code from the mean of the training codes
  prior         -log p(z) of the code, nats; model=deep_svdd, deep_sad: squared distance from the center
  knn           mean distance of the code to its 10 nearest training codes
  local         knn, divided by the mean knn of those 10
  forest        isolation forest on code and error
  combined      error, knn and forest: sum of -log p, p the fraction of training rows that score as high
  feedback      weighted sum of -log p over the scores; after --feedback
scores of each time step of recordings (data=series): means over the windows of the step of those above, and
  residual      Mahalanobis distance of the errors of the channels
  error         squared errors of the channels, each relative to that of training windows
scores of each pixel for images in patches (data=defects):
  error, ssim   difference of image and reconstruction: squared, or structural similarity
  shift         difference of their means along a stroke through the pixel, relative to good images
  memory        distance of filter responses from the nearest ones in good images
  combined      geometric mean of shift and memory

examples:
  python scripts/detect.py RUN                                      the test split, results in RUN/detect/
  python scripts/detect.py RUN --input new.csv --output scores.csv
  python scripts/detect.py RUN --input new.npy --labels truth.npy   AUROC on new rows
  python scripts/detect.py RUN --input new.csv --alarm-rate 0.01 --calibrate normal.csv
  python scripts/detect.py RUN --input new.csv --contamination auto --calibrate normal.csv
  python scripts/detect.py RUN --input new.csv --fdr 0.1            of the alarms, 10% normal rows at most
  python scripts/detect.py RUN --input new/ --alarm-rate 0.05 --calibrate normal/ --block recording
  tail -f -n +1 log.csv | python scripts/detect.py RUN --follow -   recordings: each row as it comes
  python scripts/detect.py RUN --feedback scores.csv                labelled rows re-weight the scores: --score feedback
  python train.py -m model=ae data=mnist model.latent_dim=32 'anomaly_classes=[0],[1],[2]'
  python scripts/detect.py outputs/sweeps/mnist-*/[0-9]*/           the runs of a sweep, and their mean

results: detect.json (thresholds, counts, AUROC, average precision), detect.csv (each row), roc.png, heatmap.png
  --input          only with --output NAME.csv: NAME.csv, NAME.json, NAME_roc.png, NAME_heatmap.png
  several runs     only with --output FOLDER: detect.json, detect.csv
  data=series      detect.json, detect.csv (each row, with its time stamp), events.csv (intervals), timeline.png
  data=defects     detect.json, detect.csv and heat_*.png (each image), heatmap.png; --input only with --output FOLDER
"""


def main(args: argparse.Namespace) -> Results:
    """Detect in the way that the data of the run name, or compare several runs."""
    from autoenc import load_run
    from autoenc.apps.anomaly.way import Options, several, way_of

    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    options.check(len(args.run))
    if len(args.run) > 1:
        return several(args.run, options, args.device)
    run = load_run(args.run[0], args.device)
    return way_of(run)(run, options).results()


def class_names(text: str) -> list[str]:
    """Parse CLASS[,CLASS]."""
    return [name.strip() for name in text.split(",") if name.strip()]


def block(text: str) -> int | str:
    """Parse a number of steps, or recording."""
    return text if text == "recording" else positive(text)


block.__name__ = "number of steps, or recording,"  # argparse: invalid <name> value: 'x'

if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, output="path", several=True)
    add_input(arguments)
    arguments.add_argument("--labels", metavar="FILE",
                           help="a number for each row of --input, 0: normal (default: its data.label)")  # fmt: skip
    arguments.add_argument("--anomaly", metavar="CLASS[,CLASS]", type=class_names, default=[],
                           help="anomalies in the test split (default: left out, or trained as anomalies)")  # fmt: skip
    arguments.add_argument("--score", metavar="NAME", help="deciding score (default: local for images, else combined)")
    rules = arguments.add_mutually_exclusive_group()
    rules.add_argument("--quantile", type=fraction,
                       help="threshold: quantile of the validation scores (default: 0.99)")  # fmt: skip
    rules.add_argument("--alarm-rate", metavar="RATE", type=fraction,
                       help="threshold: a normal row is an alarm with at most this probability")  # fmt: skip
    rules.add_argument("--fdr", metavar="RATE", type=fraction,
                       help="threshold: the highest expected share of normal rows among the alarms")  # fmt: skip
    rules.add_argument("--contamination", choices=("auto",),
                       help="threshold: marks the share of anomalies that --calibrate tells")  # fmt: skip
    arguments.add_argument("--feedback", metavar="FILE",
                           help="learn the score feedback from a detect.csv with a column label")  # fmt: skip
    arguments.add_argument("--calibrate", metavar="FILE",
                           help="normal rows that the run has not seen (default: the validation rows)")  # fmt: skip
    arguments.add_argument("--block", metavar="STEPS", type=block,
                           help="recordings: --alarm-rate is of blocks, or recording (default: window)")  # fmt: skip
    arguments.add_argument("--join", metavar="STEPS", type=positive,
                           help="recordings: alarms fewer steps apart are one (default: window / 4)")  # fmt: skip
    arguments.add_argument("--follow", metavar="FILE",
                           help="recordings: score the rows of a CSV file, or of - (stdin), as they come")  # fmt: skip
    execute(main, arguments)
