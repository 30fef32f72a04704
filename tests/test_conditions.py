"""Conditions: labels reach the encoder and the decoder of every network, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoenc import build
from autoenc.conditions import InferredLabels, Labels
from autoenc.config.composed import compose
from autoenc.core import UNLABELLED, Autoencoder, Batch
from autoenc.data.dataset import Data, DataSpec, few_labels
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split
from autoenc.errors import ConfigError, UserError
from autoenc.objective import Objective, train_step

NETWORKS = ["mlp", "linear", "conv", "conv_spatial"]


def built(*overrides: str, labels: Tensor | None = None) -> Autoencoder:
    """A conditional model of digits."""
    config = compose(["model=cvae", "model.latent_dim=3", *overrides])
    return build.build_model(config, build.build_data(config).spec)


def digits(n: int = 6) -> Batch:
    return Batch(torch.rand(n, 1, 8, 8), torch.arange(n))


@pytest.mark.parametrize("network", NETWORKS)
def test_labels_reach_encoder_and_decoder_with_gradients_to_the_embedding(network: str) -> None:
    model, batch = built(f"network={network}").eval(), digits()
    other = replace(batch, y=batch.y.flip(0))  # type: ignore[union-attr]
    code = model.encode(batch)
    assert not torch.allclose(code.mean, model.encode(other).mean), "q(z|x, y)"
    assert not torch.allclose(model.decode(code.mean, batch), model.decode(code.mean, other)), "p(x|z, y)"
    assert code.mean.shape[1] == 3, "the condition is joined to the code, not part of it"
    weight = model.condition.embedding.weight  # type: ignore[union-attr, operator]
    for what in (code.mean.sum(), model.nll(code.mean.detach(), batch).sum()):
        (grad,) = torch.autograd.grad(what, [weight], retain_graph=True)  # type: ignore[list-item]
        reached = grad.abs().sum(1) > 0
        assert reached[:6].all()
        assert not reached[6:].any(), "only classes of the batch"


def test_the_embedding_is_joined_to_the_channels_at_each_position_and_leading_dimension() -> None:
    condition = Labels(num_classes=3, width=2)
    y = torch.tensor([2, 0])
    joined = condition.join(torch.zeros(5, 2, 4, 3, 3), y, 3)
    assert joined.shape == (5, 2, 6, 3, 3)
    torch.testing.assert_close(joined[4, :, 4:, 1, 2], condition.embedding(y))
    torch.testing.assert_close(condition.join(torch.zeros(2, 4), y, 1)[:, 4:], condition.embedding(y))


def test_codes_with_leading_dimensions_are_decoded_one_by_one() -> None:
    model, batch = built().eval(), digits()
    z = torch.randn(4, 6, 3)
    torch.testing.assert_close(model.nll(z, batch), torch.stack([model.nll(each, batch) for each in z]))


def trained(model: Autoencoder, objective: Objective, y: Tensor | None) -> dict[str, Tensor]:
    """The parameters after a step on labels y."""
    torch.manual_seed(1)
    x = torch.rand(6, *([1, 8, 8] if model.condition is not None else [6]))
    train_step(model.train(), objective, Batch(x, y), 0, {"model": torch.optim.SGD(model.parameters(), 0.1)})
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_permuted_labels_change_a_conditional_model_and_no_other(make_model: Callable[..., Autoencoder]) -> None:
    y = torch.arange(6)
    for conditional in (True, False):
        results = []
        for labels in (y, y.flip(0)):
            torch.manual_seed(0)
            model = built() if conditional else make_model()
            results.append(trained(model, Objective({}), labels))
        same = [torch.equal(results[0][name], results[1][name]) for name in results[0]]
        assert all(same) != conditional


def test_labels_that_are_missing_are_an_error_of_one_line() -> None:
    model = built()
    with pytest.raises(UserError, match="needs the label of every row"):
        model.encode(Batch(digits().x))
    with pytest.raises(UserError, match=r"decodes codes of given classes: y="):
        model.decode(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model=cvae", "labels=100"],
            r"^model\.condition: needs the label of every row; 1,193 of 1,293 training",
        ),
        (["model=cvae", "data=patches"], r"^model\.condition: needs labels, and patches has none"),
        (["model=cvae", "anomaly_classes=['3']"], r"^model\.condition: .*classes left out \(3\)"),
        (["model=m2", "data=patches"], r"^model\.condition: needs labels, and patches has none"),
        (["model=vae", "labels=9"], r"^labels=9: must lie in 10 to 1293"),
        (["model=vae", "labels=2000"], r"^labels=2000: must lie in 10 to 1293"),
        (["model=vae", "data=patches", "labels=10"], r"^labels=10: patches has no labels"),
        (["model=vae", "labels_seed=-1"], r"^labels_seed=-1: must be 0 or more"),
        (["model=m2", "regularizer=[kl,jacobian]"], r"^model\.objective: cannot sum regularizer jacobian"),
        (
            ["model=m2", "regularizer=[kl,total_correlation]"],
            r"^model\.objective: cannot sum regularizer total_correlation",
        ),
        (
            ["model=vae", "+model.condition._target_=autoenc.conditions.InferredLabels"],
            r"^model\.condition: infers labels",
        ),
        (["model=cvae", "prior=vamp"], r"^model\.prior: encodes pseudo-inputs, which have no labels"),
        (["model=m2", "model.objective.alpha=-1"], r"^model\.objective\.alpha=-1: must be 0 or more"),
    ],
)
def test_what_a_condition_cannot_use_is_refused_by_its_key(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build.build(compose(overrides), torch.device("cpu"))


def labelled(n: int = 40, classes: int = 4) -> Data:
    spec = DataSpec("tiny", Vector((2,), 0.0, 1.0), tuple("abcd"))
    split = Split(torch.rand(n, 2), torch.arange(n) % classes)
    return Data(spec, split, split, split)


@pytest.mark.parametrize("count", [4, 10, 40])
def test_few_labels_are_drawn_in_equal_numbers_from_the_classes(count: int) -> None:
    data = labelled()
    few = few_labels(data, count, seed=0)
    assert few.train.y is not None
    kept = few.train.y != UNLABELLED
    assert int(kept.sum()) == count
    assert torch.equal(few.train.y[kept], data.train.y[kept])  # type: ignore[index]
    numbers = few.train.y[kept].bincount(minlength=4)
    assert int(numbers.max() - numbers.min()) <= 1
    assert few.val.y is not None
    assert (few.val.y == UNLABELLED).all(), "settings are chosen without them"
    assert torch.equal(few.test.y, data.test.y)  # type: ignore[arg-type]
    again, other = few_labels(data, count, seed=0), few_labels(data, count, seed=1)
    assert torch.equal(again.train.y, few.train.y)  # type: ignore[arg-type]
    assert count == 40 or not torch.equal(other.train.y, few.train.y)  # type: ignore[arg-type]


class Pair:
    encoder: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(2, 5), nn.Tanh())
    feature_shape = (5,)


def inferred() -> InferredLabels:
    return InferredLabels(num_classes=3, make_network=Pair)


def test_the_classifier_starts_uniform_and_never_reads_the_labels() -> None:
    condition, x = inferred(), torch.randn(7, 2)
    torch.testing.assert_close(condition.log_q(Batch(x)).exp(), torch.full((7, 3), 1 / 3))
    with torch.no_grad():
        condition.weight.normal_()
    one, other = (condition.labels(Batch(x, torch.full((7,), label))) for label in (0, 1))
    assert torch.equal(one, other)
    assert torch.equal(one, condition.labels(Batch(x)))


def test_the_classification_error_is_that_of_the_labelled_rows() -> None:
    condition = inferred()
    with torch.no_grad():
        condition.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))  # always the second class
    sums: dict[str, Any] = {}
    for y in ([1, 1, 0, UNLABELLED], [UNLABELLED, 2, UNLABELLED, UNLABELLED]):
        for name, total in condition.tally(Batch(torch.randn(4, 2), torch.tensor(y))).items():
            sums[name] = total + sums.get(name, 0)
    assert condition.metrics(sums)["classification_error"] == pytest.approx(2 / 4)
    unknown = condition.tally(Batch(torch.randn(2, 2), torch.full((2,), UNLABELLED)))
    assert condition.metrics(unknown) == {}
    assert condition.metrics(condition.tally(Batch(torch.randn(2, 2)))) == {}


def test_a_classifier_needs_two_labelled_classes() -> None:
    for y in (None, torch.tensor([UNLABELLED, 1, 1])):
        with pytest.raises(ConfigError, match="needs labelled training rows of two classes or more"):
            inferred().check({"training": y})
    inferred().check({"training": torch.tensor([UNLABELLED, 1, 0])})
