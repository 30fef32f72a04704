"""Classes left out of training: who goes, who stays, and that the split does not depend on it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc.data import arrays, digits
from autoenc.data.dataset import Data, class_numbers, without
from autoenc.errors import DataError


@pytest.fixture(scope="module")
def data() -> Data:
    return digits()


def test_training_and_validation_lose_the_classes_and_the_test_keeps_them(data: Data) -> None:
    left = without(data, ["3", "7"])
    for before, after in ((data.train, left.train), (data.val, left.val)):
        assert before.y is not None
        assert after.y is not None
        stay = (before.y != 3) & (before.y != 7)
        assert 0 < len(after) == int(stay.sum()) < len(before)
        assert torch.equal(after.x, before.x[stay])  # the same rows in the same order: split first, left out then
        assert torch.equal(after.y, before.y[stay])
    assert left.test is data.test
    assert left.spec == replace(data.spec, anomalies=("3", "7"))


def test_without_no_class_it_is_the_same_data(data: Data) -> None:
    assert without(data, []) is data


def test_an_observed_range_is_that_of_the_rows_that_are_left(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 80, dtype=np.float32).reshape(40, 2)
    y = np.where(np.arange(40) % 4 == 0, "odd", "usual")
    x[y == "odd"] *= 50
    np.savez(tmp_path / "own.npz", x=x, y=y)
    data = arrays(str(tmp_path / "own.npz"))
    left = without(data, ["odd"])
    assert data.spec.high > 10 > 1 >= left.spec.high
    assert (left.spec.low, left.spec.high) == (left.train.x.min().item(), left.train.x.max().item())
    assert left.test.x.abs().max() > 1


def test_refusals_name_the_option_and_the_classes_that_there_are(data: Data, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^anomaly_classes=x: digits has no such class; it has 0, 1, 2, .*, 9$"):
        without(data, ["3", "x"], "anomaly_classes")
    with pytest.raises(DataError, match="leaves no rows of digits to train and validate on"):
        without(data, list("0123456789"))
    np.save(tmp_path / "own.npy", np.random.default_rng(0).normal(size=(40, 2)))
    with pytest.raises(DataError, match="classes=a: own has no labels"):
        without(arrays(str(tmp_path / "own.npy")), ["a"])
    assert class_numbers(data.spec, ["9", "0"], "--anomaly") == [9, 0]
