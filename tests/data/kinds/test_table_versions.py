"""A table that another version of scikit-learn prepared is used if it computes the same, and refused otherwise."""

import json
from typing import Any

import pandas as pd
import pytest

from autoenc.data.kinds.column_plan import Plan
from autoenc.data.kinds.table import Table
from autoenc.data.readers.tables import Source
from autoenc.errors import DataError

FRAME = pd.DataFrame({"a": ["1", "2", "4", "8"], "c": ["x", "y", "x", "y"]})


def values() -> dict[str, Any]:
    """What kind.json of a table holds."""
    table, _ = Plan().fit(FRAME, Source())
    kept = {"shape": list(table.shape), "low": -2.0, "high": 2.0, **table.state()}
    loaded: dict[str, Any] = json.loads(json.dumps(kept))
    return loaded


def test_another_version_that_computes_the_same_is_used() -> None:
    found = Table.load(None, values() | {"sklearn": "1.0"})
    assert found.matrix(FRAME).shape == (4, 3)


def test_another_version_that_computes_something_else_is_refused() -> None:
    kept = values() | {"sklearn": "1.0"}
    mean = json.dumps(kept["transformer"]).replace("3.75", "3.0")  # of column a
    assert mean != json.dumps(kept["transformer"])
    with pytest.raises(DataError, match=r"pip install scikit-learn==1\.0"):
        Table.load(None, kept | {"transformer": json.loads(mean)})


def test_the_same_version_is_not_questioned() -> None:
    Table.load(None, values() | {"probe": {"dict": []}})
