"""Nearest training examples and memorization: brute force, known fractions, and the files of the script."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.generation import neighbours
from autoenc.data.dataset import Data
from autoenc.data.split import Split


def searched(data: Data) -> neighbours.Training:
    """The training rows of a data set, without a model."""
    run: Any = SimpleNamespace(spec=data.spec, data=data)
    return neighbours.training(run)


def test_the_nearest_row_is_that_of_brute_force(make_data: Callable[..., Data]) -> None:
    data = make_data(n=300, val=40)
    found = searched(data)
    rows, queries = found.rows.rows(), data.val.rows()
    np.testing.assert_array_equal(rows, data.train.rows()[found.numbers], "numbers of the training split")
    distances = np.linalg.norm(queries[:, None] - rows, axis=2)
    near = found.nearest(data.val)
    np.testing.assert_array_equal(near.index, distances.argmin(1))
    np.testing.assert_allclose(near.distance, distances.min(1), rtol=1e-5)
    among = np.linalg.norm(rows[:, None] - rows, axis=2) + np.diag(np.full(300, np.inf))
    assert found.scale == pytest.approx(np.median(among.min(1)), rel=1e-5)


def test_copies_of_training_rows_are_memorized_and_half_of_new_rows_are(make_data: Callable[..., Data]) -> None:
    data = make_data(n=2_000, val=1_000, shape=(3,))
    copies, far = data.train.subset(slice(500, 900)), Split(data.val.tensor + 10)
    numbers = searched(data).memorization({"validation": data.val, "copies": copies, "far": far})
    assert numbers["copies"] == {"nearest": 0, "memorized": 1}
    assert numbers["far"]["memorized"] == 0
    assert numbers["validation"]["memorized"] == pytest.approx(0.5, abs=0.06)
    assert numbers["validation"]["nearest"] == 1


def test_there_is_no_number_where_the_rows_repeat(make_data: Callable[..., Data]) -> None:
    data = make_data(n=200, val=50, shape=(3,))
    twice = dataclasses.replace(
        data, train=Split(data.train.tensor[:100].repeat(2, 1)), val=data.train.subset(slice(0, 50))
    )
    far = Split(data.val.tensor + 10)
    assert searched(twice).memorization({"validation": twice.val, "far": far}) == {"validation": {}, "far": {}}


def test_a_row_that_occurs_twice_is_its_own_neighbour_once(make_data: Callable[..., Data]) -> None:
    data = make_data(n=50)
    double = Data(data.spec, Split(torch.cat([data.train.tensor] * 2)), data.val, data.test)
    found = searched(double)
    assert found.scale == 0
    near = found.nearest(found.rows, among_others=np.arange(100))
    assert (near.index != np.arange(100)).all()
    assert near.distance.max() == 0


def test_the_script_shows_the_nearest_training_example(
    ae_run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, error = call("generate", ae_run, "--count", 3, "--output", tmp_path)
    assert code == 0, error
    rows = list(csv.DictReader((tmp_path / "nearest.csv").open()))
    run = load_run(ae_run, "cpu")
    train, drawn = run.data.train.rows(), np.load(tmp_path / "samples.npz")["x"].reshape(3, -1)
    distances = np.linalg.norm(drawn[:, None] - train, axis=2)
    assert [int(row["nearest: training row"]) for row in rows] == distances.argmin(1).tolist()
    assert [float(row["nearest: distance"]) for row in rows] == pytest.approx(distances.min(1).tolist(), rel=1e-4)
    assert (tmp_path / "nearest.png").exists()
