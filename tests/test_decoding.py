"""Decoding of sequences: greedy search, sampling and beam search, against enumeration and the model's probabilities."""

import pytest
import torch
from sequences import CELLS, K, T, V, decoder
from torch import Tensor

from autoenc import likelihoods
from autoenc.data.split import BOS, EOS, MASK, PAD, UNK
from autoenc.networks import decoding as search
from autoenc.networks.sequence import Decoder


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_what_teacher_forcing_computes(cell: str) -> None:
    part, z = decoder(cell), torch.randn(2, K)
    x = torch.randint(5, V, (2, T))
    forced = part(z, x).unflatten(0, x.shape).log_softmax(-1)
    state, token = part.start(z), torch.full((2,), BOS)
    for t in range(T):
        log_p, state = part.step(token, state)
        torch.testing.assert_close(log_p, forced[:, t])
        token = x[:, t]


@pytest.mark.parametrize("cell", CELLS)
def test_a_generated_text_ends_once_and_is_padded(cell: str) -> None:
    part, z = decoder(cell), 2 * torch.randn(60, K)
    generator = torch.Generator().manual_seed(0)
    for found in (part.generate(z), search.sample(part, z, generator=generator), search.beam(part, z, 3)):
        assert found.shape == (60, T)
        ended = (found == EOS).cumsum(1) - (found == EOS).long()
        assert torch.equal(found == PAD, ended > 0), "padding behind the end, and nowhere else"
        assert not torch.isin(found, torch.tensor([BOS, UNK, MASK])).any()
        assert (found == EOS).any()


@pytest.mark.parametrize("cell", CELLS)
def test_greedy_takes_the_likeliest_token_at_each_step(cell: str) -> None:
    part, z = decoder(cell), torch.randn(20, K)
    found = part.generate(z)
    log_p = part(z, found)
    log_p[:, search.NEVER] = -torch.inf
    assert torch.equal(log_p.argmax(-1), found[found != PAD])


@pytest.mark.parametrize("cell", CELLS)
def test_searches_agree_where_they_must(cell: str) -> None:
    part, z = decoder(cell), torch.randn(20, K)
    greedy = part.generate(z)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(search.beam(part, z, 1), greedy)
    assert torch.equal(search.sample(part, z, top_p=1e-6, generator=generator), greedy)
    assert torch.equal(search.sample(part, z, temperature=0.0), greedy)
    assert torch.equal(search.sample(part, z, temperature=1e-4, generator=generator), greedy)


def log_p(part: Decoder, z: Tensor, x: Tensor) -> Tensor:
    return -likelihoods.Tokens(V).nll(part(z, x), x)


def test_a_beam_finds_likelier_texts_than_greedy_and_a_wide_one_the_likeliest() -> None:
    part = decoder(sharp=2.0)
    part.longest = 3
    z = torch.randn(30, K)
    greedy = log_p(part, z, part.generate(z))
    found = {width: log_p(part, z, search.beam(part, z, width)) for width in (2, 5, 200)}
    for scores in found.values():
        assert (scores >= greedy - 1e-5).all()
    assert (found[5] > greedy + 1e-3).any()
    words = [i for i in range(V) if i not in (*search.NEVER, EOS)]
    texts = [
        [EOS, 0, 0],
        *([a, EOS, 0] for a in words),
        *([a, b, c] for a in words for b in words for c in [EOS, *words]),
    ]
    every = torch.tensor(texts)
    for i in range(5):
        best = log_p(part, z[i].expand(len(every), -1), every).max()
        torch.testing.assert_close(found[200][i], best)


def test_sampling_has_the_probabilities_of_the_model() -> None:
    part, n = decoder(sharp=2.0), 20_000
    z = torch.randn(1, K)
    p = part.step(torch.tensor([BOS]), part.start(z))[0][0].exp()
    p[search.NEVER] = 0
    p /= p.sum()
    part.longest = 1
    generator = torch.Generator().manual_seed(0)

    def first(**options: float) -> Tensor:
        drawn = search.sample(part, z.expand(n, -1), generator=generator, **options)[:, 0]
        return drawn.bincount(minlength=V) / n

    torch.testing.assert_close(first(), p, atol=0.015, rtol=0)
    torch.testing.assert_close(first(temperature=2.0), p.sqrt() / p.sqrt().sum(), atol=0.015, rtol=0)
    order = p.argsort(descending=True)
    kept = order[: int((p[order].cumsum(0) < 0.6).sum()) + 1]  # the fewest that have 0.6 together
    nucleus = torch.zeros(V).index_fill(0, kept, 1) * p
    torch.testing.assert_close(first(top_p=0.6), nucleus / nucleus.sum(), atol=0.015, rtol=0)
