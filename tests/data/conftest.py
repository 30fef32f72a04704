"""What tests of data sets share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autoenc.data import image_folder
from autoenc.data.spec import Data


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Data]:
    return lambda path, **options: image_folder(
        str(path), **{"cache_folder": str(tmp_path / "cache"), "workers": 0, **options}
    )
