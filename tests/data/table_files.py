"""A small table for tests, and what was learnt from one."""

import numpy as np
import pandas as pd

from autoenc.data.dataset import Data
from autoenc.data.kinds.table import Table


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


def fitted(data: Data) -> Table:
    assert isinstance(data.spec.kind, Table)
    return data.spec.kind
