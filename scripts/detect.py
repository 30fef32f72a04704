"""Find anomalies: rows or images unlike those that a run was trained on.

Without --input: the test split. The classes that the run was trained without (python train.py ... anomaly_classes=[3]),
or that --anomaly names, count as anomalies there, and each score is measured, beside PCA and an isolation forest.
Several runs: a table of AUROC with their mean. With --input: rows or images of yours.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from autoenc.command import execute, fraction, parser

if TYPE_CHECKING:
    from autoenc.apps.anomaly.detect import Detected
    from autoenc.apps.outputs import Outputs
    from autoenc.loading import Run

EXAMPLES = """scores, higher is more unusual:
  error         mean squared error of the reconstruction
  nll           -log p(x|z) of the deterministic code, nats
  elbo          the negative evidence lower bound, nats; where the code has a posterior (model=vae)
  mahalanobis   distance of the code from the mean of the training codes, by their covariance
  knn           mean distance of the code to its 10 nearest training codes
  local         knn, divided by what knn is for those 10
  forest        how few splits set code and error apart from those of the training rows (isolation forest)
  combined      how rare error, knn and forest are together, among the training rows
scores of pictures in patches (data=defects), pixel by pixel:
  error, ssim   difference of picture and reconstruction: squared, or structural similarity
  shift         of their means along a stroke through the pixel, relative to what is usual there
  memory        distance of what a bank of filters says of the place from the nearest place in good pictures
  combined      shift and memory together

examples:
  python scripts/detect.py RUN                                      the test split, results in RUN/detect/
  python scripts/detect.py RUN --input new.csv --output scores.csv
  python scripts/detect.py RUN --input new.npy --labels truth.npy   AUROC on rows of yours
  python train.py -m model=ae data=mnist model.latent_dim=32 'anomaly_classes=[0],[1],[2]'
  python scripts/detect.py outputs/sweeps/mnist-*/[0-9]*/           the runs of a sweep, and their mean

results: detect.json (thresholds, counts, AUROC, average precision), detect.csv (each row), roc.png, heatmap.png. With
--input only where --output NAME.csv is given: NAME.csv, NAME.json, NAME_roc.png, NAME_heatmap.png. With several runs
only where --output FOLDER is given: detect.json, detect.csv. Of runs on data=defects: detect.json, detect.csv (each
picture), heat_*.png (each picture), heatmap.png; with --input only where --output FOLDER is given
"""
IMAGES = 12  # in the heat map
HIGHEST = 5


def main(args: argparse.Namespace) -> None:
    """Score, print, write."""
    from autoenc.errors import UserError

    if args.labels and not args.input:
        raise UserError("--labels needs --input; for the test split, --anomaly names classes")
    if args.anomaly and args.input:
        raise UserError("--anomaly is for the test split; with --input, --labels says which rows are anomalies")
    if len(args.run) == 1:
        one(args)
    elif args.input:
        raise UserError(f"--input {args.input}: is for one run, {len(args.run)} are given")
    else:
        several(args)


def one(args: argparse.Namespace) -> None:
    """One run, on its test split or on a file."""
    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.anomaly import detect
    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.anomaly.scores import Detector

    run = load_run(args.run[0], args.device)
    if defects.inspects(run):
        inspect(run, args)
        return
    out, prefix = outputs(run, args)
    detector = Detector(run)
    if args.score is not None:
        detector.check(args.score)
    if args.input:
        found = inputs.read(run, args.input, args.resize)
        split, names = found.split, found.names
        labels = inputs.labels(args.labels, len(split)) != 0 if args.labels else detect.labels_in(run, args.input)
    else:
        split, labels = run.data.test, detect.known_anomalies(run, args.anomaly)
        names = run.data.example_names("test")
        if labels is not None and not args.anomaly and not labels.any():
            print("no row of the test split is an anomaly: scores without AUROC")
            labels = None
    if labels is not None:
        detect.check_labels(labels, f"--labels {args.labels}" if args.labels else f"{run.path}: test split")
    result = detect.detect(detector, split, labels, args.score, args.quantile)
    if out is not None:
        with out:
            out.csv(out.name, *result.table(names))
            out.json(result.summary())
            if result.labels is not None:
                out.figure(f"{prefix}roc", detect.roc(result))
            if run.spec.kind.images:
                out.figure(f"{prefix}heatmap", detect.heatmap(run, split, result.order()[:IMAGES]))
    say(result, names)
    if out is not None:
        print(f"scores of each row: {out.folder / out.name}.csv")
    else:
        print("nothing is written; --output NAME.csv keeps the score of each row")


def inspect(run: Run, args: argparse.Namespace) -> None:
    """A run on good pictures (data=defects): where its test pictures, or yours of any size, show a defect."""
    from PIL import Image

    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError
    from autoenc.training.tracking import console, method_table, track

    if wrong := [name for name in ("labels", "anomaly", "resize") if getattr(args, name)]:
        raise UserError(f"--{wrong[0]}: is not for runs on data=defects; the folders of the pictures say what is good")
    layout = defects.layout_of(run)
    parts = defects.new_parts(args.input) if args.input else list(layout.test)
    out = Outputs(run, "detect", args.output, args.force) if args.output or not args.input else None
    result = defects.inspect(run, parts, layout, args.score, args.quantile, lambda files: track(files, "pictures"))
    if out is not None:
        with out:
            out.csv("detect", *result.table(parts))
            out.json(result.summary())
            for part, values in zip(parts, result.maps, strict=True):
                heat = defects.overlay(run, part, values, result.thresholds[result.score])
                Image.fromarray(heat).save(out.path(f"heat_{part.name.replace('.', '_').replace('/', '_')}.png"))
            out.figure("heatmap", defects.contact_sheet(run, result, parts))
    screen = console()
    for kind in next(iter(result.numbers.values()), {}):
        screen.print(method_table(f"defects: {kind}", {name: each[kind] for name, each in result.numbers.items()}))
    screen.print(
        f"{result.defective.sum():,} of {len(parts):,} pictures above the threshold: {result.score} > "
        f"{result.thresholds[result.score]:.4g}, the {result.quantile:g} quantile of {len(layout.held_out)} good ones"
    )
    highest = (f"{parts[i].name} ({result.scores[result.score][i]:.4g})" for i in result.order()[:HIGHEST])
    screen.print("highest: " + ", ".join(highest))
    if out is not None:
        print(f"scores and heat maps: {out.folder}/")


def outputs(run: Run, args: argparse.Namespace) -> tuple[Outputs | None, str]:
    """Where results go, and what stands in front of the names of figures; None: nowhere but the screen."""
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    if not args.input:
        return Outputs(run, "detect", args.output, args.force), ""
    if not args.output:
        return None, ""
    path = Path(args.output)
    if path.suffix != ".csv" or path.is_dir():
        raise UserError(f"--output {path}: with --input, name a .csv file")
    for given in (args.input, args.labels):
        if given and path.exists() and path.samefile(given):
            raise UserError(f"--output {path}: is what is read; name another file")
    if path.exists() and not args.force:
        raise UserError(f"{path}: is there already; --force writes over it")
    return Outputs(run, path.stem, path.parent, args.force), f"{path.stem}_"


def say(result: Detected, names: list[str]) -> None:
    """How good each score is where that is known, how many rows are above the threshold, and which are highest."""
    from autoenc.training.tracking import console, method_table

    screen = console()
    if result.numbers:
        screen.print(method_table("anomalies", result.numbers))
    limit, values = result.thresholds[result.score], result.scores[result.score]
    screen.print(
        f"{result.anomaly.sum():,} of {len(names):,} rows above the threshold: {result.score} > {limit:.4g}, "
        f"the {result.quantile:g} quantile of the validation rows"
    )
    screen.print("highest: " + ", ".join(f"{names[i]} ({values[i]:.4g})" for i in result.order()[:HIGHEST]))


def several(args: argparse.Namespace) -> None:
    """AUROC on the test split of each run, and the mean over runs of the numbers that all of them have."""
    from autoenc import load_run
    from autoenc.apps.anomaly import detect
    from autoenc.apps.anomaly.scores import Detector
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError
    from autoenc.training.tracking import console, method_table, track

    classes: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for path in args.run:
        run = load_run(path, args.device)
        classes[path] = args.anomaly or detect.left_out_of(run)
        if not classes[path]:
            raise UserError(f"{path}: was trained on every class; --anomaly says which ones are anomalies")
        titles[path] = f"{len(titles)}: {run.name}, anomalies {','.join(classes[path])}"
    out = Outputs(run, "detect", args.output, args.force) if args.output else None
    found: dict[str, detect.Detected] = {}
    for path in track(list(classes), "runs"):
        run = load_run(path, args.device)  # again, so that no run keeps its data once it is done
        labels = detect.known_anomalies(run, args.anomaly)
        found[path] = detect.detect(Detector(run), run.data.test, labels, args.score, args.quantile)
    mean = detect.mean_numbers([result.numbers for result in found.values()])
    auroc = {path: {name: result.numbers[name]["auroc"] for name in mean} for path, result in found.items()}
    if out is not None:
        with out:
            rows = [[path, ",".join(classes[path]), *auroc[path].values()] for path in found]
            out.csv("detect", ["run", "anomalies", *mean], rows)
            out.json({"mean": mean, "runs": {path: result.summary() for path, result in found.items()}})
    table = {titles[path]: auroc[path] for path in found}
    table["mean"] = {name: numbers["auroc"] for name, numbers in mean.items()}
    console().print(method_table("AUROC", table))


def class_names(text: str) -> list[str]:
    """CLASS[,CLASS]."""
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, output="path", several=True)
    arguments.add_argument("--input", metavar="PATH", help="new data: .csv .parquet .txt .npy .npz, an image, a folder")
    arguments.add_argument(
        "--labels", metavar="FILE", help="a number for each row of --input, 0: normal (default: its data.label)"
    )
    arguments.add_argument("--resize", action="store_true", help="scale images to the size that the run was trained on")
    arguments.add_argument("--anomaly", metavar="CLASS[,CLASS]", type=class_names, default=[],
                           help="anomalies in the test split (default: what the run was trained without)")  # fmt: skip
    arguments.add_argument(
        "--score",
        metavar="NAME",
        help="what decides (default: local for images, combined for the rest)",
    )
    arguments.add_argument("--quantile", type=fraction, default=0.99,
                           help="of the validation scores, where the threshold lies (default: 0.99)")  # fmt: skip
    execute(main, arguments)
