"""The perceptual distance: its value by hand, who receives gradients, and how the network is trained."""

import pytest
import torch
from torch.nn import functional as F

from autoenc.core import UNLABELLED
from autoenc.data.split import Split
from autoenc.errors import ConfigError
from autoenc.objectives.perceptual import PerceptualNetwork

SHAPE = (1, 8, 8)


@pytest.fixture
def network() -> PerceptualNetwork:
    return PerceptualNetwork(SHAPE, channels=(4, 6))


def test_the_distance_is_zero_for_equal_images_and_symmetric(network: PerceptualNetwork) -> None:
    x, y = torch.rand(2, 5, *SHAPE)
    assert network.distance(x, x).tolist() == [0.0] * 5
    torch.testing.assert_close(network.distance(x, y), network.distance(y, x))
    assert (network.distance(x, y) > 0).all()


def test_the_distance_is_that_of_unit_vectors_averaged_over_positions_and_stages(network: PerceptualNetwork) -> None:
    x, y = torch.rand(2, 3, *SHAPE)
    expected = torch.zeros(3)
    for a, b in zip(network(x), network(y), strict=True):
        cosine = F.cosine_similarity(a, b, dim=1)
        expected += (a.norm(dim=1) > 0).float().mul(1 - cosine).mean((1, 2))  # |u - v|^2 / 2 = 1 - u v
    torch.testing.assert_close(network.distance(x, y), 2 * expected / len(network.stages), rtol=1e-3, atol=1e-4)
    assert [tuple(f.shape[1:]) for f in network(x)] == [(4, 8, 8), (6, 4, 4)]


def test_the_image_receives_a_gradient_and_neither_target_nor_network(network: PerceptualNetwork) -> None:
    x, target = torch.rand(2, 3, *SHAPE).requires_grad_().unbind()
    before = network.distance(x, target).sum()
    (gradient,) = torch.autograd.grad(before, x, retain_graph=True)
    assert torch.autograd.grad(before, target, allow_unused=True, retain_graph=True) == (None,)
    assert not any(p.requires_grad for p in network.parameters())
    assert network.distance(x - 0.05 * gradient / gradient.norm(), target).sum() < before, "its sign"


def halves(n: int, shape: tuple[int, ...] = SHAPE) -> Split:
    """Noise in the upper half for class 0, in the lower for class 1."""
    x, y = torch.rand(n, *shape), torch.arange(n) % 2
    middle = shape[1] // 2
    x[y == 0, :, middle:] = 0
    x[y == 1, :, :middle] = 0
    return Split(x, y)


@pytest.mark.parametrize("task", ["auto", "classes", "rotations"])
def test_training_learns_the_task_and_freezes_the_network(network: PerceptualNetwork, task: str) -> None:
    lines: list[str] = []
    before = [p.clone() for p in network.parameters()]
    network.fit(halves(64), task, 40, lines.append)
    chosen = "classes" if task == "auto" else task
    assert f"training on {chosen}, 40 steps" in lines[0]
    assert all((a != b).any() for a, b in zip(before, network.parameters(), strict=True))
    assert not any(p.requires_grad for p in network.parameters())
    if chosen == "classes":
        assert float(lines[1].split()[3]) > 0.7


def test_the_network_does_not_depend_on_the_seed_and_leaves_the_random_state() -> None:
    data, networks = halves(16), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        torch.rand(seed)
        state = torch.get_rng_state()
        networks.append(PerceptualNetwork(SHAPE, channels=(4,)))
        networks[-1].fit(data, "classes", 2, lambda line: None)
        assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "y", [None, torch.zeros(9, dtype=torch.int64), torch.tensor([0, 1, UNLABELLED] * 3)], ids=["none", "one", "some"]
)
def test_without_labels_of_all_rows_the_task_is_to_tell_rotations(network: PerceptualNetwork, y: torch.Tensor) -> None:
    lines: list[str] = []
    network.fit(Split(torch.rand(9, *SHAPE), y), "auto", 1, lines.append)
    assert "training on rotations" in lines[0]


def test_rows_without_a_label_are_left_out_of_the_classes() -> None:
    x, y = torch.rand(9, *SHAPE), torch.tensor([0, 1, UNLABELLED] * 3)
    some, without = PerceptualNetwork(SHAPE, (4, 6)), PerceptualNetwork(SHAPE, (4, 6))
    some.fit(Split(x, y), "classes", 2, lambda line: None)
    without.fit(Split(x[y != UNLABELLED], y[y != UNLABELLED]), "classes", 2, lambda line: None)
    for a, b in zip(some.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)


def test_images_need_not_be_square() -> None:
    network, lines = PerceptualNetwork((3, 9, 14)), []
    network.fit(halves(8, (3, 9, 14)), "rotations", 1, lines.append)
    assert network.pooled(torch.rand(2, 3, 9, 14)).shape == (2, 64)


def test_data_that_are_no_images_are_refused() -> None:
    with pytest.raises(ConfigError, match="needs images"):
        PerceptualNetwork((12,))
