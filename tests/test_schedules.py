"""Schedules at known steps, and the length of a run."""

import math

import pytest

from autoenc.errors import ConfigError
from autoenc.schedules import Constant, Cosine, Cyclical, Staged, WarmUp
from autoenc.training.settings import TrainerSettings


def test_warm_up_is_linear_over_its_fraction_and_then_constant() -> None:
    weight = WarmUp(total_steps=200, start=0.5, end=2.5, fraction=0.25)
    assert [weight(s) for s in (0, 25, 49, 50, 199, 10_000)] == pytest.approx([0.5, 1.5, 2.46, 2.5, 2.5, 2.5])
    assert weight(math.inf) == 2.5


def test_warm_up_may_go_down() -> None:
    assert [WarmUp(10, start=1.0, end=0.0, fraction=1.0)(s) for s in (0, 5, 10)] == [1.0, 0.5, 0.0]


def test_cyclical_starts_anew_in_each_cycle() -> None:
    weight = Cyclical(total_steps=400, start=0.0, end=2.0, cycles=4, ramp=0.5)
    one = [(0, 0.0), (25, 1.0), (49, 1.96), (50, 2.0), (99, 2.0)]
    for cycle in range(4):
        for step, value in one:
            assert weight(100 * cycle + step) == pytest.approx(value), (cycle, step)


def test_cyclical_stands_at_its_end_in_evaluation() -> None:
    weight = Cyclical(total_steps=400, start=0.0, end=2.0)
    assert weight(400) == weight(401) == weight(math.inf) == 2.0


def test_stages_are_three_times_as_long_each_and_end_at_a_tenth() -> None:
    """3,280 passes: 1 with the factor 1, 3 with 10^(-1/7), ..., 2,187 with 0.1 (Burda et al. 2016)."""
    factor = Staged(total_steps=32_800)
    lengths = [sum(math.isclose(factor(step), 10 ** (-i / 7)) for step in range(32_800)) for i in range(8)]
    assert lengths == [10 * 3**i for i in range(8)]
    assert factor(math.inf) == pytest.approx(0.1)
    assert Staged(100, warmup=0.1)(0) == pytest.approx(0.1)


def test_cosine_rises_linearly_and_falls_by_half_a_cosine() -> None:
    factor = Cosine(total_steps=110, warmup=10 / 110)
    assert [factor(s) for s in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert factor(60) == pytest.approx(0.5)
    assert factor(35) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert factor(110) == pytest.approx(0, abs=1e-12)
    assert factor(109) > 0, "no step of the run is wasted"


def test_constant_is_one_after_its_warm_up() -> None:
    assert [Constant(100, warmup=0.04)(s) for s in (0, 1, 2, 3, 4, 99)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert Constant(100)(0) == 1.0


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: WarmUp(10, fraction=0), "fraction=0"),
        (lambda: WarmUp(10, fraction=1.5), "fraction=1.5"),
        (lambda: Cyclical(10, cycles=0), "cycles=0"),
        (lambda: Cyclical(10, ramp=0.0), "ramp=0.0"),
    ],
)
def test_impossible_lengths_are_refused(make: type, key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key}: must"):
        make()


def test_the_length_of_a_run_counts_the_last_smaller_batch_unless_it_is_one_example() -> None:
    settings = TrainerSettings(epochs=3, batch_size=10)
    assert [settings.steps_per_epoch(n) for n in (1, 9, 10, 11, 12, 100)] == [1, 1, 1, 1, 2, 10]
    assert settings.total_steps(12) == 6
    assert TrainerSettings(epochs=3, steps=7, batch_size=10).total_steps(11) == 7


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("steps", 0),
        ("batch_size", 0),
        ("evaluate_every", 0),
        ("figures", -1),
        ("warmup", 1.0),
        ("plateau_factor", 1.0),
        ("clip", 0.0),
        ("clip", math.inf),
        ("patience", 0),
        ("device", "gpu"),
        ("precision", "16"),
        ("lr_schedule", "cosin"),
    ],
)
def test_settings_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{option}={value}: must"):
        TrainerSettings(**{option: value})
