"""Bags of words end to end: trained, loaded, and asked for the texts that are nearest to new ones."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoenc import load_run
from autoenc.apps import inputs
from autoenc.apps.codes import features, neighbours, retrieve
from autoenc.apps.protocol import evaluate
from autoenc.data.dataset import few_labels
from autoenc.data.storage.sparse import SparseRows
from autoenc.errors import DataError

ROOT = Path(__file__).resolve().parents[3]
TOPICS = {
    "space": ["orbit", "moon", "rocket", "probe", "launch", "planet", "comet", "shuttle"],
    "hockey": ["puck", "goal", "rink", "season", "playoff", "team", "coach", "stick"],
    "graphics": ["pixel", "polygon", "image", "colour", "render", "screen", "shader", "palette"],
}


def posts(n: int, seed: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    common = ["the", "and", "write", "article", "people", "think"]
    labels = random.choice(list(TOPICS), n)
    texts = [" ".join([*random.choice(TOPICS[label], 4), *random.choice(common, 6)]) for label in labels]
    return texts, labels.tolist()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("posts")
    for name, n, seed in (("train", 300, 0), ("test", 60, 1)):
        rows = zip(*posts(n, seed), strict=True)
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return folder


@pytest.fixture(scope="module", params=["counts", "tfidf"])
def words_run(request: pytest.FixtureRequest, train_run: Callable[..., Path], files: Path) -> Path:
    return train_run(
        "model=dae", "data=bag_of_words", "noise=masking", "model.latent_dim=4", "trainer.epochs=30",
        "network.hidden=[32]", f"data.path={files}/train.csv", f"data.test_path={files}/test.csv",
        f"data.view={request.param}", "trainer.batch_size=32", "optimizer.lr=0.01",
    )  # fmt: skip


def test_new_texts_find_texts_of_their_topic(words_run: Path, copied: Callable[[Path], Path], tmp_path: Path) -> None:
    run = load_run(copied(words_run), "cpu")
    assert isinstance(run.data.train.x, SparseRows)
    assert (run.spec.kind.name, run.spec.classes) == ("counts", ("graphics", "hockey", "space"))
    hits = retrieve.retrieve(run, run.data.test)
    y, y_test = run.data.train.y.numpy(), run.data.test.y.numpy()  # type: ignore[union-attr]
    assert neighbours.precision(hits, y, y_test) > 0.8  # chance: 0.33
    new = ["A rocket to the MOON, the planet's moon", "season of the rink"]
    assert run.encode(new).shape == (2, 4)  # type: ignore[type-var]
    found = retrieve.retrieve(run, run.inputs(new), 5)
    told = run.spec.kind.captions(run.data.train)
    assert told is not None
    assert [run.spec.classes[i] for i in y[found.positions[:, 0]]] == ["space", "hockey"]
    assert set(told[found.positions[0, 0]].split()) & set(TOPICS["space"])
    (tmp_path / "new.txt").write_text("\n".join(new) + "\n")
    read = inputs.read(run, tmp_path / "new.txt")
    assert read.names == [f"{i}: {line}" for i, line in enumerate(new, 1)]
    assert np.array_equal(run.codes(read.split), run.encode(new))  # type: ignore[type-var]
    (tmp_path / "new.txt").write_text("")
    with pytest.raises(DataError, match=r"new\.txt: is empty"):
        inputs.read(run, tmp_path / "new.txt")


def test_a_text_has_the_same_code_alone_and_among_others(words_run: Path) -> None:
    run = load_run(words_run, "cpu")
    texts = posts(5, 3)[0]
    together = run.encode(texts)  # type: ignore[type-var]
    alone = np.concatenate([run.encode([text]) for text in texts])  # type: ignore[type-var]
    assert alone == pytest.approx(together, abs=1e-5)
    with pytest.warns(UserWarning, match="1 of 1 text has no word"):
        assert np.isfinite(run.encode([""])).all()  # type: ignore[type-var]


def test_reconstructions_are_probabilities_of_words(words_run: Path) -> None:
    run = load_run(words_run, "cpu")
    made = run.reconstruct(["rocket moon orbit probe"])  # type: ignore[type-var]
    assert made.sum() == pytest.approx(1, abs=1e-5)
    words = run.spec.kind.vocabulary  # type: ignore[union-attr]
    likely = {words[i] for i in np.argsort(-made[0])[:20]}
    assert len(likely & set(TOPICS["space"])) >= 6


def test_the_baseline_is_the_cosine_of_tfidf(words_run: Path, files: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.neighbors import NearestNeighbors

    run = load_run(words_run, "cpu")
    y, y_test = features.need_labels(run)
    vectorizer = TfidfVectorizer(vocabulary=run.spec.kind.vocabulary, sublinear_tf=True)  # type: ignore[union-attr]
    texts = [row["text"] for row in csv.DictReader((files / "train.csv").open())]
    order = {text: i for i, text in enumerate(texts)}
    kept = [order[name] for name in run.data.train.x.names]  # type: ignore[union-attr]
    train = vectorizer.fit_transform([texts[i] for i in kept])
    test = vectorizer.transform([row["text"] for row in csv.DictReader((files / "test.csv").open())])
    places = NearestNeighbors(n_neighbors=10, metric="cosine").fit(train).kneighbors(test, return_distance=False)
    expected = (y[places] == y_test[:, None]).mean()
    found = retrieve.baseline(run, run.data.test, y_test, 10)
    assert found["TF-IDF"]["precision@10"] == pytest.approx(expected, abs=0.01)  # ties may fall either way
    numbers = evaluate.evaluate(run, ["retrieval", "probes", "reconstruction", "latent"])
    assert set(numbers["retrieval"]) == {"codes", "untrained", "LSA-4", "TF-IDF", "remark"}
    assert numbers["skipped"] == {}


def test_the_script_prints_texts(
    words_run: Path, copied: Callable[[Path], Path], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    run = copied(words_run)
    queries = ["a comet and orbit", "puck and coach"]
    code, out, err = call("retrieve", run, "--text", *queries, "--k", 3, "--output", tmp_path / "a")
    assert (code, err) == (0, "")
    assert "\na comet and orbit\n" in out
    assert out.count("space ") == 3
    with (tmp_path / "a" / "hits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["space"] * 3 + ["hockey"] * 3
    assert all(set(row["text"].split()) & set(TOPICS["hockey"]) for row in rows[3:])
    assert not (tmp_path / "a" / "hits.png").exists()
    code, out, err = call("retrieve", run, "--output", tmp_path / "b")
    assert code == 0
    assert "TF-IDF" in out
    assert json.loads((tmp_path / "b" / "retrieve.json").read_text())["precision@10"] > 0.8
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xfcd\n")
    code, out, err = call("retrieve", run, "--input", tmp_path / "bad.txt", "--output", tmp_path / "c")
    assert (code, out) == (2, "")
    assert err.startswith(f"{tmp_path}/bad.txt: is not utf-8 (line 2, byte 2: 0xfc)")
    assert call("retrieve", run, "--text", "a", "--input", tmp_path / "bad.txt")[0] == 2


def test_texts_are_refused_where_there_are_none(ae_run: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = call("retrieve", ae_run, "--text", "a comet")
    assert code == 2
    assert re.fullmatch(r"--text: digits .*--input FILE\n", err)


@pytest.mark.skipif(not (ROOT / "data/20newsgroups/test.csv").exists(), reason="data/20newsgroups is missing")
def test_the_newsgroups_fit_in_memory() -> None:
    from autoenc.data import bag_of_words

    data = bag_of_words(str(ROOT / "data/20newsgroups/test.csv"), view="tfidf", stop_words=True)
    assert isinstance(data.train.x, SparseRows)
    assert len(data.train) + len(data.val) + len(data.test) == 7_532
    assert (data.spec.shape, len(data.spec.classes)) == ((10_001,), 20)
    assert data.train.x.matrix.data.nbytes < 5e6  # dense: 240 MB


def test_tfidf_among_few_labels_searches_the_labelled_texts(words_run: Path) -> None:
    run = load_run(words_run, "cpu")
    run.data = few_labels(run.data, 30, 0)
    known, test = run.data.train.labelled(), run.data.test
    assert known.y is not None
    assert test.y is not None
    y, y_test = known.y.numpy(), test.y.numpy()
    found = retrieve.baseline(run, test, y_test, 30)["TF-IDF"]["precision@30"]
    assert found == pytest.approx((y == y_test[:, None]).mean()), "of as many hits as labels: the share of the class"
    assert retrieve.baseline(run, known, y, 1)["TF-IDF"]["precision@1"] == 1, "each text finds itself"
