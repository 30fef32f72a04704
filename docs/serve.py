"""Score the rows of a file by an exported detector, by numpy and onnxruntime: python serve.py FOLDER ROWS [CLASSES].

Rows of a recording are in order, one step apart and without gaps, which is checked where they have time stamps;
scripts/detect.py resamples and cuts. A window ends with each row, so that the first rows have no score. Images to
inspect for defects are a file or a folder, which Pillow reads. CLASSES has the class of each row on a line of its own,
if the model is conditioned on them and they are no column of ROWS.
"""

import csv
import json
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime

BATCH = 256  # rows at once: their distances to all training codes are in memory
MODES = {1: "L", 3: "RGB"}
NEAR = 0.05  # of a step


def value(cell, column, given, row):
    """Return a cell of a CSV file as the detector reads it."""
    try:
        if cell in given["missing"]:
            return np.nan
        if column in given["dates"]:
            return np.datetime64(cell, "ms").astype(float) / 1000
        if given["dtype"] == "str":
            return cell
        number = float(cell)
        return np.nan if str(number) in given["missing"] else number  # -200.00 for -200
    except ValueError:
        raise ValueError(f"row {row}, column {column}: {cell!r} cannot be read") from None


def numbers(path, given):
    """Return the numbers of an array, in the order of the training file."""
    x = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    if given["uint8_scale"] and x.dtype == np.uint8:
        x = x * given["uint8_scale"]
    low, high = given["range"] or (-np.inf, np.inf)
    if x.size and not (low - 1e-6 <= x.min() and x.max() <= high + 1e-6):  # NaN too
        raise ValueError(f"values from {x.min():.4g} to {x.max():.4g}, expected {low:g} to {high:g}: {given['text']}")
    shape = given["shape"][1:]
    if is_recording(given):
        return windows(x.astype(given["dtype"]).reshape(len(x), -1), shape)
    if not x.ndim or x[:1].size != np.prod(shape) * len(x[:1]):
        raise ValueError(f"has the shape {x.shape}, expected (N, {', '.join(map(str, shape))})")
    return x.astype(given["dtype"]).reshape(-1, *shape)


def is_recording(given):
    """Whether examples are windows (W, C) of the rows of a recording."""
    return len(given["shape"]) == 3


def windows(x, shape):
    """Return all windows of a recording: (T, C) -> (T - W + 1, W, C)."""
    if x.shape[1] != shape[1]:
        raise ValueError(f"has {x.shape[1]} channels, the training data {shape[1]}")
    if len(x) < shape[0]:
        raise ValueError(f"is shorter than a window: {len(x)} of {shape[0]} rows")
    return np.lib.stride_tricks.sliding_window_view(x, shape[0], axis=0).transpose(0, 2, 1)


def seconds(cell):
    """Return a time stamp as seconds."""
    try:
        return float(cell)
    except ValueError:
        moment = datetime.fromisoformat(cell)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def check_steps(cells, column, step):
    """Raise ValueError unless time stamps are one step apart."""
    for row, (before, cell) in enumerate(pairwise(cells), 2):
        try:
            distance = (seconds(cell) - seconds(before)) / step
        except (ValueError, TypeError):
            why = "is not read; leave the column out if rows are one step apart"
            raise ValueError(f"row {row}, column {column}: {cell!r} {why}") from None
        if abs(distance - 1) > NEAR:
            why = f"{distance:.3g} steps of {step:g} s after the row before, expected 1; scripts/detect.py cuts at gaps"
            raise ValueError(f"row {row}, {cell}: {why}")


def inputs(path, info, classes=None):
    """Return the inputs of the detector, and the rows that they end with: their numbers from 1, or time stamps."""
    first, last = info["inputs"][0], info["inputs"][-1]
    feed, end, stamps = {}, first["shape"][1] if is_recording(first) else 1, None
    if last["name"] == "class" and not last["columns"]:
        if classes is None:
            raise ValueError("the model is conditioned on classes: name a file with the class of each row")
        names = [name.strip() for name in classes.read_text(encoding="utf-8").splitlines()]
        feed["class"] = np.array(names, object)[:, None]
    if path.suffix == ".npy" or not first["columns"]:
        feed[first["name"]] = np.ascontiguousarray(numbers(path, first))
        return checked(feed, info), named(end, feed)
    header, *rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row] or [[]]
    place = {name.strip(): i for i, name in enumerate(header)}
    if odd := [i for i, row in enumerate(rows, 1) if len(row) != len(header)]:
        raise ValueError(f"row {odd[0]}: has {len(rows[odd[0] - 1])} cells, the header {len(header)}")
    for given in info["inputs"]:
        if given["name"] in feed:
            continue
        if missing := [name for name in given["columns"] if name not in place]:
            raise ValueError(f"has no column {missing[0]}")
        columns = [[value(r[place[n]].strip(), n, given, i) for i, r in enumerate(rows, 1)] for n in given["columns"]]
        x = np.array(columns, given["dtype"]).T
        if is_recording(given):
            column, step = given.get("time") or ("", 0)
            if column in place:
                stamps = [row[place[column]].strip() for row in rows]
                check_steps(stamps, column, step)
            x = windows(x, given["shape"][1:])
        feed[given["name"]] = np.ascontiguousarray(x)
    return checked(feed, info), named(end, feed) if stamps is None else stamps[end - 1 :]


def named(end, feed):
    """Return the numbers of the rows that inputs end with, the first of them with row `end`."""
    return range(end, end + len(next(iter(feed.values()))))


def checked(feed, info):
    """Return inputs of as many rows each, of known classes."""
    if len({len(values) for values in feed.values()}) > 1:
        rows = next(len(values) for name, values in feed.items() if name != "class")
        raise ValueError(f"has {rows} rows, the file of the classes {len(feed['class'])} lines")
    if "class" in feed and (odd := set(feed["class"][:, 0]) - set(info["inputs"][-1]["codes"][0])):
        raise ValueError(f"class {min(odd)!r}: expected one of {', '.join(info['inputs'][-1]['codes'][0])}")
    return feed


def images(path, given):
    """Yield the name and the input of an image, or of each in a folder."""
    from PIL import Image, ImageOps

    for file in sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]:
        image = ImageOps.exif_transpose(Image.open(file))
        if image.mode not in MODES.values():
            raise ValueError(f"{file.name}: has mode {image.mode}, expected {' or '.join(MODES.values())} of 8 bits")
        x = np.asarray(image.convert(MODES[given["shape"][1]]))
        if min(x.shape[:2]) < given["least"]:
            raise ValueError(f"{file.name}: has {x.shape[1]}x{x.shape[0]} pixels, expected {given['least']} or more")
        yield [file.name], {given["name"]: np.ascontiguousarray(np.atleast_3d(x).transpose(2, 0, 1)[None])}


def batches(path, info, classes):
    """Yield names and inputs of rows, or of images."""
    if info["inputs"][0]["dtype"] == "uint8":
        yield from images(path, info["inputs"][0])
        return
    feed, rows = inputs(path, info, classes)
    for start in range(0, len(rows), BATCH):
        part = {name: values[start : start + BATCH] for name, values in feed.items()}
        yield rows[start : start + BATCH], part


def wrong(message):
    """End with one line on stderr and exit code 2."""
    print(message, file=sys.stderr)
    sys.exit(2)


def main(folder, path, classes=None):
    """Print the score, p-value and decision of each row."""
    info = json.loads((folder / "detector.json").read_text(encoding="utf-8"))
    names = [name for name in ("score", "p_value", "alarm") if name in info["outputs"]]
    session = onnxruntime.InferenceSession(folder / "detector.onnx")
    lines = csv.writer(sys.stdout, lineterminator="\n")
    header = True
    for rows, feed in batches(path, info, classes):
        outputs = session.run(names, feed)
        if header:  # nothing is printed before an error
            lines.writerow(["time" if isinstance(rows, list) and is_recording(info["inputs"][0]) else "row", *names])
            header = False
        for row, *found in zip(rows, *outputs):  # noqa: B905
            lines.writerow([row, *(f"{number:.7g}" for number in found)])


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        wrong(__doc__.splitlines()[0])
    try:
        main(*map(Path, sys.argv[1:]))
    except (OSError, ValueError) as error:
        wrong(f"{sys.argv[2]}: {error}" if isinstance(error, ValueError) else error)
