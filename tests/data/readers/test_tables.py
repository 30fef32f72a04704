"""Files of tables: formats, labels, dates and numbers as people write them, bad ones, large ones, new ones."""

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch
from table_files import fitted, shop

from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.conformal import Calibration, Quantile
from autoenc.apps.anomaly.rows import detect
from autoenc.config.checks import check_node
from autoenc.core import UNLABELLED
from autoenc.data import table
from autoenc.data.dataset import few_labels, without
from autoenc.data.readers.cells.class_names import known_class
from autoenc.data.readers.tables import Source
from autoenc.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]


def test_formats_agree(csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(csv)
    frame.to_parquet(tmp_path / "shop.parquet")
    frame.to_csv(tmp_path / "shop.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semi.csv", index=False, sep=";", encoding="utf-16")
    frame.to_csv(tmp_path / "bare.txt", index=False, header=False)
    frame.to_feather(tmp_path / "shop.feather")
    frame.to_json(tmp_path / "shop.jsonl", orient="records", lines=True)
    frame.to_csv(tmp_path / "shop.csv.gz", index=False)
    (tmp_path / "shop.ndjson.gz").write_bytes(gzip.compress((tmp_path / "shop.jsonl").read_bytes()))
    wanted = table(str(csv), label="state").train.rows()
    for path, options in (
        ("shop.feather", {}),
        ("shop.jsonl", {}),
        ("shop.ndjson.gz", {}),
        ("shop.csv.gz", {}),
        ("shop.parquet", {}),
        ("shop.tsv", {}),
        ("semi.csv", {"separator": ";", "encoding": "utf-16"}),
        ("bare.txt", {"header": False, "names": list(frame)}),
    ):
        assert np.array_equal(table(str(tmp_path / path), label="state", **options).train.rows(), wanted)


def test_archives_with_x_and_y(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", X=random.normal(size=(100, 4)), y=(np.arange(100) % 10 == 0).astype(float))
    data = table(str(tmp_path / "a.npz"), label="y", test_fraction=0.3)
    assert data.spec.classes == ("0", "1")
    assert data.spec.shape == (4,)
    assert len(data.test) == 30
    scipy.io.savemat(tmp_path / "a.mat", dict(np.load(tmp_path / "a.npz")))
    assert torch.equal(table(str(tmp_path / "a.mat"), label="y", test_fraction=0.3).test.tensor, data.test.tensor)
    np.savez(
        tmp_path / "two.npz", a=random.normal(size=(90, 2)), b=random.normal(size=(100, 5)), labels=np.arange(100) % 2
    )
    named = table(str(tmp_path / "two.npz"), array="b", label="y")
    assert named.spec.shape == (5,)
    with pytest.raises(DataError, match=r"has no array x, only a, b, labels; data\.array=NAME"):
        table(str(tmp_path / "two.npz"))
    with pytest.raises(DataError, match=r"data\.array=c: .* has no such array; it has a, b, labels"):
        table(str(tmp_path / "two.npz"), array="c")
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(DataError, match=r"expected numbers x \(or X\)"):
        table(str(tmp_path / "b.npz"))


GOOD = "a,b,k\n" + "".join(f"{i},{i % 7},{'xy'[i % 2]}\n" for i in range(60))
BAD = {
    "ragged, short": (GOOD + "1,2\n", {}, r"line 62 has 2 columns, expected 3"),
    "ragged, long": (GOOD + "1,2,x,4\n", {}, r"line 62 has 4 columns, expected 3"),
    "encoding": (GOOD.encode() + b"1,2,\xff\n", {}, r"is not utf-8 .*data.encoding=latin-1"),
    "no such encoding": (GOOD, {"encoding": "klingon"}, r"data.encoding=klingon: no such encoding"),
    "empty": ("", {}, "is empty"),
    "header alone": ("a,b\n", {}, "has no rows"),
    "no header": ("1,2\n3,4\n", {}, r"line 1 \(1, 2, ...\) has numbers, not names; data.header=false"),
    "semicolons": (GOOD.replace(",", ";"), {}, r"is one column.*data.separator=';'"),
    "a stray quote": (GOOD.replace("20,6", '20,"6').replace("30,2", '"30,2'), {}, r"line 22: .*data\.quoting=none"),
    "a quote that closes later": (
        GOOD.replace("20,6", '"20,6').replace("40,5", '40",5'),
        {},
        r"a quote in line 22 is closed in line 42 .*data\.quoting=none",
    ),
    "an unclosed quote": (GOOD.replace("20,6", '"20,6'), {}, r"line 22: a quote is never closed; data\.quoting=none"),
    "no label": (GOOD, {"label": "kind"}, r"data.label=kind: .* has no such column; it has a, b, k"),
    "blanks": ("a b  c\n" + "1 2  3\n" * 30, {}, r"is one column.*data.separator='whitespace'"),
    "zero bytes": (GOOD.encode("utf-16-le"), {}, r"data\.encoding=utf-16-le"),
    "the other zero bytes": (GOOD.encode("utf-16-be"), {}, r"data\.encoding=utf-16-be"),
    "no column to drop": (GOOD, {"drop": ["q"]}, r"data.drop=q: .* has no such column"),
    "a typing error in the class": (GOOD, {"label": "k", "normal": "X"}, r"data\.normal=X: .*'x'"),
    "commas in numbers": (
        "a;b\n" + "1,5;2\n" * 30,
        {"separator": ";"},
        r"column a .*'1,5' \(row 1\), .*; .data.decimal",
    ),
    "log of a category": (GOOD, {"log": ["k"]}, r"data.log=\[k\]: the column is categorical"),
    "no such class": (GOOD, {"label": "k", "normal": "z"}, r"data.normal=z: .* has no such class; it has x, y"),
    "mixed": (GOOD + "?,1,x\n", {}, r"column a has numbers.*'\?' \(row 61\); data.missing=\['\?'\]"),
    "a quantity": (
        "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(2000)),
        {"label": "b"},
        r"data.label=b: 2,000 different values",
    ),
    "all missing": ("a,b\n" + ",\n" * 50, {}, "no row has a value"),
    "unknown category": (GOOD, {"categorical": ["z"]}, r"data.categorical=z: .*no such column; it has a, b, k"),
}


@pytest.mark.parametrize(("content", "options", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_one_line(tmp_path: Path, content: str | bytes, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    with pytest.raises(DataError, match=message) as error:
        table(str(path), **options)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_bad_files_of_other_formats_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    for name, content, message in (
        ("a.jsonl", '{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("b.jsonl", "[1, 2]\n", "line 1 is not an object"),
        ("a.feather", "x", "cannot be read as Feather"),
        ("a.mat", "x", r"cannot be read as \.mat"),
        ("a.xlsx", "x", r"pip install 'autoenc\[excel\]'"),
        ("a.csv.gz", "x", "cannot be read"),
        ("a.doc", "x", r"expected \.csv, .*, found '\.doc'"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message) as error:
            table(str(tmp_path / name))
        assert "\n" not in str(error.value)


def test_excel(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    shop().to_excel(tmp_path / "shop.xlsx", index=False)
    shop().to_csv(tmp_path / "shop.csv", index=False)
    first, second = (table(str(tmp_path / name), label="state") for name in ("shop.xlsx", "shop.csv"))
    assert np.array_equal(first.train.rows(), second.train.rows())
    with pd.ExcelWriter(tmp_path / "sheets.xlsx") as book:
        pd.DataFrame().to_excel(book, sheet_name="cover", index=False)
        shop().to_excel(book, sheet_name="orders", index=False, startrow=1)
        book.sheets["orders"]["A1"] = "Orders of May"
    with pytest.raises(DataError, match=r"cover has no rows; its sheets are cover, orders; data\.array=NAME"):
        table(str(tmp_path / "sheets.xlsx"))
    with pytest.raises(DataError, match=r"'Orders of May'.*data\.skip=1"):
        table(str(tmp_path / "sheets.xlsx"), array="orders")
    other = table(str(tmp_path / "sheets.xlsx"), array="orders", skip=1, label="state")
    assert np.array_equal(other.train.rows(), second.train.rows())


def test_what_programs_write_into_parquet_json_and_arrays(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(30) * 7.0 % 11, "text": [b"x", b"\xff"] * 15})
    frame.index = pd.date_range("2024-01-01", periods=30, name="when")
    frame.to_parquet(tmp_path / "a.parquet")
    read = Source().read(tmp_path / "a.parquet")
    assert read.iloc[1].tolist() == ["2024-01-02", 7.0, r"\xff"]
    far = pd.DataFrame({"a": frame["a"].to_numpy(), "t": np.arange(30).astype("M8[s]") + 10**13})
    far.to_parquet(tmp_path / "far.parquet")
    assert "year" not in str(table(str(tmp_path / "far.parquet")).notes)
    (tmp_path / "a.jsonl").write_text("".join(f'{{"a": {i * 7 % 11}, "b": 1{"0" * 400}}}\n' for i in range(30)))
    with pytest.raises(DataError, match=r"column b: 'inf' is not a finite number .*data\.infinite=missing"):
        table(str(tmp_path / "a.jsonl"))
    np.save(tmp_path / "big.npy", frame[["a"]].to_numpy().astype(">f8"))
    assert table(str(tmp_path / "big.npy")).train.rows().std() == pytest.approx(1, abs=0.01)
    scipy.io.savemat(tmp_path / "a.mat", {"data": {"x": np.eye(3)}})
    with pytest.raises(DataError, match="has no array of real numbers"):
        table(str(tmp_path / "a.mat"))


@pytest.mark.parametrize("stream", [False, True])
def test_labels_and_columns_of_two_files_may_differ(tmp_path: Path, stream: bool) -> None:
    frame = shop(200).assign(age=1.5, id=range(200))
    frame["state"] = frame["state"].map({"good": "<=50K", "bad": ">50K"})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.drop(columns="id").assign(state=frame["state"] + ".").to_csv(tmp_path / "b.csv", index=False)
    options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache"), "test_path": str(tmp_path / "b.csv")}
    data = table(str(tmp_path / "a.csv"), label="state", normal="<=50K", drop=["id"], **options)
    assert data.spec.classes == ("<=50K", ">50K")
    assert any("classes are spelt as in the training file: <=50K. as <=50K" in note for note in data.notes)
    assert data.test.y is not None
    assert data.test.y.tolist() == (frame["state"] == ">50K").astype(int).tolist()
    labels = data.spec.kind.anomalies(tmp_path / "b.csv", {"label": "state", "normal": "<=50K"})
    assert labels is not None
    assert labels.tolist() == data.test.y.bool().tolist()
    assert [known_class(name, ["ok", "Bad"]) for name in ("OK.", "bad", "worse")] == ["ok", "Bad", "worse"]
    assert known_class("Ok", ["ok", "OK"]) == "Ok"
    with pytest.raises(DataError, match=r"data\.drop=q: .* has no such column"):
        table(str(tmp_path / "a.csv"), drop=["q"], **options)


@pytest.mark.parametrize(("normal", "name"), [("", "(missing)"), ("None", "None")])
@pytest.mark.parametrize("stream", [False, True])
def test_empty_labels_may_be_the_normal_class_and_no_anomaly_is_lost(
    tmp_path: Path, normal: str, name: str, stream: bool
) -> None:
    frame = shop(200)
    frame["state"] = np.where(np.arange(200) % 40 == 0, "Power Failure", normal)
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache")}
    data = table(str(tmp_path / "a.csv"), label="state", normal=normal, **options)
    assert data.spec.anomalies == ("Power Failure",)
    assert set(data.spec.classes) == {"Power Failure", name}
    assert data.test.y is not None
    assert int((data.test.y == data.spec.classes.index("Power Failure")).sum()) == 5
    assert 5 < len(data.test) < 60
    labels = data.spec.kind.anomalies(tmp_path / "a.csv", {"label": "state", "normal": normal})
    assert labels is not None
    assert labels.sum() == 5


def test_rows_without_a_label_are_masked_and_not_measured(tmp_path: Path) -> None:
    frame = shop(200)
    frame.loc[:49, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    kind = table(str(tmp_path / "a.csv"), label="state", normal="good").spec.kind
    labels = kind.anomalies(tmp_path / "a.csv", {"label": "state", "normal": "good"})
    assert isinstance(labels, np.ma.MaskedArray)
    assert int(np.ma.getmaskarray(labels).sum()) == 50
    scores = np.where(frame["state"] == "bad", 1.0, 0.0)
    assert labelled.quality(labels, scores)["auroc"] == 1
    normal = Calibration({"error": scores[:50]}, "rows")
    found = detect.Detected("error", Quantile(0.9), {"error": scores}, normal, labels=labels)
    assert found.summary()["unlabelled"] == 50
    assert found.table([""] * 200)[1][0][-1] == ""


def test_lists_of_columns_and_values_accept_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{i * i},{i % 3},{-200 if i % 9 == 0 else i / 7}\n" for i in range(60))
    (tmp_path / "a.csv").write_text("2019,2020,2021\n" + rows)
    node = {"_target_": "autoenc.data.table", "path": "a.csv", "drop": [2019], "missing": [-200], "categorical": [2020]}
    check_node("data", node)
    data = table(str(tmp_path / "a.csv"), drop=[2019], missing=[-200], categorical=[2020])
    assert [column.name for column in data.spec.kind.columns] == ["2021", "2021 (missing)", "2020"]


def test_numbers_with_a_comma_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{i},5;1.{i:03},25;x{i % 2}\n" for i in range(60))
    (tmp_path / "a.csv").write_text("a;b;c\n" + rows)
    data = table(str(tmp_path / "a.csv"), separator=";", decimal=",", scaling="none")
    assert {c.name: c.kind for c in data.spec.kind.columns} == {"a": "number", "b": "number", "c": "category"}
    x = data.test.rows()
    assert x[:, 1] == pytest.approx(x[:, 0] - 0.5 + 1000.25), "1.023,25 is 1023.25"
    with pytest.raises(ConfigError, match="decimal=';': must be"):
        table(str(tmp_path / "a.csv"), decimal=";")  # type: ignore[arg-type]


def test_dates_are_numbers_and_the_same_in_csv_and_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=20).repeat(5), "n": np.arange(100.0)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    made = [table(str(tmp_path / name)) for name in ("a.csv", "a.parquet")]
    assert np.array_equal(*(data.test.rows() for data in made))
    assert np.array_equal(fitted(made[0]).encode(frame).tensor, fitted(made[1]).encode(frame).tensor)
    assert "column when: dates are read as days, weekday; data.dates=[]" in made[0].notes[0]
    names = [column.name for column in made[0].spec.kind.columns]
    assert names == ["when", "when weekday", "n"]
    first = fitted(made[0]).frame(made[0].train.rows())
    rows = frame.iloc[[int(name) - 1 for name in made[0].example_names("train")]]
    days = (rows["when"] - rows["when"].min()).dt.days.to_numpy()
    assert first["when"].to_numpy() == pytest.approx(days, abs=1e-4)
    assert first["when weekday"].to_numpy() == pytest.approx(rows["when"].dt.day_of_week.to_numpy(), abs=1e-4)
    written = [row[0] for row in made[0].spec.kind.listing(made[0].train.tensor)[1]]  # type: ignore[index]
    assert written == rows["when"].dt.strftime("%Y-%m-%d").tolist()
    assert fitted(made[0]).cells(made[0].train.rows())["when"] == written
    kept = table(str(tmp_path / "a.csv"), dates=[])
    assert kept.notes[0].startswith("Attention: column when looks like dates")
    assert kept.spec.kind.columns[-1].kind == "category"


@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_a_label_are_no_anomalies(tmp_path: Path, stream: bool) -> None:
    frame = shop(400)
    frame.loc[::8, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache")}
    data = table(str(tmp_path / "a.csv"), label="state", normal="good", **options)
    assert data.spec.classes == ("bad", "good")
    assert data.notes[0] == f"Attention: {tmp_path / 'a.csv'}: 50 rows without state, left out"


@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_a_label_are_unlabelled_training_rows(tmp_path: Path, stream: bool) -> None:
    frame = shop(400)
    frame.loc[::8, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache")}
    data = table(str(tmp_path / "a.csv"), label="state", **options)
    assert data.spec.classes == ("bad", "good")
    assert data.notes[0].endswith("50 rows without state, trained on without a label, left out of the test rows")
    known = {part: getattr(data, part).y != UNLABELLED for part in ("train", "test")}
    assert known["test"].all()
    assert 0 < int((~known["train"]).sum()) < 50
    for part in ("train", "test"):
        rows = frame.iloc[np.asarray(data.names[part]) - 1]
        assert (rows["state"].notna().to_numpy() == known[part].numpy()).all()
    few = few_labels(data, 10, seed=0)
    assert int((few.train.y != UNLABELLED).sum()) == 10
    assert (few.train.y[~known["train"]] == UNLABELLED).all()
    assert (without(data, ["bad"]).train.y == 1).all(), "a row without a label may be an anomaly"
    frame["state"] = None
    frame.to_csv(tmp_path / "b.csv", index=False)
    with pytest.raises(DataError, match=r"b\.csv: no row has a state"):
        table(str(tmp_path / "b.csv"), label="state", **options)


def test_labels_are_named_as_they_are_typed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(80.0), "grade": [1.0, 2.0, None, 1.0] * 20, "paid": [True, False] * 40})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert table(str(tmp_path / "a.csv"), label="grade", normal=1).spec.anomalies == ("2",)
    assert table(str(tmp_path / "a.csv"), label="paid", normal=True).spec.anomalies == ("False",)


def test_the_rows_of_the_splits_are_those_of_the_file(tmp_path: Path) -> None:
    frame = shop(120)
    frame.insert(0, "row", np.arange(1.0, 121.0))
    frame.loc[::8, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=50)
    for name, stream in (("a.csv", False), ("a.csv", True), ("a.parquet", False)):
        options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache"), "scaling": "none"}
        data = table(str(tmp_path / name), label="state", normal="good", **options)
        for part, split in (("train", data.train), ("test", data.test)):
            assert data.example_names(part) == [str(int(row)) for row in split.rows()[:, 0]]


def test_new_files_of_rows_without_names_need_no_label(tmp_path: Path) -> None:
    rows = [f"{i / 2},{i % 7},{'ab'[i % 2]},x\n" for i in range(80)]
    (tmp_path / "a.csv").write_text("".join(rows))
    names = ("n", "m", "kind", "unused")
    data = table(str(tmp_path / "a.csv"), header=False, names=names, label="kind", drop=["unused"])
    (tmp_path / "new.csv").write_text("1.5,3\n2,4\n")
    whole, bare = (fitted(data).read(tmp_path / name).split.tensor for name in ("a.csv", "new.csv"))
    assert torch.equal(bare, whole[[3, 4]])
    (tmp_path / "worse.csv").write_text("3\n4\n")
    with pytest.raises(DataError, match=r"has 1 column, data\.names has 4"):
        fitted(data).read(tmp_path / "worse.csv")
    with pytest.raises(DataError, match=r"data\.csv: no such file$"):  # a name is no option
        fitted(data).read(tmp_path / "data.csv")


def test_what_python_gives_is_read_or_refused_in_one_line(csv: Path) -> None:
    learnt = fitted(table(str(csv), label="state"))
    assert torch.equal(learnt.encode(str(csv)).tensor, learnt.encode(shop()).tensor)
    assert torch.equal(learnt.encode(shop().iloc[3]).tensor, learnt.encode(shop()).tensor[3:4])
    with pytest.raises(DataError, match="expected a data frame"):
        learnt.encode({"price": 1.0, "age": 2.0})
    with pytest.warns(UserWarning, match="1 row has values of colour.*: gold"):
        learnt.encode(pd.DataFrame({"price": [1.0], "age": 2.0, "colour": "gold", "size": "M"}))


def test_odd_columns_are_handled_and_said(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 5},,7,row {i},{'?' if i % 9 == 0 else i}\n" for i in range(100))
    (tmp_path / "odd.csv").write_text("n,five,empty,constant,id,holes\n" + rows)
    data = table(str(tmp_path / "odd.csv"), categorical=["five"], missing=["?"], keep=["n", "holes"])
    kinds = {c.name: (c.kind, c.stop - c.start) for c in data.spec.kind.columns}
    numbers = dict.fromkeys(("n", "constant", "holes", "holes (missing)"), ("number", 1))
    assert kinds == numbers | {"five": ("category", 5)}
    assert [note.split(" is left out")[0] for note in data.notes[:2]] == ["column empty", "column id"]
    assert re.fullmatch(r"missing cells in 81 training rows: holes \d+", data.notes[2])
    assert data.spec.kind.remark(data.train) == "constant in the training rows: constant; data.drop leaves columns out"
    place = next(c.start for c in data.spec.kind.columns if c.name == "constant")
    assert bool((data.train.tensor[:, place] == 0).all())


def test_streamed_and_in_memory_agree(tmp_path: Path) -> None:
    """Given what one of them learnt, both feed the same numbers; the rows are all there, once."""
    frame = shop(500)
    frame.insert(0, "row", np.arange(500.0))
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"label": "state", "cache": str(tmp_path / "cache"), "scaling": "none"}
    streamed = table(str(tmp_path / "a.csv"), stream=True, **options)
    whole = table(str(tmp_path / "a.csv"), stream=False, kind=streamed.spec.kind, **options)
    stored: dict[int, np.ndarray] = {}
    for data in (streamed, whole):
        rows = np.concatenate([s.rows() for s in (data.train, data.val, data.test)])
        labels = torch.cat([s.y for s in (data.train, data.val, data.test) if s.y is not None]).numpy()
        rows = np.column_stack([rows, labels])
        stored[len(stored)] = rows[rows[:, 0].argsort()]
    assert np.array_equal(stored[0], stored[1])
    assert streamed.spec.shape == whole.spec.shape
    entries = [p for p in (tmp_path / "cache").iterdir() if p.is_dir()]
    again = table(str(tmp_path / "a.csv"), stream=True, **options)
    assert again.train.fingerprint() == streamed.train.fingerprint()
    assert [p for p in (tmp_path / "cache").iterdir() if p.is_dir()] == entries


MEASURE = """
import resource, sys
from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.conformal import Calibration, Quantile
from autoenc.apps.anomaly.rows import detect
from autoenc.config.checks import check_node
from autoenc.data import table
for path in sys.argv[2:]:
    data = table(path, stream=True, cache=sys.argv[1], test_fraction=0.05, val_fraction=0.05)
    seen = sum(float(batch.x.sum()) for batch in data.train.shuffled(1_000, seed=0, epoch=0))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(len(data.train), most / (2**20 if sys.platform == "darwin" else 2**10))
"""


def test_memory_does_not_grow_with_a_streamed_file(tmp_path: Path) -> None:
    """Reading, learning the preprocessing and an epoch: of 120,000 rows, and of 360,000."""
    random = np.random.default_rng(0)
    rows = "".join(f"{a:.4f},{b:.4f},{'xyz'[i % 3]}\n" for i, (a, b) in enumerate(random.normal(size=(60_000, 2))))
    paths = {times: tmp_path / f"{times}.csv" for times in (2, 6)}
    for times, path in paths.items():
        with path.open("w") as file:
            file.write("a,b,c\n")
            for _ in range(times):
                file.write(rows)
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "cache"), *map(str, paths.values())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    sizes, peaks = zip(*(map(float, line.split()) for line in done.stdout.splitlines()), strict=True)
    assert sizes[1] == pytest.approx(3 * sizes[0], rel=0.01)
    assert peaks[1] < peaks[0] + 30, f"{peaks} MB; in memory, the rows that were added are some 50"


def test_midnight_keeps_its_time_zone(tmp_path: Path) -> None:
    hours = pd.date_range("2024-04-19 22:00", periods=48, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"when": hours, "day": hours.tz_localize(None).normalize(), "x": np.arange(48.0)})
    frame.to_parquet(tmp_path / "a.parquet")
    found = Source().read(tmp_path / "a.parquet")
    assert found["when"][:3].tolist() == [f"2024-04-{day}:00:00+02:00" for day in ("19 22", "19 23", "20 00")]
    assert found["day"].iloc[0] == "2024-04-19"


def test_keys_of_json_lines_may_come_late(tmp_path: Path) -> None:
    lines = [json.dumps({"a": i, "b": i % 3} | ({"late": i / 2} if i >= 700 else {})) for i in range(1_000)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    chunks = list(Source().chunks(tmp_path / "a.jsonl", size=300))
    assert [list(chunk) for chunk in chunks] == [["a", "b", "late"]] * 4
    assert [int(chunk["late"].notna().sum()) for chunk in chunks] == [0, 0, 200, 100]
    one, two = (table(str(tmp_path / "a.jsonl"), stream=stream, cache=str(tmp_path / "c")) for stream in (False, True))
    names = [[column.name for column in data.spec.kind.columns] for data in (one, two)]
    assert names[0] == names[1] == ["a", "b", "late", "late (missing)"]
