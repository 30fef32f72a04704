"""The superposed world: its frequencies, hierarchy, correlation and the truth that goes with it."""

import pytest
import torch

from autoenc.data import superposition
from autoenc.errors import ConfigError

SMALL = {"features": 24, "atoms": 60, "trees": 3, "children": 2, "depth": 2, "count": 8_000, "test_fraction": 0.5}
TOP = 60 - 3 * (2 + 4)


@pytest.fixture(scope="module")
def world():
    return superposition(**SMALL, most=0.3, least=0.01, correlation=0.0)


def test_rows_are_sums_of_the_active_atoms(world) -> None:
    active, atoms = world.truth["active_test"], world.truth["dictionary"]
    torch.testing.assert_close(atoms.norm(dim=0), torch.ones(60))
    x = world.test.take(slice(None)).x
    for row in range(20):
        chosen = atoms[:, active[row]]
        fitted = torch.linalg.lstsq(chosen, x[row][:, None]).solution
        torch.testing.assert_close((chosen @ fitted).squeeze(1), x[row], rtol=0, atol=1e-4)
        assert (fitted > 0).all()
    squared = torch.cat([split.take(slice(None)).x for split in (world.train, world.val, world.test)]).square().sum(1)
    assert float(squared.mean()) == pytest.approx(24, rel=1e-3)


def test_atoms_without_a_parent_follow_zipfs_law(world) -> None:
    expected = (0.3 * torch.arange(1, TOP + 1).pow(-0.5)).clamp(min=0.01)
    torch.testing.assert_close(world.truth["frequency"][:TOP], expected.float(), rtol=0, atol=0.02)


def test_children_are_active_with_their_parent_and_one_at_a_time(world) -> None:
    active = world.truth["active_test"]
    children, grandchildren = active[:, TOP : TOP + 6], active[:, TOP + 6 :]
    for parents, below in ((active[:, :3], children), (children, grandchildren)):
        pairs = below.unflatten(1, (-1, 2))  # (N, parents, 2)
        assert not (pairs & ~parents[..., None]).any()
        assert (pairs.sum(-1) <= 1).all()
        assert float(pairs.any(-1).sum() / parents.sum()) == pytest.approx(0.8, abs=0.03)


def test_correlated_atoms_are_active_together_more_or_less_often_than_by_chance() -> None:
    sizes = {**SMALL, "trees": 0, "test_fraction": 0.9}
    spread = {}
    for strength in (0.0, 0.13):
        active = superposition(**sizes, most=0.3, least=0.2, correlation=strength).truth["active_test"].float()
        correlation = torch.corrcoef(active.T) - torch.eye(60)
        spread[strength] = float(correlation.std())
    assert spread[0.13] > 2 * spread[0.0]


def test_the_same_seed_draws_the_same_vectors() -> None:
    one, two, other = (superposition(**SMALL, data_seed=seed).train.tensor for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trees": 50}, r"^trees=50: 350 atoms in trees do not fit into atoms=60"),
        ({"most": 0.0}, r"^most=0\.0: must lie in \(0, 1\]"),
        ({"least": 0.9}, r"^least=0\.9: must lie in"),
        ({"correlation": 0.2}, r"^correlation=0\.2: .*rank=25"),
    ],
)
def test_impossible_worlds_are_rejected(options, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        superposition(**SMALL | options)
