"""The random order of the batches of an epoch, and fractions that leave nothing to train on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from autoenc.build import build_data
from autoenc.config.composed import compose
from autoenc.data.split import Split, shuffled_indices
from autoenc.data.storage.augmented import AugmentedImages
from autoenc.data.storage.binarized import BinarizedImages
from autoenc.errors import UserError
from autoenc.training.settings import TrainerSettings


def test_each_epoch_has_every_row_once_and_can_resume_at_any_batch() -> None:
    epoch = [batch.tolist() for batch in shuffled_indices(103, 10, seed=1, epoch=2)]
    assert [len(batch) for batch in epoch] == [10] * 10 + [3]
    assert sorted(row for batch in epoch for row in batch) == list(range(103))
    assert [batch.tolist() for batch in shuffled_indices(103, 10, seed=1, epoch=3)] != epoch
    assert [batch.tolist() for batch in shuffled_indices(103, 10, seed=2, epoch=2)] != epoch
    split = Split(torch.arange(103.0))
    for start in (0, 4, 10, 11, 20):
        batches = split.shuffled(10, seed=1, epoch=2, start=start)
        assert [batch.x.tolist() for batch in batches] == epoch[start:]


def test_the_order_is_that_of_earlier_versions() -> None:
    assert torch.cat([*shuffled_indices(8, 3, seed=1, epoch=2)]).tolist() == [0, 1, 5, 4, 7, 2, 6, 3]


def test_indices_are_on_the_device_of_the_rows() -> None:
    assert shuffled_indices(5, 2, 0, 0, torch.device("meta"))[0].device.type == "meta"


def test_an_empty_split_has_no_batches() -> None:
    assert list(Split(torch.empty(0, 2)).shuffled(4, seed=0, epoch=0)) == []


@pytest.mark.parametrize("size", range(1, 14))
@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 20])
def test_no_batch_has_one_example_where_there_are_more(size: int, batch_size: int) -> None:
    sizes = [len(batch) for batch in shuffled_indices(size, batch_size, seed=0, epoch=0)]
    assert sum(sizes) == size
    assert len(sizes) == TrainerSettings(batch_size=batch_size).steps_per_epoch(size)
    assert min(sizes) > 1 or batch_size == 1 or size == 1
    assert max(sizes) <= batch_size + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("data=table data.path=one.csv", "data.test_fraction=0.1: leaves nothing of 1 row of one.csv to train on"),
        ("data=table data.path=two.csv", "data.val_fraction=0.1: leaves nothing of 1 row of two.csv to train on"),
        (
            "data=table data.path=two.csv data.test_path=one.csv data.val_fraction=0.9",
            "data.val_fraction=0.9: leaves nothing of 2 rows of two.csv to train on",
        ),
        (
            "data=arrays data.path=nine.npy data.test_fraction=0.99",
            "data.test_fraction=0.99: leaves nothing of 9 rows of nine.npy to train on",
        ),
        (
            "data=arrays data.path=wide.npy data.layout=rows data.test_fraction=0.99",
            "data.test_fraction=0.99: leaves nothing of 9 rows of wide.npy to train on",
        ),
        (
            "data=text data.path=lines.txt data.val_fraction=0.99",
            "data.val_fraction=0.99: leaves nothing of 7 rows of lines.txt to train on",
        ),
        (
            "data=digits data.test_fraction=0.9999",
            "data.test_fraction=0.9999: leaves nothing of 1,797 rows to train on",
        ),
    ],
)
def test_a_fraction_that_leaves_nothing_is_named_with_key_and_file(
    options: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("autoenc.data.sets.arrays_on_disk.LARGE", 1_000)
    for name, rows in (("one", 1), ("two", 2)):
        Path(f"{name}.csv").write_text("a,b\n" + "1,2\n" * rows)
    Path("lines.txt").write_text("a b\n" * 8)
    np.save("nine.npy", np.eye(9, 2, dtype=np.float32))
    np.save("wide.npy", np.eye(9, 80, dtype=np.float32))
    with pytest.raises(UserError) as caught:
        build_data(compose(["model=ae", *options.split()]))
    assert str(caught.value) == message


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"shift": 2}, {"grey": True}])
def test_redrawn_is_whether_batches_differ_from_the_stored_rows(options: dict[str, Any]) -> None:
    split = Split(torch.randint(0, 256, (8, 1, 6, 6), dtype=torch.uint8), scale=1 / 255)
    one = BinarizedImages.of(split, 0) if options.pop("grey", False) else AugmentedImages(split.x, **options)
    (rows,) = one.shuffled_rows(8, 0, 3)
    (batch,) = one.shuffled(8, 0, 3)
    assert one.redrawn == (not torch.equal(batch.x, one.take(rows).x))
    assert not split.redrawn
