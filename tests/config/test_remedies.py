"""Advice against a collapsed posterior composes for the run that it is given to, and changes its KL."""

import shlex
from typing import Any

import pytest

from autoenc.config.composed import compose, compose_with_choices
from autoenc.config.remedies import against_collapse


def kl(config: dict[str, Any]) -> dict[str, Any]:
    return config["regularizer"]["kl"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["model=vae"],
            ["regularizer=[kl_warmup]", "regularizer.kl.free_bits=0.1", "regularizer.kl.weight=0.25"],
        ),
        (
            ["model=vae", "regularizer.kl.weight=4", "regularizer.kl.free_bits=0.2"],
            [
                "regularizer=[kl_warmup] regularizer.kl.weight.end=4",
                "regularizer.kl.free_bits=0.4",
                "regularizer.kl.weight=1",
            ],
        ),
        (
            ["model=beta_vae"],
            [
                "model=vae regularizer=[kl_warmup] regularizer.kl.weight.end=4",
                "regularizer.kl.free_bits=0.1",
                "regularizer.kl.weight=1",
            ],
        ),
        (
            ["model=vae", "regularizer=[kl_warmup,l1]"],
            [
                "regularizer.kl.weight.fraction=0.5",
                "regularizer.kl.free_bits=0.1",
                "regularizer.kl.weight.end=0.25",
            ],
        ),
        (
            ["model=vae", "regularizer=[kl,l1]"],
            ["regularizer=[kl_warmup,l1]", "regularizer.kl.free_bits=0.1", "regularizer.kl.weight=0.25"],
        ),
        (
            ["model=vae", "regularizer=[kl_cyclical]"],
            ["regularizer.kl.free_bits=0.1", "regularizer.kl.weight.end=0.25"],
        ),
        (["model=ae"], []),
    ],
)
def test_advice_composes_and_changes_the_kl(overrides: list[str], expected: list[str]) -> None:
    run, choices = compose_with_choices(overrides)
    advice = against_collapse(run, choices)
    assert advice == expected
    for remedy in advice:
        added = shlex.split(remedy)
        kept = [o for o in overrides if o.partition("=")[0] not in {a.partition("=")[0] for a in added}]
        if any(a.startswith("regularizer=") for a in added):  # a schedule takes the place of the number
            kept = [o for o in kept if not o.startswith("regularizer.kl.weight=")]
        changed = compose([*kept, *added])
        assert kl(changed) != kl(run)
        assert changed["regularizer"].keys() == run["regularizer"].keys()


def test_a_warm_up_is_no_remedy_where_the_scale_of_the_likelihood_is_too_large() -> None:
    """A code that is not worth its KL is given up at the end of a warm-up, too."""
    for overrides, key in ((["model=vae"], "weight"), (["model=vae", "regularizer=[kl_warmup]"], "weight.end")):
        advice = against_collapse(*compose_with_choices(overrides), "likelihood.learned=true")
        expected = ["likelihood.learned=true", "regularizer.kl.free_bits=0.1", f"regularizer.kl.{key}=0.25"]
        assert advice == expected
