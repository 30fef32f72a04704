"""Tables: what is learnt from which rows, what becomes of each kind of column, and bad files."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc import load_run, run
from autoenc.apps import detect, inputs
from autoenc.data import plain, table
from autoenc.data.columns import SignedLog, TablePreprocessing
from autoenc.data.spec import Data
from autoenc.errors import ConfigError, DataError
from autoenc.likelihoods import Table

ROOT = Path(__file__).resolve().parents[2]
KDD = ROOT / "data" / "nslkdd" / "KDDTest+.txt"


def shop(n: int = 200, seed: int = 0) -> pd.DataFrame:
    """Two numbers, one of them with holes, two categories, a label."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "price": random.lognormal(3, 2, n).round(2),
            "age": random.normal(40, 10, n).round(1),
            "colour": random.choice(["red", "green", "blue"], n),
            "size": random.choice(["S", "M"], n),
            "state": random.choice(["good", "good", "good", "bad"], n),
        }
    )
    frame.loc[::10, "age"] = np.nan
    frame.loc[::15, "size"] = None
    return frame


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    shop().to_csv(tmp_path / "shop.csv", index=False)
    return tmp_path / "shop.csv"


def fitted(data: Data) -> TablePreprocessing:
    assert isinstance(data.preprocessing, TablePreprocessing)
    return data.preprocessing


def test_numbers_are_standardised_and_categories_one_hot(csv: Path) -> None:
    data = table(str(csv), label="state")
    names = [(c.name, c.kind, c.stop - c.start) for c in data.spec.columns]
    assert names == [("price", "number", 1), ("age", "number", 1), ("colour", "category", 3), ("size", "category", 3)]
    x = data.train.tensor
    assert x[:, :2].mean(0) == pytest.approx([0, 0], abs=1e-6)
    assert x[:, :2].std(0, correction=0) == pytest.approx([1, 1], abs=1e-5)
    assert bool((x[:, 2:5].sum(1) == 1).all())
    assert bool((x[:, 5:8].sum(1) == 1).all())  # an empty cell is a category of its own
    assert data.spec.classes == ("bad", "good")
    assert len(data.train) + len(data.val) + len(data.test) == 200


def test_the_rows_come_back_in_the_terms_of_the_table(csv: Path) -> None:
    for scaling in ("standard", "robust", "quantile", "none"):
        for log in (False, True, ["price"]):
            data = table(str(csv), label="state", scaling=scaling, log=log)
            whole = fitted(data).frame(data.train.rows())
            assert set(whole["colour"]) == {"red", "green", "blue"}
            again = fitted(data).matrix(whole.replace("(missing)", None))
            assert again == pytest.approx(data.train.rows(), abs=2e-3)


def test_rows_that_were_made_up_look_like_the_user_s_own(tmp_path: Path) -> None:
    frame = shop()
    frame.insert(1, "count", np.arange(len(frame)) % 9)
    frame = frame[["colour", "price", "count", "state", "size", "age"]]
    frame.to_csv(tmp_path / "a.csv", index=False)
    learnt = fitted(table(str(tmp_path / "a.csv"), label="state"))
    learnt = TablePreprocessing.from_plain(json.loads(json.dumps(learnt.plain())))
    made = learnt.plausible(100 * np.random.default_rng(0).normal(size=(50, learnt.columns[-1].stop)))
    assert list(made) == ["colour", "price", "count", "size", "age"]
    assert made["count"].dtype == np.int64
    assert made["count"].between(0, 8).all()
    assert made["price"].between(frame["price"].min(), frame["price"].max()).all()
    assert made["price"].nunique() > 1


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_learnt_from_validation_and_test_rows(tmp_path: Path, stream: bool) -> None:
    """The rows that are not for training get other values; what is learnt must be the same, to the last bit."""
    frame = shop(400)
    frame.insert(0, "row", np.arange(400.0))
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"label": "state", "stream": stream, "scaling": "none", "cache": str(tmp_path / "cache")}
    data = table(str(tmp_path / "a.csv"), **options)
    held = np.concatenate([split.rows()[:, 0] for split in (data.val, data.test)]).astype(int)
    assert 40 < len(held) < 120

    changed = frame.copy()
    changed.loc[held, "price"] = 1e6
    changed.loc[held, "age"] = -5.0
    changed.loc[held, "colour"] = "gold"
    changed.to_csv(tmp_path / "b.csv", index=False)
    options["scaling"] = "standard"
    first, second = (table(str(tmp_path / name), **options) for name in ("a.csv", "b.csv"))
    assert json.dumps(fitted(first).plain()) == json.dumps(fitted(second).plain())
    assert np.array_equal(first.train.rows(), second.train.rows())
    assert not np.array_equal(first.test.rows(), second.test.rows())


def test_without_anomalies_a_note_says_that_nothing_can_be_measured(tmp_path: Path) -> None:
    frame = shop()
    frame["state"] = "good"
    frame.to_csv(tmp_path / "shop.csv", index=False)
    data = table(str(tmp_path / "shop.csv"), label="state", normal="good")
    assert data.notes[-1].startswith("data.label=state: every row is of the class good")


def test_trained_on_normal_rows_the_others_are_the_anomalies_of_the_test(csv: Path) -> None:
    data = table(str(csv), label="state", normal="good")
    for split in (data.train, data.val):
        assert split.y is not None
        assert set(split.y.tolist()) == {1}
    assert data.test.y is not None
    assert set(data.test.y.tolist()) == {0, 1}
    assert data.spec.anomalies == ("bad",)


def test_new_rows_pass_through_what_was_learnt(csv: Path) -> None:
    data = table(str(csv), label="state", max_categories=100)
    new = pd.DataFrame(
        {"colour": ["gold", "red"], "extra": [1, 2], "age": [None, 40.0], "price": [1.0, 2.0], "size": "M"}
    )
    x = fitted(data).apply(new).tensor
    assert bool((x[0, 2:5] == 0).all())  # a colour that training did not have
    assert fitted(data).frame(x.numpy())["colour"].tolist() == ["(unseen)", "red"]
    imputed = fitted(data).frame(x.numpy())["age"][0]
    assert imputed == pytest.approx(fitted(data).transformer.named_transformers_["number"]["impute"].statistics_[1])
    with pytest.raises(DataError, match="the data frame: the columns price, size are missing"):
        fitted(data).apply(new.drop(columns=["price", "size"]))
    with pytest.raises(DataError, match=r"row 1, column price: 'cheap' is no finite number"):
        fitted(data).apply(new.assign(price=["1", "cheap"]))
    with pytest.raises(DataError, match=r"column price: 'inf' is no finite number"):
        fitted(data).apply(new.assign(price=["1", "inf"]))


def test_the_rarest_values_share_a_dimension(tmp_path: Path) -> None:
    values = ["a"] * 100 + ["b"] * 60 + ["c"] * 5 + ["d"] * 3
    pd.DataFrame({"v": values, "n": np.arange(168.0)}).to_csv(tmp_path / "v.csv", index=False)
    data = table(str(tmp_path / "v.csv"), max_categories=3)
    assert [c.stop - c.start for c in data.spec.columns] == [1, 3]
    assert any("2 rarest values share" in note for note in data.notes)
    rare, unseen = fitted(data).matrix(pd.DataFrame({"v": ["c", "zzz"], "n": [0.0, 0.0]}))[:, 1:]
    assert rare.tolist() == unseen.tolist() == [0, 0, 1]
    assert fitted(data).frame(np.array([[0, 0, 0, 1.0]]))["v"][0] == "(one of 2 rare)"


def test_what_is_kept_is_plain_and_gives_the_same_numbers(csv: Path, tmp_path: Path) -> None:
    for scaling in ("standard", "robust", "quantile", "none"):
        data = table(str(csv), label="state", scaling=scaling, log=["price"], max_categories=2)
        fitted(data).save(tmp_path)
        kept = TablePreprocessing.load(tmp_path)
        frame = shop(50, seed=1)
        assert np.array_equal(kept.matrix(frame), fitted(data).matrix(frame))
        assert kept.columns == data.spec.columns


def test_no_other_class_is_made_from_plain_values() -> None:
    with pytest.raises(KeyError):
        plain.from_plain({"estimator": "Popen", "state": {}})
    with pytest.raises(ValueError, match="no plain value"):
        plain.from_plain({"call": "os.system"})
    with pytest.raises(TypeError, match="function has no plain form"):
        plain.to_plain(lambda: 0)


def test_signed_log_inverts() -> None:
    x = np.array([[-1e6], [-0.5], [0.0], [3.0], [1e9]])
    assert SignedLog().inverse_transform(SignedLog().transform(x)) == pytest.approx(x)


def test_table_likelihood_is_gaussian_and_categorical(csv: Path) -> None:
    columns = table(str(csv), label="state").spec.columns
    x = torch.tensor([[0.5, -1.0, 0, 1, 0, 1, 0, 0]])
    params = torch.randn(1, 8)
    likelihood = Table(columns, sigma=0.5)
    gaussian = -torch.distributions.Normal(params[0, :2], 0.5).log_prob(x[0, :2]).sum()
    categorical = -params[0, 2:5].log_softmax(0)[1] - params[0, 5:8].log_softmax(0)[0]
    assert float(likelihood.nll(params, x)) == pytest.approx(float(gaussian + categorical), rel=1e-5)
    mean = likelihood.mean(params)
    assert mean[0, 2:5].sum() == pytest.approx(1)
    assert likelihood.mean(likelihood.params_of(mean)) == pytest.approx(mean, abs=1e-3)
    unseen = x.clone()
    unseen[0, 2:5] = 0
    uniform = -params[0, 2:5].log_softmax(0).mean() - params[0, 5:8].log_softmax(0)[0]
    assert float(likelihood.nll(params, unseen)) == pytest.approx(float(gaussian + uniform), rel=1e-5)
    learned = Table(columns, sigma=0.5, learned=True)
    assert learned.nll(params, x).item() == pytest.approx(float(gaussian + categorical), rel=1e-4)
    learned.nll(params, x).sum().backward()
    assert learned.above_floor is not None
    assert learned.above_floor.grad is not None
    assert learned.above_floor.grad.shape == (2,)
    with pytest.raises(ConfigError, match="is for tables"):
        Table(())


def test_formats_agree(csv: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(csv)
    frame.to_parquet(tmp_path / "shop.parquet")
    frame.to_csv(tmp_path / "shop.tsv", index=False, sep="\t")
    frame.to_csv(tmp_path / "semi.csv", index=False, sep=";", encoding="utf-16")
    frame.to_csv(tmp_path / "bare.txt", index=False, header=False)
    wanted = table(str(csv), label="state").train.rows()
    for path, options in (
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
    np.savez(tmp_path / "b.npz", a=np.zeros(3))
    with pytest.raises(DataError, match=r"expected numbers x \(or X\)"):
        table(str(tmp_path / "b.npz"))


GOOD = "a,b,k\n" + "".join(f"{i},{i % 7},{'xy'[i % 2]}\n" for i in range(60))
BAD = {
    "ragged, short": (GOOD + "1,2\n", {}, r"line 62 has 2 columns, expected 3"),
    "ragged, long": (GOOD + "1,2,x,4\n", {}, r"line 62 has 4 columns, expected 3"),
    "encoding": (GOOD.encode() + b"1,2,\xff\n", {}, r"is not utf-8 .*data.encoding=latin-1"),
    "no such encoding": (GOOD, {"encoding": "klingon"}, r"data.encoding=klingon: there is no such encoding"),
    "empty": ("", {}, "is empty"),
    "header alone": ("a,b\n", {}, "has no rows"),
    "no header": ("1,2\n3,4\n", {}, r"line 1 \(1, 2, ...\) has numbers, no names; data.header=false"),
    "semicolons": (GOOD.replace(",", ";"), {}, r"is one column.*data.separator=';'"),
    "twice": (GOOD.replace("a,b", "a,a", 1), {}, "two columns are called 'a'"),
    "no label": (GOOD, {"label": "kind"}, r"data.label=kind: .* has no such column; it has a, b, k"),
    "no column to drop": (GOOD, {"drop": ["q"]}, r"data.drop=q: .* has no such column"),
    "a typing error in the class": (GOOD, {"label": "k", "normal": "X"}, "the class is written x"),
    "commas in numbers": (
        "a;b\n" + "1,5;2\n" * 30,
        {"separator": ";"},
        r"has numbers with a comma, '1,5'; .data.decimal",
    ),
    "log of a category": (GOOD, {"log": ["k"]}, r"data.log=\[k\]: the column has categories"),
    "no such class": (GOOD, {"label": "k", "normal": "z"}, r"data.normal=z: .* has no such class; it has x, y"),
    "mixed": (GOOD + "?,1,x\n", {}, r"column a has numbers, and '\?'; data.missing=\['\?'\]"),
    "a quantity": (
        "a,b\n" + "".join(f"{i},{i / 7}\n" for i in range(2000)),
        {"label": "b"},
        r"data.label=b: 2,000 different values",
    ),
    "all missing": ("a,b\n" + ",\n" * 50, {}, "no column is left to train on"),
    "unknown category": (GOOD, {"categorical": ["z"]}, r"there is no column 'z'; there are a, b, k"),
    "few rows": ("a,b\n1,2\n", {}, "too few"),
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


def test_numbers_with_a_comma_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{i},5;1.{i:03},25;x{i % 2}\n" for i in range(60))
    (tmp_path / "a.csv").write_text("a;b;c\n" + rows)
    data = table(str(tmp_path / "a.csv"), separator=";", decimal=",", scaling="none")
    assert {c.name: c.kind for c in data.spec.columns} == {"a": "number", "b": "number", "c": "category"}
    x = data.test.rows()
    assert x[:, 1] == pytest.approx(x[:, 0] - 0.5 + 1000.25), "1.023,25 is 1023.25"
    with pytest.raises(ConfigError, match="decimal=';': must be"):
        table(str(tmp_path / "a.csv"), decimal=";")  # type: ignore[arg-type]


def test_dates_are_said_to_be_categories_and_the_same_in_csv_and_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=20).repeat(5), "n": np.arange(100.0)})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    made = [table(str(tmp_path / name)) for name in ("a.csv", "a.parquet")]
    assert np.array_equal(*(data.test.rows() for data in made))
    assert np.array_equal(fitted(made[0]).apply(frame).tensor, fitted(made[1]).apply(frame).tensor)
    assert "Attention: column when looks like dates" in made[0].notes[0]


@pytest.mark.parametrize("stream", [False, True])
def test_rows_without_a_label_are_no_anomalies(tmp_path: Path, stream: bool) -> None:
    frame = shop(400)
    frame.loc[::8, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"stream": stream, "cache": str(tmp_path / "cache")}
    data = table(str(tmp_path / "a.csv"), label="state", normal="good", **options)
    assert data.spec.classes == ("bad", "good")
    assert data.notes[0] == f"Attention: {tmp_path / 'a.csv'}: 50 rows have no state and are left out"
    assert (
        len(table(str(tmp_path / "a.csv"), label="state", **options).spec.classes) == 3
    )  # where there is no normal one


def test_labels_are_named_as_they_are_typed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(80.0), "grade": [1.0, 2.0, None, 1.0] * 20, "paid": [True, False] * 40})
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert table(str(tmp_path / "a.csv"), label="grade", normal=1).spec.anomalies == ("2",)
    assert table(str(tmp_path / "a.csv"), label="paid", normal=True).spec.anomalies == ("False",)


def test_the_rows_of_the_splits_are_those_of_the_file(tmp_path: Path) -> None:
    frame = shop(120)
    frame.insert(0, "row", np.arange(120.0))
    frame.loc[::8, "state"] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet", row_group_size=50)
    for name in ("a.csv", "a.parquet"):
        data = table(str(tmp_path / name), label="state", normal="good", scaling="none")
        for part, split in (("train", data.train), ("test", data.test)):
            assert data.told(part) == [str(int(row)) for row in split.rows()[:, 0]]


def test_new_files_of_rows_without_names_need_no_label(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},{'ab'[i % 2]},x\n" for i in range(80)]
    (tmp_path / "a.csv").write_text("".join(rows))
    names = ("n", "m", "kind", "unused")
    data = table(str(tmp_path / "a.csv"), header=False, names=names, label="kind", drop=["unused"])
    (tmp_path / "new.csv").write_text("3,3\n4,4\n")
    whole, bare = (fitted(data).read(tmp_path / name).split.tensor for name in ("a.csv", "new.csv"))
    assert torch.equal(bare, whole[[3, 4]])
    (tmp_path / "worse.csv").write_text("3\n4\n")
    with pytest.raises(DataError, match=r"has 1 columns, data\.names has 4; the run reads new files as those"):
        fitted(data).read(tmp_path / "worse.csv")
    with pytest.raises(DataError, match=r"data\.csv: no such file$"):  # a name is no option
        fitted(data).read(tmp_path / "data.csv")


def test_what_python_gives_is_read_or_refused_in_one_line(csv: Path) -> None:
    learnt = fitted(table(str(csv), label="state"))
    assert torch.equal(learnt.apply(str(csv)).tensor, learnt.apply(shop()).tensor)
    assert torch.equal(learnt.apply(shop().iloc[3]).tensor, learnt.apply(shop()).tensor[3:4])
    with pytest.raises(DataError, match="expected a data frame"):
        learnt.apply({"price": 1.0, "age": 2.0})
    with pytest.warns(UserWarning, match="1 rows have values of colour that training did not have: gold"):
        learnt.apply(pd.DataFrame({"price": [1.0], "age": 2.0, "colour": "gold", "size": "M"}))


def test_odd_columns_are_handled_and_said(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i % 5},,7,row {i},{'?' if i % 9 == 0 else i}\n" for i in range(100))
    (tmp_path / "odd.csv").write_text("n,five,empty,constant,id,holes\n" + rows)
    data = table(str(tmp_path / "odd.csv"), categorical=["five"], missing=["?"])
    kinds = {c.name: (c.kind, c.stop - c.start) for c in data.spec.columns}
    assert kinds == {"n": ("number", 1), "constant": ("number", 1), "holes": ("number", 1), "five": ("category", 5)}
    assert [note.split(" is left out")[0] for note in data.notes] == ["column empty", "column id"]
    assert run.scale_warning(data) == "the same in every training row: constant; data.drop leaves columns out"
    place = next(c.start for c in data.spec.columns if c.name == "constant")
    assert bool((data.train.tensor[:, place] == 0).all())


def test_streamed_and_in_memory_agree(tmp_path: Path) -> None:
    """Given what one of them learnt, both feed the same numbers; the rows are all there, once."""
    frame = shop(500)
    frame.insert(0, "row", np.arange(500.0))
    frame.to_csv(tmp_path / "a.csv", index=False)
    options: dict[str, Any] = {"label": "state", "cache": str(tmp_path / "cache"), "scaling": "none"}
    streamed = table(str(tmp_path / "a.csv"), stream=True, **options)
    whole = table(str(tmp_path / "a.csv"), stream=False, preprocessing=streamed.preprocessing, **options)
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
from autoenc.data import order, table
order.MANY = 50_000
data = table(sys.argv[1], stream=True, cache=sys.argv[2], test_fraction=0.05, val_fraction=0.05)
seen = sum(float(batch.x.sum()) for batch in data.train.shuffled(1_000, seed=0, epoch=0))
most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(data.train), most / (2**20 if sys.platform == "darwin" else 2**10))
"""


def test_memory_does_not_grow_with_a_streamed_file(tmp_path: Path) -> None:
    """Reading, learning the preprocessing and an epoch: of 120,000 rows, and of 600,000."""
    random = np.random.default_rng(0)
    rows = "".join(f"{a:.4f},{b:.4f},{'xyz'[i % 3]}\n" for i, (a, b) in enumerate(random.normal(size=(60_000, 2))))
    sizes, peaks = [], []
    for times in (2, 10):
        path = tmp_path / f"{times}.csv"
        with path.open("w") as file:
            file.write("a,b,c\n")
            for _ in range(times):
                file.write(rows)
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "cache")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        size, peak = map(float, done.stdout.split())
        sizes.append(size)
        peaks.append(peak)
    assert sizes[1] == pytest.approx(5 * sizes[0], rel=0.01)
    assert peaks[1] < peaks[0] + 15, f"{peaks} MB; in memory, the rows that were added are some 100"


def test_a_run_on_a_table_end_to_end(tmp_path: Path, train_run: Callable[..., Path]) -> None:
    shop(600).to_csv(tmp_path / "shop.csv", index=False)
    run_dir = train_run(
        "data=table", f"data.path={tmp_path / 'shop.csv'}", "data.label=state", "data.normal=good", "data.log=[price]",
        "network.hidden=[16]", "model.latent_dim=2", "trainer.epochs=2",
    )  # fmt: skip
    kept = sorted(p.name for p in (run_dir / "preprocessing").iterdir())
    assert kept == ["preprocessing.json"]
    new = shop(7, seed=3)
    new.drop(columns="state").to_csv(tmp_path / "new.csv", index=False)
    run = load_run(run_dir)
    codes = run.encode(new)
    assert codes.shape == (7, 2)
    read = inputs.read(run, tmp_path / "new.csv")
    assert run.codes(read.split) == pytest.approx(codes, abs=1e-5)
    done = subprocess.run(
        [sys.executable, "scripts/detect.py", run_dir, "--input", tmp_path / "new.csv", "--output", tmp_path / "s.csv"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = pd.read_csv(tmp_path / "s.csv")
    assert len(scores) == 7
    assert "label" not in scores
    assert detect.labels_in(run, tmp_path / "new.csv") is None
    new.to_csv(tmp_path / "labelled.csv", index=False)
    found = detect.labels_in(run, tmp_path / "labelled.csv")
    assert found is not None
    assert found.tolist() == (new["state"] != "good").tolist()
    one = r"(?:price|age|colour|size)=[^;]* \(not [^;]*\)"
    assert scores["columns"].dropna().str.fullmatch(f"{one}(?:; {one}){{0,2}}").all()
    assert scores["columns"].notna().any()


def test_what_made_a_row_unusual_is_named(tmp_path: Path, train_run: Callable[..., Path]) -> None:
    random = np.random.default_rng(0)
    n = 600
    a = random.normal(size=n)
    frame = pd.DataFrame(
        {"a": a, "twice": 2 * a, "sign": np.where(a > 0, "plus", "minus"), "free": random.normal(size=n)}
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    run = load_run(
        train_run("data=table", f"data.path={tmp_path / 't.csv'}", "model.latent_dim=2", "network.hidden=[32]",
                  "trainer.epochs=40")
    )  # fmt: skip
    from autoenc.apps.detect import contributions

    broken = pd.DataFrame({"a": [1.0, 1.0], "twice": [2.0, -14.0], "sign": ["minus", "plus"], "free": [0.0, 0.0]})
    found = contributions(run, run.inputs(broken))
    assert found[0][0].startswith("sign=minus (not plus)")
    assert found[1][0].startswith("twice=-14 ")


@pytest.mark.skipif(not KDD.exists(), reason="needs data/nslkdd (shared data)")
def test_nsl_kdd_is_as_described() -> None:
    from autoenc import inmemory
    from autoenc.build import build_data

    data = build_data(inmemory.compose(["data=nsl_kdd"]))
    assert len(data.test) == 22_544
    assert data.test.y is not None
    assert data.spec.classes[int(data.train.y[0])] == "normal"  # type: ignore[index]
    assert float((data.test.y != data.spec.classes.index("normal")).float().mean()) == pytest.approx(0.5692, abs=1e-3)
    assert {c.name for c in data.spec.columns if c.kind == "category"} == {"protocol_type", "service", "flag"}
    assert "difficulty" not in {c.name for c in data.spec.columns}
