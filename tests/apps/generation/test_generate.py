"""Samples, paths, traversals and sheets: moments, ends, refusals, and the script from end to end."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn import functional

from autoenc import likelihoods, load_run
from autoenc.apps.generation import density, generate, paths
from autoenc.apps.protocol import evaluate
from autoenc.bottlenecks import Deterministic, TopK
from autoenc.errors import UserError
from autoenc.loading import Run
from autoenc.networks.causal import CausalTransformer
from autoenc.priors import Categorical, RealNVP
from autoenc.seeds import seeded

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "generate.py"


@pytest.fixture
def script(run_script: Callable[..., int]) -> Callable[..., int]:
    """Runs the script with arguments and returns its exit code."""
    return lambda *args: run_script("generate", *args, "--device", "cpu")


def test_the_gaussian_has_the_moments_of_the_codes_and_so_have_its_samples(ae: Run) -> None:
    codes = ae.codes(ae.data.train).astype(np.float64)
    fitted = density.of(ae, "gaussian")
    assert isinstance(fitted, density.Mixture)
    covariance = np.cov(codes, rowvar=False, ddof=0)
    np.testing.assert_allclose(fitted.means[0], codes.mean(0), atol=1e-6)
    np.testing.assert_allclose(fitted.factors[0] @ fitted.factors[0].T, covariance, atol=3e-6 * covariance.max())
    drawn = fitted.sample(40_000)
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.03 * codes.std(0).max())
    np.testing.assert_allclose(np.cov(drawn, rowvar=False), covariance, atol=0.03 * covariance.max())


def test_the_noise_of_an_example_does_not_depend_on_its_code() -> None:
    with seeded(3):
        z = torch.randn(4_000, 6).numpy()
    model: Any = SimpleNamespace(likelihood=likelihoods.Gaussian(1.0))
    run: Any = SimpleNamespace(residual=torch.ones(6), batch_size=1_000, device=torch.device("cpu"), model=model)
    run.decoded = lambda z, y=None: z
    noise = generate._draws(run, z, 3, 1.0, None) - z
    correlations = np.corrcoef(noise.T, z.T)[:6, 6:]
    assert np.abs(correlations).max() < 0.1
    assert noise.std() == pytest.approx(1, abs=0.05)


def test_the_mixture_finds_two_clusters_and_samples_them_in_proportion() -> None:
    random = np.random.default_rng(0)
    codes = np.concatenate([random.normal(-5, 0.5, (3000, 2)), random.normal(5, 2, (1000, 2))])
    fitted = density.fit(codes, 2)
    left = int(fitted.means[:, 0].argmin())
    np.testing.assert_allclose(fitted.weights[left], 0.75, atol=0.01)
    drawn = fitted.sample(10_000)
    below = drawn[:, 0] < -2.5
    assert below.mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(drawn[below].std(0), 0.5, rtol=0.1)
    np.testing.assert_allclose(drawn[~below].std(0), 2.0, rtol=0.1)


def test_codes_that_never_vary_can_be_fitted() -> None:
    codes = np.c_[np.random.default_rng(0).normal(size=200), np.zeros(200)]
    assert np.abs(density.fit(codes, 2).sample(100)[:, 1]).max() < 0.01


def test_the_default_is_the_prior_where_there_is_one_else_a_mixture(ae: Run, vae: Run) -> None:
    assert isinstance(density.of(vae), density.Prior)
    np.testing.assert_array_equal(generate.samples(vae, 7, seed=3).x, vae.sample(7, seed=3))
    assert len(density.of(ae).weights) == 10  # type: ignore[attr-defined]
    assert density.of(vae, "gaussian").text == "a Gaussian fitted to the training codes"


@pytest.mark.parametrize("options", [["model=vae", "model.latent_dim=2"], ["model=ae", "model.latent_dim=2"]])
def test_generated_rows_have_the_marginals_of_the_data(train_run: Callable, tmp_path: Path, options: list[str]) -> None:
    """Means have a part of the spread, and lose rare categories."""
    random = np.random.default_rng(0)
    size = 4000
    frame = pd.DataFrame({
        "a": random.normal(10, 3, size), "b": random.normal(-50, 20, size), "c": random.normal(0, 1, size),
        "colour": random.choice(["red", "green", "blue"], size, p=[0.75, 0.2, 0.05]),
    })  # fmt: skip
    frame["c"] += 0.2 * frame["a"]
    frame.to_csv(tmp_path / "rows.csv", index=False)
    data = ["data=table", f"data.path={tmp_path / 'rows.csv'}", "trainer.epochs=8"]
    run_dir = train_run(*options, *data, "network.hidden=[16]")
    run = load_run(run_dir, "cpu")
    drawn, means = (run.spec.kind.plausible(generate.samples(run, 4000, mean=mean).x) for mean in (None, True))
    for name in "abc":
        assert drawn[name].std() == pytest.approx(frame[name].std(), rel=0.15)
        assert drawn[name].mean() == pytest.approx(frame[name].mean(), abs=0.15 * frame[name].std())
    for colour, share in (("red", 0.75), ("green", 0.2), ("blue", 0.05)):
        assert (drawn["colour"] == colour).mean() == pytest.approx(share, abs=0.05)
    assert all(means[name].std() < drawn[name].std() for name in "abc")


def test_what_a_model_does_not_allow_is_refused_in_one_line(ae: Run) -> None:
    with pytest.raises(UserError, match=r"no prior.*--density mixture fits one"):
        generate.samples(ae, 4, "prior")
    with pytest.raises(UserError, match=r"--components 5000.*use fewer"):
        density.of(ae, "mixture", 5000)
    with pytest.raises(UserError, match="--temperature=-1"):
        generate.samples(ae, 4, temperature=-1)
    with pytest.raises(UserError, match=r"--class: .* is not conditional; model=cvae"):
        generate.samples(ae, 4, classes=["3"])
    ae.model.bottleneck = TopK((64,), 8, k=2)
    with pytest.raises(UserError, match=r"all but 2 of their 8 units .*; --density independent"):
        generate.samples(ae, 4, "mixture")
    with pytest.raises(UserError, match=r"--temperature=0\.5: has no effect on the values of each unit"):
        generate.samples(ae, 4, temperature=0.5)


def test_units_of_a_sparse_code_are_drawn_one_by_one_from_the_training_codes(ae: Run) -> None:
    random = np.random.default_rng(0)
    codes = random.normal(size=(5_000, 2)) * (random.random((5_000, 2)) < [0.1, 0.5])
    codes[:, 1] = np.abs(codes[:, 0]) + (codes[:, 0] == 0) * codes[:, 1]
    drawn = density.Independent(codes.astype(np.float32)).sample(20_000, seed=1)
    for unit in range(2):
        assert set(drawn[:, unit]) <= set(codes[:, unit].astype(np.float32))
    np.testing.assert_allclose((drawn != 0).mean(0), (codes != 0).mean(0), atol=0.02)
    joint = ((drawn[:, 0] != 0) & (drawn[:, 1] != 0)).mean()
    assert joint == pytest.approx((codes != 0).mean(0).prod(), abs=0.01)
    ae.model.bottleneck = TopK((64,), 8, k=2)
    assert (generate.samples(ae, 50).z != 0).sum(1).max() == 2, "codes are projected"


def test_at_temperature_0_all_samples_are_the_decoded_mean(ae: Run, vae: Run) -> None:
    mean = ae.decode(ae.codes(ae.data.train).mean(0, keepdims=True))
    np.testing.assert_allclose(generate.samples(ae, 3, "gaussian", temperature=0).x, mean.repeat(3, 0), atol=1e-5)
    zero = vae.decode(np.zeros((1, 8), np.float32))
    np.testing.assert_allclose(generate.samples(vae, 3, temperature=0).x, zero.repeat(3, 0), atol=1e-6)


def test_temperature_scales_standard_deviations_and_seeds_repeat(vae: Run) -> None:
    for kind in ("prior", "gaussian"):
        one, half = (generate.samples(vae, 4, kind, seed=5, temperature=t) for t in (1.0, 0.5))
        mean = generate.samples(vae, 4, kind, temperature=0).z
        np.testing.assert_allclose(half.z - mean, 0.5 * (one.z - mean), atol=1e-5)
        np.testing.assert_array_equal(generate.samples(vae, 4, kind, seed=5).x, one.x)
        assert not np.array_equal(generate.samples(vae, 4, kind, seed=6).x, one.x)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_temperature_divides_the_logits_of_indices_and_scales_the_base_of_a_flow(temperature: float) -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0], [2.0, -1.0, 0.0]])
    expected = (logits / temperature).softmax(-1)
    model = CausalTransformer(2, 3, 1, hidden=8, layers=1).eval()
    model.bias.data.copy_(logits)  # the rest starts at 0
    categorical = Categorical((2,), 3)
    categorical.frequency.copy_(logits.softmax(-1))
    for drawn in (model.sample(20_000, temperature), categorical.sample(20_000, temperature)):
        torch.testing.assert_close(functional.one_hot(drawn, 3).float().mean(0), expected, atol=0.012, rtol=0)
    flow = RealNVP((2,))  # the identity at the start
    torch.manual_seed(1)
    one = flow.sample(5)
    torch.manual_seed(1)
    torch.testing.assert_close(flow.sample(5, temperature), temperature * one)


def test_a_wrong_argument_comes_before_results_that_exist(
    script: Callable[..., int], ae_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert script(ae_run, "--count", 2, "--output", out) == 0
    for arguments, message in (
        (["--class", "33"], "--class: "),
        (["--temperature", "-1"], "--temperature=-1"),
        (["--density", "prior"], "has no prior"),
        (["--components", "5000"], "--components 5000"),
    ):
        capsys.readouterr()
        assert script(ae_run, *arguments, "--output", out) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "already exists" not in error


def test_codes_stay_where_the_bottleneck_puts_them(ae: Run) -> None:
    ae.model.bottleneck = Deterministic((64,), 8, "relu")
    assert generate.samples(ae, 500, "gaussian").z.min() == 0
    assert paths.traverse(ae).z.min() == 0


def test_the_script_from_end_to_end(
    script: Callable[..., int], vae_run: Path, copied: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = copied(vae_run)
    folder = run_dir / "generate"
    assert script(run_dir, "--count", 5) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "5 samples from the prior" in out
    with np.load(folder / "samples.npz") as saved:
        np.testing.assert_array_equal(saved["x"], load_run(run_dir, "cpu").sample(5))
    numbers = json.loads((folder / "generate.json").read_text())
    assert f"distance of {numbers['compared']} samples to as many test examples" in out
    section = evaluate.generation(evaluate.Subject(load_run(run_dir, "cpu")))
    assert {name: numbers[name] for name in ("samples", "compared")}.items() <= section.items(), "as evaluate measures"
    assert f"compared: {numbers['compared']}" in next(evaluate.tables({"generation": section}))[0]
    assert script(run_dir, "--count", 5) == 2
    assert "--force" in capsys.readouterr().err
    assert script(run_dir, "--count", 6, "--density", "gaussian", "--force") == 0
    with np.load(folder / "samples.npz") as saved:
        assert saved["x"].shape == (6, 1, 8, 8)

    image_file = run_dir / "seven.png"
    Image.new("L", (8, 8), 90).save(image_file)
    assert script(run_dir, "--interpolate", image_file, 3, "--steps", 4) == 0
    with np.load(folder / "interpolate.npz") as saved:
        assert saved["x"].shape == (4, 1, 8, 8)
    assert script(run_dir, "--traverse", 2) == 0
    assert Image.open(folder / "traverse.png").width > 11 * 56
    assert sorted(p.suffix for p in folder.glob("traverse.*")) == [".json", ".npz", ".png"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--sheet"], "latent_dim=2"),
        (["--sheet", "--count", "3"], "--count is for samples, not for --sheet"),
        (["--per-class", "3"], "--per-class is for --augment"),
        (["--density", "gaussian", "--components", "3"], "--components is for --density mixture"),
        (["--density", "prior"], "has no prior"),
        (["--interpolate", "0", "100000"], "examples 0 to"),
        (["--interpolate", "0", "no.npy"], "no.npy: no such file"),
        (["--traverse", "-1"], "-1: "),
        (["--seed", "-1"], "--seed=-1"),
        (["--augment", "out.csv"], "ends in .npz"),
    ],
)
def test_the_script_refuses_in_one_line(
    script: Callable[..., int],
    ae_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    expected: str,
) -> None:
    assert script(ae_run, *options, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_vectors_have_lines_and_tables(script: Callable[..., int], table: Run, tmp_path: Path) -> None:
    assert script(table.path, "--output", tmp_path, "--density", "gaussian", "--count", 30) == 0
    with np.load(tmp_path / "samples.npz") as saved:
        assert saved["x"].shape == (30, 8)
    assert script(table.path, "--output", tmp_path, "--interpolate", 0, 1, "--steps", 3) == 0
    rows = list(csv.reader((tmp_path / "interpolate.csv").open()))
    assert rows[0] == ["row", "step", *(f"x{i}" for i in range(8))]
    x = table.data.test.take(slice(0, 2)).x.numpy()
    found = np.array(rows[1:], float)
    np.testing.assert_allclose(found[[0, 2], 2:], table.reconstruct(x), atol=1e-5)
    assert script(table.path, "--output", tmp_path, "--traverse") == 0
    assert len((tmp_path / "traverse.csv").read_text().splitlines()) == 1 + 3 * 11
