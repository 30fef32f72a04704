"""What tests of data sets share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from table_files import shop

from autoenc.data import image_folder
from autoenc.data.dataset import Data


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Data]:
    return lambda path, **options: image_folder(
        str(path), **{"cache_folder": str(tmp_path / "cache"), "workers": 0, **options}
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    shop().to_csv(tmp_path / "shop.csv", index=False)
    return tmp_path / "shop.csv"
