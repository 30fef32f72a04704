"""Paths in a config, checked before anything is imported to read them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autoenc.config.checks import check_files
from autoenc.data.readers import PATHS
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


def test_data_sets_without_a_path_are_not_checked() -> None:
    check("digits")
    check("torchvision_images", root="nowhere")


@pytest.mark.parametrize(
    ("data_set", "options", "message"),
    [
        ("table", {"label": "c"}, r"data\.label=c: .*own\.csv has no such column; it has a, b"),
        ("table", {"separator": ",,"}, r"data\.separator=',,': must be one character"),
        ("table", {"quoting": "none"}, r"own\.csv: line 3 has 3 columns, expected 2"),
        ("text", {"label": "c", "column": "b"}, r"data\.label=c: no such column; .*own\.csv has the columns a, b"),
        ("bag_of_words", {"column": "c"}, r"data\.column=c: no such column"),
    ],
)
def test_columns_are_looked_up_before_torch_is_imported(
    data_set: str, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "own.csv").write_text('a,b\n1,two\n3,"four, five"\n')
    with pytest.raises((ConfigError, DataError), match=message):
        check(data_set, path=str(tmp_path / "own.csv"), **options)
