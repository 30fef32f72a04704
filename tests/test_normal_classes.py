"""The one-class protocol: one class is normal, all others are anomalies of the test split."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from autoenc import run
from autoenc.build import build_data
from autoenc.config.composed import compose
from autoenc.data.kinds.vector import Vector
from autoenc.errors import DataError


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


def test_vectors_learn_their_scale_from_the_rows_that_are_left(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32), np.arange(90) % 3
    factors = []
    for planted in (1.0, 1_000.0):
        np.savez(tmp_path / "own.npz", x=np.where(y[:, None] == 1, planted * x, x), y=y)
        own = ["model=ae", "data=arrays", f"data.path={tmp_path / 'own.npz'}", "data.normalize=true"]
        data = build_data(compose([*own, "anomaly_classes=['1']"]))
        assert isinstance(data.spec.kind, Vector)
        factors.append(data.spec.kind.factor)
    assert factors[0] == factors[1]
    assert data.train.take(slice(None)).x.square().mean().item() == pytest.approx(1, rel=1e-4)


def test_the_white_of_arrays_is_that_of_the_rows_that_are_left(tmp_path: Path) -> None:
    """Masks of 0 and 1 would be black, if 255 were white since a class that is left out has such values."""
    y = np.arange(60) % 2
    x = np.random.default_rng(0).integers(0, 2, (60, 6, 6)).astype(np.uint8) * np.where(y == 1, 200, 1)[:, None, None]
    np.savez(tmp_path / "own.npz", x=x.astype(np.uint8), y=y)
    own = ["model=ae", "data=arrays", f"data.path={tmp_path / 'own.npz'}", "anomaly_classes=['1']"]
    with pytest.raises(DataError, match=r"values from 0 to 200 .*; data\.white=255"):
        build_data(compose(own))
    assert build_data(compose([*own, "data.white=255"])).test.range()[1] == pytest.approx(200 / 255)


def test_images_are_grey_if_those_that_are_left_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, shape in (("good", (8, 8)), ("odd", (8, 8, 3))):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(tmp_path / name / f"{i}.png")
    own = ["model=ae", "data=image_folder", f"data.path={tmp_path}", "data.cache=false", "data.workers=0"]
    assert build_data(compose([*own, "data.val_fraction=0.3", "data.test_fraction=0.3"])).spec.shape == (3, 8, 8)
    for left_out in ("anomaly_classes=[odd]", "normal_classes=[good]"):
        assert build_data(compose([*own, left_out])).spec.shape == (1, 8, 8)


def test_a_run_with_labels_ends_with_the_command_that_scores_anomalies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame({"size": np.random.default_rng(0).normal(size=300), "kind": ["good", "bad", "odd"] * 100})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = ["data=table", f"data.path={tmp_path / 't.csv'}", "data.label=kind", "data.test_fraction=0.3"]
    small = ["model=ae", "network.hidden=[4]", "model.latent_dim=1", "trainer.steps=1", "trainer.figures=0"]
    run.train(compose([*table, *small, "data.normal=good"]), tmp_path / "run", {})
    assert capsys.readouterr().out.endswith(f"anomalies (bad, odd): python scripts/detect.py {tmp_path / 'run'}\n")
