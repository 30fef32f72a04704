"""Imputation against the exact conditional Gaussian, and the script on a table with holes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from autoenc import bottlenecks, likelihoods, load_run
from autoenc.apps.anomaly.rows.detect import contributions
from autoenc.apps.deploy.portable import Score
from autoenc.apps.restoration.impute import impute
from autoenc.core import Autoencoder, Code
from autoenc.data.dataset import DataSpec
from autoenc.data.kinds.observed import Column
from autoenc.data.kinds.vector import Vector
from autoenc.data.split import Split
from autoenc.loading import Run
from autoenc.reference import _observed_means

D, K, SIGMA = 4, 2, 0.5
FILL = 50.0
Call = Callable[..., tuple[int, str, str]]


class Wide(bottlenecks.Gaussian):
    """q(z|x) = N(0, 1.5^2), whatever x: importance weights do all of the work."""

    def forward(self, features: Tensor) -> Code:
        posterior = Normal(torch.zeros_like(features), 1.5)
        return Code(z=posterior.rsample(), mean=torch.zeros_like(features), posterior=posterior)


@pytest.fixture
def known() -> tuple[Run, Tensor]:
    """x = W z + e; its run, and W (D, K)."""
    decoder = nn.Linear(K, D, bias=False)
    columns = tuple(Column(name, "number", i, i + 1, fill=FILL) for i, name in enumerate("abcd"))
    likelihood = likelihoods.Table(columns, sigma=SIGMA, observed_only=True)
    model = Autoencoder(nn.Identity(), nn.Linear(D, K), Wide((K,), K), decoder, likelihood)
    config = {"trainer": {"eval_batch_size": 50}, "model": {"latent_dim": K}}
    run = Run(Path("RUN"), model, config, DataSpec("tiny", Vector((D,), -9, 9)), {}, torch.device("cpu"))
    return run, decoder.weight.detach()


def test_single_imputation_is_the_conditional_mean(known: tuple[Run, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    run, w = known
    x = torch.randn(30, K) @ w.T + SIGMA * torch.randn(30, D)
    missing = torch.rand(30, D) < 0.5
    covariance = w @ w.T + SIGMA**2 * torch.eye(D)
    expected = x.clone()
    for row, gone in zip(expected, missing, strict=True):
        row[gone] = covariance[gone][:, ~gone] @ torch.linalg.solve(covariance[~gone][:, ~gone], row[~gone])
    monkeypatch.setattr("autoenc.apps.protocol.bounds.AT_ONCE", 30_000)
    (found,) = impute(run, Split(x.masked_fill(missing, FILL)), samples=10_000)
    assert (found - expected)[missing].abs().max() < 0.08


def test_draws_have_the_moments_of_the_conditional_distribution(
    known: tuple[Run, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, w = known
    monkeypatch.setitem(run.__dict__, "residual", torch.full((D,), SIGMA))
    x = torch.tensor([[0.8, -0.3, FILL, FILL]])
    draws = torch.stack(impute(run, Split(x), draws=4_000, samples=20_000))[:, 0, 2:]
    covariance = w @ w.T + SIGMA**2 * torch.eye(D)
    gain = torch.linalg.solve(covariance[:2, :2], covariance[:2, 2:]).T
    torch.testing.assert_close(draws.mean(0), gain @ x[0, :2], atol=0.04, rtol=0)
    torch.testing.assert_close(torch.cov(draws.T), covariance[2:, 2:] - gain @ covariance[:2, 2:], atol=0.04, rtol=0)


@pytest.fixture(scope="module")
def holes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A table on a plane, with a category, integers and a column that is not used; a third of its cells is missing."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 2))
    x = z @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(300, 4))
    frame = pd.DataFrame(x, columns=list("abcd")).round(3)
    frame["colour"], frame["count"] = np.where(z[:, 0] > 0, "red", "blue"), (3 * z[:, 1] + 10).round().astype(int)
    frame["note"] = [f"row {i}" for i in range(300)]
    holes = frame.astype(object)
    holes.iloc[:, :6] = holes.iloc[:, :6].mask(rng.random((300, 6)) < 0.3)
    path = tmp_path_factory.mktemp("holes") / "holes.csv"
    holes.to_csv(path, index=False)
    return path, frame


@pytest.fixture(scope="module")
def miwae_run(train_run: Callable[..., Path], holes: tuple[Path, pd.DataFrame]) -> Path:
    return train_run(
        "model=miwae", "data=table", f"data.path={holes[0]}", "model.objective.k=5", "trainer.epochs=60",
        "model.latent_dim=3", "optimizer.lr=0.003",
    )  # fmt: skip


def test_the_script_fills_the_missing_cells_and_no_others(
    call: Call, miwae_run: Path, holes: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    path, whole = holes
    output = tmp_path / "whole.csv"
    code, out, err = call("impute", miwae_run, "--input", path, "--output", output)
    assert (code, err) == (0, ""), err
    before, after = (pd.read_csv(each, dtype=str) for each in (path, output))
    rows, cells = before.isna().any(axis=1).sum(), before.isna().sum().sum()
    assert out.startswith(f"{cells} missing cells filled, in {rows} of 300 rows and 6 of 6 columns; written: ")
    assert list(before) == list(after)
    assert after.notna().all().all()
    assert (after.where(before.notna()).fillna("") == before.fillna("")).all().all()
    gone = before["a"].isna()
    error = np.square(after["a"].astype(float) - whole["a"])[gone].mean() / whole["a"].var()
    assert error < 0.5, "the mean of the column has 1"
    gone = before["colour"].isna()
    assert (after["colour"] == whole["colour"])[gone].mean() > 0.7
    assert after["count"].str.fullmatch(r"\d+").all(), "integers stay integers"
    assert call("impute", miwae_run, "--input", path, "--output", output)[2].endswith("--force overwrites it\n")
    before.assign(**{"=cmd|": "x"}).to_csv(tmp_path / "formula.csv", index=False)
    assert call("impute", miwae_run, "--input", tmp_path / "formula.csv", "--output", output, "--force")[0] == 0
    assert list(pd.read_csv(output))[-1] == "'=cmd|"
    draws = tmp_path / "draws.csv"
    assert call("impute", miwae_run, "--input", path, "--output", draws, "--draws", 3)[0] == 0
    versions = pd.read_csv(draws)
    assert versions["draw"].value_counts().to_dict() == {1: 300, 2: 300, 3: 300}
    spread = versions["a"].to_numpy().reshape(3, 300).std(0)
    assert (spread[before["a"].notna()] < 1e-12).all()
    assert (spread[before["a"].isna()] > 1e-3).all()


def test_numbers_of_a_run_are_of_observed_cells(miwae_run: Path) -> None:
    """Reconstruction error and nll do not depend on what stands for a missing cell."""
    run = load_run(miwae_run, "cpu")
    kind, model = run.spec.kind, run.model
    batch = run.data.test.take(slice(None))
    observed = model.likelihood.observed(batch.x)
    assert observed is not None
    model.train(False)
    params = model.decode(model.encode(batch).mean)
    error = kind.error(params, batch.x, model.likelihood)
    square = (batch.x - model.likelihood.mean(params)).square()
    torch.testing.assert_close(error, (square * observed).sum(1) / observed.sum(1))
    torch.testing.assert_close(kind.metrics(params, batch.x, model.likelihood)["mse"], error)


def test_the_other_applications_read_tables_with_holes(
    call: Call, miwae_run: Path, holes: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    assert call("detect", miwae_run, "--input", holes[0], "--output", tmp_path / "scores.csv")[0] == 0
    assert call("generate", miwae_run, "--output", tmp_path / "new")[0] == 0
    assert pd.read_csv(tmp_path / "new" / "samples.csv").notna().all().all(), "no generated cell is missing"
    assert call("evaluate", miwae_run, "--only", "reconstruction", "bounds", "--output", tmp_path / "ev")[0] == 0
    numbers = json.loads((tmp_path / "ev" / "evaluation.json").read_text())
    assert numbers["bounds"]["nll_importance"] < numbers["reconstruction"]["loss"] + 0.1
    run = load_run(miwae_run, "cpu")
    batch = run.data.test.take(slice(None))
    score, reconstruction = Score(run.model)(batch.x)
    torch.testing.assert_close(reconstruction, run.model.reconstruct(batch))
    params = run.model.decode(run.model.encode(batch).mean)
    torch.testing.assert_close(score, run.spec.kind.error(params, batch.x, run.model.likelihood))


def test_only_observed_cells_are_blamed(miwae_run: Path, holes: tuple[Path, pd.DataFrame]) -> None:
    assert _observed_means(np.array([[1, np.nan, np.nan], [3, 4, np.nan]])).tolist() == [2, 4, 0]
    run, whole = load_run(miwae_run, "cpu"), holes[1].head(20)
    far = whole.assign(a=whole["a"].mean() + 10 * whole["a"].std())
    assert all(row[0].startswith("a=") for row in contributions(run, run.inputs(far)))
    low = np.full(len(run.spec.kind.columns), -9.0)  # so that even a nll of 0, that of a missing cell, exceeds it
    run.__dict__["reference"] = replace(run.reference, val_column_nll=low)
    texts = contributions(run, run.inputs(far.assign(b=None, colour=None)), 6)
    assert {text.partition("=")[0] for text in texts.ravel() if text} == {"a", "c", "d", "count"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--output", "x.csv"], "--input and --output are needed"),
        (["--input", "new.csv", "--output", "x.txt"], "--output x.txt: must end in .csv"),
        (["--input", "new.csv", "--output", "x.csv"], "needs a model of observed cells, data=table model=miwae"),
        (["--input", "new.csv", "--output", "x.csv", "--draws", "0"], "argument --draws: 0 is not 1 or more"),
    ],
)
def test_what_cannot_be_imputed_is_one_line(call: Call, vae_run: Path, args: list[str], message: str) -> None:
    code, _, err = call("impute", vae_run, *args)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
