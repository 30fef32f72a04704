"""Run directories are listed, and those that are named are removed, and nothing else."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autoenc.apps.protocol import runs

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(ae_run: Path, tmp_path: Path) -> Path:
    for name in ("one", "two"):
        shutil.copytree(ae_run, tmp_path / "outputs" / name)
    return tmp_path / "outputs"


def test_the_listing_has_state_size_and_main_number(folder: Path, call: Call) -> None:
    rows = runs.described(runs.listing(folder))
    assert sorted(rows) == [str(folder / "one"), str(folder / "two")]
    row = rows[str(folder / "one")]
    assert row["state"] == "finished"
    assert row["test"].startswith("mse ")
    assert float(row["size"].split()[0]) * 1e6 == pytest.approx(runs.size(folder / "one"), abs=1e5)
    code, out, _ = call("runs", folder)
    assert (code, "2 runs" in out) == (0, True)
    assert [runs.age(s) for s in (5, 300, 7200, 200_000)] == ["5 s", "5 min", "2 h", "2 d"]


def test_only_what_is_named_is_removed(
    folder: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    (folder / "one" / "link").symlink_to(tmp_path / "kept.txt")
    monkeypatch.setattr("builtins.input", lambda text: "n")
    code, _, err = call("runs", "--remove", folder / "one")
    assert (code, err) == (2, "nothing was removed; answer y, or add --yes\n")
    assert (folder / "one").exists()
    assert call("runs", "--remove", folder / "one", "--yes")[0] == 0
    assert [path.name for path in folder.iterdir()] == ["two"]
    assert (tmp_path / "kept.txt").read_text() == "kept"


def test_what_is_no_run_is_refused_and_nothing_is_removed(folder: Path, call: Call) -> None:
    (folder / "linked").symlink_to(folder / "two")
    for wrong, why in ((folder, "no run.json"), (folder / "linked", "is a link"), (folder / "none", "no run.json")):
        code, _, err = call("runs", "--remove", folder / "one", wrong, "--yes")
        assert (code, why in err, err.count("\n")) == (2, True, 1)
    assert (folder / "one").exists()
