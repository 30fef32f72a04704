"""What several runs generate, side by side."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from autoenc import load_run
from autoenc.apps.protocol import generators
from autoenc.errors import DataChanged

Call = Callable[..., tuple[int, str, str]]


def test_generators_stand_side_by_side(ae_run: Path, vae_run: Path, call: Call, tmp_path: Path) -> None:
    options = ["--generation", "--samples", 2, "--examples", 20]
    code, said, error = call("compare", ae_run, vae_run, *options, "--output", tmp_path / "out")
    assert code == 0, error
    found = json.loads((tmp_path / "out" / "generators.json").read_text())
    assert list(found) == ["ae", "vae", "validation"]
    assert "nll_importance" in found["vae"].keys() - found["ae"].keys(), "where there is a bound"
    assert found["vae"]["density"] == "the prior"
    for name in ("ae", "vae"):
        assert found[name]["seconds_per_1000"] > 0
        assert found[name]["frechet_pca"] > found["validation"]["frechet_pca"]
        assert 0 <= found[name]["memorized"] <= 1
    rows = list(csv.reader((tmp_path / "out" / "generators.csv").open()))
    assert [row[0] for row in rows] == ["model", *found]
    assert Image.open(tmp_path / "out" / "generators.png").width > 3 * 4 * 56
    assert "seconds_per_1000" in said
    code, _, error = call("compare", ae_run, vae_run, *options, "--output", tmp_path / "out")
    assert (code, error.count("\n")) == (2, 1)
    assert "already exists" in error


def test_runs_on_other_data_and_options_without_effect_are_refused(ae_run: Path, table_run: Path, call: Call) -> None:
    for arguments, message in (
        ((ae_run, table_run, "--generation"), f"--generation: {table_run} is not on the training data of {ae_run}"),
        ((ae_run, "--samples", 5), "--samples: is for --generation"),
        ((ae_run, "--generation", "--sort", "mse"), "--sort: is not for --generation"),
    ):
        code, _, error = call("compare", *arguments)
        assert (code, error.count("\n")) == (2, 1)
        assert message in error


def test_runs_of_one_model_have_names_that_differ() -> None:
    def run(model: str, prior: str, folder: str) -> Any:
        return SimpleNamespace(name=model, record={"choices": {"prior": prior}}, path=Path(folder))

    runs = [run("vae", "default", "a"), run("vae", "vamp", "b"), run("aae", "standard", "c"), run("ae", "default", "d")]
    assert generators.names(runs) == ["vae", "vae+vamp", "aae", "ae"]
    assert generators.names([*runs, run("ae", "default", "e")])[-2:] == ["ae d", "ae e"]
    twice = [run("ae", "default", path) for path in ("x/2026-11-27", "y/2026-11-27")]
    assert generators.names(twice) == ["ae x/2026-11-27", "ae y/2026-11-27"], "none replaces another in the table"


def test_a_bound_is_left_out_only_where_there_is_none(ae_run: Path, vae_run: Path) -> None:
    assert generators._nll(load_run(ae_run, "cpu"), 2, 2) == {}
    run = load_run(vae_run, "cpu")
    run.fingerprint = 0
    with pytest.raises(DataChanged):
        generators._nll(run, 2, 2)
