"""Paths in a config, checked before anything is imported to read them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from autoenc.config.checks import check_files
from autoenc.data.readers import PATHS, tables
from autoenc.errors import ConfigError, DataError

FOLDERS = ("image_folder", "defects")
SETS = list(PATHS)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    for name in ("nothing_in_it", "images/deep", "documents/en"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "table.csv").write_text("a,text\n1,2\n")
    (tmp_path / "documents" / "en" / "1.txt").write_text("one")
    Image.new("L", (8, 8)).save(tmp_path / "images" / "deep" / "a.png")
    np.save(tmp_path / "rows.npy", np.zeros((4, 2)))
    return tmp_path


def check(data_set: str, **options: object) -> None:
    check_files({"_target_": f"autoenc.data.{data_set}", **options})


@pytest.mark.parametrize("data_set", SETS)
def test_what_cannot_be_read_is_named_with_its_key(data_set: str, there: Path) -> None:
    folder = data_set in FOLDERS
    with pytest.raises(ConfigError, match=r"^data\.path: name a f(ile|older).* data\.path="):
        check(data_set, path=None)
    if not folder:
        with pytest.raises(DataError, match="/dev/null: is a pipe or a device, not a file"):
            check(data_set, path="/dev/null")
    for key, options in (("path", {}), ("test_path", {"path": there / ("images" if folder else "rows.npy")})):
        if data_set in ("table", "text", "bag_of_words") and options:
            options = {"path": there / "table.csv"}
        for name, why in {
            "none.csv": "no such folder" if folder else "no such file",
            "empty.csv": "is a file, not a folder" if folder else "is empty",
            "nothing_in_it": {"series": "has no files in"}.get(data_set, "has no images" if folder else "is a folder"),
        }.items():
            with pytest.raises(DataError, match=rf"^data\.{key}=.*{name}: {why}"):
                check(data_set, **{**options, key: str(there / name)})


@pytest.mark.parametrize(
    ("data_set", "name"),
    [
        *(("table", name) for name in ("table.csv", "rows.npy")),
        *((words, name) for words in ("text", "bag_of_words") for name in ("table.csv", "documents")),
        *((images, "images") for images in FOLDERS),
        ("arrays", "rows.npy"),
    ],
)
def test_what_can_be_read_passes(data_set: str, name: str, there: Path) -> None:
    check(data_set, path=str(there / name), test_path=None)


@pytest.mark.parametrize("data_set", ["table", "arrays"])
def test_a_file_of_another_format_is_named(data_set: str, there: Path) -> None:
    with pytest.raises(DataError, match=r"^data\.path=.*text\.npy: is not a \.npy or \.npz file; write it with"):
        check(data_set, path=str(there / "text.npy"))


def test_test_data_that_are_trained_on_are_refused(tmp_path: Path) -> None:
    (tmp_path / "all" / "new").mkdir(parents=True)
    for folder in ("all", "all/new"):
        (tmp_path / folder / "log.csv").write_text("a\n1\n2\n")
    path, inside, log = (str(tmp_path / name) for name in ("all", "all/new", "all/log.csv"))
    for one, other in ((path, path), (path, inside), (inside, path)):
        with pytest.raises(ConfigError, match=rf"test_path={other}: has data that are trained on: data.path={one}"):
            check("series", path=one, test_path=other)
    check("series", path=inside, test_path=log)
    for data_set, key in (("table", "test_path"), ("text", "val_path")):
        with pytest.raises(ConfigError, match="has data that are trained on"):
            check(data_set, path=log, **{key: f"{path}/../all/log.csv"})


def test_data_sets_without_a_path_are_not_checked() -> None:
    check("digits")
    check("torchvision_images", root="nowhere")


@pytest.mark.parametrize(
    ("data_set", "options", "message"),
    [
        ("table", {"label": "c"}, r"data\.label=c: .*own\.csv has no such column; it has a, b"),
        ("table", {"separator": ",,"}, r"data\.separator=',,': must be one character"),
        ("table", {"quoting": "none"}, r"own\.csv: line 3 has 3 columns, expected 2"),
        ("table", {"normal": "two"}, r"data\.normal=two: needs data\.label"),
        ("table", {"label": "b", "normal": "Two"}, r"data\.normal=Two: it is spelt two"),
        (
            "table",
            {"label": "b", "normal": "six"},
            r"data\.normal=six: .*own\.csv has no such class; it has four, five",
        ),
        ("table", {"drop": ["c"]}, r"data\.drop=c: .*own\.csv has no such column; it has a, b"),
        *(("table", {key: ["b"], "label": "b"}, rf"data\.{key}=b: .* it has a$") for key in ("log", "dates", "keep")),
        ("series", {"time": "c"}, r"data\.time=c: .*own\.csv has no such column; it has a, b"),
        ("series", {"label": "c"}, r"column b, row 1: 'two' is not a number; data\.label=c is not among its columns"),
        ("series", {"label": "c", "drop": ["b"]}, r"data\.label=c: no file in .*own\.csv has such a column"),
        ("series", {"label": "b", "normal": 6}, r"data\.normal=6: no step is of this class; there are four, five, two"),
        ("series", {"step": "often"}, r"data\.step=often: must be seconds"),
        ("text", {"label": "c", "column": "b"}, r"data\.label=c: no such column; .*own\.csv has the columns a, b"),
        ("bag_of_words", {"column": "c"}, r"data\.column=c: no such column"),
    ],
)
def test_columns_are_looked_up_before_torch_is_imported(
    data_set: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text('a,b\n1,two\n3,"four, five"\n')
    with pytest.raises((ConfigError, DataError), match=message):
        check(data_set, path=str(tmp_path / "own.csv"), **options)


def test_rows_that_only_small_files_are_read_to_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a,b\n" + "1,x\n" * 150 + "1,y,3\n")
    with pytest.raises(DataError, match="line 152 has 3 columns, expected 2"):
        check("table", path=str(path))
    monkeypatch.setattr(tables, "SMALL", 10)
    check("table", path=str(path), label="b", normal="y")
    with pytest.raises(DataError, match=r"data\.label=c: "):
        check("table", path=str(path), label="c")


def test_what_only_one_of_two_files_has_is_accepted(tmp_path: Path) -> None:
    for name, text in (("train.csv", "a,b\n1,x\n2,y\n"), ("test.csv", "a,b,id\n1,y,7\n")):
        (tmp_path / name).write_text(text)
    paths = {"path": str(tmp_path / "train.csv"), "test_path": str(tmp_path / "test.csv")}
    check("table", **paths, label="b", normal="x", drop=["id"])
    check("series", **paths, label="b", normal="x", drop=["b"])
    np.save(tmp_path / "1.npy", np.zeros((40, 1)))
    check("series", path=str(tmp_path / "1.npy"), file_label=r"/(\d)\.npy", normal=1.0)
