"""Model M2: the bound of unlabelled rows is the sum over classes, and who receives which gradient."""

import math

import pytest
import torch
from torch import Tensor

from autoenc import build
from autoenc.conditions import InferredLabels
from autoenc.config.composed import compose
from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.errors import ConfigError
from autoenc.objectives import SemiSupervised
from autoenc.reference import bound
from autoenc.regularizers import KL

C = 10


def model_of(*overrides: str) -> Autoencoder:
    """A small M2 of digits with a classifier that is not uniform, and a code without noise."""
    config = compose(["model=m2", "model.latent_dim=3", "network.hidden=[16]", *overrides])
    model = build.build_model(config, build.build_data(config).spec)
    with torch.no_grad():
        model.condition.weight.normal_(0, 0.3)  # type: ignore[union-attr, operator]
        model.bottleneck.linear.weight[3:] = 0  # type: ignore[index, union-attr]
        model.bottleneck.linear.bias[3:] = -100.0  # type: ignore[index, union-attr]
    return model


def given_class(model: Autoencoder, x: Tensor, label: int) -> Tensor:
    """L(x, y) of one class: -log p(x|z,y) + KL + log C, (B,)."""
    batch = Batch(x, torch.full((len(x),), label))
    code = model.encode(batch, batch.y)
    params = model.decode(code.mean, batch, batch.y)
    kl = KL()(model, batch, type("Out", (), {"code": code})(), 0)  # type: ignore[arg-type]
    return model.likelihood.nll(params, x) + kl + math.log(C)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 1, 8, 8)


def test_the_bound_of_unlabelled_rows_is_the_sum_over_classes(x: Tensor) -> None:
    model, objective = model_of(), SemiSupervised({"kl": KL()}).train()
    q = model.condition.log_q(Batch(x)).exp()  # type: ignore[union-attr, operator]
    bounds = torch.stack([given_class(model, x, label) for label in range(C)], 1)
    expected = (q * (bounds + q.log())).sum(1).mean()
    for y in (None, torch.full((5,), UNLABELLED)):
        loss = objective(model.eval(), Batch(x, y), 0)
        torch.testing.assert_close(loss.total["model"], expected, rtol=2e-3, atol=0)  # z has a spread of e^-7.5


def test_labelled_rows_have_the_bound_of_their_class_and_the_classification_loss(x: Tensor) -> None:
    model = model_of()
    objective = SemiSupervised({"kl": KL()}, alpha=2.0, labelled=0.5).train()
    y = torch.tensor([3, UNLABELLED, 7, UNLABELLED, UNLABELLED])
    log_q = model.condition.log_q(Batch(x))  # type: ignore[union-attr, operator]
    q = log_q.exp()
    bounds = torch.stack([given_class(model, x, label) for label in range(C)], 1)
    unlabelled = (q * (bounds + log_q)).sum(1)
    per_row = torch.where(y >= 0, bounds.gather(1, y.clamp(min=0)[:, None])[:, 0], unlabelled)
    classification = -(log_q[0, 3] + log_q[2, 7]) / (0.5 * 5)
    parts = objective(model.eval(), Batch(x, y), 0).parts
    torch.testing.assert_close(parts["loss"], (per_row.mean() + 2.0 * classification).detach(), rtol=2e-3, atol=0)
    torch.testing.assert_close(parts["classification"], classification.detach())
    sums = parts["nll"] + parts["kl"] + parts["class_kl"] + 2.0 * parts["classification"]
    torch.testing.assert_close(parts["loss"], sums)


def gradient_of_classifier(y: Tensor, x: Tensor, alpha: float) -> Tensor:
    torch.manual_seed(0)
    model, objective = model_of().train(), SemiSupervised({"kl": KL()}, alpha=alpha).train()
    loss = objective(model, Batch(x, y), 0).total["model"]
    return torch.autograd.grad(loss, model.condition.weight, allow_unused=True)[0]  # type: ignore[union-attr, arg-type]


def test_labelled_rows_reach_the_classifier_by_the_classification_loss_alone(x: Tensor) -> None:
    known, unknown = torch.arange(5), torch.full((5,), UNLABELLED)
    assert gradient_of_classifier(known, x, alpha=0.0).abs().max() == 0
    assert gradient_of_classifier(known, x, alpha=1.0).abs().max() > 0
    assert gradient_of_classifier(unknown, x, alpha=0.0).abs().max() > 0
    before, after = (gradient_of_classifier(unknown, x, alpha=a) for a in (0.0, 5.0))
    torch.testing.assert_close(before, after)


def test_evaluation_counts_every_row_as_unlabelled(x: Tensor) -> None:
    model, objective = model_of().eval(), SemiSupervised({"kl": KL()}).eval()
    losses = []
    for y in (None, torch.arange(5)):
        torch.manual_seed(0)
        parts = objective(model, Batch(x, y), math.inf).parts
        assert "classification" not in parts
        losses.append(parts["loss"])
    assert torch.equal(*losses)


def test_the_bound_of_an_evaluation_counts_which_class_it_is(x: Tensor) -> None:
    """With a classifier that is sure, U(x) is nll + KL + log C of that class."""
    model, objective = model_of().eval(), SemiSupervised({"kl": KL()}).eval()
    assert isinstance(model.condition, InferredLabels)
    with torch.no_grad():
        model.condition.bias[1] = 50.0
    loss = objective(model, Batch(x), math.inf).parts["loss"]
    with torch.no_grad():
        wide = float(bound(model, Batch(x)).mean())
        assert wide == pytest.approx(float(loss), abs=0.5), "draws of z differ"
        code = model.encode(Batch(x))
        nll = model.nll(code.mean, Batch(x)).mean()
        assert wide > nll + 0.9 * math.log(model.condition.classes)


def test_numbers_of_the_whole_batch_are_refused(x: Tensor) -> None:
    objective = SemiSupervised({"kl": KL(free_bits=0.1)})
    with pytest.raises(ConfigError, match=r"^regularizer=kl: is a number of the whole batch"):
        objective(model_of(), Batch(x), 0)


def test_the_objective_needs_a_condition_that_infers(make_model) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match="as model=m2 has"):
        SemiSupervised({}).check(make_model())
