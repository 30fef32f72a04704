"""Seeds: the same numbers again, those of the caller as before, and other ones from a derived seed."""

import torch

from autoenc.seeds import derived, seeded


def test_numbers_follow_from_the_seed_and_those_of_the_caller_go_on() -> None:
    torch.manual_seed(1)
    wanted = torch.rand(4)
    torch.manual_seed(1)
    drawn = []
    for _ in range(2):
        with seeded(5):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(torch.rand(4), wanted)


def test_a_derived_seed_gives_other_numbers_and_is_a_seed() -> None:
    seeds = [derived(seed) for seed in range(1_000)]
    assert len({*seeds, *range(1_000)}) == 2_000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived(7) == derived(7)
