"""Rounded, residual and binary codes: indices, gradients, KL, and what does not fit."""

import math
from itertools import pairwise

import pytest
import torch
from torch.distributions import Normal

from autoenc.bottlenecks import Binary, FiniteScalar, ResidualQuantized, VectorQuantized
from autoenc.bottlenecks.discrete.binary import Bits
from autoenc.core import Bottleneck
from autoenc.errors import ConfigError
from autoenc.priors import Bernoulli, Categorical


def direct(part: type[Bottleneck], channels: int, positions: tuple[int, ...] = (), **options) -> Bottleneck:
    """A bottleneck whose affine map is the identity: it quantizes the features."""
    bottleneck = part((channels, *positions), channels, **options)
    with torch.no_grad():
        bottleneck.linear.weight.copy_(torch.eye(channels).view_as(bottleneck.linear.weight))
        bottleneck.linear.bias.zero_()
    return bottleneck


def residual(depth: int = 3, codes: int = 8, positions: tuple[int, ...] = (2, 2), **options) -> ResidualQuantized:
    """Two channels; entries are random, and smaller at greater depths."""
    bottleneck = direct(ResidualQuantized, 2, positions, codes=codes, depth=depth, **options)
    with torch.no_grad():
        scale = 0.5 ** torch.arange(len(bottleneck.codebook) // codes).repeat_interleave(codes)[:, None]
        bottleneck.codebook.copy_(scale * torch.randn_like(bottleneck.codebook))
        bottleneck.idle.zero_()
    return bottleneck


EVERY = [
    lambda positions: direct(FiniteScalar, 3, positions, levels=[4, 3, 2]),
    lambda positions: residual(positions=positions),
    lambda positions: residual(positions=positions, shared=False),
    lambda positions: direct(VectorQuantized, 3, positions, codes=8, dead_after=10**6),
    lambda positions: direct(Binary, 3, positions),
]
KINDS = ["fsq", "rqvae", "rqvae_separate", "vqvae", "binary"]


@pytest.mark.parametrize("make", EVERY, ids=KINDS)
@pytest.mark.parametrize("positions", [(), (2, 3)])
def test_indices_name_the_code_and_projection_leaves_it_alone(make, positions: tuple[int, ...]) -> None:
    bottleneck = make(positions).eval()
    features = 2 * torch.randn(50, bottleneck.latent_shape[0], *positions)
    code = bottleneck(features)
    index = bottleneck.indices(code)
    assert index.shape == (50, *bottleneck.index_shape)
    assert index.dtype == torch.int64
    assert 0 <= index.min() <= index.max() < bottleneck.symbols
    assert math.prod(bottleneck.index_shape) == bottleneck.groups * math.prod(positions)
    assert torch.equal(bottleneck.from_indices(index), code.mean)
    assert torch.equal(bottleneck.project(code.mean.detach()), code.mean)
    assert code.mean.shape == (50, *bottleneck.latent_shape)
    assert bottleneck.margin(code).shape == (50,)
    assert (bottleneck.margin(code) >= 0).all()
    drawn = bottleneck.sample(5)
    assert torch.equal(bottleneck.project(drawn), drawn)
    low, high = bottleneck.code_range
    assert low <= code.mean.min().item() <= code.mean.max().item() <= high


@pytest.mark.parametrize("make", EVERY, ids=KINDS)
def test_within_its_margin_a_code_does_not_change(make) -> None:
    bottleneck = make(()).eval()
    features = torch.randn(2_000, bottleneck.latent_shape[0])
    code = bottleneck(features)
    moved = bottleneck(features + 1e-4 * torch.randn_like(features))
    changed = (moved.mean != code.mean).any(1)
    assert not changed[bottleneck.margin(code) > 0.01].any()
    assert (bottleneck.margin(code) > 0.01).float().mean() > 0.5


@pytest.mark.parametrize("make", EVERY[:4], ids=KINDS[:4])
def test_the_gradient_passes_straight_through(make) -> None:
    bottleneck = make(()).train()
    encoded = torch.randn(20, bottleneck.latent_shape[0], requires_grad=True)
    bottleneck.linear.requires_grad_(False)
    code, weights = bottleneck(encoded), torch.randn(20, bottleneck.latent_shape[0])
    (gradient,) = torch.autograd.grad((code.z * weights).sum(), encoded)
    if isinstance(bottleneck, FiniteScalar):  # that of the bound: rounding is left out
        weights = weights / (bottleneck.levels // 2)
        (weights,) = torch.autograd.grad((bottleneck._bound(encoded) * weights).sum(), encoded)
    assert torch.equal(gradient, weights)


def test_fsq_has_each_level_once_and_its_indices_are_a_bijection() -> None:
    bottleneck = direct(FiniteScalar, 4, levels=[2, 3, 4, 5])
    codes = bottleneck.from_indices(torch.arange(120))
    assert len(codes.unique(dim=0)) == 120
    values = [codes[:, channel].unique().tolist() for channel in range(4)]
    assert values == [[-1, 0], [-1, 0, 1], [-1, -0.5, 0, 0.5], [-1, -0.5, 0, 0.5, 1]]
    assert torch.equal(bottleneck._index(codes.T.view(4, 120).T * (bottleneck.levels // 2)), torch.arange(120))
    reached = bottleneck.eval()(torch.linspace(-9, 9, 2_001)[:, None].expand(-1, 4)).mean
    assert [reached[:, channel].unique().tolist() for channel in range(4)] == values, "by some input"


def test_fsq_bounds_as_the_paper_does() -> None:
    """The listing of appendix A.1 in plain numbers."""
    levels, y = [8, 5, 2], torch.linspace(-4, 4, 41)[:, None].expand(-1, 3)
    bounded = direct(FiniteScalar, 3, levels=levels)._bound(y)
    for channel, level in enumerate(levels):
        half, offset = (level - 1) * (1 - 1e-3) / 2, 0.5 if level % 2 == 0 else 0.0
        expected = [math.tanh(float(v) + math.tan(offset / half)) * half - offset for v in y[:, channel]]
        assert bounded[:, channel].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shared", [True, False])
def test_residual_codes_are_the_sum_of_the_entries_nearest_to_what_is_left(shared: bool) -> None:
    bottleneck = residual(shared=shared).eval()
    features = torch.randn(30, 2, 2, 2)
    code = bottleneck(features)
    left, total, commitment = features, 0, 0
    for step in range(3):
        book = bottleneck.codebook[:8] if shared else bottleneck.codebook[8 * step : 8 * step + 8]
        vectors = left.movedim(1, -1).reshape(-1, 2)
        nearest = torch.cdist(vectors, book).argmin(1)
        assert torch.equal(code.info["index"][..., step].flatten(), nearest)
        entry = book[nearest].view(30, 2, 2, 2).movedim(-1, 1)
        left, total = left - entry, total + entry
        commitment = commitment + 0.25 * (features - total).square().flatten(1).sum(1)
    torch.testing.assert_close(code.z, total)
    torch.testing.assert_close(code.losses["commitment"], commitment)


def test_the_error_of_residual_codes_does_not_grow_with_depth() -> None:
    bottleneck = residual(depth=4)
    with torch.no_grad():
        bottleneck.codebook[0] = 0  # then leaving the sum as it is, is one of the choices
    features = torch.randn(100, 2, 2, 2)
    rows = bottleneck.eval()(features).info["index"]
    errors = [features.movedim(1, -1).square().sum(-1)]
    for depth in range(1, 5):
        z = bottleneck.codebook[rows[..., :depth]].sum(-2)
        errors.append((features.movedim(1, -1) - z).square().sum(-1))
        assert (errors[-1] <= errors[-2] + 1e-6).all()
    learned = direct(ResidualQuantized, 2, (), codes=16, depth=4, decay=0.5).train()
    x = torch.randn(500, 2)
    for _ in range(30):
        rows = learned(x).info["index"]
    rows = learned.eval()(x).info["index"]
    means = [float((x - learned.codebook[rows[:, :depth]].sum(1)).square().mean()) for depth in range(5)]
    assert all(after < before for before, after in pairwise(means)), means
    assert means[4] < 0.1 * means[1]


def test_entries_chosen_at_one_depth_are_not_replaced_at_the_next() -> None:
    """All entries of a new codebook are dead; those that are replaced after they were chosen would change the code."""
    learned = direct(ResidualQuantized, 2, (), codes=8, depth=4, learning="gradient").train()
    code = learned(torch.randn(20, 2))
    torch.testing.assert_close(learned.from_indices(code.info["index"]), code.z)


def test_residual_codes_of_depth_1_are_those_of_a_codebook() -> None:
    one, plain = residual(depth=1), direct(VectorQuantized, 2, (2, 2), codes=8)
    plain.load_state_dict(one.state_dict() | {"prior.frequency": plain.prior.frequency})
    features = torch.randn(9, 2, 2, 2)
    a, b = one.train()(features), plain.train()(features)
    assert torch.equal(a.z, b.z)
    torch.testing.assert_close(a.losses["commitment"], b.losses["commitment"])
    torch.testing.assert_close(one.codebook, plain.codebook)


@pytest.mark.parametrize("shared", [True, False])
def test_the_entries_follow_the_residuals_that_choose_them(shared: bool) -> None:
    bottleneck = residual(shared=shared, decay=0.9).train()
    before = {name: value.clone() for name, value in bottleneck.state_dict().items()}
    features = torch.randn(6, 2, 2, 2)
    with torch.no_grad():
        code = bottleneck.eval()(features)
    bottleneck.train()(features)
    left, count, total = features.movedim(1, -1).reshape(-1, 2), before["count"].clone() * 0.9, before["total"] * 0.9
    for step in range(3):
        rows = code.info["index"][..., step].flatten() + bottleneck.first[step]
        count.index_add_(0, rows, torch.full((len(rows),), 0.1))
        total.index_add_(0, rows, 0.1 * left)
        left = left - before["codebook"][rows]
    torch.testing.assert_close(bottleneck.count, count)
    torch.testing.assert_close(bottleneck.total, total)


def test_the_loss_of_a_codebook_learned_by_gradients_reaches_the_codebook_alone() -> None:
    bottleneck = residual(learning="gradient").eval()
    features = torch.randn(5, 2, 2, 2, requires_grad=True)
    losses = bottleneck(features).losses
    losses["commitment"].sum().backward(retain_graph=True)
    assert bottleneck.codebook.grad is None
    assert features.grad.any()
    features.grad = None
    losses["codebook"].sum().backward()
    assert features.grad is None
    assert bottleneck.codebook.grad.any()


def test_projection_finds_sums_that_choosing_one_depth_at_a_time_misses() -> None:
    bottleneck = residual(positions=(), codes=6, depth=3).eval()
    index = torch.cartesian_prod(*[torch.arange(6)] * 3)
    sums = bottleneck.from_indices(index)
    greedy = bottleneck(sums).mean
    assert not torch.allclose(greedy, sums, atol=1e-5)
    torch.testing.assert_close(bottleneck.project(sums), sums)


def test_the_kl_of_bits_is_that_of_enumeration() -> None:
    p = torch.tensor([[0.1, 0.5, 0.9], [1e-4, 1 - 1e-4, 0.3]])
    prior = Bernoulli((3,))
    posterior = Bits(probs=p)
    words = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)  # all 8 codes
    log_q, log_p = posterior.log_prob(words[:, None]).sum(-1), prior.log_prob(words)
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
    expected = (log_q.exp() * (log_q - log_p[:, None])).sum(0)
    torch.testing.assert_close(prior.kl(posterior).sum(-1), expected, rtol=1e-4, atol=1e-6)
    assert prior.kl(Normal(p, p)) is None
    assert not prior.tempered, "equal odds have no temperature"
    torch.testing.assert_close(prior.sample(20_000).mean(0), torch.full((3,), 0.5), atol=0.02, rtol=0)


def test_quantiles_of_bits_are_draws() -> None:
    posterior = Bits(probs=torch.tensor([0.2, 0.7]))
    u = ((torch.arange(1_000) + 0.5) / 1_000)[:, None].expand(-1, 2)
    assert posterior.icdf(u).mean(0).tolist() == pytest.approx([0.2, 0.7], abs=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_sampled_bits_have_the_probability_of_the_posterior_and_its_gradient(training: bool) -> None:
    bottleneck = direct(Binary, 2).train(training)
    logits = torch.tensor([[-1.0, 0.5]]).expand(20_000, 2).clone().requires_grad_()
    code = bottleneck(logits)
    assert set(code.z.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(code.z.mean(0), logits[0].sigmoid(), atol=0.015, rtol=0)
    assert code.mean[0].tolist() == [0.0, 1.0]
    p = logits.detach().sigmoid()
    for output in (code.z, code.mean):
        (gradient,) = torch.autograd.grad(output.sum(), logits, retain_graph=True)
        torch.testing.assert_close(gradient, p * (1 - p))  # dz/dp = 1


def test_the_relaxation_is_soft_in_training_and_its_bits_have_the_right_probability() -> None:
    bottleneck = direct(Binary, 1, estimator="concrete", temperature=0.4).train()
    logits = torch.full((40_000, 1), 0.7, requires_grad=True)
    z = bottleneck(logits).z
    assert ((z > 0) & (z < 1)).float().mean() > 0.9
    assert float((z > 0.5).float().mean()) == pytest.approx(1 / (1 + math.exp(-0.7)), abs=0.01)
    (gradient,) = torch.autograd.grad(z.sum(), logits)
    torch.testing.assert_close(gradient, (z * (1 - z) / 0.4).detach(), rtol=1e-4, atol=1e-6)
    assert set(bottleneck.eval()(logits).z.unique().tolist()) == {0.0, 1.0}


def test_the_use_of_codes_is_that_of_all_examples_together() -> None:
    binary = direct(Binary, 2).eval()
    tallies = [binary.tally(binary(x)) for x in (torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), torch.tensor([[-1.0, 1.0]]))]
    entropy = -(math.log2(1 / 3) / 3 + 2 * math.log2(2 / 3) / 3)
    sums = {name: tallies[0][name] + tallies[1][name] for name in tallies[0]}
    assert float(binary.metrics(sums)["bit_entropy"]) == pytest.approx(entropy / 2)
    fsq = direct(FiniteScalar, 1, levels=[4]).eval()
    assert fsq.metrics(fsq.tally(fsq(torch.tensor([[-9.0], [9.0]])))) == {
        "code_perplexity": pytest.approx(2.0),
        "codes_used": 0.5,
    }
    rq = residual(depth=2, codes=4, positions=()).eval()
    rq.codebook.copy_(torch.tensor([[10.0, 0], [0, 10], [1, 0], [50, 50]]))
    found = rq.metrics(rq.tally(rq(torch.tensor([[11.0, 0], [1, 10]]))))
    assert found == {"code_perplexity": pytest.approx((2 + 1) / 2), "codes_used": 0.75}


def test_priors_learn_the_frequencies_of_each_depth() -> None:
    bottleneck = residual(depth=2, positions=()).train()
    x = bottleneck.codebook[1].expand(10, 2).clone()
    index = bottleneck(x).info["index"]
    assert isinstance(bottleneck.prior, Categorical)
    for step in range(2):
        assert bottleneck.prior.frequency[step].argmax() == index[0, step]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FiniteScalar((4,), 2, levels=[8, 1]), r"^levels=\[8, 1\]: must be 2 or more"),
        (lambda: FiniteScalar((4,), 2, levels=[]), r"^levels=\[\]: must be 2 or more"),
        (lambda: FiniteScalar((4,), 4, levels=[8, 6, 5]), r"^levels=\[8, 6, 5\]: .*model\.latent_dim=4 channels"),
        (lambda: FiniteScalar((4,), 6, levels=[8] * 6), r"^levels=.*262,144 codes; at most 65,536"),
        (lambda: FiniteScalar((4,), 2, levels=[8, 6]).check(40), r"^levels=\[8, 6\]: 48 codes, a codebook larger"),
        (lambda: ResidualQuantized((4,), 2, depth=0), "^depth=0: must be 1 or more"),
        (lambda: ResidualQuantized((4,), 2, codes=1), "^codes=1: must be 2 or more"),
        (lambda: ResidualQuantized((4,), 2, codes=50).check(40), "^codes=50: a codebook larger than"),
        (lambda: Binary((4,), 2, estimator="reinforce"), "^estimator=reinforce: must be straight_through or concrete"),
        (lambda: Binary((4,), 2, temperature=0.0), "^temperature=0.0: must be above 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
