"""Comparison: which settings differ, which run is best, and what the files say."""

import csv
import json
from pathlib import Path

import pytest

from autoenc.apps.protocol import compare
from autoenc.apps.protocol.compare import Row
from autoenc.errors import ConfigError, DataError


def test_runs_of_two_models_differ_in_the_model_and_not_in_its_options(
    ae_run: Path, vae_run: Path, dae_run: Path
) -> None:
    rows = compare.read_runs([ae_run, vae_run])
    assert compare.differing(rows, in_all=True) == ["model"]
    rows = compare.read_runs([ae_run, vae_run, dae_run])
    assert compare.differing(rows, in_all=True) == ["model", "model.latent_dim"]
    assert [row.settings["model"] for row in rows] == ["ae", "vae", "dae"]
    assert len({row.name for row in rows}) == 3


def test_the_best_comes_first_whichever_way_the_number_counts(ae_run: Path, vae_run: Path) -> None:
    rows = compare.read_runs([vae_run, ae_run])
    mse, psnr = compare.ordered(rows, "mse"), compare.ordered(rows, "psnr")
    assert mse[0].numbers["mse"] < mse[1].numbers["mse"]
    assert psnr[0].numbers["psnr"] > psnr[1].numbers["psnr"]
    assert compare.ordered(rows, "kl")[-1].settings["model"] == "ae", "runs without the number are last"
    with pytest.raises(ConfigError, match=r"--sort=mze: no run has this number; did you mean 'mse'\?"):
        compare.ordered(rows, "mze")


def test_numbers_of_the_evaluation_are_there_too(ae_run: Path, tmp_path: Path) -> None:
    import shutil

    run = Path(shutil.copytree(ae_run, tmp_path / "run"))
    (run / "evaluation.json").write_text(json.dumps({"probes": {"codes": {"logistic": 0.5}}, "skipped": {"a": "b"}}))
    (row,) = compare.read_runs([tmp_path])
    assert row.numbers["probes.codes.logistic"] == 0.5
    assert "skipped.a" not in row.numbers
    (run / "evaluation.json").write_text("{")
    with pytest.raises(DataError, match=r"evaluation\.json: is no JSON"):
        compare.read_runs([run])


def test_jobs_are_in_the_order_of_their_numbers_and_each_is_there_once(tmp_path: Path) -> None:
    for name in ("10_a=1", "2_a=1", "1_a=1"):
        (tmp_path / "sweep" / name).mkdir(parents=True)
        (tmp_path / "sweep" / name / "run.json").write_text('{"state": "failed"}')
    found = compare.runs_in([tmp_path / "sweep", tmp_path / "sweep" / "2_a=1"])
    assert [path.name for path in found] == ["1_a=1", "2_a=1", "10_a=1"]
    with pytest.raises(DataError, match="has no run in it"):
        compare.runs_in([Path(__file__).parent])
    with pytest.raises(DataError, match="no such directory"):
        compare.runs_in([tmp_path / "nothing"])


def test_the_csv_has_every_number_and_the_picture_is_drawn(ae_run: Path, vae_run: Path, tmp_path: Path) -> None:
    rows = compare.read_runs([ae_run, vae_run])
    keys = compare.differing(rows, in_all=True)
    (first, second) = csv.DictReader(compare.csv_text(rows, keys).splitlines())
    assert (first["model"], second["model"], first["kl"]) == ("ae", "vae", "")
    assert float(second["kl"]) == rows[1].numbers["kl"]
    assert compare.plot(rows, keys, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert not compare.plot([Row("x", "failed", {})], [], tmp_path / "d.png")
