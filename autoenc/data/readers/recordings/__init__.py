"""Recordings: time series in tables, arrays and sound files, on a regular grid of time steps."""

from autoenc.data.readers.recordings.files import Reader
from autoenc.data.readers.recordings.format import TABLES, Format, check
from autoenc.data.readers.recordings.steps import Recording

__all__ = ["TABLES", "Format", "Reader", "Recording", "check"]
