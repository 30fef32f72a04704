"""Numbers and dates as people write them: read where that is certain, refused where it is not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoenc.data.kinds.column_plan import Plan
from autoenc.data.kinds.table import Table
from autoenc.data.readers.cells.numbers import Written
from autoenc.data.readers.tables import Source
from autoenc.errors import DataError

COUNT = 30


def fit(cells: list[Any], name: str = "a", source: Source | None = None, **options: Any) -> tuple[Table, list[str]]:
    """The preprocessing of a column, repeated to 30 cells, beside one of numbers."""
    times = -(-COUNT // len(cells))
    frame = pd.DataFrame({name: (cells * times)[:COUNT], "n": np.linspace(0, 1, COUNT)}, index=range(1, COUNT + 1))
    return Plan(scaling="none", **options).fit(frame, source or Source())


FORMS = {
    "percent": (["12.5%", "3 %", "-1%"], [12.5, 3, -1]),
    "currency": (["$12.50", "$1,200", "-$3"], [12.5, 1200, -3]),
    "accounts": (["(123)", "45", "6.5"], [-123, 45, 6.5]),
    "apostrophes": (["1'234.5", "12", "1\u2019000'000"], [1234.5, 12, 1e6]),
    "commas": (["1,234.56", "33,398", "193"], [1234.56, 33398, 193]),
    "millions": (["1,234,567", "33,398", "193"], [1234567, 33398, 193]),
    "blanks": (["1\u00a0234", "12\u202f345", "7"], [1234, 12345, 7]),
    "minus": (["\u22125.5", "3"], [-5.5, 3]),
    "units": (["12 kg", "3.5kg"], [12, 3.5]),
}


@pytest.mark.parametrize(("cells", "values"), FORMS.values(), ids=FORMS.keys())
def test_disguised_numbers_are_read_with_a_note(cells: list[str], values: list[float]) -> None:
    table, notes = fit(cells)
    read = table.matrix(pd.DataFrame({"a": cells, "n": 0.5}))[:, 0]
    assert read == pytest.approx(values)
    assert any(note.startswith("column a: '") and "is read as the number" in note for note in notes)
    assert Table.load(None, {"shape": [2], "low": 0, "high": 1, **table.state()}).written == table.written


@pytest.mark.parametrize("cells", [["1,5", "2,25E-03"], ["1.234,5", "7"], ["1.234", "1,5"]])
def test_decimal_commas(cells: list[str]) -> None:
    table, _ = fit(cells, source=Source(decimal=","))
    wanted = [float(cell.replace(".", "").replace(",", ".")) for cell in cells]
    assert table.matrix(pd.DataFrame({"a": cells, "n": 0.5}))[:, 0] == pytest.approx(wanted)
    points, _ = fit(["0.125", "3.5"], source=Source(decimal=","))
    assert points.ranges["a"][:2] == (0.125, 3.5)


REFUSED = {
    "ambiguous": (["33,398", "193"], r"column a has '33,398'.*data\.thousands=','. reads 33398, .data\.decimal=','"),
    "unit": (["2,11 €", "3,5 €"], r"column a has decimal commas.*data\.decimal=','. reads them"),
    "decimals": (["0,125", "193"], r"column a has decimal commas.*data\.decimal=','. reads them"),
    "several": (["1", "2", "3", "?", "x"], r"'\?' \(row 4\), 'x' \(row 5\).*data\.missing=\['\?','x'\]"),
    "units": ([f"{i} kg" for i in range(25)] + ["1 g"], r"column a has numbers in several forms.*categorical=\[a\]"),
    "lists": ([[1, 2], [3]], r"column a has lists or records.*data\.drop=\[a\]"),
}  # fmt: skip


@pytest.mark.parametrize(("cells", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_uncertain_columns_are_refused(cells: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        fit(cells)
    assert "\n" not in str(error.value)


def test_an_option_settles_what_is_ambiguous() -> None:
    assert fit(["33,398", "193"], source=Source(thousands=","))[0].ranges["a"][:2] == (193, 33398)
    assert fit(["33,398", "193"], source=Source(decimal=","))[0].ranges["a"][:2] == (33.398, 193)


def test_what_may_be_another_number_is_noted() -> None:
    notes = fit(["33.398", "193", "2.101"], source=Source(separator=";"))[1]
    assert any("'33.398'" in note and "data.decimal=','" in note and "33398" in note for note in notes)
    assert not any("data.decimal" in note for note in fit(["33.398", "193.500", "2.101"])[1])
    assert any("'00037' is read as the number 37; data.categorical=[a]" in note for note in fit(["00037", "52062"])[1])
    times = [f"{i % 23:02}:{i:02}" for i in range(COUNT)]
    assert any(
        "'00:00' and others" in note and "data.categorical=[a]" in note for note in fit([*times[:-1], times[0]])[1]
    )


def test_few_values_with_numbers_in_them_are_categories() -> None:
    assert fit(["1st class", "2nd class", "3rd class"])[0].categories == ("a",)
    assert fit(["10-19", "20-29", "30+"])[0].categories == ("a",)


def test_dates_with_the_time_of_day() -> None:
    moments = pd.date_range("2024-02-28 06:30", periods=COUNT, freq="7h")
    for form in ("%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%b-%Y %H:%M", "%B %d, %Y %H:%M"):
        table, notes = fit(moments.strftime(form).tolist(), name="when")
        assert table.numbers == ("when", "when weekday", "when hour", "n")
        frame = table.frame(table.matrix(pd.DataFrame({"when": moments.strftime(form), "n": 0.5})))
        assert frame["when"].to_numpy() == pytest.approx((moments - moments[0]) / pd.Timedelta(days=1), abs=1e-5)
        assert frame["when hour"].to_numpy() == pytest.approx(moments.hour + moments.minute / 60, abs=1e-5)
        assert any("dates are read as days, weekday, hour" in note for note in notes)
        with pytest.raises(DataError, match="row 0, column when: 'soon' is not a date"):
            table.matrix(pd.DataFrame({"when": ["soon"], "n": 0.5}))
    with pytest.raises(DataError, match=r"data\.dates=\[when\]: '01/02/2024' and others may be read in several ways"):
        fit(["01/02/2024", "03/04/2024"], name="when", dates=["when"])


def test_months_and_dates_without_separators() -> None:
    for cells, days in (
        (["2024-01", "2024-03", "2024-02"], [0, 60, 31]),
        (["20240101", "20240301", "20240102"], [0, 60, 1]),
    ):
        table, _ = fit(cells, name="when")
        assert table.frame(table.matrix(pd.DataFrame({"when": cells, "n": 0.5})))["when"].to_numpy() == pytest.approx(
            days
        )


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("ticks", [1_700_000_000_000 + 60_000 * i + i * i % 7 for i in range(COUNT)]),
        ("n2", list(range(7, 7 + COUNT))),
        ("Unnamed: 0", [3 * i for i in range(COUNT)]),
        ("user_id", [f"u{i * 7}" for i in range(COUNT)]),
        ("orderId", [str(97 * i % 89) for i in range(COUNT)]),
        ("timestamp", [f"2024-01-{i + 1:02}" for i in range(COUNT)]),
        ("id", [None if i == 3 else 97.0 * i % 89 for i in range(COUNT)]),  # whole numbers beside a missing cell
        ("row", [None if i == 3 else 5.0 + i for i in range(COUNT)]),
    ],
)
def test_columns_that_identify_rows_are_left_out(name: str, cells: list[Any]) -> None:
    table, notes = fit(cells, name=name)
    assert table.numbers == ("n",)
    assert notes[0] == f"column {name} is left out: it identifies rows; data.keep=[{name}] keeps it"
    kept, _ = fit(cells, name=name, keep=[name])
    assert name in (*kept.numbers, *kept.categories)


def test_numbers_that_differ_in_each_row_are_kept() -> None:
    for name in ("paid", "grid", "a"):
        assert fit([i * i for i in range(COUNT)], name=name)[0].numbers == (name, "n")


def test_spellings_of_a_category_are_one(tmp_path: Path) -> None:
    table, _ = fit(["True", "FALSE", "true"], name="paid")
    assert [column.stop - column.start for column in table.columns] == [1, 2]
    both = table.matrix(pd.DataFrame({"paid": [True, False, "TRUE", "false"], "n": 0.5}))[:, 1:]
    assert both.tolist() == [[0, 1], [1, 0], [0, 1], [1, 0]]
    frame = pd.DataFrame({"grade": pd.array([1, 2, None] * 10, "Int64"), "paid": [True, False] * 15})
    frame["n"] = np.arange(30) / 7
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    files = [Source().read(tmp_path / name) for name in ("a.parquet", "a.csv")]
    for learnt in files:
        table, _ = Plan(categorical=["grade"]).fit(learnt, Source())
        assert np.array_equal(*(table.matrix(file) for file in files))
        assert table.categories == ("grade", "paid")


def test_markers_and_infinite_values_are_missing_in_every_format(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.5, -200, np.inf] * 10, "n": np.arange(30) / 7})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "a.npz", x=frame.to_numpy())
    for name in ("a.parquet", "a.csv", "a.npz"):
        source = Source(missing=("-200",), infinite="missing", names=("a", "n"))
        read = source.read(tmp_path / name)
        table, _ = Plan().fit(read, source)
        assert table.ranges["a"] == (1.5, 1.5, False)
        assert table.indicated == ("a",)
        assert table.encode(frame).tensor[:, 2].tolist() == [float(v != 1.5) for v in frame["a"]]
        with pytest.raises(
            DataError, match=r"column a: 'inf' is not .*data\.infinite=missing.*so are 9 more: 'inf' \(row 6\)"
        ):
            Plan().fit(read, Source(missing=("-200",)))


def test_names_of_columns_are_text() -> None:
    table, _ = fit(["x", "y"], name="2019")
    frame = pd.DataFrame({2019: ["x"], "n": [0.5]})
    assert table.encode(frame).tensor.shape == (1, 3)
    pair, _ = fit(["x", "y"], name="a_b")
    assert pair.encode(pd.DataFrame({("a", "b"): ["x"], ("n", ""): [0.5]})).tensor.shape == (1, 3)


def test_missing_cells_are_seen(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(200, 2)), columns=["a", "b"]).assign(c=random.choice(["x", "y"], 200))
    frame.index += 1
    frame.loc[::5, "a"] = np.nan
    table, notes = Plan().fit(frame, Source())
    assert notes == ["missing cells in 200 training rows: a 40"]
    assert (table.indicated, table.most_missing) == (("a",), 1)
    x = table.matrix(pd.DataFrame({"a": [None, 0.0, None], "b": [0.0, None, None], "c": ["x", "x", None]}))
    assert x[:, 2].tolist() == [1, 0, 1]
    high = table.matrix(frame)[:, :2].max(0)
    assert x[0, 0] < high[0]  # as often in training: imputed
    assert x[1, 1] > 1.5 * high[1]  # never in training
    assert x[2, 0] > 1.5 * high[0]  # more cells than in any training row
    assert x[2, 3:].tolist() == [0, 0]
    cells = table.cells(x)
    assert cells["a"] == ["(missing)", "0", "(missing)"]
    assert [cell == "(missing)" for cell in cells["b"]] == [False, True, True]
    assert cells["a (missing)"] == ["yes", "no", "yes"]


def test_equal_labels_of_rows_do_not_mix_their_cells() -> None:
    column = pd.Series(["12", "1,234.5"], index=[0, 0])
    assert Written(thousands=",").parse(column).tolist() == [12.0, 1234.5]
