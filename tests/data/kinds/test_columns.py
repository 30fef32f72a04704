"""Columns of tables: small units, names that look derived, markers of missing cells, many new values."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from autoenc.data import table
from autoenc.data.kinds.column_plan import Plan
from autoenc.data.kinds.table import Table
from autoenc.data.readers.tables import Source
from autoenc.data.sets.streamed_table import values_of
from autoenc.errors import DataError

SERVE = Path(__file__).resolve().parents[3] / "docs" / "serve.py"


def loaded(frame: pd.DataFrame, source: Source | None = None, **options: Any) -> Table:
    """Return what is learnt from a data frame, as it is stored."""
    kind, _ = Plan(**options).fit(frame, source or Source())
    return Table.load(None, json.loads(json.dumps(values_of(kind))))


def given(kind: Table, frame: pd.DataFrame) -> torch.Tensor:
    """Encode a data frame by the exported preprocessing."""
    arrays = []
    for each in kind.raw().inputs:
        cells = frame[list(each.columns)]
        arrays.append(each.numbers(cells.to_numpy(str)) if each.codes else _numbers(cells, each.dates))
    return kind.raw()(*map(torch.from_numpy, arrays))


def _numbers(cells: pd.DataFrame, dates: tuple[str, ...]) -> np.ndarray:
    epoch = pd.Timestamp("1970-01-01")
    seconds = {name: (pd.to_datetime(cells[name]) - epoch) / pd.Timedelta(seconds=1) for name in dates}
    return cells.assign(**seconds).to_numpy(np.float64)


@pytest.mark.parametrize(("low", "high"), [(2e-7, 4e-7), (-3e-30, 5e-30), (1 + 1e-9, 1 + 9e-9), (3e-7, 3e-7)])
def test_numbers_of_a_small_unit_keep_six_digits(low: float, high: float) -> None:
    values = np.random.default_rng(0).uniform(low, high, 200)
    kind = loaded(pd.DataFrame({"a": values}))
    x = kind.matrix(pd.DataFrame({"a": values}))
    rows = kind.plausible(x)["a"]
    assert rows.between(values.min(), values.max()).all()
    assert np.abs(rows - values).max() <= 1e-5 * (high - low)
    if low < 1:
        assert [float(cell) for cell in kind.cells(x)["a"]] == pytest.approx(values, rel=1e-3, abs=1e-4 * (high - low))


def test_usual_numbers_have_six_decimals_and_no_noise() -> None:
    frame = pd.DataFrame({"a": [0.0, 0.1, 12.345678, 1e6] * 9, "n": [1, 2, 3, 4] * 9})
    kind = loaded(frame)
    x = kind.matrix(frame)
    assert kind.plausible(x)["a"].tolist()[:3] == pytest.approx([0, 0.1, 12.345678], abs=0.1)  # of float32
    assert (kind.plausible(x)["a"] == kind.plausible(x)["a"].round(6)).all()
    small = loaded(frame.assign(a=frame["a"].clip(0, 20)))
    assert small.plausible(small.matrix(frame.assign(a=frame["a"].clip(0, 20))))["a"].tolist()[0] == 0
    assert kind.plausible(x)["n"].tolist() == frame["n"].tolist()


@pytest.mark.parametrize("name", ["km per hour", "sales weekday", "visits hour"])
def test_a_number_of_the_user_is_no_part_of_a_date(name: str) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({name: random.normal(size=60), "visits": random.normal(size=60)})
    frame.loc[::6, name] = frame.loc[::4, "visits"] = np.nan
    kind, same = loaded(frame), loaded(frame.rename(columns={name: "other"}))
    assert kind.columns[0].indicator == same.columns[0].indicator == 2
    assert np.array_equal(kind.matrix(frame), same.matrix(frame.rename(columns={name: "other"})))
    assert [cell == "(missing)" for cell in kind.cells(kind.matrix(frame))[name]] == frame[name].isna().tolist()


@pytest.mark.parametrize("clock", [True, False])
@pytest.mark.parametrize("other", [np.arange(40.0) % 7, ["am", "pm"] * 20])
def test_dates_and_a_column_with_a_name_of_their_hour_are_both_used(clock: bool, other: Any) -> None:
    moments = pd.date_range("2024-01-01", periods=40, freq="5h" if clock else "D").astype(str)
    frame = pd.DataFrame(
        {"pickup": moments, "pickup hour": other, "pickup weekday": other, "amount": np.arange(40) % 9}
    )
    frame.loc[3, ["pickup", "pickup hour"]] = None
    kind = loaded(frame)
    names = [column.name for column in kind.columns]
    assert len(names) == len(set(names))
    x = kind.matrix(frame)
    apart = frame.rename(columns={"pickup hour": "h", "pickup weekday": "w"})
    assert np.array_equal(np.sort(x, 1), np.sort(loaded(apart).matrix(apart), 1))
    rows = kind.plausible(x)
    assert list(rows) == list(frame)
    kept = frame.index != 3
    assert (rows[kept] == frame[kept]).all(axis=None)
    assert kind.cells(x)["pickup hour"][3] == "(missing)"
    raw = frame.assign(**{n: frame[n].fillna("") for n in kind.categories})
    torch.testing.assert_close(given(kind, raw), torch.from_numpy(x))


def test_a_number_with_the_name_of_an_indicator_is_used() -> None:
    frame = pd.DataFrame({"age": [1.5, None, 3, 5] * 9, "age (missing)": [0.5, 2, 3, 7] * 9})
    kind = loaded(frame)
    x = kind.matrix(frame)
    assert [column.name for column in kind.columns] == ["age", "age (missing)", "age (missing).1"]
    assert kind.plausible(x)["age (missing)"].tolist() == pytest.approx(frame["age (missing)"].tolist())
    assert kind.cells(x)["age"][:3] == ["1.5", "(missing)", "3"]
    assert kind.cells(x)["age (missing).1"][:2] == ["no", "yes"]


CELLS = ["x", "NA", "", "y", " null ", "-200", "-200.0", "-200.00", "x", "y"]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "frame", "export"])
def test_markers_are_missing_in_every_format(tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"c": CELLS, "b": [True, False] * 5, "n": [1, 2.5, -200, 4, 0, -200, 2, 3, 9, 1]})
    source = Source(missing=("-200", "1.0"))
    blank = frame.assign(
        c=["x", None, None, "y", None, None, None, None, "x", "y"], n=frame["n"].replace([1, -200], np.nan)
    )
    kind = loaded(blank, source)
    if form == "export":
        cells = blank.assign(c=[text.strip() for text in CELLS], b=blank["b"].astype(str))
        cells = cells.assign(c=cells["c"].replace("-200.00", "-200"))  # as the caller may write it
        found = given(kind, cells).numpy()
    elif form == "frame":
        found = kind.encode(frame).tensor.numpy()
    else:
        path = tmp_path / f"new.{form}"
        text = frame.to_csv(index=False) if form == "csv" else frame.to_json(orient="records", lines=True)
        frame.to_parquet(path) if form == "parquet" else path.write_text(text)
        found = kind.read(path).split.tensor.numpy()
    np.testing.assert_allclose(found, kind.matrix(blank), atol=1e-6)
    assert found[:, :2].tolist() == kind.matrix(blank)[:, :2].tolist()


def test_numbers_that_are_markers_are_recognized_as_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\n-200,0;x\n-200;.\n-200,00;,0\n-999,9;1,2\n-200,5;-200\n")
    read = Source(separator=";", decimal=",", missing=("-200", "-999.9")).read(tmp_path / "a.csv")
    assert read["a"].isna().tolist() == [True] * 4 + [False]
    assert read["b"].isna().tolist() == [False] * 4 + [True]
    (tmp_path / "a.csv").write_text("a,b\n-200.0,x\n-200,.\n-200.00,.0\n-999.90,1.2\n-200.5,-200\n100,2\n")
    read = Source(missing=("-200", "-999.9", "1")).read(tmp_path / "a.csv")
    assert read["a"].isna().tolist() == [True] * 4 + [False] * 2
    assert read["b"].isna().tolist() == [False] * 4 + [True, False]
    np.save(tmp_path / "a.npy", np.array([[-999.9, 1], [-200, 2]], np.float32))
    read = Source(missing=("-999.9",)).read(tmp_path / "a.npy")
    assert read.isna().to_numpy().tolist() == [[True, False], [False, False]]


def test_a_marker_that_is_a_category_of_an_earlier_run_stays_one(tmp_path: Path) -> None:
    frame = pd.DataFrame({"c": ["x", "NA", "y", "NA"] * 9})
    kind = loaded(frame)  # as versions before 0.4 read it from Parquet
    frame.to_parquet(tmp_path / "a.parquet")
    assert np.array_equal(kind.encode(frame).tensor, kind.matrix(frame))
    assert np.array_equal(table(str(tmp_path / "a.parquet"), kind=kind).train.rows().sum(1), np.ones(28))
    assert torch.equal(given(kind, frame), torch.from_numpy(kind.matrix(frame)))
    with pytest.warns(UserWarning, match=r"c not seen in training: \(missing\)"):
        assert not kind.encode({"c": ["null"]}).tensor.any()


def test_a_served_number_may_be_a_marker_with_more_zeros() -> None:
    value = runpy.run_path(str(SERVE))["value"]
    missing = sorted(Source(missing=("-200",)).markers.texts)
    numbers = {"missing": missing, "dates": [], "dtype": "float64"}
    assert np.isnan([value(cell, "a", numbers, 1) for cell in ("-200", "-200.0", "-200.00", "NA")]).all()
    assert value("-200.5", "a", numbers, 1) == -200.5


def test_many_new_values_are_not_looked_up_in_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = loaded(pd.DataFrame({"c": ["1", "2"] * 20, "d": ["True", "False"] * 20}), categorical=("c",))
    new = pd.DataFrame({"c": ["1.0", "2", *map(str, range(3, 9))], "d": ["TRUE", "false", *["u", "v", "w"] * 2]})
    monkeypatch.setattr(pd.Series, "replace", None)  # which takes values x rows
    assert kind.matrix(new).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], *[[0] * 4] * 6]


def test_cells_that_are_no_numbers_are_still_refused() -> None:
    kind = loaded(pd.DataFrame({"a": [1.5, 2, 3, 4] * 9}))
    with pytest.raises(DataError, match=r"'n\.a\.' is not a finite number"):
        kind.encode({"a": [1, "n.a."]})
