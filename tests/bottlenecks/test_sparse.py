"""Sparse codes: batch top-k, jump-ReLU and gated, and the terms that train them, against their papers' formulas."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autoenc import build
from autoenc import run as training
from autoenc.bottlenecks import BatchTopK, Gated, JumpReLU, TopK
from autoenc.bottlenecks.sparse import topk
from autoenc.core import Autoencoder, Batch, Bottleneck, Output
from autoenc.errors import ConfigError
from autoenc.estimators import inmemory
from autoenc.initialization import start_tied
from autoenc.likelihoods import Gaussian
from autoenc.networks import mlp
from autoenc.networks.linear import linear
from autoenc.noise import Identity
from autoenc.objective import Objective
from autoenc.regularizers import L0, L1, AuxK, GateReconstruction, Matryoshka

UNITS = 6
OPTIONS = {BatchTopK: {"k": 3}}


def reads_pre(bottleneck: Bottleneck) -> Bottleneck:
    """Make pre-activations the features."""
    with torch.no_grad():
        bottleneck.linear.weight.copy_(torch.eye(UNITS))
        bottleneck.linear.bias.zero_()
    return bottleneck


def dictionary(bottleneck: type[Bottleneck], latent_dim: int = UNITS, learned: bool = False, **options) -> Autoencoder:
    pair = linear((4,), latent_dim, unit_norm=True)
    part = bottleneck(pair.feature_shape, latent_dim, **options)
    return Autoencoder(Identity(), pair.encoder, part, pair.decoder, Gaussian(learned=learned))


def batch_topk(k: int = 2) -> BatchTopK:
    return reads_pre(BatchTopK((UNITS,), UNITS, k=k, dead_after=10))


def test_batch_topk_keeps_k_for_each_example_on_average_and_no_other_values() -> None:
    features = torch.rand(50, UNITS) + 0.1
    z = batch_topk()(features).z
    assert (z != 0).sum() == 2 * 50
    assert len(set((z != 0).sum(1).tolist())) > 1, "some examples use more units than others"
    assert torch.equal(z[z != 0], features[z != 0])
    assert features[z == 0].max() <= z[z != 0].min()


def test_batch_topk_keeps_no_negative_value() -> None:
    z = batch_topk()(torch.tensor([[1.0, -1, -2, -3, -4, -5], [2.0, -1, -2, -3, -4, -5]])).z
    assert z.tolist() == [[1, 0, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]]


def test_the_threshold_of_batch_topk_is_the_running_mean_of_the_smallest_value_kept() -> None:
    bottleneck = batch_topk(k=1)
    for smallest, mean in ((1.0, 1.0), (2.0, 1.5), (6.0, 3.0)):
        bottleneck(torch.full((3, UNITS), -1.0).fill_diagonal_(smallest))
        assert bottleneck.threshold == pytest.approx(mean)
    bottleneck(torch.full((3, UNITS), -1.0))  # nothing is kept
    assert bottleneck.threshold == pytest.approx(3.0)
    bottleneck.batches.fill_(1_000)
    bottleneck(torch.full((3, UNITS), 103.0))
    assert bottleneck.threshold == pytest.approx(3.0 + 0.01 * 100)


def test_in_evaluation_the_code_of_batch_topk_does_not_depend_on_the_batch() -> None:
    bottleneck = batch_topk()
    bottleneck(torch.randn(64, UNITS))
    bottleneck.eval()
    features = torch.randn(20, UNITS)
    z, before = bottleneck(features).z, bottleneck.threshold.clone()
    assert torch.equal(z, torch.cat([bottleneck(row[None]).z for row in features]))
    assert torch.equal(z, torch.where(features >= before, features, 0))
    assert torch.equal(before, bottleneck.threshold)
    assert torch.equal(bottleneck.project(z), z)


def test_a_trained_batch_topk_uses_k_units_in_evaluation_too() -> None:
    torch.manual_seed(0)
    bottleneck = batch_topk()
    for _ in range(50):
        bottleneck(torch.rand(200, UNITS))
    active = (bottleneck.eval()(torch.rand(5_000, UNITS)).z != 0).sum(1).float().mean()
    assert float(active) == pytest.approx(2, rel=0.03)


def jumprelu(theta: float = 1.0, bandwidth: float = 0.5) -> JumpReLU:
    return reads_pre(JumpReLU((UNITS,), UNITS, threshold=theta, bandwidth=bandwidth))


def test_jumprelu_gradients_are_those_of_the_paper() -> None:
    theta, eps = 1.0, 0.5
    bottleneck = jumprelu(theta, eps)
    pre = torch.tensor([[-2.0, 0.7, 0.9, 1.1, 1.3, 4.0]], requires_grad=True)
    code, upstream = bottleneck(pre), torch.tensor([[1.0, 2, 3, 5, 7, 11]])
    assert code.z[0].tolist() == pytest.approx([0, 0, 0, 1.1, 1.3, 4.0])
    by_pre, by_log = torch.autograd.grad((code.z * upstream).sum(), [pre, bottleneck.log_threshold])
    assert by_pre.tolist() == [[0, 0, 0, 5, 7, 11]]
    # d z / d theta = -theta / eps where |pre - theta| < eps / 2: at 0.9 and 1.1; d theta / d log theta = theta
    assert by_log.tolist() == pytest.approx([0, 0, -theta / eps * 3 * theta, -theta / eps * 5 * theta, 0, 0])


def test_the_gradient_of_l0_is_that_of_the_paper_and_reaches_the_thresholds_alone() -> None:
    bottleneck = jumprelu(2.0, 0.5)
    pre = torch.tensor([[1.8, 2.2, 3.0, -1, -1, -1], [2.1, 5.0, 0, -1, -1, -1]], requires_grad=True)
    code = bottleneck(pre)
    assert code.info["l0"].tolist() == [2, 2]
    code.info["l0"].sum().backward()
    assert pre.grad is None or not pre.grad.any()
    # d H / d theta = -1 / eps within the kernel; two examples for unit 0; times theta for the logarithm
    assert bottleneck.log_threshold.grad.tolist() == pytest.approx([-2 / 0.5 * 2.0, -1 / 0.5 * 2.0, 0, 0, 0, 0])


def test_the_straight_through_gradient_is_that_of_the_expected_number_of_active_units() -> None:
    """d E[H(pre - theta)] / d theta = -p(theta): the estimator is a kernel estimate of the density."""
    torch.manual_seed(0)
    bottleneck = jumprelu(0.5, 0.2)
    code = bottleneck(torch.randn(200_000, UNITS))
    (gradient,) = torch.autograd.grad(code.info["l0"].mean(), bottleneck.log_threshold)
    density = math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi)
    torch.testing.assert_close(gradient / 0.5, torch.full((UNITS,), -density), rtol=0.03, atol=0)


def gated() -> Gated:
    bottleneck = reads_pre(Gated((UNITS,), UNITS))
    with torch.no_grad():
        bottleneck.log_scale.fill_(math.log(2))
        bottleneck.magnitude_bias.fill_(0.5)
        bottleneck.linear.bias.fill_(-1)
    return bottleneck


def test_gated_opens_by_the_gate_and_has_the_magnitude_of_the_shared_weights() -> None:
    code = gated()(torch.tensor([[0.5, 1.5, 3.0, -1, 1.0, 1.001]]))
    torch.testing.assert_close(code.info["gate"], torch.tensor([[0, 0.5, 2.0, 0, 0, 0.001]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(code.z, torch.tensor([[0, 3.5, 6.5, 0, 0, 2.502]]))  # 2 pre + 0.5 where pre > 1


def test_the_bias_of_the_gate_learns_from_the_terms_of_the_gate_alone() -> None:
    bottleneck = gated()
    code = bottleneck(torch.rand(8, UNITS) * 2)
    assert torch.autograd.grad(code.z.sum(), bottleneck.linear.bias, allow_unused=True)[0] is None
    (gradient,) = torch.autograd.grad(code.info["gate"].sum(), bottleneck.linear.bias)
    torch.testing.assert_close(gradient, (code.info["gate"] > 0).sum(0).float())


def outcome(model: Autoencoder, x: Tensor) -> Output:
    return model(Batch(x=x))


def test_the_reconstruction_from_the_gate_leaves_the_decoder_alone() -> None:
    model = dictionary(Gated, learned=True)
    x = torch.randn(16, 4)
    out = outcome(model, x)
    term = GateReconstruction()(model, Batch(x=x), out, 0)
    torch.testing.assert_close(term, model.nll(out.code.info["gate"], Batch(x=x)))
    term.mean().backward()
    assert all(p.grad is None for part in (model.decoder, model.likelihood) for p in part.parameters())
    assert model.bottleneck.linear.weight.grad.any()
    assert model.bottleneck.linear.bias.grad.any()
    assert model.bottleneck.log_scale.grad is None, "magnitudes serve the code alone"
    outcome(model, x).nll.mean().backward()
    assert all(p.grad is not None for p in model.decoder.parameters()), "it learns again afterwards"


def test_l1_of_a_gated_code_is_of_its_gate() -> None:
    model, x = dictionary(Gated), torch.randn(16, 4)
    out = outcome(model, x)
    torch.testing.assert_close(L1()(model, Batch(x=x), out, 0), out.code.info["gate"].sum(1))


def test_matryoshka_is_the_nll_of_each_prefix_by_hand() -> None:
    model, x = dictionary(BatchTopK, latent_dim=4, k=3), torch.randn(5, 4)
    out = outcome(model, x)
    term = Matryoshka(latent_dim=4, groups=(0.25, 0.5, 0.25))
    assert term.sizes == (1, 3)
    atoms, bias = model.decoder[0].atoms, model.decoder[0].bias
    expected = sum(
        0.5 * (x - out.code.z[:, :m] @ atoms[:, :m].T - bias).square().sum(1) + 2 * math.log(2 * math.pi)
        for m in (1, 3)
    )
    torch.testing.assert_close(term(model, Batch(x=x), out, 0), expected)
    (gradient,) = torch.autograd.grad(term(model, Batch(x=x), out, 0).sum(), model.decoder[0].weight)
    assert not gradient[:, 3].any(), "the last unit is in no prefix"
    assert gradient[:, :3].any(0).all()


def test_matryoshka_of_a_single_group_adds_nothing() -> None:
    model, x = dictionary(BatchTopK, k=3), torch.randn(5, 4)
    assert Matryoshka(UNITS, groups=(1.0,))(model, Batch(x=x), outcome(model, x), 0).tolist() == [0] * 5


@pytest.mark.parametrize("kind", [BatchTopK, JumpReLU, Gated])
def test_sparse_dictionaries_start_tied_and_their_units_can_be_revived(kind: type[Bottleneck]) -> None:
    model, x = dictionary(kind, dead_after=20, **OPTIONS.get(kind, {})), torch.randn(16, 4)
    start_tied(model)
    torch.testing.assert_close(model.bottleneck.linear.weight, model.decoder[0].atoms.T)
    with torch.no_grad():
        model.bottleneck.linear.bias[0] = -100
    for _ in range(2):
        out = outcome(model, x)
    assert out.code.info["dead"].tolist()[0]
    assert not out.code.info["dead"].all()
    AuxK().check(model)
    AuxK()(model, Batch(x=x), out, 0).mean().backward()
    assert model.bottleneck.linear.weight.grad[0].any()


@pytest.mark.parametrize("kind", [BatchTopK, JumpReLU, Gated])
def test_valid_codes_stay_as_they_are(kind: type[Bottleneck]) -> None:
    bottleneck = reads_pre(kind((UNITS,), UNITS, **OPTIONS.get(kind, {})))
    bottleneck(torch.randn(30, UNITS))
    code = bottleneck.eval()(torch.randn(30, UNITS))
    assert torch.equal(bottleneck.project(code.z), code.z)
    made = bottleneck.project(torch.randn(30, UNITS))
    assert torch.equal(bottleneck.project(made), made)
    assert (made >= 0).all()
    assert code.mean is code.z
    assert (bottleneck.margin(code) >= 0).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=batch_topk", "model.bottleneck.k=300"], r"^model\.bottleneck\.k=300: must lie in .*latent_dim=256"),
        (["model=matryoshka", "model.bottleneck.k=0"], r"^model\.bottleneck\.k=0: must lie in"),
        (["model=jumprelu", "model.bottleneck.bandwidth=0.0"], r"^model\.bottleneck\.bandwidth=0\.0: must be above 0"),
        (["model=jumprelu", "model.bottleneck.threshold=-1"], r"^model\.bottleneck\.threshold=-1: must be above 0"),
        (
            ["model=matryoshka", "regularizer.matryoshka.groups=[0.5,0.4]"],
            r"^regularizer\.matryoshka\.groups=\[0\.5,0\.4\]: must have the sum 1, not 0\.9",
        ),
        (
            ["model=matryoshka", "model.latent_dim=8"],
            r"^regularizer\.matryoshka\.groups=.*less than one of model\.latent_dim=8 units",
        ),
        (
            ["model=matryoshka", "regularizer.matryoshka.groups=[1.5,-0.5]"],
            r"^regularizer\.matryoshka\.groups=.*above 0",
        ),
        (["model=topk", "regularizer=[l0]"], r"^regularizer=l0: needs thresholds that learn \(model=jumprelu\).*TopK"),
        (["model=sparse", "regularizer=[l1,gate]"], r"^regularizer=gate: needs a code with a gate \(model=gated\)"),
        (["model=sparse", "regularizer=[l1,auxk]"], r"^regularizer=auxk: revives units of a sparse bottleneck"),
        (["model=ae", "network=conv_spatial", "regularizer=[matryoshka]"], r"^regularizer=matryoshka: .*spatial=false"),
        (["model=gated", "network=conv_spatial"], r"Gated reads vectors.*network\.spatial=false"),
        (["model=gated", "regularizer=[l1]"], r"^regularizer: .*Gated does not learn .*gate: regularizer=\[l1,gate\]"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_key(overrides: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        training.train(inmemory.compose(overrides), tmp_path / "run", {})
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_l0_counts_active_units() -> None:
    model, x = dictionary(JumpReLU), torch.randn(16, 4)
    out = outcome(model, x)
    assert torch.equal(L0()(model, Batch(x=x), out, 0), (out.code.z > 0).sum(1).float())


@pytest.mark.parametrize("model", ["batch_topk", "matryoshka", "jumprelu", "gated"])
def test_the_encoder_reads_x_less_the_mean_at_which_the_decoder_starts(model: str) -> None:
    config = inmemory.compose([f"model={model}", "data=digits"])
    data = build.build_data(config)
    built = build.build_model(config, data.spec, data.mean())
    mean = data.mean().flatten()
    torch.testing.assert_close(built.encoder(mean[None]), torch.zeros(1, 64))
    torch.testing.assert_close(built.expected(torch.zeros(1, 256)).flatten(), mean)


@pytest.mark.parametrize("decoder", ["dictionary", "mlp"])
@pytest.mark.parametrize("dead", [False, True], ids=["all alive", "some dead"])
def test_decoding_the_entries_of_a_topk_code_equals_dense_decoding(
    decoder: str, dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and all gradients, with and without dead units that are revived."""

    def losses_and_gradients(dense: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        monkeypatch.setattr(topk, "DENSE", dense)
        torch.manual_seed(0)
        pair = linear((5,), 64, unit_norm=True) if decoder == "dictionary" else mlp((5,), 64, hidden=[7])
        bottleneck = TopK(pair.feature_shape, 64, k=3, dead_after=3 if dead else 100)
        model = Autoencoder(Identity(), pair.encoder, bottleneck, pair.decoder, Gaussian())
        bottleneck.idle[::2] = 2
        loss = Objective({"auxk": AuxK(weight=0.5, k_aux=4), "l1": L1(weight=0.1)})(model, Batch(torch.randn(9, 5)), 0)
        loss.total["model"].backward()
        assert dead == bool(loss.parts["auxk"] != 0)
        return loss.parts, {name: p.grad for name, p in model.named_parameters()}

    parts, gradients = losses_and_gradients(dense=1)
    expected_parts, expected = losses_and_gradients(dense=64)
    for found, wanted in ((parts, expected_parts), (gradients, expected)):
        assert found.keys() == wanted.keys()
        for name in wanted:
            torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-6, msg=name)
    assert all(gradient.any() for gradient in gradients.values())


def test_only_codes_with_few_entries_are_decoded_by_them() -> None:
    features = torch.randn(4, 3)
    small, large = TopK((3,), 8 * topk.DENSE, k=8)(features), TopK((3,), 8 * topk.DENSE + 1, k=8)(features)
    assert small.entries is None
    assert large.entries is not None
    assert torch.equal(large.z, torch.zeros_like(large.z).scatter(1, large.entries.units, large.entries.values))
