"""The random order of the batches of an epoch."""

import pytest
import torch

from autoenc.data.split import Split, shuffled_indices
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
