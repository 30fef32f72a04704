"""Fine-tuning: both starts get the same labels, batches and steps, and pre-training is what differs."""

from pathlib import Path

import pytest
import torch

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
    with pytest.raises(UserError, match="--labels 1000: digits has 1293 labelled training examples, too few to draw"):
        finetune.finetune(load_run(dae_run, "cpu"), [1000])
