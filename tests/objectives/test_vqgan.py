"""VQGAN: losses by hand, the adaptive weight, who receives which gradient, and when the critic begins."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from autoenc import networks
from autoenc.core import Autoencoder, Batch
from autoenc.errors import ConfigError
from autoenc.likelihoods import Bernoulli
from autoenc.metric_table import label as metric_label
from autoenc.metric_table import metric
from autoenc.objective import train_step
from autoenc.objectives import VQGAN
from autoenc.objectives.vqgan import EPS, hinge, last_weight

MakeModel = Callable[..., Autoencoder]
SHAPE = (1, 8, 8)
CHANCE = 2.0


@pytest.fixture
def model(make_model: MakeModel) -> Autoencoder:
    options = {"channels": [4, 4], "hidden": None, "spatial": True}
    return make_model(shape=SHAPE, latent_dim=2, network=networks.conv, likelihood=Bernoulli(), network_options=options)


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.rand(4, *SHAPE))


def objective(**options: object) -> VQGAN:
    return VQGAN({}, SHAPE, **{"total_steps": 10, "start": 0.3, "channels": [4, 4], **options})


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, retain_graph=True))


def test_the_hinge_loss_counts_logits_within_the_margin_only() -> None:
    real, made = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([[-3.0, -1.0], [0.0, 1.0]])
    assert float(hinge(real, made)) == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 0 + 1 + 2) / 4)
    assert float(hinge(torch.zeros(5), torch.zeros(3))) == CHANCE


def test_the_critic_begins_at_its_step(model: Autoencoder, batch: Batch) -> None:
    of_critic = {"generator", "critic", "critic_accuracy", "adaptive_weight", "generator_gradient"}
    before, after = (objective()(model, batch, step) for step in (2, 3))
    assert (set(before.total), set(after.total)) == ({"model"}, {"model", "critic"})
    assert after.parts.keys() - before.parts.keys() == of_critic
    assert set(objective().players(model)) == {"model", "critic"}


def test_the_loss_is_nll_and_perceptual_distance_per_dimension(model: Autoencoder, batch: Batch) -> None:
    trained = objective(perceptual=3.0)
    for step in (0, 9):
        parts = trained(model, batch, step).parts
        torch.testing.assert_close(parts["loss"], parts["nll"] + 3 * 64 * parts["perceptual"])


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_in_the_last_layer(model: Autoencoder, batch: Batch) -> None:
    trained, weight = objective(perceptual=2.0), last_weight(model.decoder)
    assert weight is model.decoder.module[-1].weight
    out = model(batch)
    x = torch.sigmoid(out.params)
    reconstruction = out.nll.mean() + 2 * 64 * trained.network.distance(x, batch.x).mean()
    expected = [
        torch.autograd.grad(term, weight, retain_graph=True)[0].norm()
        for term in (reconstruction, -trained.critic(x).mean())
    ]
    parts = trained.losses(model, batch, out, 5).parts
    torch.testing.assert_close(parts["adaptive_weight"], expected[0] / (expected[1] + EPS))
    assert not parts["adaptive_weight"].requires_grad
    for parameter in trained.critic.parameters():
        nn.init.zeros_(parameter)
    assert trained.losses(model, batch, out, 5).parts["adaptive_weight"] == 1e4, "of a critic without a gradient"


def test_the_model_receives_the_gradients_of_all_terms_with_their_weights(model: Autoencoder, batch: Batch) -> None:
    trained = objective(perceptual=2.0, weight=0.7)
    out = model(batch)
    loss = trained.losses(model, batch, out, 5)
    x = torch.sigmoid(out.params)
    reconstruction = out.nll.mean() + 2 * 64 * trained.network.distance(x, batch.x).mean()
    total = reconstruction - 0.7 * loss.parts["adaptive_weight"] * trained.critic(x).mean()
    for found, wanted in zip(gradients(loss.total["model"], model), gradients(total, model), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_neither_player_reaches_the_other_nor_the_perceptual_network(model: Autoencoder, batch: Batch) -> None:
    trained = objective()
    loss = trained(model, batch, 5)
    assert all(g is None for g in gradients(loss.total["critic"], model))
    assert all(g is None for g in gradients(loss.total["model"], trained.critic))
    assert all(g is not None for g in gradients(loss.total["critic"], trained.critic))
    assert not any(p.requires_grad for p in trained.network.parameters())


def test_a_step_of_the_critic_tells_more_apart_and_one_of_the_generator_less(model: Autoencoder, batch: Batch) -> None:
    trained = objective(weight=1e3)
    still = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.0)
    start = trained(model, batch, 5).parts
    train_step(model, trained, batch, 5, {"model": still, "critic": torch.optim.SGD(trained.critic.parameters(), 0.01)})
    assert (told := trained(model, batch, 5).parts)["critic"] < start["critic"]
    train_step(model, trained, batch, 5, {"model": torch.optim.Adam(model.parameters(), 1e-3), "critic": still})
    assert (after := trained(model, batch, 5).parts)["generator"] < told["generator"]
    assert after["critic"] > told["critic"]


def test_evaluation_needs_no_gradients_and_compares_features(model: Autoencoder, batch: Batch) -> None:
    trained = objective().eval()
    model.eval()
    with torch.no_grad():
        one, two = (trained.losses(model, batch, model(batch), torch.inf).parts for _ in range(2))
    assert one == two
    assert {"feature_mmd", "generator", "critic"} <= one.keys()
    assert "adaptive_weight" not in one


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (1, 9, 30)])
def test_images_of_any_size_have_a_logit_every_four_pixels(shape: tuple[int, ...]) -> None:
    logits = VQGAN({}, shape, total_steps=1).critic(torch.rand(2, *shape))
    assert logits.shape == (2, -(-shape[1] // 4), -(-shape[2] // 4))


@pytest.mark.parametrize(("channels", "size"), [([4, 4], 15), ([4, 4, 4], 31), ([4, 4, 4, 4], 63)])
def test_logits_are_of_patches_of_this_size(channels: list[int], size: int) -> None:
    critic = VQGAN({}, (1, 128, 128), total_steps=1, channels=channels).critic
    for stage in [*critic.below, *critic.above]:
        if isinstance(stage, nn.Sequential) and len(stage) == 3:
            stage[1] = nn.Identity()  # its statistics are of the whole image
    x = torch.rand(1, 1, 128, 128, requires_grad=True)
    logits = critic(x)
    middle = logits.shape[1] // 2
    (seen,) = torch.autograd.grad(logits[0, middle, middle], x)
    rows, columns = seen[0, 0].nonzero().T
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == size


def test_what_is_no_likelihood_is_not_in_nats() -> None:
    shown = [metric_label(name, VQGAN.units) for name in ("loss", "critic", "generator", "nll")]
    assert shown == ["loss ↓", "critic", "generator", "nll [nats] ↓"]
    assert "2 for model=vqgan" in metric("critic").meaning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (12,)}, r"needs images"),
        ({"input_shape": (1, 8, 8), "channels": [4, 4, 4, 4]}, r"^channels=\[4, 4, 4, 4\]: too many stages for images"),
        ({"start": 1.0}, r"^start=1.0: must lie in \[0, 1\)"),
        ({"perceptual": -1.0}, r"^perceptual=-1.0: must be 0 or more"),
        ({"task_steps": 0}, r"^task_steps=0: must be 1 or more"),
        ({"task": "colors"}, r"^task=colors: must be one of auto, classes, rotations"),
        ({"task": "classes"}, r"^task=classes: needs labels of two classes .* rotations"),
        ({"task": "classes", "class_names": ("a", "b"), "left_out": ("b",)}, r"^task=classes: .* the data have 1;"),
    ],
)
def test_what_cannot_work_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VQGAN({}, **{"input_shape": SHAPE, "total_steps": 1, **options})
