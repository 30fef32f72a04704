"""Baselines of the reconstruction error against scikit-learn."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from autoenc import baselines, load_run
from autoenc.data.split import Split
from autoenc.likelihoods import Gaussian


@pytest.mark.parametrize("wide", [1, 1_024])
def test_errors_are_those_of_scikit_learn(monkeypatch: pytest.MonkeyPatch, wide: int) -> None:
    monkeypatch.setattr(baselines, "WIDE", wide)
    x = torch.randn(200, 1, 4, 5, generator=torch.manual_seed(0)) * torch.arange(1, 21).view(1, 1, 4, 5)
    train, test = Split(x[:150]), Split(x[150:])
    before = torch.get_rng_state()
    found = baselines.baselines(train, test, Gaussian(), 3, batch_size=32)
    assert torch.equal(before, torch.get_rng_state())
    pca = PCA(3).fit(train.rows())
    back = pca.inverse_transform(pca.transform(test.rows()))
    assert found["mse_pca"] == pytest.approx(float(np.square(test.rows() - back).mean()), rel=1e-3)
    assert found["mse_mean"] == pytest.approx(float(np.square(test.rows() - train.rows().mean(0)).mean()), rel=1e-5)
    assert "mse_pca" not in baselines.baselines(train, test, Gaussian(), 20, 32), "nothing is left out"


def test_a_run_has_them_in_its_summary(ae_run: Path) -> None:
    summary = json.loads((ae_run / "summary.json").read_text())
    run = load_run(ae_run, "cpu")
    pca = PCA(int(summary["latent"]["dim"])).fit(run.data.train.rows())
    rows = run.data.test.rows()
    expected = np.square(rows - pca.inverse_transform(pca.transform(rows))).mean()
    assert summary["baselines"]["mse_pca"] == pytest.approx(float(expected), rel=1e-3)
    assert summary["baselines"]["mse_mean"] > summary["baselines"]["mse_pca"]
