"""Vector quantisation: nearest entries, straight-through gradients, moving averages, restarts."""

import math

import pytest
import torch

from autoenc.bottlenecks import Deterministic, Gaussian, TopK, VectorQuantized
from autoenc.bottlenecks.discrete import quantized as module
from autoenc.core import Bottleneck
from autoenc.errors import ConfigError


def quantized(codes: int = 4, positions: tuple[int, ...] = (3, 2), **options) -> VectorQuantized:
    """Two numbers in each entry; the encoded vectors are the features; no entry is dead."""
    bottleneck = VectorQuantized((2, *positions), 2, codes=codes, **options)
    with torch.no_grad():
        bottleneck.linear.weight.copy_(torch.eye(2).view_as(bottleneck.linear.weight))
        bottleneck.linear.bias.zero_()
        bottleneck.codebook.copy_(torch.randn(codes, 2))
        bottleneck.idle.zero_()
    return bottleneck


def test_a_code_of_a_single_entry_is_remarked() -> None:
    assert quantized(positions=()).remark.startswith("the code is a single entry of the codebook")
    assert "network=conv network.spatial=true" in quantized(positions=()).remark
    assert quantized(positions=(3, 2)).remark == ""


@pytest.mark.parametrize("positions", [(), (3, 2)])
@pytest.mark.parametrize("learning", ["ema", "gradient"])
@pytest.mark.parametrize("vectors", [1, 4, 10**6])
def test_each_position_takes_the_nearest_entry_however_many_are_compared_at_a_time(
    positions: tuple[int, ...], learning: str, vectors: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISTANCES", 4 * vectors + 3)
    bottleneck = quantized(positions=positions, learning=learning).eval()
    features = torch.randn(5, 2, *positions)
    code = bottleneck(features)
    assert code.z.shape == (5, *bottleneck.latent_shape) == (5, 2, *positions)
    z = code.z.movedim(1, -1).reshape(-1, 2)
    distances = torch.cdist(features.movedim(1, -1).reshape(-1, 2), bottleneck.codebook).square()
    assert torch.equal(z, bottleneck.codebook[distances.argmin(1)]), "exactly an entry, not nearly"
    first, second = distances.sort(1).values[:, :2].T
    torch.testing.assert_close(bottleneck.margin(code), (second - first).view(5, -1).amin(1))
    torch.testing.assert_close(code.losses["commitment"], 0.25 * (features - code.z).square().flatten(1).sum(-1))
    assert torch.equal(bottleneck.project(features), code.z)
    assert torch.equal(bottleneck.project(code.z.detach()), code.z), "valid codes stay"


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_gradients_pass_straight_through_and_only_the_codebook_loss_reaches_the_codebook(learning: str) -> None:
    bottleneck, features = quantized(learning=learning).eval(), torch.randn(5, 2, 3, 2, requires_grad=True)
    code, weights = bottleneck(features), torch.randn(5, 2, 3, 2)
    (code.z * weights).sum().backward(retain_graph=True)
    torch.testing.assert_close(features.grad, weights)
    features.grad = None
    code.losses["commitment"].sum().backward()
    torch.testing.assert_close(features.grad, 2 * 0.25 * (features - code.z).detach())
    if learning == "gradient":
        assert bottleneck.codebook.grad is None
        features.grad = None
        code.losses["codebook"].sum().backward()
        assert features.grad is None or not features.grad.any()
        assert bottleneck.codebook.grad.any()
    else:
        assert "codebook" not in code.losses
        assert not any(name == "codebook" for name, _ in bottleneck.named_parameters())


def test_moving_averages_are_those_of_the_paper() -> None:
    bottleneck = quantized(codes=2, positions=(), decay=0.9).train()
    with torch.no_grad():
        bottleneck.codebook.copy_(torch.tensor([[0.0, 0.0], [10.0, 10.0]]))
        bottleneck.count.copy_(torch.tensor([4.0, 2.0]))
        bottleneck.total.copy_(bottleneck.codebook * bottleneck.count[:, None])
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    code = bottleneck(features)
    assert torch.equal(code.z, torch.tensor([[0.0, 0.0], [0.0, 0.0], [10.0, 10.0]])), "before the update"
    torch.testing.assert_close(bottleneck.count, torch.tensor([0.9 * 4 + 0.1 * 2, 0.9 * 2 + 0.1]))
    expected = torch.tensor([[0.1 / 3.8, 0.1 / 3.8], [(0.9 * 20 + 0.9) / 1.9] * 2])
    torch.testing.assert_close(bottleneck.codebook, expected, rtol=1e-4, atol=1e-6)
    before = bottleneck.codebook.clone()
    bottleneck.eval()(features)
    assert torch.equal(bottleneck.codebook, before), "evaluation changes nothing"


@pytest.mark.parametrize("learning", ["ema", "gradient"])
def test_dead_entries_become_outputs_of_the_encoder(learning: str) -> None:
    bottleneck = quantized(dead_after=10, learning=learning).train()
    with torch.no_grad():
        bottleneck.codebook[2:] = 1e3  # never the nearest
        if learning == "ema":
            bottleneck.count.fill_(1)
            bottleneck.total.copy_(bottleneck.codebook)
    features = torch.randn(5, 2, 3, 2)
    vectors = features.movedim(1, -1).reshape(-1, 2)
    for expected in ([0, 0, 5, 5], [0, 0, 10, 10]):
        bottleneck(features)
        assert bottleneck.idle.tolist()[2:] == expected[2:]
        assert (bottleneck.codebook[2:] > 100).all()
    code = bottleneck(features)
    used = code.info["index"].unique()
    assert {2, 3} <= set(used.tolist()), "an entry on a vector is the nearest to it"
    if learning == "gradient":  # nothing else moves it
        same = bottleneck.codebook[2:, None] == vectors
        assert same.all(-1).any(1).all()
    assert bottleneck.codebook.abs().max() < 10
    assert torch.equal(bottleneck.state_dict()["codebook"], bottleneck.codebook), "in what is saved"


def test_the_first_batch_sets_the_whole_codebook() -> None:
    bottleneck = VectorQuantized((2, 4, 4), 3, codes=32).train()
    encoded = bottleneck.linear(features := torch.randn(8, 2, 4, 4)).movedim(1, -1).reshape(-1, 3)
    bottleneck.learning = "none"  # only the restart
    bottleneck(features)
    assert (torch.cdist(bottleneck.codebook, encoded).amin(1) < 1e-3).all()


def test_perplexity_and_use_are_those_of_all_examples_together() -> None:
    bottleneck = quantized(codes=4, positions=()).eval()
    halves = [bottleneck(bottleneck.codebook[torch.tensor(index)]) for index in ([0, 0, 0, 0], [1, 1, 2, 2])]
    tallies = [bottleneck.tally(code)["chosen"] for code in halves]
    metrics = bottleneck.metrics({"chosen": sum(tallies)})
    entropy = -(0.5 * math.log(0.5) + 2 * 0.25 * math.log(0.25))
    assert float(metrics["code_perplexity"]) == pytest.approx(math.exp(entropy))
    assert float(metrics["codes_used"]) == 0.75


def test_samples_are_entries_in_use_at_their_position() -> None:
    bottleneck = quantized(positions=(2, 1)).train()
    features = bottleneck.codebook[torch.tensor([[0, 1]] * 6)].movedim(1, -1).unsqueeze(-1)  # 0 above, 1 below
    code = bottleneck(features.clone())
    assert code.info["index"].squeeze(-1).tolist() == [[0, 1]] * 6
    drawn = bottleneck.sample(7)
    assert drawn.shape == (7, 2, 2, 1)
    torch.testing.assert_close(drawn[:, :, 0, 0], bottleneck.codebook[0].expand(7, 2))
    torch.testing.assert_close(drawn[:, :, 1, 0], bottleneck.codebook[1].expand(7, 2))


def test_a_codebook_larger_than_the_training_set_is_refused() -> None:
    bottleneck = VectorQuantized((2, 3, 3), 2, codes=100)
    bottleneck.check(12)
    with pytest.raises(ConfigError, match=r"^codes=100: a codebook larger than the training set.*11 examples of 9"):
        bottleneck.check(11)


def test_distances_are_in_float32_under_bfloat16() -> None:
    bottleneck, features = quantized().eval(), torch.randn(50, 2, 3, 2).bfloat16().float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = bottleneck(features)
    assert inside.z.dtype == torch.float32
    assert torch.equal(inside.info["index"], bottleneck(inside.info["encoded"]).info["index"])


@pytest.mark.parametrize("part", [Deterministic, Gaussian, VectorQuantized])
def test_a_feature_map_is_mapped_at_each_position_by_itself(part: type[Bottleneck]) -> None:
    bottleneck = part((5, 3, 4), 2).eval()
    features = torch.randn(6, 5, 3, 4)
    mean = bottleneck(features).mean
    assert mean.shape == (6, *bottleneck.latent_shape) == (6, 2, 3, 4)
    moved = features.clone()
    moved[:, :, 1, 2] += 1
    same = (bottleneck(moved).mean == mean).all(1)
    same[:, 1, 2] = True
    assert same.all()


def test_top_k_refuses_a_feature_map_and_names_the_key() -> None:
    with pytest.raises(ConfigError, match=r"network\.spatial=false"):
        TopK((5, 3, 4), 8)


def test_projections_are_idempotent_and_leave_valid_codes_alone() -> None:
    topk = TopK((6,), 6, k=2)
    z = torch.tensor([[3.0, -4.0, 1.0, 0.0, 0.0, 0.0]])
    assert topk.project(z).tolist() == [[3.0, -4.0, 0.0, 0.0, 0.0, 0.0]]
    relu, sigmoid = Deterministic((6,), 3, "relu"), Deterministic((6,), 3, "sigmoid")
    assert relu.project(torch.tensor([[-1.0, 2.0, 0.0]])).tolist() == [[0.0, 2.0, 0.0]]
    assert sigmoid.project(torch.tensor([[-1.0, 2.0, 0.5]])).tolist() == [[0.0, 1.0, 0.5]]
    for bottleneck in (topk, relu, sigmoid, Gaussian((6,), 3), quantized().eval()):
        features = torch.randn(20, 6) if len(bottleneck.latent_shape) == 1 else torch.randn(20, 2, 3, 2)
        code = bottleneck(features).mean
        assert torch.equal(bottleneck.project(code), code)
