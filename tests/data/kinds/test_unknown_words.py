"""Unknown words count: they cost more than known ones, and their share is reported."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.anomaly.scores import Detector
from autoenc.data import bag_of_words, kinds, text
from autoenc.data.kinds.counts import Counts
from autoenc.data.kinds.tokens import Tokens
from autoenc.likelihoods import Multinomial
from autoenc.likelihoods import Tokens as TokenLikelihood

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "sings", "tree", "house", "the", "in", "on"]
SMALL = {
    "text": ["data=text", "data.max_length=12", "network.embedding=8", "network.width=16"],
    "counts": ["data=bag_of_words", "network.hidden=[16]"],
    "tfidf": ["data=bag_of_words", "data.view=tfidf", "network.hidden=[16]"],
}


def lines(n: int, rare: bool = True) -> list[str]:
    """Sentences of known words; every third has a word that occurs once."""
    random = np.random.default_rng(0)
    texts = [[*random.choice(WORDS, random.integers(4, 9))] for _ in range(n)]
    return [" ".join([*words, f"rare{i}"] if rare and i % 3 == 0 else words) for i, words in enumerate(texts)]


@pytest.mark.parametrize("name", SMALL)
def test_texts_of_unknown_words_alone_are_anomalous(name: str, train_run: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{line}\n" for line in lines(120)))
    fast = ["trainer.epochs=10", "trainer.batch_size=16", "optimizer.lr=0.01", "model.latent_dim=4"]
    run = load_run(train_run("model=ae", *SMALL[name], f"data.path={path}", *fast), "cpu")
    detector = Detector(run)
    with pytest.warns(UserWarning, match=r"100\.0% of the words are unknown; 3 of 3 texts have no word"):
        new = run.spec.kind.encode(["zork", "zork blarg quux", "fnord " * 8])
    trained, found = detector.scores(run.data.train), detector.scores(new)
    assert (found[detector.best] > np.quantile(trained[detector.best], 0.95)).all()
    assert (found["error"] > np.quantile(trained["error"], 0.95)).all()
    assert (found["nll"] > 0).all()


@pytest.mark.parametrize("view", ["counts", "tfidf"])
def test_a_bag_counts_unknown_words_in_a_dimension_of_their_own(view: str) -> None:
    kind = Counts.learn(["red red cat cat once", "red cat", "cat twice twice"], view, 3, 2, True, False)  # type: ignore[arg-type]
    assert (kind.vocabulary, kind.shape) == (("cat", "red", "twice"), (4,))
    rows = kind.tokenize(["cat new words", "! a", "", "red"])
    assert (rows.unknown, rows.without_known) == (pytest.approx(4 / 6), 2)
    x = rows.x[:]
    if view == "counts":
        assert x.tolist() == [[1, 0, 0, 2], [0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]]
        assert kind.words(x).tolist() == [3, 1, 1, 1]  # type: ignore[union-attr]
    assert x.norm(dim=1)[1:] == pytest.approx(1)
    params = torch.randn(4, 4)
    p = params.log_softmax(-1)
    cost = -(x * p).sum(1) + x[:, 3] * math.log(3)  # the probability of [UNK] is shared by as many words as are known
    torch.testing.assert_close(kind.error(params, x, Multinomial()), cost / x.sum(1).clamp(min=1))
    assert kind.decode(torch.tensor([[0.1, 0.2, 0.0, 0.7]])) == ["red cat"]


def test_stop_words_are_not_unknown(tmp_path: Path) -> None:
    kind = Counts.learn(["the red cat of the house"] * 2, "counts", 9, 1, True, True)
    (tmp_path / "kind").mkdir()
    kind.save(tmp_path / "kind")
    again = kinds.load(tmp_path, {}, {})
    assert isinstance(again, Counts)
    assert again.tokenize(["the cat and the dog"]).unknown == 0.5


def test_runs_without_a_dimension_of_unknown_words_leave_them_out(tmp_path: Path) -> None:
    kind = Counts((2,), 0.0, 1.0, vocabulary=("cat", "red"))
    assert kind.tokenize(["cat new", "new"]).x[:].tolist() == [[1, 0], [0, 0]]
    assert kind.error(torch.zeros(1, 2), torch.tensor([[1.0, 1.0]]), Multinomial()).item() == pytest.approx(math.log(2))


def test_an_unknown_token_is_one_of_as_many_as_are_known() -> None:
    kind = Tokens.learn(["red cat"] * 2, "word", 20, 1, 4, True)
    x, likelihood = kind.tokenize(["red new", "red cat"]).x, TokenLikelihood(kind.size)
    assert isinstance(x, torch.Tensor)
    params = torch.randn(int((x != 0).sum()), kind.size)
    plain = likelihood.nll(params, x) / 3
    found = kind.error(params, x, likelihood)
    torch.testing.assert_close(found, plain + torch.tensor([math.log(2) / 3, 0]))


def test_notes_name_the_share_and_a_remedy(tmp_path: Path) -> None:
    path, chinese = tmp_path / "a.txt", ["我们今天去公园散步", "他昨天买了一本新书", "天气很好适合出门"]
    path.write_text("".join(f"{line} 好 {i}\n" for i, line in enumerate(chinese * 10)))
    other = tmp_path / "b.txt"
    other.write_text("我明天去看书\n好 你呢\n")
    note = next(n for n in text(str(path), val_path=str(other)).notes if n.startswith("validation: "))
    assert "66.7% of the words are unknown" in note
    assert note.endswith("data.level=bpe has no unknown words")
    assert not any("unknown" in n for n in text(str(path), val_path=str(other), level="bpe", vocabulary_size=300).notes)
    path.write_text("".join(f"{line}\n" for line in lines(50, rare=False)))
    other.write_text("red cat and blue dog in the house on the green tree\n")
    notes = bag_of_words(str(path), test_path=str(other)).notes
    assert "test: 8.3% of the words are unknown" in notes
