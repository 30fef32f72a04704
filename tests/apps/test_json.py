"""--json: the results as one JSON value on standard output, and nothing else there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., tuple[int, str, str]]


def results(call: Call, name: str, *args: object) -> Any:
    """Return what a script prints with --json; what it says to people is on stderr."""
    code, out, err = call(name, *args, "--json")
    assert code == 0, err
    assert err.strip()
    return json.loads(out)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("detect", ["--anomaly", "3"]),
        ("embed", ["--format", "csv"]),
        ("evaluate", ["--only", "reconstruction", "anomaly"]),
        ("finetune", ["--labels", 20, "--seeds", 1, "--steps", 2]),
        ("generate", ["--interpolate", 3, 17]),
        ("project", ["--method", "pca", "--count", 40]),
        ("restyle", ["--from-class", 3, "--to-class", 8]),
        ("retrieve", ["--index", 3]),
        ("units", ["--units", "1,2"]),
    ],
)
def test_what_is_printed_is_what_is_written(
    call: Call, ae_run: Path, copied: Callable[[Path], Path], tmp_path: Path, name: str, args: list[Any]
) -> None:
    found = results(call, name, copied(ae_run), *args, "--output", tmp_path / "o")
    (path,) = (tmp_path / "o").glob("*.json")
    written = json.loads(path.read_text())
    hits = found.pop("hits", [])
    assert found == written
    assert len(hits) == (10 if name == "retrieve" else 0)


def test_tables_of_runs(call: Call, ae_run: Path, vae_run: Path, tmp_path: Path) -> None:
    found = results(call, "compare", ae_run, vae_run)
    assert found["ranked_by"] == "mse"
    assert {run["model"] for run in found["runs"]} == {group["model"] for group in found["groups"]} == {"ae", "vae"}
    mse = {run["model"]: run["mse"] for run in found["runs"]}
    assert {group["model"]: group["test"]["mse"] for group in found["groups"]} == mse
    assert any("lowest first" in line for line in found["remarks"])
    shutil.copytree(ae_run, tmp_path / "outputs" / "one")
    (row,) = results(call, "runs", tmp_path / "outputs")
    assert (row["state"], row["test"]) == ("finished", {"mse": mse["ae"]})
    removed = results(call, "runs", "--remove", tmp_path / "outputs" / "one", "--yes")
    assert removed == {"removed": [str(tmp_path / "outputs" / "one")]}
    assert results(call, "report", ae_run, "--output", tmp_path / "a.html") == {"file": str(tmp_path / "a.html")}


def test_errors_are_one_line_on_stderr(call: Call, ae_run: Path) -> None:
    for args in (["nothing"], [ae_run, "--count", "0"]):
        code, out, err = call("denoise", *args, "--json")
        assert (code, out, err.count("\n")) == (2, "", 1)
