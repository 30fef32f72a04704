"""Tables: what is learnt from which rows, what becomes of each kind of column, and whole runs."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from table_files import fitted, shop

from autoenc import likelihoods, load_run
from autoenc.apps import inputs
from autoenc.apps.anomaly import labelled
from autoenc.apps.anomaly.rows import detect
from autoenc.apps.anomaly.scores import Detector
from autoenc.build import build_data
from autoenc.data import table
from autoenc.data.kinds import estimator_json as plain
from autoenc.data.kinds.columns import SignedLog
from autoenc.data.kinds.observed import Observed
from autoenc.data.kinds.table import Table
from autoenc.data.sets.streamed_table import values_of
from autoenc.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]
KDD = ROOT / "data" / "nslkdd" / "KDDTest+.txt"


def test_numbers_are_standardised_and_categories_one_hot(csv: Path) -> None:
    data = table(str(csv), label="state")
    names = [(c.name, c.kind, c.stop - c.start) for c in data.spec.kind.columns]
    assert names == [
        *[("price", "number", 1), ("age", "number", 1), ("age (missing)", "number", 1)],
        *[("colour", "category", 3), ("size", "category", 3)],
    ]
    x = data.train.tensor
    assert x[:, :2].mean(0) == pytest.approx([0, 0], abs=1e-6)
    assert x[:, :2].std(0, correction=0) == pytest.approx([1, 1], abs=1e-5)
    assert set(x[:, 2].tolist()) == {0, 1}
    assert bool((x[:, 3:6].sum(1) == 1).all())
    assert bool((x[:, 6:9].sum(1) == 1).all())  # an empty cell is a category of its own
    assert data.spec.classes == ("bad", "good")
    assert len(data.train) + len(data.val) + len(data.test) == 200


def test_the_rows_come_back_in_the_terms_of_the_table(csv: Path) -> None:
    for scaling in ("standard", "robust", "quantile", "none"):
        for log in (False, True, ["price"]):
            data = table(str(csv), label="state", scaling=scaling, log=log)
            whole = fitted(data).frame(data.train.rows())
            assert set(whole["colour"]) == {"red", "green", "blue"}
            again, wanted = fitted(data).matrix(whole.replace("(missing)", None)), data.train.rows()
            wanted[:, 2] = 0  # imputed numbers are not missing
            assert again == pytest.approx(wanted, abs=2e-3)


def test_rows_that_were_made_up_look_like_the_user_s_own(tmp_path: Path) -> None:
    frame = shop()
    frame.insert(1, "count", np.arange(len(frame)) % 9)
    frame = frame[["colour", "price", "count", "state", "size", "age"]]
    frame.to_csv(tmp_path / "a.csv", index=False)
    learnt = fitted(table(str(tmp_path / "a.csv"), label="state"))
    learnt = Table.load(None, json.loads(json.dumps(values_of(learnt))))
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
    assert json.dumps(fitted(first).state()) == json.dumps(fitted(second).state())
    assert np.array_equal(first.train.rows(), second.train.rows())
    assert not np.array_equal(first.test.rows(), second.test.rows())


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_is_learnt_from_classes_that_are_left_out(tmp_path: Path, stream: bool) -> None:
    frame = shop(400)
    frame.loc[frame["state"] == "bad", ["price", "colour"]] = [1e6, "gold"]
    frame.to_csv(tmp_path / "a.csv", index=False)
    config = {"_target_": "autoenc.data.table", "path": str(tmp_path / "a.csv"), "label": "state", "stream": stream}
    config["cache"] = str(tmp_path / "cache")
    learnt = {}
    for excluded in ([], ["bad"]):
        data = build_data({"data": config, "anomaly_classes": excluded})
        learnt[len(excluded)] = json.dumps(values_of(fitted(data)))
    assert "gold" in learnt[0]
    assert "gold" not in learnt[1]
    assert fitted(data).ranges["price"][1] < 1e6
    assert data.spec.anomalies == ("bad",)
    for split in (data.train, data.val):
        assert split.y is not None
        assert set(split.y.tolist()) == {data.spec.classes.index("good")}
    assert data.train.tensor.mean(0)[0] == pytest.approx(0, abs=1e-5)
    frame["state"] = "bad"
    frame.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"anomaly_classes=bad: .*no row is left to train on"):
        build_data({"data": config, "anomaly_classes": ["bad"]})


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
    x = fitted(data).encode(new).tensor
    assert bool((x[0, 3:6] == 0).all())  # a colour that training did not have
    assert fitted(data).frame(x.numpy())["colour"].tolist() == ["(unseen)", "red"]
    imputed = fitted(data).frame(x.numpy())["age"][0]
    assert imputed == pytest.approx(fitted(data).transformer.named_transformers_["number"]["impute"].statistics_[1])
    with pytest.raises(DataError, match="the data frame: the columns price, size are missing"):
        fitted(data).encode(new.drop(columns=["price", "size"]))
    with pytest.raises(DataError, match=r"row 1, column price: 'cheap' is not a finite number"):
        fitted(data).encode(new.assign(price=["1", "cheap"]))
    with pytest.raises(DataError, match=r"column price: 'inf' is not a finite number"):
        fitted(data).encode(new.assign(price=["1", "inf"]))


def test_the_rarest_values_share_a_dimension(tmp_path: Path) -> None:
    values = ["a"] * 100 + ["b"] * 60 + ["c"] * 5 + ["d"] * 3
    pd.DataFrame({"v": values, "n": np.arange(168.0)}).to_csv(tmp_path / "v.csv", index=False)
    data = table(str(tmp_path / "v.csv"), max_categories=3)
    assert [c.stop - c.start for c in data.spec.kind.columns] == [1, 3]
    assert any("2 rarest values share" in note for note in data.notes)
    rare, unseen = fitted(data).matrix(pd.DataFrame({"v": ["c", "zzz"], "n": [0.0, 0.0]}))[:, 1:]
    assert rare.tolist() == unseen.tolist() == [0, 0, 1]
    assert fitted(data).frame(np.array([[0, 0, 0, 1.0]]))["v"][0] == "(one of 2 rare)"


def test_dates_with_and_without_a_time_zone_are_not_mixed(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=60, freq="36h").strftime("%Y-%m-%d %H:%M").tolist()
    frame = pd.DataFrame({"when": days, "n": np.random.default_rng(0).normal(size=60)})
    frame.to_csv(tmp_path / "d.csv", index=False)
    kind = fitted(table(str(tmp_path / "d.csv")))
    frame.loc[3, "when"] += "+05:00"
    with pytest.raises(DataError, match="column when: some dates have a time zone and others have none"):
        kind.encode(frame)


@pytest.mark.parametrize("missing", [0, 2])
def test_a_missing_category_is_no_rare_value(tmp_path: Path, missing: int) -> None:
    values = ["a"] * 100 + ["b"] * 60 + ["c"] * 5 + ["d"] * 3 + [None] * missing
    pd.DataFrame({"v": values, "n": np.arange(168.0 + missing)}).to_csv(tmp_path / "v.csv", index=False)
    kind = fitted(table(str(tmp_path / "v.csv"), max_categories=3))
    x = torch.from_numpy(kind.matrix(pd.DataFrame({"v": ["c", None], "n": [0.0, 0.0]})))
    assert x[:, 1:].tolist() == [[0, 0, 1], [0, 0, 0]]
    assert Observed(kind.columns)(x).tolist() == [[True] * 4, [True, False, False, False]]
    raw = kind.raw()
    numbers, texts = torch.zeros(2, 1, dtype=torch.float64), np.array([["c"], [""]])
    assert torch.equal(raw(numbers, torch.from_numpy(raw.inputs[1].numbers(texts))), x)


def test_what_is_kept_is_plain_and_gives_the_same_numbers(csv: Path, tmp_path: Path) -> None:
    for scaling in ("standard", "robust", "quantile", "none"):
        data = table(str(csv), label="state", scaling=scaling, log=["price"], max_categories=2)
        fitted(data).save(tmp_path)
        kept = Table.load(tmp_path, json.loads((tmp_path / "kind.json").read_text()))
        frame = shop(50, seed=1)
        assert np.array_equal(kept.matrix(frame), fitted(data).matrix(frame))
        assert kept.columns == data.spec.kind.columns


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
    frame = pd.read_csv(csv).fillna({"age": 40.0})
    frame.to_csv(csv, index=False)
    columns = table(str(csv), label="state").spec.kind.columns
    x = torch.tensor([[0.5, -1.0, 0, 1, 0, 1, 0, 0]])
    params = torch.randn(1, 8)
    likelihood = likelihoods.Table(columns, sigma=0.5)
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
    learned = likelihoods.Table(columns, sigma=0.5, learned=True)
    assert learned.nll(params, x).item() == pytest.approx(float(gaussian + categorical), rel=1e-4)
    learned.nll(params, x).sum().backward()
    assert learned.above_floor is not None
    assert learned.above_floor.grad is not None
    assert learned.above_floor.grad.shape == (2,)
    with pytest.raises(ConfigError, match="is for tables"):
        likelihoods.Table(())


def test_a_run_on_a_table_end_to_end(
    tmp_path: Path, train_run: Callable[..., Path], call: Callable[..., tuple[int, str, str]]
) -> None:
    shop(600).to_csv(tmp_path / "shop.csv", index=False)
    run_dir = train_run(
        "data=table", f"data.path={tmp_path / 'shop.csv'}", "data.label=state", "data.normal=good", "data.log=[price]",
        "network.hidden=[16]", "model.latent_dim=2", "trainer.epochs=2",
    )  # fmt: skip
    kept = sorted(p.name for p in (run_dir / "kind").iterdir())
    assert kept == ["kind.json"]
    new = shop(7, seed=3)
    new.drop(columns="state").to_csv(tmp_path / "new.csv", index=False)
    run = load_run(run_dir)
    codes = run.encode(new)
    assert codes.shape == (7, 2)
    read = inputs.read(run, tmp_path / "new.csv")
    assert run.codes(read.split) == pytest.approx(codes, abs=1e-5)
    code, _, err = call("detect", run_dir, "--input", tmp_path / "new.csv", "--output", tmp_path / "s.csv")
    assert code == 0, err
    scores = pd.read_csv(tmp_path / "s.csv")
    assert len(scores) == 7
    assert "label" not in scores
    assert labelled.labels_in(run, tmp_path / "new.csv") is None
    new.to_csv(tmp_path / "labelled.csv", index=False)
    found = labelled.labels_in(run, tmp_path / "labelled.csv")
    assert found is not None
    assert found.tolist() == (new["state"] != "good").tolist()
    one = r"(?:price|age|age \(missing\)|colour|size)=[^;]* \(not [^;]*\)"
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
    from autoenc.apps.anomaly.rows.detect import contributions

    broken = pd.DataFrame({"a": [1.0, 1.0], "twice": [2.0, -14.0], "sign": ["minus", "plus"], "free": [0.0, 0.0]})
    found = contributions(run, run.inputs(broken))
    assert found[0][0].startswith("sign=minus (not plus)")
    assert found[1][0].startswith("twice=-14 ")


@pytest.mark.parametrize("holes", [False, True])
def test_rows_without_any_value_are_anomalous(tmp_path: Path, train_run: Callable[..., Path], holes: bool) -> None:
    frame = shop(600).drop(columns="state")
    frame = frame if holes else frame.fillna({"age": 40.0, "size": "M"})
    frame.to_csv(tmp_path / "t.csv", index=False)
    run = load_run(train_run("data=table", f"data.path={tmp_path / 't.csv'}", "model.latent_dim=2", "trainer.epochs=5"))
    empty = pd.DataFrame({name: [None] for name in frame}, dtype="object")
    usual = detect.detect(Detector(run), run.data.test)
    with pytest.warns(UserWarning, match="not seen in training") if not holes else nullcontext():
        found = detect.detect(Detector(run), run.inputs(empty))
    assert found.scores[found.score][0] > np.quantile(usual.scores[usual.score], 0.95)
    assert found.columns is not None
    assert "price=(missing)" in " ".join(found.columns[0])


@pytest.mark.skipif(not KDD.exists(), reason="needs data/nslkdd (shared data)")
def test_nsl_kdd_is_as_described() -> None:
    from autoenc.build import build_data
    from autoenc.estimators import inmemory

    data = build_data(inmemory.compose(["data=nsl_kdd"]))
    assert len(data.test) == 22_544
    assert data.test.y is not None
    assert data.spec.classes[int(data.train.y[0])] == "normal"  # type: ignore[index]
    assert float((data.test.y != data.spec.classes.index("normal")).float().mean()) == pytest.approx(0.5692, abs=1e-3)
    assert {c.name for c in data.spec.kind.columns if c.kind == "category"} == {"protocol_type", "service", "flag"}
    assert "difficulty" not in {c.name for c in data.spec.kind.columns}


def test_marginals_are_in_the_user_s_units_with_missing_numbers(tmp_path: Path) -> None:
    frame = shop(60)
    frame["day"] = pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d")
    frame.to_csv(tmp_path / "a.csv", index=False)
    data = table(str(tmp_path / "a.csv"), test_fraction=0.1, val_fraction=0.1)
    kind = fitted(data)
    found = kind.marginals(kind.matrix(frame))
    assert (np.isnan(found["age"]) == frame["age"].isna()).all()
    known = frame["age"].notna().to_numpy()
    assert found["age"][known] == pytest.approx(frame["age"].to_numpy()[known], abs=1e-3)
    assert found["colour"].tolist() == frame["colour"].tolist()
    assert found["size"].tolist() == frame["size"].fillna("(missing)").tolist()
    assert [str(day)[:10] for day in found["day"]] == frame["day"].tolist()
