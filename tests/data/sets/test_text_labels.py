"""Labels of texts: a normal class, missing ones, other spellings; names of rows; words of scripts with marks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from autoenc.data import bag_of_words, text
from autoenc.data.kinds.counts import Counts
from autoenc.data.kinds.tokens import Tokens
from autoenc.errors import ConfigError


def write(path: Path, labels: list[str], start: int = 0) -> str:
    """A document for each label, with a word of its own class."""
    rows = [f'"{y.strip(".")}word number{(start + i) % 3}",{y}\n' for i, y in enumerate(labels)]
    path.write_text("text,label\n" + "".join(rows))
    return str(path)


@pytest.mark.parametrize("load", [text, bag_of_words])
def test_a_normal_class_is_trained_on_and_every_other_document_is_tested(
    tmp_path: Path, load: Callable[..., object]
) -> None:
    path = write(tmp_path / "a.csv", ["ok"] * 40 + ["spam", "scam"] * 5)
    data = load(path, normal="ok", min_count=1)
    assert data.spec.classes == ("ok", "scam", "spam")
    assert data.spec.anomalies == ("scam", "spam")
    assert data.train.y.unique().tolist() == data.val.y.unique().tolist() == [0]
    assert np.bincount(data.test.y)[1:].tolist() == [5, 5]
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 50
    assert len(set(data.example_names("test"))) == len(data.test)
    assert "41: spamword number1" in data.example_names("test")
    other = write(tmp_path / "b.csv", ["ok.", "spam", "ok"])
    test = load(path, test_path=other, normal="ok", min_count=1)
    assert test.test.y.tolist() == [0, 2, 0]
    assert any("class ok. is read as ok" in note for note in test.notes)
    words = test.spec.kind.decode(test.train.take(slice(None)).x)
    assert not any("spam" in line for line in words)
    anomalies = test.spec.kind.anomalies(Path(other), {"label": "label", "normal": "ok"})
    assert anomalies.tolist() == [False, True, False]
    with pytest.raises(ConfigError, match=r"normal=fine: .* the classes are ok, scam, spam"):
        load(path, normal="fine", min_count=1)
    (tmp_path / "c.txt").write_text("a b\n" * 9)
    with pytest.raises(ConfigError, match="normal=fine: needs labels"):
        load(str(tmp_path / "c.txt"), normal="fine", min_count=1)


def test_documents_without_a_label_are_left_out_with_a_note(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["x", "y", "", " "] * 5)
    data = text(path, min_count=1)
    assert data.notes[0].startswith(f"{path}: 10 of 20 documents have no label, left out; data.label=null")
    assert sum(len(split) for split in (data.train, data.val, data.test)) == 10
    assert len(text(path, label=None, column="text", min_count=1).train) > 10
    none = write(tmp_path / "b.csv", ["", "", ""])
    data = text(path, test_path=none, min_count=1)
    assert f"{none}: no document has a label" in data.notes
    assert data.test.y is None
    kind = data.spec.kind
    masked = kind.anomalies(Path(path), {"label": "label", "normal": "x"})
    assert masked.tolist()[:4] == [False, True, None, None]
    assert kind.anomalies(Path(none), {"label": "label", "normal": None}) is None


def test_words_keep_their_combining_marks() -> None:
    hindi, thai = "हिन्दी में नमस्ते", "ที่นี่"
    texts = [f"{hindi} {thai} cafe\u0301", f"{hindi} {thai} caf\u00e9"]
    counts = Counts.learn(texts, "counts", 100, 2, True, False)
    assert set(counts.vocabulary) == {*hindi.split(), thai, "caf\u00e9"}
    assert torch.equal(counts.tokenize(texts).x[0:1], counts.tokenize(texts).x[1:2])
    tokens = Tokens.learn(texts, "word", 100, 2, 12, True)
    assert {*hindi.split(), thai, "caf\u00e9"} <= set(tokens.tokenizer.get_vocab())
    assert torch.equal(tokens.tokenize(texts).x[:1], tokens.tokenize(texts).x[1:])


def test_new_texts_are_read_in_every_format(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ["x", "y"] * 10)
    kind = text(path, min_count=1, label=None, column="text").spec.kind
    (tmp_path / "new.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "xword", "n": 1}).encode()))
    (tmp_path / "folder" / "x").mkdir(parents=True)
    (tmp_path / "folder" / "x" / "1.txt").write_text("xword\nnumber1\n")
    assert kind.read(tmp_path / "new.jsonl.gz").names == ["1: xword"]
    assert kind.read(tmp_path / "folder").names == ["x/1.txt: xword number1"]
