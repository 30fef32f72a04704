"""Texts as ids and as counts: learnt from the training texts alone, kept, and applied to new ones."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from autoenc.build import build_data
from autoenc.data import bag_of_words, kinds, text
from autoenc.data.dataset import Data
from autoenc.data.kinds.counts import Counts
from autoenc.data.kinds.tokens import Tokens, written
from autoenc.data.split import BOS, EOS, MASK, PAD, SPECIAL, UNK, Split, hold_out
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import ConfigError, DataError, UserError
from autoenc.likelihoods import Multinomial
from autoenc.networks import Pair, linear, mlp

WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "sings", "tree", "house"]
WORDS += ["the", "a", "in", "on"]


def lines(n: int, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(WORDS, random.integers(3, 9))) for _ in range(n)]


def write(path: Path, texts: list[str], labels: list[str] | None = None) -> str:
    if labels is None:
        path.write_text("".join(f"{line}\n" for line in texts))
    else:
        path.write_text("text,label\n" + "".join(f'"{t}",{y}\n' for t, y in zip(texts, labels, strict=True)))
    return str(path)


def three(folder: Path, **options: object) -> Data:
    """Each file has a word that the others do not have, twice in every line."""
    paths = {}
    for seed, name in enumerate(("path", "val_path", "test_path")):
        texts = [f"{line} only{name} Only{name}" for line in lines(40, seed)]
        paths[name] = write(folder / f"{name}.txt", texts)
    return (bag_of_words if "view" in options else text)(**paths, **options)  # type: ignore[arg-type]


def refusal(kind: type[UserError], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        (bag_of_words if "view" in options else text)(*args, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def fed(split: Split) -> torch.Tensor:
    return split.take(slice(None)).x


# ---- what is learnt


def test_words_of_the_other_splits_are_unknown(tmp_path: Path) -> None:
    data = three(tmp_path)
    found = data.spec.kind
    assert isinstance(found, Tokens)
    known = found.tokenizer.get_vocab()
    assert {"onlypath", *WORDS} <= set(known)
    assert not {"onlyval_path", "onlytest_path"} & set(known)
    for split, count in ((data.train, 0), (data.val, 2), (data.test, 2)):
        assert ((split.tensor == UNK).sum(1) == count).all()
    assert (data.spec.kind.name, data.spec.shape, data.spec.kind.size) == ("tokens", (64,), len(known))
    assert [known[token] for token in SPECIAL] == [PAD, BOS, EOS, UNK, MASK]


@pytest.mark.parametrize("view", ["counts", "tfidf"])
def test_words_of_the_other_splits_count_as_unknown_words(tmp_path: Path, view: str) -> None:
    data = three(tmp_path, view=view)
    found = data.spec.kind
    assert isinstance(found, Counts)
    assert set(found.vocabulary) == {"onlypath", *WORDS} - {"a"}
    if view == "tfidf":  # idf too is that of the training texts
        reference = TfidfVectorizer(vocabulary=found.vocabulary, sublinear_tf=True)
        expected = reference.fit((tmp_path / "path.txt").read_text().splitlines())
        assert found.idf[:-1] == pytest.approx(expected.idf_, rel=1e-6)
        assert found.idf[-1] == pytest.approx(np.log(1 + 40) + 1)  # of [UNK], which no training text has
        val = expected.transform((tmp_path / "val_path.txt").read_text().splitlines()).toarray()
        known = fed(data.val)[:, :-1]
        assert (known / known.norm(dim=1, keepdim=True)).numpy() == pytest.approx(val, abs=1e-6)
        assert fed(data.val).norm(dim=1) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("made", ["text", "bag_of_words"])
def test_nothing_is_learnt_from_classes_that_are_left_out(tmp_path: Path, made: str) -> None:
    texts, labels = lines(60), ["usual", "odd"] * 30
    texts = [f"{t} comet comet" if label == "odd" else t for t, label in zip(texts, labels, strict=True)]
    config = {"_target_": f"autoenc.data.{made}", "path": write(tmp_path / "a.csv", texts, labels)}
    config |= {"min_count": 1} | ({"view": "tfidf"} if made == "bag_of_words" else {})
    learnt = {}
    for excluded in ([], ["odd"]):
        data = build_data({"data": config, "anomaly_classes": excluded})
        (tmp_path / str(len(excluded))).mkdir()
        data.spec.kind.save(tmp_path / str(len(excluded)))
        learnt[len(excluded)] = " ".join(p.read_text() for p in (tmp_path / str(len(excluded))).iterdir())
    assert "comet" in learnt[0]
    assert "comet" not in learnt[1]
    if isinstance(data.spec.kind, Counts):
        assert data.train.y is not None
        usual = [t for t, label in zip(texts, labels, strict=True) if label == "usual"]
        assert len(data.train) < len(usual)
        n, kind = len(data.train), data.spec.kind
        assert kind.idf is not None
        present = (data.train.rows() > 0).sum(0)
        assert kind.idf == pytest.approx(np.log((1 + n) / (1 + present)) + 1, rel=1e-5)
    with pytest.raises(DataError, match="anomaly_classes=odd,usual: leaves no rows"):
        build_data({"data": config, "anomaly_classes": ["odd", "usual"]})


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_the_same_texts_give_the_same_ids(tmp_path: Path, level: str) -> None:
    one, two = three(tmp_path, level=level, vocabulary_size=300), three(tmp_path, level=level, vocabulary_size=300)
    assert torch.equal(one.train.tensor, two.train.tensor)
    assert one.train.tensor.dtype == torch.int64


def test_pieces_are_merged_where_the_training_texts_have_them(tmp_path: Path) -> None:
    data = three(tmp_path, level="bpe", vocabulary_size=400)
    found = data.spec.kind
    assert isinstance(found, Tokens)
    whole, other = found.tokenize(["onlypath", "onlytest_path"]).x.ne(PAD).sum(1).tolist()
    assert (whole, other > 4) == (2, True)  # one piece and the end; the other word is put together from many
    assert not (data.test.tensor == UNK).any()
    new = ["Über ça: 漢字 [PAD] \t tab", "", " a  b "]
    assert found.decode(found.tokenize(new).x) == ["über ça: 漢字 [pad] \t tab", "", "a  b "]


def test_the_splits_cover_each_document_once_and_labels_stay_with_them(tmp_path: Path) -> None:
    texts = [f"word{i} word{i}" for i in range(100)]
    data = text(write(tmp_path / "a.csv", texts, [str(i % 11) for i in range(100)]), min_count=1)
    assert [len(split) for split in (data.train, data.val, data.test)] == [81, 9, 10]
    assert data.spec.classes == tuple(str(i) for i in range(11))  # numbers are sorted as numbers
    found = data.spec.kind
    assert isinstance(found, Tokens)
    for row, y in zip(found.decode(data.train.tensor), data.train.y.tolist(), strict=True):  # type: ignore[union-attr]
        assert int(row.split()[0].removeprefix("word")) % 11 == y
    assert hold_out(data.train, 0.5, 0, "f")[0].x.shape[1:] == (64,)


def test_counts_are_those_of_scikit_learn(tmp_path: Path) -> None:
    texts = lines(60)
    data = bag_of_words(*[write(tmp_path / "a.txt", texts)] * 3, view="counts", vocabulary_size=9, min_count=1)
    found = data.spec.kind
    assert isinstance(found, Counts)
    reference = CountVectorizer(max_features=9)
    expected = reference.fit_transform(texts).toarray()
    assert set(found.vocabulary) == set(reference.get_feature_names_out())
    order = [reference.vocabulary_[word] for word in found.vocabulary]
    every = CountVectorizer().fit_transform(texts).sum(1).A1
    assert np.array_equal(fed(data.train).numpy()[:, :-1], expected[:, order])
    assert np.array_equal(fed(data.train).numpy().sum(1), every)  # [UNK] counts the rest
    totals = expected[:, order].sum(0)
    assert (np.diff(totals) <= 0).all()  # the most frequent first
    assert (data.spec.kind.name, data.spec.shape, data.spec.low, data.spec.high) == (
        "counts",
        (10,),
        0,
        fed(data.train).max(),
    )
    without = bag_of_words(*[write(tmp_path / "a.txt", texts)] * 3, view="counts", stop_words=True)
    assert isinstance(without.spec.kind, Counts)
    assert set(without.spec.kind.vocabulary) == set(WORDS) - {"a", "the", "in", "on"}


def test_unknown_words_can_be_left_out(tmp_path: Path) -> None:
    texts = ["red cat red cat bird", "red cat", "bird"]
    options = {"vocabulary_size": 2, "min_count": 1, "view": "counts"}
    counted, left_out = (
        bag_of_words(*[write(tmp_path / "a.txt", texts)] * 3, unknown=u, **options) for u in (True, False)
    )  # type: ignore[arg-type]
    assert fed(counted.train).tolist() == [[2, 2, 1], [1, 1, 0], [0, 0, 1]]
    assert fed(left_out.train).tolist() == [[2, 2], [1, 1], [0, 0]]


# ---- ids and what they say


def test_ids_end_with_eos_and_are_padded(tmp_path: Path) -> None:
    found = three(tmp_path, max_length=6).spec.kind
    assert isinstance(found, Tokens)
    tokenized = found.tokenize(["red cat", "", "a cat sings in the tree", "a cat sings on trees"])
    ids, notes = tokenized.x, tokenized.notes
    assert isinstance(ids, torch.Tensor)
    assert ids[0, 2:].tolist() == [EOS, PAD, PAD, PAD]
    assert ids[1].tolist() == [EOS, PAD, PAD, PAD, PAD, PAD]
    assert ids[2:, -1].tolist() == [EOS, EOS]
    assert len(notes) == 1
    assert notes[0].startswith("1 of 4 texts")
    assert "6 tokens" in notes[0]
    assert found.decode(ids) == ["red cat", "", "a cat sings in the", "a cat sings on [UNK]"]
    assert found.decode(torch.tensor([[BOS, *ids[0, :2], PAD, PAD]])) == ["red cat"]  # without an end


def test_special_tokens_in_a_text_are_signs(tmp_path: Path) -> None:
    found = three(tmp_path).spec.kind
    assert isinstance(found, Tokens)
    assert not (found.tokenize(["[PAD] [EOS] cat"]).x[0, :7] == PAD).any()
    kinds.save(found, tmp_path)
    again = kinds.load(tmp_path, {}, {})
    assert isinstance(again, Tokens)
    assert torch.equal(again.tokenize(["[PAD] [EOS] cat"]).x, found.tokenize(["[PAD] [EOS] cat"]).x)


def test_words_are_written_as_people_write() -> None:
    assert written(["a", "man", ",", '"', "old", '"', "(", "50", "%", ")", "!"]) == 'a man, "old" (50%)!'
    assert written([]) == ""


def test_a_document_of_100_000_words_is_cut_and_said(tmp_path: Path) -> None:
    texts = [*lines(30), "cat " * 100_000]
    path = write(tmp_path / "a.txt", texts)
    data = text(path, path, path)
    assert any(note.startswith("training: 1 of 31 texts") and "64 tokens" in note for note in data.notes)
    assert data.train.tensor[-1].tolist()[-1] == EOS
    assert fed(bag_of_words(path, path, path, view="counts").train).max() == 100_000  # counts are not cut


# ---- sparse rows


def test_sparse_rows_are_the_dense_ones() -> None:
    from scipy.sparse import random as random_matrix

    matrix = random_matrix(50, 30, 0.1, format="csr", dtype=np.float32, random_state=0)
    dense, rows = torch.from_numpy(matrix.toarray()), SparseRows(matrix, np.array([str(i) for i in range(50)], object))
    split, other = Split(rows, torch.arange(50)), Split(dense, torch.arange(50))
    index = torch.tensor([7, 3, 3, 49])
    assert torch.equal(rows[index], dense[index])
    assert torch.equal(rows[3:9], dense[3:9])
    chosen = rows.select(index)
    assert (len(chosen), chosen.names.tolist()) == (4, ["7", "3", "3", "49"])  # type: ignore[union-attr]
    for mine, theirs in zip(split.shuffled(8, 0, 1), other.shuffled(8, 0, 1), strict=True):
        assert torch.equal(mine.x, theirs.x)
        assert torch.equal(mine.y, theirs.y)  # type: ignore[arg-type]
    assert split.range() == other.range()
    torch.testing.assert_close(split.mean(), other.mean())
    assert rows.fingerprint() == SparseRows(matrix.copy()).fingerprint()
    changed = matrix.copy()
    changed.data[5] += 1
    assert rows.fingerprint() != SparseRows(changed).fingerprint()
    assert rows.fingerprint() != rows.select(torch.arange(49, -1, -1)).fingerprint()


def test_multinomial_is_the_log_of_its_probabilities() -> None:
    params, x = torch.randn(2, 4, 7), torch.randint(0, 5, (4, 7)).float()
    exact = torch.distributions.Multinomial(10, logits=params, validate_args=False).log_prob(x)
    orders = torch.lgamma(x.sum(-1) + 1) - torch.lgamma(x + 1).sum(-1)  # the coefficient, which is left out
    likelihood = Multinomial()
    torch.testing.assert_close(likelihood.nll(params, x), orders - exact)
    assert likelihood.mean(params).sum(-1).allclose(torch.ones(2, 4))
    mean = torch.tensor([3.0, 1.0, 0.0])
    assert likelihood.mean(likelihood.params_of(mean)).allclose(torch.tensor([0.75, 0.25, 0.0]), atol=0.01)
    assert likelihood.params_of(torch.zeros(3)).isfinite().all()


@pytest.mark.parametrize("network", [linear, mlp])
def test_the_length_of_a_document_need_not_matter(network: Callable[..., Pair]) -> None:
    x = torch.rand(5, 7)
    length, plain = network((7,), 3, normalize="l2").encoder, network((7,), 3).encoder
    torch.testing.assert_close(length(x), length(9 * x))
    assert not torch.allclose(plain(x), plain(9 * x))
    assert length(torch.zeros(1, 7)).isfinite().all()
    counts = network((7,), 3, kind=Counts((7,), 0.0, 1.0)).encoder
    torch.testing.assert_close(counts(x), counts(9 * x))
    with pytest.raises(ConfigError, match="normalize=l1: must be one of auto, none, center, l2"):
        network((7,), 3, normalize="l1")


# ---- kept and applied


@pytest.mark.parametrize(
    "options", [{}, {"level": "bpe", "vocabulary_size": 350}, {"view": "counts"}, {"view": "tfidf"}]
)
def test_what_was_learnt_is_kept_to_the_last_bit(tmp_path: Path, options: dict[str, object]) -> None:
    data = three(tmp_path, **options)
    assert data.spec.kind is not None
    kinds.save(data.spec.kind, tmp_path)
    assert {p.suffix for p in (tmp_path / "kind").iterdir()} == {".json"}  # nothing that runs
    again = kinds.load(tmp_path, {}, {})
    rebuilt = three(tmp_path, **options, kind=again)
    for one, two in ((data.train, rebuilt.train), (data.test, rebuilt.test)):
        assert one.fingerprint() == two.fingerprint()
        assert torch.equal(fed(one), fed(two))
    new = ["a red cat sleeps", "", "zzz"]
    if "view" in options:
        with pytest.warns(UserWarning, match="2 of 3 texts have no word of the vocabulary"):
            split = again.encode(new)  # type: ignore[union-attr]
    else:
        split = again.encode(new)  # type: ignore[union-attr]
    assert len(split) == 3  # empty ones keep their row
    path = tmp_path / "new.txt"
    path.write_text("a red cat sleeps\n\nred   \tbird\n")
    if "view" in options:
        with pytest.warns(UserWarning, match="1 of 3"):
            found = again.read(path)  # type: ignore[union-attr]
    else:
        found = again.read(path)  # type: ignore[union-attr]
    assert found.names == ["1: a red cat sleeps", "2:", "3: red bird"]
    assert torch.equal(found.split.take(slice(0, 1)).x, split.take(slice(0, 1)).x)


def test_new_tables_are_read_by_the_column_of_the_old_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,label\n" + "".join(f"{line},x\n" for line in lines(20)))
    found = text(str(tmp_path / "a.csv")).spec.kind
    assert isinstance(found, Tokens)
    (tmp_path / "b.csv").write_text("id,body\n1,red cat\n2,\n")
    assert found.read(tmp_path / "b.csv").names == ["1: red cat", "2:"]
    (tmp_path / "c.csv").write_text("id,words\n1,red cat\n")
    with pytest.raises(ConfigError, match=r"column=body: .* has the columns id, words"):
        found.read(tmp_path / "c.csv")


@pytest.mark.parametrize("options", [{}, {"view": "tfidf"}])
def test_what_is_no_list_of_texts_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    found = three(tmp_path, **options).spec.kind
    assert found is not None
    for raw, why in (("red cat", "put it in brackets"), (["a", 3], "found int .* 1"), ([], "found none")):
        with pytest.raises(DataError, match=why):
            found.encode(raw)


@pytest.mark.parametrize(("options", "name"), [({}, "tokenizer.json"), ({"view": "tfidf"}, "vocabulary.json")])
def test_damaged_files_of_a_run_are_refused(tmp_path: Path, options: dict[str, object], name: str) -> None:
    data = three(tmp_path, **options)
    assert data.spec.kind is not None
    kinds.save(data.spec.kind, tmp_path)
    file = tmp_path / "kind" / name
    whole = file.read_text()
    fewer = json.loads(whole)
    if name == "vocabulary.json":
        fewer["words"].pop()
    else:
        fewer["model"]["vocab"].pop("cat")
    for bad in ("", "rubbish", whole[: len(whole) // 2], "{}", json.dumps(fewer)):
        file.write_text(bad)
        with pytest.raises(DataError, match="kind: cannot be read"):
            kinds.load(tmp_path, {}, {})


# ---- what is handled, and what is refused


def test_notes_say_what_was_left_out_and_what_was_not_reached(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [*lines(20), "", "  "], ["x"] * 22)
    data = text(path, vocabulary_size=1_000)
    assert data.notes[0] == f"{path}: 2 of 22 documents are empty and left out"
    reached = data.spec.kind.size
    assert data.notes[1].startswith(f"vocabulary: {reached} instead of data.vocabulary_size=1,000")
    assert data.notes[2].startswith("every document has the label x")
    (tmp_path / "b.csv").write_text("\n".join(["text", *lines(20), '"joined', *lines(9), 'by quotes"', *lines(20)]))
    note = text(str(tmp_path / "b.csv")).notes[0]
    assert "1 of 41 documents has several lines, such as 21; data.quoting=none" in note
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 20


def test_too_little_to_learn_from_is_refused(tmp_path: Path) -> None:
    two = write(tmp_path / "two.txt", ["a cat cat", "a dog dog"])
    assert (
        refusal(DataError, two) == f"{two}: has 2 documents that are not empty, too few for training, test, validation"
    )
    assert len(text(two, test_path=two, min_count=1).train) == 1
    blank = write(tmp_path / "blank.txt", ["", " ", ""])
    assert refusal(DataError, blank) == f"{blank}: has no documents"
    rare = write(tmp_path / "rare.txt", ["one", "two", "three", "four"])
    for options in ({}, {"view": "counts"}):
        why = "no word occurs min_count=2 times in the training texts"
        assert refusal(DataError, rare, rare, rare, **options) == why
    signs = write(tmp_path / "signs.txt", ["! ?", "a b", "- -"])
    assert refusal(DataError, signs, view="counts").startswith("the training texts have no word")


def test_values_out_of_range_are_refused_with_the_key(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", lines(20))
    assert refusal(ConfigError).startswith("path: name a file of texts: data.path=")
    for options in (
        {"vocabulary_size": 5}, {"vocabulary_size": 260, "level": "bpe"}, {"vocabulary_size": 0, "view": "counts"},
        {"min_count": 0}, {"max_length": 1},
        {"max_length": 10**12}, {"val_fraction": 0.0}, {"test_fraction": 1.0}, {"level": "letter"},
        {"view": "bag"},
    ):  # fmt: skip
        key, value = next(iter(options.items()))
        assert refusal(ConfigError, path, **options).startswith(f"{key}={value}: must ")
