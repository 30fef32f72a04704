"""The contract: what is summed and averaged, what noise touches, and what the objective adds up."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc import bottlenecks, likelihoods
from autoenc.core import Autoencoder, Batch, Code, Output, Regularizer, weight_at
from autoenc.objective import Objective
from autoenc.regularizers import KL
from autoenc.schedules import WarmUp

MakeModel = Callable[..., Autoencoder]


class AddHundred(nn.Module):
    """A corruption that shows by how much, and how often, it was applied."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 100


class Recorder(nn.Module):
    """Keeps what the encoder reads."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x)
        return self.encoder(x)


@dataclass(frozen=True)
class InputMean(Regularizer):
    """A term that tells which input the regularizers see: (B,)."""

    weight: float | Callable[[float], float] = 1.0

    def __call__(self, model: Autoencoder, batch: Batch, out: Output, step: float) -> Tensor:
        return batch.input.flatten(1).mean(-1)


def recorded(make_model: MakeModel, **options: object) -> tuple[Autoencoder, list[Tensor]]:
    model = make_model(corruption=AddHundred(), **options)
    model.encoder = Recorder(model.encoder)
    return model, model.encoder.inputs


def test_nll_is_the_sum_over_dimensions_in_nats(make_model: MakeModel) -> None:
    model = make_model(likelihood=likelihoods.Gaussian(sigma=0.7), shape=(2, 3, 4))
    batch = Batch(torch.randn(5, 2, 3, 4))
    out = model(batch)
    expected = -Normal(out.params, 0.7).log_prob(batch.x).sum((1, 2, 3))
    torch.testing.assert_close(out.nll, expected)


@pytest.mark.parametrize("shape", [(6,), (2, 3, 3)])
def test_nll_of_many_codes_for_each_example_keeps_the_leading_dimensions(
    make_model: MakeModel, shape: tuple[int, ...]
) -> None:
    model, batch = make_model(shape=shape), Batch(torch.randn(5, *shape))
    z = torch.randn(2, 4, 5, 3)
    one_by_one = torch.stack([torch.stack([model.nll(z[s, t], batch) for t in range(4)]) for s in range(2)])
    assert model.nll(z, batch).shape == (2, 4, 5)
    torch.testing.assert_close(model.nll(z, batch), one_by_one)


def test_nll_is_taken_in_float32_where_the_network_is_in_bfloat16(make_model: MakeModel) -> None:
    model = make_model(shape=(4000,), likelihood=likelihoods.Gaussian(output="sigmoid"))
    batch = Batch(torch.rand(2, 4000))
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch)
        x_hat = model.reconstruct(batch)
    assert out.params.dtype == torch.bfloat16
    exact = -Normal(out.params.double().sigmoid(), 1.0).log_prob(batch.x.double()).sum(-1)
    torch.testing.assert_close(out.nll, exact.float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(x_hat, out.params.float().sigmoid())


def test_noise_reaches_the_encoder_in_training_and_the_target_stays_clean(make_model: MakeModel) -> None:
    model, inputs = recorded(make_model)
    batch = Batch(torch.randn(5, 6))
    out = model.train()(batch)
    torch.testing.assert_close(inputs[-1], batch.x + 100)
    torch.testing.assert_close(out.nll, model.nll(out.code.z, batch))
    assert batch.corrupted is None


def test_no_noise_in_evaluation(make_model: MakeModel) -> None:
    model, inputs = recorded(make_model)
    batch = Batch(torch.randn(5, 6))
    model.eval()(batch)
    model.reconstruct(batch)
    model.train().encode(batch)  # noise is forward's: applications that encode get what they ask for
    for read in inputs:
        torch.testing.assert_close(read, batch.x)


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_that_is_corrupted_already_is_read_as_it_is(make_model: MakeModel, training: bool) -> None:
    model, inputs = recorded(make_model)
    batch = Batch(torch.randn(5, 6), corrupted=torch.randn(5, 6))
    out = model.train(training)(batch)
    torch.testing.assert_close(inputs[-1], batch.corrupted)
    torch.testing.assert_close(out.nll, model.nll(out.code.z, Batch(batch.x)))


def test_reconstruct_is_the_mean_of_the_likelihood_at_the_mean_of_the_code(make_model: MakeModel) -> None:
    model = make_model(bottlenecks.Gaussian, likelihood=likelihoods.Bernoulli())
    batch = Batch(torch.rand(5, 6))
    x_hat = model.reconstruct(batch)
    torch.testing.assert_close(x_hat, model.decode(model.encode(batch).mean).sigmoid())
    assert torch.equal(x_hat, model.reconstruct(batch))
    assert not x_hat.requires_grad


def test_objective_is_the_mean_nll_plus_weighted_means_of_the_terms(make_model: MakeModel) -> None:
    model, batch = make_model(), Batch(torch.randn(5, 6))
    loss = Objective({"seen": InputMean(weight=0.25)})(model, batch, 0)
    nll, seen = model(batch).nll.mean(), batch.x.mean()
    torch.testing.assert_close(loss.total["model"], nll + 0.25 * seen)
    torch.testing.assert_close(loss.parts, {"loss": nll + 0.25 * seen, "nll": nll, "seen": seen})  # terms unweighted
    assert list(loss.parts) == ["loss", "nll", "seen"]
    assert loss.total["model"].requires_grad
    assert not any(part.requires_grad for part in loss.parts.values())


def test_the_bottlenecks_own_losses_are_part_of_the_objective(make_model: MakeModel) -> None:
    class Own(bottlenecks.Deterministic):
        def forward(self, features: Tensor) -> Code:
            code = super().forward(features)
            return replace(
                code, losses={"commitment": torch.full((len(features),), 3.0), "codebook": torch.tensor(2.0)}
            )

    model, batch = make_model(Own), Batch(torch.randn(5, 6))
    loss = Objective({})(model, batch, 0)
    assert loss.parts["commitment"] == 3
    torch.testing.assert_close(loss.total["model"], loss.parts["nll"] + 5)
    assert loss.parts["loss"] == loss.parts["nll"], "they only help training, and choose no weights"


def test_regularizers_see_the_corrupted_input_that_the_code_came_from(make_model: MakeModel) -> None:
    model, inputs = recorded(make_model)
    batch = Batch(torch.randn(5, 6))
    loss = Objective({"seen": InputMean()})(model.train(), batch, 0)
    assert len(inputs) == 1
    torch.testing.assert_close(loss.parts["seen"], inputs[0].mean())
    torch.testing.assert_close(loss.parts["seen"], batch.x.mean() + 100)  # once, not twice
    loss = Objective({"seen": InputMean()})(model.eval(), batch, 0)
    torch.testing.assert_close(loss.parts["seen"], batch.x.mean())


def test_a_schedule_is_read_at_the_step_and_evaluation_stands_at_its_end(make_model: MakeModel) -> None:
    model, batch = make_model(bottlenecks.Gaussian), Batch(torch.randn(5, 6))
    objective = Objective({"kl": KL(weight=WarmUp(total_steps=100, start=0.0, end=4.0, fraction=0.5))})
    for step, weight in ((0, 0.0), (25, 2.0), (50, 4.0), (math.inf, 4.0)):
        parts = objective(model, batch, step).parts
        torch.testing.assert_close(parts["loss"], parts["nll"] + weight * parts["kl"])
    assert weight_at(0.3, 17) == 0.3


def test_the_objective_asks_nothing_of_the_schedule_but_the_step(make_model: MakeModel) -> None:
    """A counter inside would advance with validation, and be lost on reload."""
    model, batch = make_model(), Batch(torch.randn(5, 6))
    objective = Objective({"seen": InputMean(weight=WarmUp(total_steps=10, fraction=1.0))})
    first = objective(model, batch, 3).parts["loss"]
    for _ in range(5):
        objective(model.eval(), batch, math.inf)
    torch.testing.assert_close(objective(model.train(), batch, 3).parts["loss"], first)


def test_labels_have_no_say_in_the_loss(make_model: MakeModel) -> None:
    model, x = make_model(), torch.randn(5, 6)
    without = Objective({})(model, Batch(x), 0).parts["loss"]
    assert torch.equal(Objective({})(model, Batch(x, y=torch.arange(5)), 0).parts["loss"], without)
