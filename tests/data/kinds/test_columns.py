"""Columns of tables: small units, many new values."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autoenc.data.kinds.column_plan import Plan
from autoenc.data.kinds.table import Table
from autoenc.data.readers.tables import Source
from autoenc.data.sets.streamed_table import values_of

SERVE = Path(__file__).resolve().parents[3] / "docs" / "serve.py"


def loaded(frame: pd.DataFrame, source: Source | None = None, **options: Any) -> Table:
    """Return what is learnt from a data frame, as it is stored."""
    kind, _ = Plan(**options).fit(frame, source or Source())
    return Table.load(None, json.loads(json.dumps(values_of(kind))))


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


def test_many_new_values_are_not_looked_up_in_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = loaded(pd.DataFrame({"c": ["1", "2"] * 20, "d": ["True", "False"] * 20}), categorical=("c",))
    new = pd.DataFrame({"c": ["1.0", "2", *map(str, range(3, 9))], "d": ["TRUE", "false", *["u", "v", "w"] * 2]})
    monkeypatch.setattr(pd.Series, "replace", None)  # which takes values x rows
    assert kind.matrix(new).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], *[[0] * 4] * 6]
