"""The only modules that open users' files. None imports torch but `inspection_folders`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from autoenc.data.readers.paths import overlap
from autoenc.errors import ConfigError, DataError

TEXTS = ("texts", "name a file of texts: data.path=file.txt, a document per line, or file.csv")
PATHS = {  # data set with a path -> the module whose `check` knows its files, and what to name if there is no path
    "table": ("tables", "name a file: data.path=FILE.csv"),
    "arrays": ("arrays", "name a file: data.path=file.npy"),
    "text": TEXTS,
    "bag_of_words": TEXTS,
    "image_folder": ("folders", "name a folder of images: data.path=FOLDER"),
    "series": ("recordings", "name a file or a folder of recordings: data.path=log.csv"),
    "defects": ("folders", "name a folder with train/good and test/<kind>: data.path=FOLDER"),
}
WHOLE = ("table", "arrays", "text", "bag_of_words", "series")  # that train on a whole file or folder
READ = ("table", "text", "bag_of_words", "series")  # whose `check` reads small files, to look up columns and classes


def path_of(data_set: str, path: str | None) -> str:
    """Return the path of a data set; ConfigError if there is none."""
    if path is None:
        raise ConfigError("path", None, PATHS[data_set][1])
    return path


def check_paths(data_set: str, options: Mapping[str, Any]) -> None:
    """Raise ConfigError or DataError for paths that are missing, of another type, empty or unreadable, and for columns
    and classes that small files lack.

    Takes milliseconds, where reading the data takes the import of torch. Data sets without a path are not checked.
    """
    if data_set not in PATHS:
        return
    trained = Path(path_of(data_set, options.get("path")))
    for key in ("val_path", "test_path") if data_set in WHOLE else ():
        if (value := options.get(key)) is not None and overlap(trained, Path(value)):
            raise ConfigError(key, value, f"has data that are trained on: data.path={trained}")
    check = import_module(f"{__name__}.{PATHS[data_set][0]}").check
    if data_set in READ:
        check = partial(check, options=options)
    for key, value in options.items():
        if key.endswith("path") and value is not None:
            path = Path(value).expanduser()
            try:
                check(path)
            except DataError as error:
                raise DataError(str(error).replace(f"{path}:", f"data.{key}={value}:", 1)) from None
