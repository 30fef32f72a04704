"""Runs that the tests of generation load anew, each for itself."""

from pathlib import Path

import pytest

from autoenc import load_run
from autoenc.loading import Run


@pytest.fixture
def ae(ae_run: Path) -> Run:
    return load_run(ae_run, "cpu")


@pytest.fixture
def vae(vae_run: Path) -> Run:
    return load_run(vae_run, "cpu")


@pytest.fixture
def table(table_run: Path) -> Run:
    return load_run(table_run, "cpu")
