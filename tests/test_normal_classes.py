"""The one-class protocol: one class is normal, all others are anomalies of the test split."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from autoenc.build import build_data
from autoenc.config.composed import compose


def test_the_other_classes_are_left_out_of_training() -> None:
    whole = build_data(compose(["model=ae"]))
    data = build_data(compose(["model=ae", "normal_classes=[3]"]))
    assert data.train.y is not None
    assert data.test.y is not None
    assert whole.train.y is not None
    assert data.train.y.unique().tolist() == [3]
    assert len(data.train) == int((whole.train.y == 3).sum())
    assert torch.equal(data.test.y, whole.test.y)  # type: ignore[arg-type]
    assert set(data.spec.anomalies) == set("012456789")


def test_tables_learn_from_the_normal_class_alone(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"size": random.normal(size=90), "kind": ["a", "b", "c"] * 30})
    frame.loc[frame["kind"] != "b", "size"] += 1_000
    frame.to_csv(tmp_path / "t.csv", index=False)
    base = ["model=ae", "data=table", f"data.path={tmp_path / 't.csv'}", "data.label=kind", "data.test_fraction=0.3"]
    one = build_data(compose([*base, "normal_classes=[b]"]))
    two = build_data(compose([*base, "anomaly_classes=[a,c]"]))
    assert abs(float(one.train.take(slice(None)).x.mean())) < 1e-3, "scaled by the normal class"
    assert torch.equal(one.train.take(slice(None)).x, two.train.take(slice(None)).x)
    assert set(one.spec.anomalies) == {"a", "c"}
