"""The order of an epoch: every example once, the same for the same seed and epoch, in memory or not."""

import numpy as np
import pytest
import torch

from autoenc.data.storage import order
from autoenc.data.storage.order import Permutation, Shuffled


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100, 4_096, 4_097, 70_000])
def test_a_permutation_sends_every_place_to_a_place_of_its_own(size: int) -> None:
    sent = Permutation(size, seed=3)(np.arange(size))
    assert np.array_equal(np.sort(sent), np.arange(size))
    assert np.array_equal(Permutation(size, seed=3)(np.arange(size)[::-1]), sent[::-1]), "each by itself"


def test_a_permutation_is_no_worse_than_one_drawn_at_random() -> None:
    size = 40_000
    sent = [Permutation(size, seed)(np.arange(size)) for seed in (0, 1)]
    places = [np.arange(size), sent[0], sent[1]]
    for a in range(3):
        for b in range(a):
            assert abs(np.corrcoef(places[a], places[b])[0, 1]) < 4 / np.sqrt(size)
    steps = np.abs(np.diff(sent[0]))
    assert steps.mean() == pytest.approx(size / 3, rel=0.02), "neighbours are as far apart as two draws"
    counts = np.histogram2d(np.arange(size), sent[0], bins=20)[0]  # 100 expected in each of 400 cells
    assert ((counts - 100) ** 2 / 100).sum() == pytest.approx(361, abs=4 * np.sqrt(2 * 361)), "chi squared"


@pytest.mark.parametrize("kept", [True, False])
def test_batches_have_every_example_once_and_go_on_from_a_start(kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "MANY", 1_000 if kept else 10)
    epoch = [batch.tolist() for batch in Shuffled(103, 10, seed=1, epoch=2)]
    assert [len(batch) for batch in epoch] == [10] * 10 + [3]
    assert sorted(place for batch in epoch for place in batch) == list(range(103))
    later = Shuffled(103, 10, seed=1, epoch=2, start=4)
    assert [batch.tolist() for batch in later] == epoch[4:]
    assert len(later) == 7
    assert [batch.tolist() for batch in Shuffled(103, 10, seed=1, epoch=3)] != epoch
    assert [batch.tolist() for batch in Shuffled(103, 10, seed=2, epoch=2)] != epoch
    assert len(Shuffled(103, 10, 1, 2, start=11)) == 0


def test_the_order_of_examples_in_memory_lies_with_them() -> None:
    assert Shuffled(5, 2, 0, 0, device=torch.device("meta"))[0].device.type == "meta"
