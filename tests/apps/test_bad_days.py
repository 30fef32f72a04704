"""Scripts on bad days: links, changed data, read-only runs, full disks, names with control characters."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from autoenc import load_run
from autoenc.apps.generation import classifier
from autoenc.apps.outputs import Outputs
from autoenc.config.stored import read_config
from autoenc.errors import ConfigError, DataChanged, DataError
from autoenc.files import CACHE_FOLDER, mark_cache, read_json, write_json
from autoenc.training import checkpoint
from autoenc.training.rundir import check_same

Call = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize("name", ["00000", "project", "projector_config.pbtxt"])
def test_scripts_do_not_write_through_links(
    name: str, ae_run: Path, copied: Callable[[Path], Path], tmp_path: Path, call: Call
) -> None:
    path, outside = copied(ae_run), tmp_path / "home"
    (outside / "project").mkdir(parents=True)
    (outside / "project" / "thesis.txt").write_text("years of work")
    if (path / name).is_dir():
        shutil.rmtree(path / name)
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(outside / "project" / "thesis.txt" if "." in name else outside)
    code, _, err = call("project", path, "--method", "pca", "--count", 50, "--force")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{name}: is a link" in err
    assert [p.read_text() for p in outside.rglob("*.*")] == ["years of work"]


def test_special_files_are_not_opened(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    path = copied(ae_run)
    (path / "summary.json").unlink()
    os.mkfifo(path / "summary.json")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_run(path)


def test_rows_that_changed_since_training_are_not_a_test_split(
    table_run: Path, copied: Callable[[Path], Path], tmp_path: Path, call: Call
) -> None:
    path = copied(table_run)
    source = Path(read_config(path)["data"]["path"])
    with np.load(source) as arrays:
        order = np.random.default_rng(0).permutation(len(arrays["x"]))
        np.savez(tmp_path / "shuffled.npz", x=arrays["x"][order], y=arrays["y"][order])
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace(str(source), str(tmp_path / "shuffled.npz")))
    run = load_run(path)
    with pytest.raises(DataChanged, match=r"data.path=.*shuffled.npz: the rows have changed"):
        _ = run.data
    with pytest.raises(DataChanged):
        _ = run.examples
    code, _, err = call("evaluate", path, "--only", "reconstruction", "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (2, 1)
    assert "--input" in err


def test_other_test_rows_are_refused_and_other_labels_are_named(
    table_run: Path, copied: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = copied(table_run)
    source = Path(read_config(path)["data"]["path"])
    with np.load(source) as arrays:
        np.savez(tmp_path / "relabelled.npz", x=arrays["x"], y=arrays["y"][::-1])
    config = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(config.replace(str(source), str(tmp_path / "relabelled.npz")))
    with pytest.warns(UserWarning, match=r"data.path=.*relabelled.npz: the labels have changed since"):
        _ = load_run(path).data
    run = load_run(table_run)
    assert run.checksums is not None
    run.checksums = {**run.checksums, "test rows": 1}  # as of another data.test_path
    with pytest.raises(DataChanged, match="the test rows have changed since"):
        _ = run.data
    state = {"config": "a: 1", "data": 0, "checksums": run.checksums}
    with pytest.raises(ConfigError, match=r"resume=.*the test rows have changed"):
        check_same(table_run, state, "a: 1", 0, run.checksums | {"test rows": 2})


def test_a_stored_config_cannot_choose_where_to_write(
    ae_run: Path, copied: Callable[[Path], Path], tmp_path: Path
) -> None:
    path, theirs = copied(ae_run), tmp_path / "theirs"
    text = (path / "config.yaml").read_text()
    head, _, rest = text.partition("\ndata:\n")
    node = "  _target_: autoenc.data.image_folder\n  path: images\n"
    tail = rest[rest.index("\nmodel:") :]

    def cache_of(folder: Path) -> Any:
        (path / "config.yaml").write_text(f"{head}\ndata:\n{node}  cache_folder: {folder}\n{tail}")
        return read_config(path)["data"]["cache_folder"]

    assert cache_of(theirs) == CACHE_FOLDER
    mark_cache(theirs)  # the user named it before
    assert cache_of(theirs) == str(theirs)


def test_a_read_only_run_writes_results_elsewhere(
    ae_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*args: object, **options: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(ae_run))

    monkeypatch.setattr("autoenc.apps.outputs.Tracker", read_only)
    run = load_run(ae_run)
    out = Outputs(run, "a", tmp_path / "a").__enter__()
    out.figure("image", np.zeros((4, 4, 3), np.uint8))
    out.json({})
    with pytest.warns(UserWarning, match="TensorBoard does not have the figures"):
        out.__exit__(None, None, None)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["a.json", "image.png"]


def test_a_full_disk_is_one_line(ae_run: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("numpy.savez_compressed", full)
    code, _, err = call("embed", ae_run, "--output", tmp_path / "out")
    assert (code, err) == (2, f"{tmp_path / 'out'}: No space left on device\n")
    assert not list(tmp_path.iterdir())

    def no_memory(*args: object, **kwargs: object) -> NoReturn:
        raise MemoryError("Unable to allocate 4 PiB")

    monkeypatch.setattr("numpy.savez_compressed", no_memory)
    code, _, err = call("embed", ae_run, "--output", tmp_path / "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "out of memory (Unable to allocate 4 PiB)" in err


def test_a_run_cannot_choose_where_its_classifier_is_written(ae_run: Path) -> None:
    run = load_run(ae_run)
    run.spec = dataclasses.replace(run.spec, name="../../home/my data")
    assert classifier.folder(run).parent == classifier.FOLDER
    assert classifier.folder(run).name.startswith(".._.._home_my_data_")


def test_a_fingerprint_that_is_no_checksum_is_refused(ae_run: Path, copied: Callable[[Path], Path]) -> None:
    weights = copied(ae_run) / "checkpoints" / "best.pt"
    state = checkpoint.load(weights)
    for wrong in ("../x", -5, 2**40, 1.5):
        torch.save(state | {"data": wrong}, weights)
        with pytest.raises(DataError, match=r"best\.pt: damaged \(its fingerprint"):
            load_run(weights.parents[1])


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [("run.json", "data", {"shape": 3}), ("run.json", "versions", 1), ("summary.json", "test", [1])],
)
def test_a_report_of_a_damaged_run_is_one_line(
    file: str, key: str, value: Any, ae_run: Path, copied: Callable[[Path], Path], call: Call
) -> None:
    path = copied(ae_run)
    write_json(path / file, read_json(path / file) | {key: value})
    code, _, err = call("report", path, "--force")
    assert (code, err.count("\n")) == (2, 1)
    assert "damaged" in err


def test_names_from_another_person_control_no_console_and_no_page(
    ae_run: Path, tmp_path: Path, copied: Callable[[Path], Path], call: Call
) -> None:
    path = copied(ae_run).rename(tmp_path / "\x1b[2J\u202e$(x)")
    write_json(path / "summary.json", read_json(path / "summary.json") | {"verdict": "\x1b[31m<script>"})
    record = read_json(path / "run.json")
    write_json(path / "run.json", record | {"choices": {"model": "\x1b[31m=cmd|"}, "git": "\x07"})
    output = tmp_path / "out"
    for script in (("report", path, "--force"), ("compare", path, ae_run, "--output", output), ("runs", tmp_path)):
        code, out, err = call(*script)
        assert code == 0, err
        assert not set(out + err) & set("\x1b\x07\u202e"), script
    for page in (path / "report.html", output / "comparison.html", output / "comparison.csv"):
        assert not set(page.read_text()) & set("\x1b\x07\u202e"), page
    assert "&lt;script&gt;" in (path / "report.html").read_text()
