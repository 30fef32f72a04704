"""Networks for token sequences: padding, conditioning, word dropout, learning, and configs that are rejected."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from kind_of_ids import Ids
from sequences import CELLS, K, T, V, X, decoder, model, sequence_pair
from torch import Tensor, nn
from torch.nn import functional as F

from autoenc import likelihoods
from autoenc.core import Batch
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.image import Image
from autoenc.data.split import EOS, MASK, PAD, Split
from autoenc.errors import ConfigError
from autoenc.noise import TokenMask
from autoenc.objective import Objective
from autoenc.regularizers import KL, Jacobian
from autoenc.training.evaluation import evaluate


@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_nothing(cell: str) -> None:
    ae = model(cell).eval()
    wide = F.pad(X, (0, 3))
    z = torch.randn(len(X), K)
    torch.testing.assert_close(ae.encode(Batch(wide)).mean, ae.encode(Batch(X)).mean)
    torch.testing.assert_close(ae.nll(z, Batch(wide)), ae.nll(z, Batch(X)))
    for i in range(len(X)):  # alone, without padding
        alone = Batch(X[i : i + 1, : int((X[i] != PAD).sum())])
        torch.testing.assert_close(ae.encode(alone).mean[0], ae.encode(Batch(X)).mean[i])
        torch.testing.assert_close(ae.nll(z[i : i + 1], alone)[0], ae.nll(z, Batch(X))[i])
    found = [Ids((T,), 0, V - 1).metrics(ae.decode(z, Batch(x)), x, ae.likelihood)["accuracy"] for x in (X, wide)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_comes_back_from_padding(cell: str) -> None:
    ae = model(cell)
    for half in (ae.encoder, ae.decoder):
        embedding = half.embedding
        assert isinstance(embedding, nn.Embedding)
        embedding.weight.data[PAD] = 1e4  # would be noticed
    out = ae.eval()(Batch(X))
    out.nll.sum().backward()
    for half in (ae.encoder, ae.decoder):
        grad = half.embedding.weight.grad  # type: ignore[union-attr]
        assert (grad[PAD] == 0).all()
        assert grad[5].abs().sum() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_no_token_is_told_of_itself_or_of_what_comes_after(cell: str) -> None:
    part = decoder(cell)
    x, z = torch.randint(5, V, (2, 6)), torch.randn(2, K)
    before = part(z, x).unflatten(0, x.shape)
    for t in range(6):
        other = x.clone()
        other[:, t:] = torch.where(other[:, t:] == 5, 6, 5)
        after = part(z, other).unflatten(0, x.shape)
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        if t < 5:
            assert (after[:, t + 1] - before[:, t + 1]).abs().amax(-1).min() > 1e-4, "the next one is told"


@pytest.mark.parametrize("cell", CELLS)
def test_every_token_is_told_of_the_code(cell: str) -> None:
    part, z = decoder(cell), torch.randn(1, K, requires_grad=True)
    logits = part(z, torch.randint(5, V, (1, 6)))
    for t in range(6):
        (grad,) = torch.autograd.grad(logits[t].square().sum(), z, retain_graph=True)
        assert grad.abs().min() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_leading_dimensions_are_samples_of_the_code(cell: str) -> None:
    ae, z = model(cell).eval(), torch.randn(3, len(X), K)
    together = ae.nll(z, Batch(X))
    assert together.shape == (3, len(X))
    torch.testing.assert_close(together, torch.stack([ae.nll(each, Batch(X)) for each in z]))


def test_tokens_closed_form() -> None:
    likelihood, params = likelihoods.Tokens(V), torch.randn(int((X != PAD).sum()), V)
    found = likelihood.nll_per_dim(params, X)
    rows = iter(params)
    for i, t in itertools.product(range(X.shape[0]), range(X.shape[1])):
        if X[i, t] == PAD:
            assert found[i, t] == 0
        else:
            row = next(rows)
            torch.testing.assert_close(found[i, t], row.exp().sum().log() - row[X[i, t]])
    torch.testing.assert_close(likelihood.nll(params, X), found.sum(1))
    torch.testing.assert_close(likelihood.nll(torch.zeros_like(params), X), (X != PAD).sum(1) * math.log(V))
    assert likelihood.support() == (0, V - 1)


def test_word_dropout_hides_words_from_the_decoder_in_training_alone() -> None:
    part = sequence_pair(word_dropout=0.3).decoder
    seen: list[Tensor] = []
    part.embedding.register_forward_hook(lambda module, args, out: seen.append(args[0]))  # type: ignore[union-attr]
    x = torch.randint(5, V, (400, T))
    x[:, -2], x[:, -1] = EOS, PAD
    part.train()(torch.zeros(400, K), x)
    part.eval()(torch.zeros(400, K), x)
    trained, evaluated = seen
    assert torch.equal(evaluated[:, 1:], x[:, :-1])
    words = evaluated >= 5
    assert (trained[words] == MASK).float().mean() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(trained[~words], evaluated[~words]), "BOS, EOS and PAD stay"
    torch.manual_seed(3)
    first = part.train()(torch.zeros(400, K), x)
    torch.manual_seed(3)
    assert torch.equal(first, part(torch.zeros(400, K), x)), "a function of torch's generator"


def test_token_mask_hits_words_at_its_rate_and_nothing_else() -> None:
    x = torch.randint(3, V, (500, T)).masked_fill(torch.rand(500, T) < 0.2, PAD)
    x[:, 0] = EOS
    kept = x.clone()
    found = TokenMask(V, p=0.4)(x)
    words = (x != PAD) & (x != EOS)
    assert torch.equal(x, kept)
    assert torch.equal(found[~words], x[~words])
    changed = found[words] != x[words]
    assert (found[words][changed] == MASK).all()
    assert (found[words] == MASK).float().mean() == pytest.approx(0.4 + 0.6 / (V - 4), abs=0.03)  # some were MASK


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_every_weight_learns_and_the_vae_fits_a_few_texts(cell: str, tied: bool) -> None:
    ae = model(cell, TokenMask(V, 0.1), tied=tied, layers=1)
    objective = Objective({"kl": KL(weight=0.1)})
    optimizer = torch.optim.Adam(ae.parameters(), 0.02)
    losses = []
    for step in range(120):
        loss = objective(ae.train(), Batch(X[:3]), step).total["model"]
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in ae.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    written = ae.eval().reconstruct(Batch(X[:2]))
    assert torch.equal(written[:, :5], X[:2])


def test_evaluation_counts_tokens_and_not_padding() -> None:
    ae = model().eval()
    wide = F.pad(X, (0, T - X.shape[1]))
    spec = DataSpec("tiny", Ids((T,), 0, V - 1))
    found = [evaluate(ae, Objective({"kl": KL()}), Split(wide), spec, batch_size).numbers for batch_size in (4, 1)]
    words = float((X != PAD).sum()) / len(X)
    assert found[0]["words"] == found[1]["words"] == words
    assert found[0]["accuracy"] == pytest.approx(found[1]["accuracy"])
    assert found[0]["perplexity"] == pytest.approx(math.exp((found[0]["nll"] + found[0]["kl"]) / words))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 7}, "width=7: must be even"),
        ({"cell": "transformer", "width": 10, "heads": 4}, "heads=4: twice their number must divide width=10"),
        ({"word_dropout": 1.0}, "word_dropout=1.0: must lie in"),
        ({"embedding": 0}, "embedding=0: must be 1 or more"),
        ({"cell": "lstm"}, "cell=lstm: must be gru or transformer"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", "\\(")):
        sequence_pair(**options)  # type: ignore[arg-type]


def test_numbers_are_refused_by_what_is_for_tokens_and_the_other_way_round(compose_parts: Callable[..., str]) -> None:
    assert "sequence reads token ids" in compose_parts("image", "network=sequence")
    assert "likelihood=tokens is for token ids" in compose_parts("image", "likelihood=tokens")
    assert "token_mask is for token ids" in compose_parts("image", "noise=token_mask")
    text = ("network=sequence", "likelihood=tokens")
    for network in ("mlp", "conv", "linear", "dictionary"):
        assert compose_parts("tokens", "likelihood=tokens", f"network={network}").endswith("network=sequence")
    assert compose_parts("tokens", *text, "noise=gaussian").endswith("token ids: noise=token_mask")
    assert compose_parts("tokens", "network=sequence", "likelihood=bernoulli").endswith("likelihood=tokens")
    assert "no derivative" in compose_parts("tokens", *text, "regularizer=[jacobian]")
    assert compose_parts("tokens", *text, "model=vae", "noise=token_mask") == ""


@pytest.fixture
def compose_parts() -> Callable[..., str]:
    """What is said when these parts are built for data of that kind; nothing where all is well."""
    from autoenc import build
    from autoenc.estimators import inmemory

    specs = {
        "image": DataSpec("images", Image((1, 8, 8), 0, 1)),
        "tokens": DataSpec("words", Ids((T,), 0, V - 1)),
    }

    def said(kind: str, *overrides: str) -> str:
        checked = inmemory.compose(overrides)
        try:
            build.build_objective(checked, build.build_model(checked, specs[kind]), specs[kind], 10, 100)
        except ConfigError as error:
            return str(error)
        return ""

    return said


def test_the_jacobian_says_what_to_do_instead() -> None:
    with pytest.raises(ConfigError, match="token_mask"):
        Jacobian().check(model())
