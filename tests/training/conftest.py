"""Training without waiting for the disk."""

import os

import pytest


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk is tested with checkpoints; elsewhere it takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
