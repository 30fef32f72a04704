"""What classical methods are fed: TF-IDF of texts, never token ids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from autoenc import load_run
from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.rows import detect
from autoenc.apps.anomaly.scores import Detector
from autoenc.apps.codes import features, project
from autoenc.data.kinds.tokens import Tokens
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split

TOPICS = {"space": ["orbit", "moon", "rocket", "comet"], "hockey": ["puck", "goal", "rink", "coach"]}


def test_tokens_are_tfidf_of_their_words() -> None:
    texts = ["red cat cat", "red dog", "cat zork"]
    kind = Tokens.learn(texts[:2], "word", 50, 1, 6, True)
    splits = [Split(kind.tokenize(part).x) for part in (texts[:2], texts)]
    found = kind.features(*splits)
    assert found is not None
    vocabulary = sorted(kind.tokenizer.get_vocab().items(), key=lambda item: item[1])
    reference = TfidfVectorizer(vocabulary=[word for word, _ in vocabulary[5:]], sublinear_tf=True).fit(texts[:2])
    assert found[1].toarray() == pytest.approx(reference.transform(texts).toarray(), abs=1e-6)
    assert kind.annotations(splits[1])["unknown"].tolist() == [0, 0, 0.5]


def test_vectors_are_their_rows() -> None:
    x = torch.randn(4, 3)
    found = Vector((3,), -9.0, 9.0).features(Split(x), Split(x[:2]))
    assert found is not None
    assert [each.shape for each in found] == [(4, 3), (2, 3)]


@pytest.mark.parametrize("data", ["text", "bag_of_words"])
def test_baselines_of_texts_tell_topics_apart(data: str, train_run: Callable[..., Path], tmp_path: Path) -> None:
    random, rows = np.random.default_rng(0), []
    for i in range(160):
        label = "hockey" if i % 8 == 0 else "space"
        rows.append(f"{' '.join(random.choice(TOPICS[label], 5))},{label}\n")
    path = tmp_path / "posts.csv"
    path.write_text("text,label\n" + "".join(rows))
    small = ["network.embedding=8", "network.width=16", "data.max_length=8"] if data == "text" else []
    run = load_run(
        train_run("model=ae", f"data={data}", *small, f"data.path={path}", "data.normal=space", "data.min_count=1",
                  "model.latent_dim=2", "trainer.epochs=1"), "cpu",
    )  # fmt: skip
    labels = labelled.known_anomalies(run)
    assert labels is not None
    assert labels.sum() == 20
    result = detect.detect(Detector(run), run.data.test, labels)
    assert set(result.baselines) == {"lsa", "isolation_forest", "raw_knn"}
    header, table = result.table(run.data.example_names("test"))
    assert float(table[int(np.flatnonzero(labels)[0])][header.index("unknown")]) == 1
    assert all(np.isfinite(values).all() for values in result.baselines.values())
    assert {*features.representations(run)} == {"codes", "untrained", "LSA-2"}
    many = Split(run.spec.kind.tokenize([row.partition(",")[0] for row in rows[:60]]).x)  # type: ignore[attr-defined]
    assert 0 <= project.project(run, many, "pca").numbers["trustworthiness_input"] <= 1
