"""Score the rows of a file by an exported detector, with numpy and onnxruntime alone: python serve.py FOLDER ROWS."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

BATCH = 256  # rows at once: their distances to all training codes are in memory
folder, path = Path(sys.argv[1]), Path(sys.argv[2])
info = json.loads((folder / "detector.json").read_text(encoding="utf-8"))


def value(cell, column, given):  # a cell of a CSV file as the detector reads it
    if cell in given["missing"]:
        return np.nan
    return np.datetime64(cell, "ms").astype(float) / 1000 if column in given["dates"] else cell


feed = {}
if path.suffix == ".npy" or not info["inputs"][0]["columns"]:  # numbers in the order of the training file
    (given,) = info["inputs"]
    x = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    x = feed[given["name"]] = x.astype(given["dtype"]).reshape(-1, *given["shape"][1:])
else:
    header, *rows = csv.reader(path.read_text(encoding="utf-8-sig").splitlines())
    place = {name.strip(): i for i, name in enumerate(header)}
    for given in info["inputs"]:
        columns = [[value(row[place[name]].strip(), name, given) for row in rows] for name in given["columns"]]
        x = np.array(columns, given["dtype"]).T
        if len(given["shape"]) == 3:  # recordings: a window ends with each row
            x = np.lib.stride_tricks.sliding_window_view(x, given["shape"][1], axis=0).transpose(0, 2, 1)
        x = feed[given["name"]] = np.ascontiguousarray(x)

names = [name for name in ("score", "p_value", "alarm") if name in info["outputs"]]
session = onnxruntime.InferenceSession(folder / "detector.onnx")
print("row", *names, sep=",")
for start in range(0, len(x), BATCH):
    found = session.run(names, {name: values[start : start + BATCH] for name, values in feed.items()})
    for i, row in enumerate(zip(*found, strict=True), start + 1):
        print(i, *(f"{number:.7g}" for number in row), sep=",")
