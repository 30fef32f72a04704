"""Fine-tuning: both starts get the same labels, batches and steps, and pre-training is what differs."""

from pathlib import Path
from statistics import stdev

import pytest
import torch
from scipy.stats import ttest_rel

from autoenc import load_run
from autoenc.apps.codes import finetune
from autoenc.errors import UserError


def test_pre_training_pays_with_few_labels_and_few_steps(dae_run: Path) -> None:
    run = load_run(dae_run, "cpu")
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    (found,) = finetune.finetune(run, [50], seeds=2, steps=150)
    numbers = found.numbers()
    assert numbers["margin"] > 0
    assert numbers["pretrained"] > 0.7
    assert (len(found.pretrained), len(found.scratch), found.labels) == (2, 2, 50)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in run.model.state_dict().items()), "the run's own weights stay"
    (again,) = finetune.finetune(run, [50], seeds=2, steps=150)
    assert again == found


def test_without_a_step_the_classifier_knows_nothing(dae_run: Path) -> None:
    (found,) = finetune.finetune(load_run(dae_run, "cpu"), [50], seeds=3, steps=1, lr=1e-9)
    assert max(found.pretrained + found.scratch) < 0.4


def test_too_few_labels_are_refused(dae_run: Path) -> None:
    with pytest.raises(UserError, match="--labels 1290: must lie in 10 to 1,283: digits has 1,293 labelled training"):
        finetune.finetune(load_run(dae_run, "cpu"), [1290])


def test_the_interval_of_the_margin_is_students_of_paired_differences() -> None:
    pretrained, scratch = [0.8, 0.7, 0.9, 0.6], [0.75, 0.66, 0.83, 0.56]
    numbers = finetune.Comparison(100, pretrained, scratch).numbers()
    interval = ttest_rel(pretrained, scratch).confidence_interval(0.95)
    assert numbers["margin"] - numbers["margin_half_width"] == pytest.approx(interval.low)
    assert numbers["margin"] + numbers["margin_half_width"] == pytest.approx(interval.high)
    assert numbers["pretrained_std"] == pytest.approx(stdev(pretrained))
