"""The protocol: the same numbers twice, the numbers of the parts, and a reason for what is left out."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autoenc import load_run
from autoenc.apps.codes import features
from autoenc.apps.protocol import evaluate
from autoenc.errors import ConfigError


def test_twice_the_same_and_what_the_training_measured(vae_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PENALTIES", (1.0,))  # their choice has a test of its own
    run = load_run(vae_run, "cpu")
    found = evaluate.evaluate(run)
    assert found == evaluate.evaluate(run)
    assert found["skipped"] == {
        "classification": "the model has no classifier q(y|x); model=m2 has",
        "anomaly": "no class was left out of training (anomaly_classes=[...], normal_classes=[...])",
        "recovery": "digits has no known dictionary or subspace",
        "disentanglement": "digits has no known factors (data=shapes has them)",
    }
    summary = json.loads((vae_run / "summary.json").read_text())
    for name in ("loss", "nll", "kl", "mse", "psnr"):
        assert found["reconstruction"][name] == pytest.approx(summary["test"][name], rel=1e-4)
    assert found["latent"]["active_units"] == summary["latent"]["active_units"]
    assert found["probes"]["codes"]["5-nn"] > 0.85
    assert found["retrieval"]["codes"]["precision@10"] > 0.75
    assert {"codes", "untrained", "PCA-8", "raw", "remark"} == found["probes"].keys() == found["retrieval"].keys()
    assert found["clustering"].keys() == found["probes"].keys()
    assert "better than an untrained network" in found["probes"]["remark"]
    assert found["denoising"]["noise"] == "gaussian 0.3"
    json.dumps(found)
    titles = [title for title, _, _ in evaluate.tables(found)]
    assert len(titles) == 9


def test_tables_of_numbers_have_no_images_to_denoise(table_run: Path) -> None:
    found = evaluate.evaluate(load_run(table_run, "cpu"), ["reconstruction", "denoising", "anomaly"])
    assert found["skipped"] == {
        "denoising": "needs images or series",
        "anomaly": "no class was left out of training (anomaly_classes=[...], normal_classes=[...])",
    }
    assert "ssim" not in found["reconstruction"]
    assert found["reconstruction"]["mse"] < 0.1


def test_an_unknown_section_is_named(vae_run: Path) -> None:
    with pytest.raises(ConfigError, match="--only=probe: must be among reconstruction, latent"):
        evaluate.evaluate(load_run(vae_run, "cpu"), ["probe"])


def test_the_script_says_what_it_computes_in_tables_of_120_characters(
    vae_run: Path, call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    sections = ("reconstruction", "latent", "denoising")
    code, said, error = call("evaluate", vae_run, "--only", *sections, "--output", tmp_path / "out")
    assert code == 0, error
    assert error.splitlines() == [f"evaluating {i} of 3: {name}" for i, name in enumerate(sections, 1)]
    tables = [line for line in said.splitlines() if line.startswith(("┃", "│"))]
    assert max(map(len, tables)) <= 120
    assert "mutual_information [nats] ↑" in said, "nothing is cut off"
    assert "denoising (noise: gaussian 0.3; classical filter: " in said
    assert "\nThe code is in use" in said


def test_sections_of_a_later_call_join_those_of_an_earlier_one(tmp_path: Path) -> None:
    before = {"latent": {"dim": 1.0}, "probes": {"a": 1.0}, "skipped": {"bounds": "no", "anomaly": "no"}}
    now = {"bounds": {"elbo": 2.0}, "latent": {"dim": 3.0}, "skipped": {"probes": "no labels"}}
    assert evaluate.merged(before, now) == {
        "latent": {"dim": 3.0},
        "bounds": {"elbo": 2.0},
        "skipped": {"anomaly": "no", "probes": "no labels"},
    }
    assert next(iter(evaluate.merged({"latent": {}}, {"reconstruction": {}, "skipped": {}}))) == "reconstruction"
    path = tmp_path / "evaluation.json"
    assert evaluate.earlier(path) == {}
    path.write_text("{")
    assert evaluate.earlier(path) == {}
    path.write_text(json.dumps(before))
    assert evaluate.earlier(path) == before
