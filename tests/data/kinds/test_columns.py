"""Columns of tables: many new values."""

import json
from pathlib import Path
from typing import Any

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


def test_many_new_values_are_not_looked_up_in_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = loaded(pd.DataFrame({"c": ["1", "2"] * 20, "d": ["True", "False"] * 20}), categorical=("c",))
    new = pd.DataFrame({"c": ["1.0", "2", *map(str, range(3, 9))], "d": ["TRUE", "false", *["u", "v", "w"] * 2]})
    monkeypatch.setattr(pd.Series, "replace", None)  # which takes values x rows
    assert kind.matrix(new).tolist() == [[1, 0, 0, 1], [0, 1, 1, 0], *[[0] * 4] * 6]
