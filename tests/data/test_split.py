"""The random order of the batches of an epoch."""

import torch

from autoenc.data.split import Split, shuffled_indices


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
    large = shuffled_indices(2**20 + 1, 2**19, seed=0, epoch=0)
    assert [len(batch) for batch in large] == [2**19, 2**19, 1]


def test_indices_are_on_the_device_of_the_rows() -> None:
    assert shuffled_indices(5, 2, 0, 0, torch.device("meta"))[0].device.type == "meta"


def test_an_empty_split_has_no_batches() -> None:
    assert list(Split(torch.empty(0, 2)).shuffled(4, seed=0, epoch=0)) == []
