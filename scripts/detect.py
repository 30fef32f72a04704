"""Find anomalies: rows or images that differ from those that a run was trained on.

Without --input: the test split. The classes that the run was trained without (python train.py ... anomaly_classes=[3])
or as anomalies (model=deep_sad), or that --anomaly names, are the anomalies, and each score is compared with PCA and an
isolation forest. Several runs: a table of AUROC (higher is better) with their mean. With --input: new rows or images.
"""

from __future__ import annotations

import argparse
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from autoenc.command import Results, add_input, execute, fraction, parser, positive

if TYPE_CHECKING:
    from autoenc.apps.anomaly.detect import Detected
    from autoenc.apps.anomaly.timeline import Timeline
    from autoenc.apps.outputs import Outputs
    from autoenc.loading import Run

EXAMPLES = """scores, higher is more anomalous:
  error         mean squared error of the reconstruction
  nll           -log p(x|z) of the deterministic code, nats
  elbo          negative evidence lower bound, nats; if the code has a posterior (model=vae)
  mahalanobis   Mahalanobis distance of the code from the mean of the training codes
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
  python scripts/detect.py RUN --input new.csv --fdr 0.1            of the alarms, 10% normal rows at most
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
IMAGES = 12  # in the heat map
HIGHEST = 5


def main(args: argparse.Namespace) -> Results:
    """Score, print, write."""
    from autoenc.errors import UserError

    if args.feedback:
        return learn(args)
    if args.labels and not args.input:
        raise UserError("--labels needs --input; for the test split, --anomaly names classes")
    if args.anomaly and args.input:
        raise UserError("--anomaly is for the test split; with --input, --labels says which rows are anomalies")
    if args.calibrate and args.input and Path(args.calibrate).absolute() == Path(args.input).absolute():
        raise UserError(f"--calibrate {args.calibrate}: is the file of --input; name a file of known normal rows")
    if len(args.run) == 1:
        return one(args)
    if args.calibrate:
        raise UserError(f"--calibrate {args.calibrate}: needs one run, {len(args.run)} are given")
    if args.input:
        raise UserError(f"--input {args.input}: needs one run, {len(args.run)} are given")
    return several(args)


def one(args: argparse.Namespace) -> Results:
    """Score the test split of a run, or new data."""
    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.anomaly import conformal, detect, feedback, labelled, timeline
    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.anomaly.scores import Detector
    from autoenc.errors import UserError

    run = load_run(args.run[0], args.device)
    if defects.inspects(run):
        return inspect(run, args)
    rule = conformal.rule(args.quantile, args.alarm_rate, args.fdr)
    rule.check(run, args.calibrate)
    if timeline.on_time_axis(run):
        return follow(run, args) if args.follow else on_time_axis(run, args)
    if args.follow or args.join:
        raise UserError(
            f"--{'follow' if args.follow else 'join'}: is for recordings, and {run.path} has none: data=series"
        )
    detector = feedback.load(run) if args.score == feedback.NAME else Detector(run)
    if args.score is not None:
        detector.check(args.score)
    out, prefix = outputs(run, args)
    if args.input:
        new = inputs.read(run, args.input, args.resize)
        split, names = new.split, new.names
        labels = inputs.labels(args.labels, len(split)) != 0 if args.labels else labelled.labels_in(run, args.input)
    else:
        split, labels = run.data.test, labelled.known_anomalies(run, args.anomaly)
        names = run.data.example_names("test")
        if labels is not None and not args.anomaly and not labels.any():
            print("no row of the test split is an anomaly: scores without AUROC")
            labels = None
    if labels is not None:
        labelled.check_labels(labels, f"--labels {args.labels}" if args.labels else f"{run.path}: test split")
    calibration = conformal.of_file(detector, args.calibrate, args.resize) if args.calibrate else None
    result = detect.detect(detector, split, labels, args.score, rule, calibration)
    if out is not None:
        with out:
            out.csv(out.name, *result.table(names))
            out.json(result.summary())
            if result.labels is not None:
                out.figure(f"{prefix}roc", detect.roc(result))
            if run.spec.kind.images:
                out.figure(f"{prefix}heatmap", detect.heatmap(run, split, result.order()[:IMAGES]))
    report(result, names)
    if out is not None:
        print(f"scores of each row: {out.folder / out.name}.csv")
    else:
        print("no files are written; --output NAME.csv stores the scores of each row")
    return result.summary()


def learn(args: argparse.Namespace) -> Results:
    """Learn a combination of the scores from labelled rows, and store it in the run."""
    from autoenc import load_run
    from autoenc.apps.anomaly import feedback, timeline
    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.anomaly.scores import Detector
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    others = ("input", "labels", "anomaly", "output", "score", "calibrate", "alarm_rate", "fdr", "join", "follow")
    if wrong := [name.replace("_", "-") for name in others if getattr(args, name)]:
        raise UserError(
            f"--{wrong[0]}: has no effect with --feedback, after which --score {feedback.NAME} is for new rows"
        )
    if len(args.run) > 1:
        raise UserError(f"--feedback {args.feedback}: needs one run, {len(args.run)} are given")
    run = load_run(args.run[0], args.device)
    if defects.inspects(run) or timeline.on_time_axis(run):
        raise UserError(
            f"--feedback {args.feedback}: is for scores of rows, and those of {run.path} are of pixels or steps"
        )
    detector = Detector(run)
    with Outputs(run, feedback.NAME, None, args.force) as out:
        found = feedback.learn(detector, args.feedback)
        out.json(vars(found))
    rows = {name: {"auroc": value, "weight": found.weights.get(name, "")} for name, value in found.auroc.items()}
    out.table(f"{found.anomalies:,} anomalies, {found.normal:,} normal rows", rows)
    better = "better" if found.better else "not shown to be better"
    out.say(
        f"{feedback.NAME}: AUROC {found.auroc[feedback.NAME]:.3f} of rows that it was not fitted to, {better} than "
        f"{detector.best}, {found.auroc[detector.best]:.3f}"
    )
    out.say(f"to use it: python scripts/detect.py {run.path} --score {feedback.NAME} --input NEW")
    return out.summary


def inspect(run: Run, args: argparse.Namespace) -> Results:
    """Find defects in the test images of a run on data=defects, or in new images of any size."""
    from PIL import Image

    from autoenc.apps.anomaly import conformal
    from autoenc.apps.anomaly import inspection as defects
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError
    from autoenc.training.tracking import console, method_table, track

    if wrong := [name for name in ("labels", "anomaly", "resize") if getattr(args, name)]:
        raise UserError(
            f"--{wrong[0]}: is not for runs on data=defects, where the folders of the images are the labels"
        )
    if args.calibrate:
        raise UserError(f"--calibrate {args.calibrate}: is not for data=defects, where held-out images calibrate")
    layout = defects.layout_of(run)
    parts = defects.new_parts(args.input) if args.input else list(layout.test)
    out = Outputs(run, "detect", args.output, args.force) if args.output or not args.input else None
    rule = conformal.rule(args.quantile, args.alarm_rate, args.fdr)
    result = defects.inspect(run, parts, layout, args.score, rule, lambda files: track(files, "images"))
    if out is not None:
        with out:
            out.csv("detect", *result.table(parts))
            out.json(result.summary())
            for part, values in zip(parts, result.maps, strict=True):
                heat = defects.overlay(run, part, values, result.thresholds[result.score])
                path = out.path(f"heat_{part.name.replace('.', '_').replace('/', '_')}.png")
                while path.exists():  # a_b/c.png and a/b_c.png
                    path = path.with_stem(f"{path.stem}_")
                Image.fromarray(heat).save(path)
            out.figure("heatmap", defects.contact_sheet(run, result, parts))
    screen = console()
    for kind in next(iter(result.numbers.values()), {}):
        screen.print(method_table(f"defects: {kind}", {name: each[kind] for name, each in result.numbers.items()}))
    screen.print(
        f"{result.defective.sum():,} of {len(parts):,} images above the threshold: {result.score} > "
        f"{result.thresholds[result.score]:.4g}, {result.meaning}"
    )
    highest = (f"{parts[i].name} ({result.scores[result.score][i]:.4g})" for i in result.order()[:HIGHEST])
    screen.print("highest: " + ", ".join(highest))
    for note in () if args.input else layout.notes:
        print(note)
    if out is not None:
        print(f"scores and heat maps: {out.folder}/")
    return result.summary()


def on_time_axis(run: Run, args: argparse.Namespace) -> Results:
    """Score the time steps of the test recordings of a run on data=series, or of new recordings."""
    from autoenc.apps import inputs
    from autoenc.apps.anomaly import timeline
    from autoenc.apps.anomaly.step_scores import StepDetector
    from autoenc.errors import UserError
    from autoenc.training.tracking import console, method_table, result_table

    if wrong := [name for name in ("anomaly", "resize") if getattr(args, name)]:
        raise UserError(f"--{wrong[0]}: is not for recordings, whose data.label and data.normal say what is anomalous")
    out, prefix = outputs(run, args)
    detector = StepDetector(run)
    split = timeline.windows_of(run, args.input)
    labels = None
    if args.labels:
        labels = inputs.labels(args.labels, timeline.rows_of(split)) != 0
    result = timeline.timeline(detector, split, args.score, args.quantile, args.join, labels)
    if out is not None:
        with out:
            out.csv(out.name, *result.table(whole=bool(args.input)))
            out.csv(f"{prefix}events", *result.event_table())
            out.json(result.summary())
            out.figure(f"{prefix}timeline", timeline.figure(run, result))
    screen = console()
    if result.numbers:
        screen.print(method_table("time steps", {name: timeline.brief(each) for name, each in result.numbers.items()}))
        screen.print(result_table("alarms", {result.score: timeline.of_alarms(result)}))
        if kinds := timeline.by_kind(result):
            shown = {
                name: {m: v for m, v in each.items() if m in timeline.shown(result)} for name, each in kinds.items()
            }
            screen.print(method_table("AUROC by class", shown))
    limit, events = result.thresholds[result.score], result.events()
    screen.print(
        f"{int(result.alarms.sum()):,} of {len(result.alarms):,} steps above the threshold, in {len(events):,} "
        f"interval{'s' * (len(events) != 1)}: {result.score} > {limit:.4g}, the {result.quantile:g} quantile "
        "of the validation steps"
    )
    for event in sorted(events, key=lambda event: -event.peak)[:HIGHEST]:
        screen.print(f"  {event.recording} {event.first} to {event.last} ({event.peak:.4g}): {event.channels}")
    if out is not None:
        print(f"scores of each row: {out.folder / out.name}.csv")
    else:
        print("no files are written; --output NAME.csv stores the scores of each row")
    return result.summary()


def follow(run: Run, args: argparse.Namespace) -> Results:
    """Score the rows of a file, or of standard input, as they come."""
    import csv
    import sys

    from autoenc.apps.anomaly import follow as following
    from autoenc.apps.anomaly.step_scores import StepDetector
    from autoenc.errors import UserError, check_new

    if wrong := [name for name in ("input", "labels", "anomaly", "resize", "join") if getattr(args, name)]:
        raise UserError(f"--{wrong[0]}: has no effect with --follow")
    follower = following.Follower(StepDetector(run), args.score, args.quantile)
    if follower.caution:
        print(f"{run.path}: {follower.caution}", file=sys.stderr)
    if args.output:
        check_new(Path(args.output), args.force)
    file = open(args.output, "w", newline="", encoding="utf-8") if args.output else sys.stdout  # noqa: SIM115
    counts = {"rows": 0, "alarms": 0}
    try:
        writer = csv.writer(file, lineterminator="\n")
        for rows in following.follow(follower, args.follow):
            if not counts["rows"]:  # nothing before the input is known to be right
                writer.writerow(following.HEADER)
            writer.writerows(row.cells() for row in rows)
            file.flush()
            counts["rows"] += len(rows)
            counts["alarms"] += sum(row.alarm for row in rows)
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        if args.output:
            file.close()
    return {"score": follower.score, "threshold": follower.threshold, **counts}


def outputs(run: Run, args: argparse.Namespace) -> tuple[Outputs | None, str]:
    """Return the outputs, or None if results are only printed, and the prefix of the names of figures."""
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError, check_new

    if not args.input:
        return Outputs(run, "detect", args.output, args.force), ""
    if not args.output:
        return None, ""
    path = Path(args.output)
    if path.suffix != ".csv" or path.is_dir():
        raise UserError(f"--output {path}: with --input, name a .csv file")
    for given in (args.input, args.labels):
        if given and path.exists() and path.samefile(given):
            raise UserError(f"--output {path}: is an input file; name another file")
    check_new(path, args.force)
    return Outputs(run, path.stem, path.parent, args.force), f"{path.stem}_"


def report(result: Detected, names: list[str]) -> None:
    """Print the quality of each score if there are labels, the number of anomalies and the highest scores."""
    from autoenc.training.tracking import console, method_table

    screen = console()
    if result.numbers:
        screen.print(method_table("anomalies", result.numbers))
    if result.remark:
        screen.print(result.remark)
    if (found := result.interval()) is not None:
        anomalies, normal, (low, high) = found
        screen.print(
            f"{anomalies:,} anomalies, {normal:,} normal rows: auroc of {result.score} "
            f"{result.numbers[result.score]['auroc']:.3f}, 95% interval {low:.3f} to {high:.3f}"
        )
    limit, values = result.thresholds[result.score], result.scores[result.score]
    above = f" > {limit:.4g}" if isfinite(limit) else ", which no score can reach"
    screen.print(
        f"{result.anomaly.sum():,} of {len(names):,} rows above the threshold: {result.score}{above}, {result.meaning}"
    )
    screen.print("highest: " + ", ".join(f"{names[i]} ({values[i]:.4g})" for i in result.order()[:HIGHEST]))


def several(args: argparse.Namespace) -> Results:
    """Print AUROC on the test split of each run, and the mean over runs of the scores that all of them have."""
    from autoenc import load_run
    from autoenc.apps.anomaly import labelled
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError
    from autoenc.training.tracking import console, method_table, track

    if args.follow:
        raise UserError(f"--follow {args.follow}: needs one run, {len(args.run)} are given")
    classes: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for path in args.run:
        run = load_run(path, args.device)
        classes[path] = args.anomaly or labelled.anomalies_of(run)
        if not classes[path]:
            raise UserError(f"{path}: was trained on every class; name the anomalies with --anomaly")
        titles[path] = f"{len(titles)}: {run.name}, anomalies {','.join(classes[path])}"
    out = Outputs(run, "detect", args.output, args.force) if args.output else None
    results: dict[str, Detected | Timeline] = {}
    for path in track(list(classes), "runs"):
        run = load_run(path, args.device)  # loaded again, so that only one data set is in memory
        results[path] = tested(run, args)
        if not results[path].numbers:
            raise UserError(f"{path}: its test steps are not labelled as anomalies and normal ones")
    mean = labelled.mean_numbers([result.numbers for result in results.values()])
    auroc = {path: {name: result.numbers[name]["auroc"] for name in mean} for path, result in results.items()}
    summary = {"mean": mean, "runs": {path: result.summary() for path, result in results.items()}}
    if out is not None:
        with out:
            rows = [[path, ",".join(classes[path]), *auroc[path].values()] for path in results]
            out.csv("detect", ["run", "anomalies", *mean], rows)
            out.json(summary)
    table = {titles[path]: auroc[path] for path in results}
    table["mean"] = {name: numbers["auroc"] for name, numbers in mean.items()}
    beside = {name: numbers["auroc_untrained"] for name, numbers in mean.items() if "auroc_untrained" in numbers}
    table["mean of untrained networks"] = beside
    console().print(method_table("AUROC", table))
    return summary


def tested(run: Run, args: argparse.Namespace) -> Detected | Timeline:
    """Return the scores of the test split of a run, with their metrics."""
    from autoenc.apps.anomaly import conformal, detect, labelled, timeline
    from autoenc.apps.anomaly.scores import Detector
    from autoenc.apps.anomaly.step_scores import StepDetector

    rule = conformal.rule(args.quantile, args.alarm_rate, args.fdr)
    rule.check(run, args.calibrate)
    if timeline.on_time_axis(run):
        split = timeline.windows_of(run, None)
        return timeline.timeline(StepDetector(run), split, args.score, args.quantile, args.join)
    labels = labelled.known_anomalies(run, args.anomaly)
    return detect.detect(Detector(run), run.data.test, labels, args.score, rule)


def class_names(text: str) -> list[str]:
    """Parse CLASS[,CLASS]."""
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES, output="path", several=True)
    add_input(arguments)
    arguments.add_argument("--labels", metavar="FILE",
                           help="a number for each row of --input, 0: normal (default: its data.label)")  # fmt: skip
    arguments.add_argument("--anomaly", metavar="CLASS[,CLASS]", type=class_names, default=[],
                           help="anomalies in the test split (default: left out, or trained as anomalies)")  # fmt: skip
    arguments.add_argument("--score", metavar="NAME", help="deciding score (default: local for images, else combined)")
    rules = arguments.add_mutually_exclusive_group()
    rules.add_argument("--quantile", type=fraction, default=0.99,
                       help="threshold: quantile of the validation scores (default: 0.99)")  # fmt: skip
    rules.add_argument("--alarm-rate", metavar="RATE", type=fraction,
                       help="threshold: a normal row is an alarm with at most this probability")  # fmt: skip
    rules.add_argument("--fdr", metavar="RATE", type=fraction,
                       help="threshold: the highest expected share of normal rows among the alarms")  # fmt: skip
    arguments.add_argument("--feedback", metavar="FILE",
                           help="learn the score feedback from a detect.csv with a column label")  # fmt: skip
    arguments.add_argument("--calibrate", metavar="FILE",
                           help="normal rows that the run has not seen (default: the validation rows)")  # fmt: skip
    arguments.add_argument("--join", metavar="STEPS", type=positive,
                           help="recordings: alarms fewer steps apart are one (default: window / 4)")  # fmt: skip
    arguments.add_argument("--follow", metavar="FILE",
                           help="recordings: score the rows of a CSV file, or of - (stdin), as they come")  # fmt: skip
    execute(main, arguments)
