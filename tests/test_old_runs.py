"""Runs that version 0.1 wrote still load and give the numbers that they gave."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autoenc import load_run
from autoenc.apps import inputs
from autoenc.apps.anomaly.scores import Detector

RUNS = Path(__file__).parent / "old_runs"
EXPECTED = json.loads((RUNS / "expected.json").read_text())


@pytest.fixture(autouse=True)
def _at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(RUNS.parents[1])  # where the data file of the table is


def test_images() -> None:
    run = load_run(RUNS / "digits_vae")
    x = run.data.test.take(slice(0, 5)).x.numpy()
    np.testing.assert_allclose(run.encode(x), EXPECTED["digits_codes"], atol=1e-5)
    np.testing.assert_allclose(run.decode(run.encode(x)[:1]).ravel()[:20], EXPECTED["digits_decoded"], atol=1e-5)


@pytest.mark.usefixtures("as_for_users")
def test_a_table_and_its_scores(tmp_path: Path) -> None:
    run = load_run(shutil.copytree(RUNS / "shop_ae", tmp_path / "run"))
    frame = pd.read_csv(RUNS / "shop.csv").head(5)
    np.testing.assert_allclose(run.encode(frame), EXPECTED["shop_codes"], atol=1e-5)
    detector = Detector(run)
    found = detector.scores(inputs.read(run, RUNS / "shop.csv").split)
    for name, values in EXPECTED["shop_scores"].items():
        np.testing.assert_allclose(found[name][:5], values, rtol=1e-4, atol=1e-5, err_msg=name)
    assert detector.threshold("combined") == pytest.approx(EXPECTED["shop_threshold"], rel=1e-4)
